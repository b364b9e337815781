"""Recurrent cells: each kind is a file of this folder and a line of :data:`asr.config.kinds.CELLS`.

A cell reads several inputs side by side, such as a character and a context. What an input brings
to the gates is one product, which may be taken for all steps at once, before the recurrence.
"""

import math
from collections.abc import Sequence
from pkgutil import resolve_name

import torch
from torch import Tensor, nn

from asr.config.kinds import CELLS
from asr.model.fast.product import affine


def fresh_weights(
    inputs: int, units: int, gates: int, directions: int = 1
) -> tuple[Tensor, Tensor]:
    """W (directions, inputs, gates N), Glorot, and U (directions, N, gates N), orthogonal."""
    W = torch.empty(directions, inputs, gates, units)
    U = torch.empty(directions, units, gates, units)
    bound = math.sqrt(6.0 / (inputs + units))
    nn.init.uniform_(W, -bound, bound)
    for direction in U:
        for gate in range(gates):
            direction[:, gate] = nn.init.orthogonal_(torch.empty(units, units))
    return W.flatten(2), U.flatten(2)


class Cell(nn.Module):
    """Base class of recurrent cells; the state is a tuple of tensors, the first is the output.

    Args:
        parts: widths of the inputs.
        units: width of the state (N).
        gates: how many there are; each is N wide.
    """

    def __init__(self, parts: Sequence[int], units: int, gates: int) -> None:
        super().__init__()
        self.gate_width = gates * units  # G
        W, U = (weights[0] for weights in fresh_weights(sum(parts), units, gates))
        for part, weights in enumerate(W.split(list(parts))):  # type: ignore[no-untyped-call]
            self.register_parameter(f"W_{part}", nn.Parameter(weights.clone()))
        self.U, self.b = nn.Parameter(U), nn.Parameter(torch.zeros(self.gate_width))

    def input_weights(self, part: int) -> Tensor:
        """The matrix of an input, (width of the part, G)."""
        return self.get_parameter(f"W_{part}")

    def gates(self, x: Tensor, part: int = 0) -> Tensor:
        """Project an input to the gates: (..., width of the part) to (..., G).

        The bias comes with part 0.
        """
        return affine(x, self.input_weights(part), self.b if part == 0 else None)

    def start(self, rows: int) -> tuple[Tensor, ...]:
        """The state before the first step; each tensor is (rows, units)."""
        raise NotImplementedError

    def step(self, gates: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """One step: what all inputs bring to the gates, (N, G), and the state of N rows."""
        raise NotImplementedError


def make_cell(kind: str, parts: Sequence[int], units: int, reset: str) -> Cell:
    """A cell of a kind.

    Args:
        kind: one of :data:`asr.config.kinds.CELLS`.
        parts: widths of its inputs.
        units: width of its state.
        reset: where the reset gate of a GRU stands: after or before the product.
    """
    made: Cell = resolve_name(CELLS[kind])(parts, units, reset)
    return made
