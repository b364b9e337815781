"""Weights of the kinds of attention and cells that have fast forms."""

from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from asr.model.attention.additive import Additive
from asr.model.attention.coverage import Coverage
from asr.model.attention.dot import Dot
from asr.model.attention.dynamic_convolution import DynamicConvolution
from asr.model.attention.location import Location
from asr.model.attention.location_accumulated import LocationAccumulated
from asr.model.cells.gru import GRU
from asr.model.cells.lstm import LSTM

Form: TypeAlias = Literal["after", "before", "lstm"]
"""A kind of cell: a GRU, by where its reset gate stands, or an LSTM."""

CELLS: dict[Form, int] = {"after": 0, "before": 1, "lstm": 2}
"""Numbers of the cells in native.cpp."""
EARLIER_WEIGHTS = {
    "location": {"last": 1},
    "location_accumulated": {"last": 1, "sum": 1},
    "coverage": {"sum": 1},
    "dynamic_convolution": {"last": 1},
    "additive": {},
    "dot": {},
}
"""Attention weights that each kind reads: those of the last character, the sum of all, or none."""


def form(cell: Any) -> Form | None:
    """Return the form of a cell, or None if it has no fast form."""
    if type(cell) is LSTM:
        return "lstm"
    return cell.reset if type(cell) is GRU else None


class EnergyWeights(NamedTuple):
    """Weights of an attention's energies."""

    kind: str
    """One of EARLIER_WEIGHTS."""
    W: Tensor
    """Weights of the queries, (H, A)."""
    filters: Tensor | None = None
    """Location filters, (C, 1, K), or (C, 2, K) if they see the last weights and the sum."""
    location: Tensor | None = None
    """U: weights of the filters' output, (C, A)."""
    w: Tensor | None = None
    """(A,)."""
    generator: Tensor | None = None
    """G, which makes the second half of the filters from the query, (A, C / 2, K)."""
    b: Tensor | None = None
    """Bias of the query before the generator, (A,)."""
    prior: Tensor | None = None
    """P, probabilities of moving on by 0 to n steps, (n + 1,)."""

    def numbers(self, form: Form) -> dict[str, int]:
        """Return the integers that describe the kind and the cell to native.cpp."""
        C, _, K = (0, 0, 0) if self.filters is None else self.filters.shape
        energy = {"dot": 1, "dynamic_convolution": 2}.get(self.kind, 0)
        moves = 0 if self.prior is None else len(self.prior)
        sizes = {"A": self.W.shape[1], "C": C, "K": K, "moves": moves}
        return {"energy": energy, "cell": CELLS[form], **sizes, **EARLIER_WEIGHTS[self.kind]}


def energy(attention: Any) -> EnergyWeights | None:
    """Return the weights of an attention's energies, or None if it has no fast form."""
    kind = type(attention)
    if kind is Dot:
        return EnergyWeights("dot", (attention.W.weight.t() * attention.scale).contiguous())
    if kind not in (Additive, Coverage, DynamicConvolution, Location, LocationAccumulated):
        return None
    W, w = attention.W.weight.t().contiguous(), attention.w.weight.view(-1)
    if kind is Additive:
        return EnergyWeights("additive", W, w=w)
    if kind is Coverage:
        return EnergyWeights("coverage", W, W.new_ones(1, 1, 1), attention.u.weight.t(), w)
    if kind is DynamicConvolution:
        return _dynamic_convolution(attention, W, w)
    filters, U = attention.filters.weight.contiguous(), attention.U.weight.t().contiguous()
    name = "location" if kind is Location else "location_accumulated"
    return EnergyWeights(name, W, filters, U, w)


def _dynamic_convolution(attention: DynamicConvolution, W: Tensor, w: Tensor) -> EnergyWeights:
    """The first half of the filters is learnt; the generator makes the second half."""
    learnt, prior = attention.filters.weight, attention.prior.to(w.dtype)
    half, _, K = learnt.shape
    filters = torch.cat([learnt, torch.zeros_like(learnt)])
    location = torch.cat([attention.U.weight, attention.T.weight], dim=1).t().contiguous()
    G = attention.G.weight.view(K, half, len(w)).permute(2, 1, 0).contiguous()  # (A, C / 2, K)
    kind = "dynamic_convolution"
    return EnergyWeights(kind, W, filters, location, w, G, attention.W.bias, prior)
