"""Location-aware attention: additive, and it sees where it looked last (arXiv:1506.07503, eq. 9).

f   = filters * alpha_{i-1}                                     convolution over the steps
e_t = w . tanh(V h_t + b + W s_{i-1} + U f_t)
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from asr.config import AttentionConfig
from asr.model.attention import Table
from asr.model.attention.energy import Energy, EnergyKeys, at_first_step, uniform


@dataclass(frozen=True)
class LastWeights(Table):
    """Where the last character looked."""

    weights: Tensor
    """alpha, (N, S); before the first character, those of ``start``."""
    over_steps: ClassVar[tuple[str, ...]] = ("weights",)


class FromFirstStep(Energy):
    """Energies that depend on the last weights, which begin on the first step by default."""

    def start(self, keys: EnergyKeys, rows: int) -> LastWeights:
        """Return weights of 1 on the first step, (N, S)."""
        return LastWeights(at_first_step(keys.keys, rows))

    def after(self, weights: Tensor, state: LastWeights) -> LastWeights:
        """Return the weights themselves, (N, S)."""
        return LastWeights(weights)


class Location(FromFirstStep):
    """The module's docstring has the equations."""

    channels: ClassVar[int] = 1
    """Rows of weights that the filters see."""

    def __init__(self, query: int, memory: int, config: AttentionConfig) -> None:
        super().__init__(query, memory, config)
        A, C, width = config.units, config.filters, config.filter_width
        self.V = nn.Linear(memory, A)
        self.W = nn.Linear(query, A, bias=False)
        self.filters = nn.Conv1d(self.channels, C, width, padding=width // 2, bias=False)
        self.U = nn.Linear(C, A, bias=False)
        self.w = nn.Linear(A, 1, bias=False)

    def start(self, keys: EnergyKeys, rows: int) -> LastWeights:
        """Return uniform weights over the real steps, (N, S)."""
        weights = uniform(keys)
        return LastWeights(weights.repeat_interleave(rows // len(weights), dim=0))

    def seen(self, state: LastWeights) -> Tensor:
        """Return what the filters read, (N, channels, S)."""
        return state.weights.unsqueeze(1)

    def energies(self, query: Tensor, keys: Tensor, state: LastWeights) -> Tensor:
        """See :meth:`Energy.energies`."""
        location = self.filters(self.seen(state)).transpose(1, 2)  # (N, S, C)
        location = location.view(*query.shape[:2], *location.shape[1:])  # (B, K, S, C)
        mix = keys.unsqueeze(1) + self.W(query).unsqueeze(2) + self.U(location)  # (B, K, S, A)
        return self.w(mix.tanh()).squeeze(-1)
