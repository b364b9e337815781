"""Recurrent cells: each kind is one file of this folder and one line of :data:`KINDS`.

A cell reads several inputs side by side, such as a character and a context. What an input brings
to the gates is one product, which may be taken for all steps at once, before the recurrence.
"""

from collections.abc import Sequence
from importlib import import_module

from torch import Tensor, nn

KINDS = {
    "gru": "gru.GRU",
}


class Cell(nn.Module):
    """What a cell is to the decoder; its state is a tuple of tensors, whose first is its output."""

    gate_width: int
    """G: columns of the gates."""

    def gates(self, x: Tensor, part: int = 0) -> Tensor:
        """What an input brings to the gates: (..., width of the part) to (..., G).

        The bias comes with part 0.
        """
        raise NotImplementedError

    def input_weights(self, part: int) -> Tensor:
        """The matrix of an input, (width of the part, G)."""
        raise NotImplementedError

    def start(self, rows: int) -> tuple[Tensor, ...]:
        """The state before the first step; each tensor is (rows, units)."""
        raise NotImplementedError

    def step(self, gates: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """One step: what all inputs bring to the gates, (N, G), and the state of N rows."""
        raise NotImplementedError


def make_cell(kind: str, parts: Sequence[int], units: int, reset: str) -> Cell:
    """A cell of a kind.

    Args:
        kind: one of :data:`KINDS`.
        parts: widths of its inputs.
        units: width of its state.
        reset: where the reset gate of a GRU stands: after or before the product.
    """
    file, name = KINDS[kind].split(".")
    made: Cell = getattr(import_module(f"{__name__}.{file}"), name)(parts, units, reset)
    return made
