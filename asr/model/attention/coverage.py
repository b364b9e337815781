"""Additive attention that sees how much each step was looked at (arXiv:1704.04368, eq. 11).

g_t = sum_{j<i} alpha_{j,t}
e_t = w . tanh(V h_t + b + W s_{i-1} + u g_t)

Tu et al. (arXiv:1601.04811) is the first with a coverage; this is its simplest form.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from asr.config import AttentionConfig
from asr.model.attention import Table
from asr.model.attention.additive import Additive
from asr.model.attention.energy import EnergyKeys


@dataclass(frozen=True)
class Covered(Table):
    """How much each step was looked at."""

    total: Tensor
    """g, (N, S); 0 before the first character."""
    over_steps = ("total",)


class Coverage(Additive):
    """The module's docstring has the equations."""

    def __init__(self, query: int, memory: int, config: AttentionConfig) -> None:
        super().__init__(query, memory, config)
        self.u = nn.Linear(1, config.units, bias=False)

    def start(self, keys: EnergyKeys, rows: int) -> Covered:
        """Return zeros, (N, S): no weights yet."""
        return Covered(keys.keys.new_zeros(rows, keys.keys.shape[1]))

    def energies(self, query: Tensor, keys: Tensor, state: Covered) -> Tensor:
        """See :meth:`Energy.energies`."""
        total = state.total.view(*query.shape[:2], -1, 1)  # (B, K, S, 1)
        mix = keys.unsqueeze(1) + self.W(query).unsqueeze(2) + self.u(total)  # (B, K, S, A)
        return self.w(mix.tanh()).squeeze(-1)

    def after(self, weights: Tensor, state: Covered) -> Covered:
        """Return the sum of the weights so far, (N, S)."""
        return Covered(state.total + weights)
