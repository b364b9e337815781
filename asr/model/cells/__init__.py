"""Recurrent cells: each kind is a file of this folder and a line of :data:`asr.config.kinds.CELLS`.

A cell has several inputs, such as a character and a context. The gates' part of an input is one
product, which can be computed for all steps before the recurrence.
"""

import math
from collections.abc import Sequence
from pkgutil import resolve_name

import torch
from torch import Tensor, nn

from asr.config.kinds import CELLS
from asr.model.fast.product import affine


def initial_weights(
    inputs: int, units: int, gates: int, directions: int = 1
) -> tuple[Tensor, Tensor]:
    """Return Glorot W (directions, inputs, gates N) and orthogonal U (directions, N, gates N)."""
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
        gates: number of gates; each is N wide.
    """

    def __init__(self, parts: Sequence[int], units: int, gates: int) -> None:
        super().__init__()
        self.gate_width = gates * units  # G
        W, U = (weights[0] for weights in initial_weights(sum(parts), units, gates))
        for part, weights in enumerate(W.split(list(parts))):  # type: ignore[no-untyped-call]
            self.register_parameter(f"W_{part}", nn.Parameter(weights.clone()))
        self.U, self.b = nn.Parameter(U), nn.Parameter(torch.zeros(self.gate_width))

    def input_weights(self, part: int) -> Tensor:
        """Return the weights of an input, (width of the input, G)."""
        return self.get_parameter(f"W_{part}")

    def gates(self, x: Tensor, part: int = 0) -> Tensor:
        """Return an input's part of the gates, (..., width) to (..., G); part 0 adds the bias."""
        return affine(x, self.input_weights(part), self.b if part == 0 else None)

    def start(self, rows: int) -> tuple[Tensor, ...]:
        """Return the state before the first step; each tensor is (rows, units)."""
        raise NotImplementedError

    def step(self, gates: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the next state from the inputs' parts of the gates, summed, and the state.

        Args:
            gates: (rows, G).
            state: tensors of (rows, units).
        """
        raise NotImplementedError


def make_cell(kind: str, parts: Sequence[int], units: int, reset: str) -> Cell:
    """Return a cell of a kind.

    Args:
        kind: one of :data:`asr.config.kinds.CELLS`.
        parts: widths of its inputs.
        units: width of its state.
        reset: where the reset gate of a GRU stands, after or before the product.
    """
    made: Cell = resolve_name(CELLS[kind])(parts, units, reset)
    return made
