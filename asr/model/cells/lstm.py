"""The long short-term memory with a forget gate (Gers et al. 2000).

    i, f, o = sigmoid(x W + b + h U)        g = tanh(x W_g + b_g + h U_g)
    c' = f * c + i * g                      h' = o * tanh(c')

The gates are concatenated in torch's order i, f, g, o. The initial bias of the forget gate is 1.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from asr.model.cells import Cell


class LSTM(Cell):
    """An LSTM whose state is (h, c); ``reset`` concerns GRUs only."""

    def __init__(self, parts: Sequence[int], units: int, reset: str) -> None:
        super().__init__(parts, units, gates=4)
        with torch.no_grad():
            self.b[units : 2 * units] = 1.0

    def start(self, rows: int) -> tuple[Tensor, Tensor]:
        """Return zeros."""
        h = self.U.new_zeros(rows, len(self.U))
        return h, h

    def step(self, gates: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """See :meth:`Cell.step`."""
        h, c = state
        i, f, g, o = (gates + h @ self.U).chunk(4, dim=-1)  # (N, units) each
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c
