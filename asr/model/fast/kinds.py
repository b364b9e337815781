"""The kinds of attention and of cells as the fast forms take them."""

from typing import Any, Literal, NamedTuple, TypeAlias

from torch import Tensor

from asr.model.attention.additive import Additive
from asr.model.attention.dot import Dot
from asr.model.attention.location import Location
from asr.model.cells.gru import GRU
from asr.model.cells.lstm import LSTM

Form: TypeAlias = Literal["after", "before", "lstm"]
"""A cell: a GRU by where its reset gate stands, or an LSTM."""

CELLS: dict[Form, int] = {"after": 0, "before": 1, "lstm": 2}
"""Their numbers in native.cpp."""
ENERGIES = {"location": 0, "additive": 0, "dot": 1}
"""Those of the attentions' energies: without filters, location-aware ones are additive."""


def form(cell: Any) -> Form | None:
    """The form of a cell; None: there is no fast one."""
    if type(cell) is LSTM:
        return "lstm"
    return cell.reset if type(cell) is GRU else None


class EnergyWeights(NamedTuple):
    """An attention's energies."""

    kind: str
    """One of ENERGIES."""
    W: Tensor
    """From states to queries, (H, A)."""
    filters: Tensor | None = None
    """(C, K)."""
    location: Tensor | None = None
    """From the filters to what is added to keys and queries, (C, A)."""
    w: Tensor | None = None
    """(A,)."""


def energy(attention: Any) -> EnergyWeights | None:
    """The energies of an attention; None: there is no fast form."""
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
