"""GRU layers in one or two directions; :mod:`asr.model.cells.gru` has the equations."""

import torch
from torch import Tensor, nn

from asr.config.layers import Recurrent
from asr.model.cells import initial_weights
from asr.model.cells.gru import Reset, gru_step
from asr.model.encoder import EncoderLayer, stack_neighbours
from asr.model.fast import lookup
from asr.model.padding import padding_mask


class GRU(EncoderLayer):
    """A GRU for each direction; the backward one starts at the end of each utterance."""

    def __init__(self, inputs: int, config: Recurrent, reset: Reset = "after") -> None:
        super().__init__()
        self.config, self.reset, D = config, reset, config.directions
        W, U = initial_weights(config.reduction * inputs, config.units, gates=3, directions=D)
        self.W, self.U = nn.Parameter(W), nn.Parameter(U)
        self.b, self.c = (nn.Parameter(torch.zeros(D, n * config.units)) for n in (3, 1))

    def forward(self, x: Tensor, steps: Tensor) -> Tensor:
        """See :meth:`EncoderLayer.forward`."""
        x = stack_neighbours(x, self.config.reduction)
        steps = self.config.output_steps(steps)
        fast = lookup.layer(self, x)
        return fast(self, x, steps) if fast else self.loop(x, steps)

    def loop(self, x: Tensor, counts: Tensor) -> Tensor:
        """Run the recurrences step by step: (B, S, I) and (B,) to (B, S, O)."""
        steps = x.shape[1]
        padding = padding_mask(counts, steps, x.device).unsqueeze(-1)  # (B, S, 1)
        orders = (range(steps), range(steps - 1, -1, -1))
        directions = []
        for d, order in enumerate(orders[: len(self.W)]):
            gates = (x @ self.W[d] + self.b[d]).unbind(1)  # S of (B, 3N)
            U, c = self.U[d], self.c[d]
            state = x.new_zeros(len(x), len(U))  # (B, N)
            states = {}
            for t in order:
                new = gru_step(gates[t], state, U, c, self.reset)
                state = states[t] = torch.where(padding[:, t], state, new)
            directions.append(torch.stack([states[t] for t in range(steps)], dim=1))
        return torch.cat(directions, dim=-1).masked_fill(padding, 0.0)
