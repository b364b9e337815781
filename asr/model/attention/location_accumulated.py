"""Location-aware attention that also sees where all characters looked (arXiv:1712.05884, 2.2).

g_t = sum_{j<i} alpha_{j,t}
f   = filters * [alpha_{i-1}, g]                                convolution over the steps
e_t = w . tanh(V h_t + b + W s_{i-1} + U f_t)
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from asr.model.attention import State
from asr.model.attention.energy import EnergyKeys
from asr.model.attention.location import LastWeights, Location


@dataclass(frozen=True)
class AllWeights(LastWeights):
    """Where the last character looked, and where all looked."""

    total: Tensor
    """g, (N, S); 0 before the first character."""
    over_steps = ("weights", "total")


class LocationAccumulated(Location):
    """The module's docstring has the equations."""

    channels: ClassVar[int] = 2

    def start(self, keys: EnergyKeys, rows: int) -> AllWeights:
        """Return uniform weights over the real steps, and sums of 0, both (N, S)."""
        last = super().start(keys, rows).weights
        return AllWeights(last, torch.zeros_like(last))

    def seen(self, state: State) -> Tensor:
        """See :meth:`Location.seen`."""
        return torch.stack([state.weights, state.total], dim=1)

    def after(self, weights: Tensor, state: State) -> AllWeights:
        """Return the weights and their sum so far, both (N, S)."""
        return AllWeights(weights, state.total + weights)
