"""LSTM layers in one or two directions, by torch; :mod:`asr.model.cells.lstm` has the equations."""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from asr.config.layers import Recurrent
from asr.model.cells import fresh_weights
from asr.model.encoder import EncoderLayer, stack_neighbours


class LSTM(EncoderLayer):
    """An LSTM for each direction; the form of a GRU's reset gate means nothing to it."""

    def __init__(self, inputs: int, config: Recurrent, reset: str) -> None:
        super().__init__()
        inputs *= config.reduction
        self.config, N = config, config.units
        self.lstm = nn.LSTM(inputs, N, batch_first=True, bidirectional=config.directions == 2)
        weights = zip(*fresh_weights(inputs, N, 4, config.directions), strict=True)
        with torch.no_grad():
            for (W, U), suffix in zip(weights, ("_l0", "_l0_reverse"), strict=False):
                self.lstm.get_parameter(f"weight_ih{suffix}").copy_(W.t())
                self.lstm.get_parameter(f"weight_hh{suffix}").copy_(U.t())
                self.lstm.get_parameter(f"bias_ih{suffix}").zero_()[N : 2 * N] = 1.0  # forget
                self.lstm.get_parameter(f"bias_hh{suffix}").zero_()

    def forward(self, x: Tensor, steps: Tensor) -> Tensor:
        """See :meth:`EncoderLayer.forward`."""
        x = stack_neighbours(x, self.config.reduction)
        packed = pack_padded_sequence(
            x, self.config.output_steps(steps), batch_first=True, enforce_sorted=False
        )
        states, _ = self.lstm(packed)
        return pad_packed_sequence(states, batch_first=True, total_length=x.shape[1])[0]
