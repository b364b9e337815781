"""The gated recurrent unit, in both of its forms; see :mod:`asr.model.gru` for the equations."""

from collections.abc import Sequence

from torch import Tensor, nn

from asr.model.cells import Cell
from asr.model.gru import Reset, gru_step, gru_weights
from asr.model.product import affine


class GRU(Cell):
    """A GRU whose state is (h,)."""

    def __init__(self, parts: Sequence[int], units: int, reset: Reset) -> None:
        super().__init__()
        self.reset, self.gate_width = reset, 3 * units
        W, U, b, c = (p.detach()[0] for p in gru_weights(sum(parts), units))
        for part, weights in enumerate(W.split(list(parts))):  # type: ignore[no-untyped-call]
            self.register_parameter(f"W_{part}", nn.Parameter(weights.clone()))
        self.U, self.b, self.c = nn.Parameter(U), nn.Parameter(b), nn.Parameter(c)

    def input_weights(self, part: int) -> Tensor:
        """See :meth:`Cell.input_weights`."""
        return self.get_parameter(f"W_{part}")

    def gates(self, x: Tensor, part: int = 0) -> Tensor:
        """x W_part (+ b): (..., I) to (..., 3N), in the order r, z, n."""
        return affine(x, self.input_weights(part), self.b if part == 0 else None)

    def start(self, rows: int) -> tuple[Tensor]:
        """Zeros."""
        return (self.U.new_zeros(rows, self.U.shape[0]),)

    def step(self, gates: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor]:
        """See :func:`gru_step`."""
        return (gru_step(gates, state[0], self.U, self.c, self.reset),)
