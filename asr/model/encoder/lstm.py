"""LSTM layers in one or two directions, by torch; :mod:`asr.model.cells.lstm` has the equations."""

import torch
from torch import Tensor, nn

from asr.config.layers import Recurrent
from asr.model.cells import initial_weights
from asr.model.encoder import EncoderLayer, stack_neighbours
from asr.model.padding import padding_mask, reverse


class LSTM(EncoderLayer):
    """An LSTM for each direction; ``reset`` concerns GRUs only.

    The backward direction is an LSTM of its own that reads reversed utterances, because torch is
    slow on packed batches.
    """

    def __init__(self, inputs: int, config: Recurrent, reset: str) -> None:
        super().__init__()
        self.config = config
        sizes = config.reduction * inputs, config.units
        self.directions = nn.ModuleList(_make(*sizes) for _ in range(config.directions))

    def forward(self, x: Tensor, steps: Tensor) -> Tensor:
        """See :meth:`EncoderLayer.forward`."""
        x, steps = stack_neighbours(x, self.config.reduction), self.config.output_steps(steps)
        states = [self.directions[0](x)[0]]
        for lstm in self.directions[1:]:
            states.append(reverse(lstm(reverse(x, steps))[0], steps))
        padding = padding_mask(steps, x.shape[1], x.device)
        return torch.cat(states, dim=-1).masked_fill(padding.unsqueeze(-1), 0.0)


@torch.no_grad()
def _make(inputs: int, units: int) -> nn.LSTM:
    """Return an LSTM with the initial weights of :class:`asr.model.cells.lstm.LSTM`."""
    lstm = nn.LSTM(inputs, units, batch_first=True)
    (W,), (U,) = initial_weights(inputs, units, gates=4)
    for parameter, value in zip(lstm.parameters(), (W.t(), U.t(), 0.0, 0.0), strict=True):
        parameter.copy_(torch.as_tensor(value))  # torch has two biases
    lstm.get_parameter("bias_ih_l0")[units : 2 * units] = 1.0  # forget gate
    return lstm
