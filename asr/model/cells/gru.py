"""The gated recurrent unit, in both of its forms; see :mod:`asr.model.gru` for the equations."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from asr.model.cells import Cell
from asr.model.gru import Reset, gru_step


class GRU(Cell):
    """A GRU whose state is (h,)."""

    def __init__(self, parts: Sequence[int], units: int, reset: Reset) -> None:
        super().__init__(parts, units, gates=3)
        self.reset = reset
        self.c = nn.Parameter(torch.zeros(units))

    def start(self, rows: int) -> tuple[Tensor]:
        """Zeros."""
        return (self.U.new_zeros(rows, self.U.shape[0]),)

    def step(self, gates: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor]:
        """See :func:`gru_step`."""
        return (gru_step(gates, state[0], self.U, self.c, self.reset),)
