"""Weights of the kinds of attention and cells that have fast forms."""

from typing import Any, Literal, NamedTuple, TypeAlias

from torch import Tensor

from asr.model.attention.additive import Additive
from asr.model.attention.dot import Dot
from asr.model.attention.location import Location
from asr.model.cells.gru import GRU
from asr.model.cells.lstm import LSTM

Form: TypeAlias = Literal["after", "before", "lstm"]
"""A kind of cell: a GRU, by where its reset gate stands, or an LSTM."""

CELLS: dict[Form, int] = {"after": 0, "before": 1, "lstm": 2}
"""Numbers of the cells in native.cpp."""
ENERGIES = {"location": 0, "additive": 0, "dot": 1}
"""Numbers of the energies in native.cpp; additive ones are location-aware ones without filters."""


def form(cell: Any) -> Form | None:
    """Return the form of a cell, or None if it has no fast form."""
    if type(cell) is LSTM:
        return "lstm"
    return cell.reset if type(cell) is GRU else None


class EnergyWeights(NamedTuple):
    """Weights of an attention's energies."""

    kind: str
    """One of ENERGIES."""
    W: Tensor
    """Weights of the queries, (H, A)."""
    filters: Tensor | None = None
    """Location filters, (C, K)."""
    location: Tensor | None = None
    """U: weights of the filters' output, (C, A)."""
    w: Tensor | None = None
    """(A,)."""


def energy(attention: Any) -> EnergyWeights | None:
    """Return the weights of an attention's energies, or None if it has no fast form."""
    if type(attention) is Dot:
        return EnergyWeights("dot", (attention.W.weight.t() * attention.scale).contiguous())
    if type(attention) is Additive:
        W = attention.W.weight.t().contiguous()
        return EnergyWeights("additive", W, w=attention.w.weight.view(-1))
    if type(attention) is Location:
        return EnergyWeights(
            "location",
            attention.W.weight.t().contiguous(),
            attention.filters.weight.squeeze(1).contiguous(),
            attention.U.weight.t().contiguous(),
            attention.w.weight.view(-1),
        )
    return None
