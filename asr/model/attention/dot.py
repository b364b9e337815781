"""Scaled dot-product attention (arXiv:1706.03762, section 3.2.1).

e_t = (W s_{i-1}) . (V h_t) / sqrt(A)
"""

import math

from torch import Tensor, nn

from asr.config import AttentionConfig
from asr.model.attention import State
from asr.model.attention.energy import Energy


class Dot(Energy):
    """The module's docstring has the equations."""

    def __init__(self, query: int, memory: int, config: AttentionConfig) -> None:
        super().__init__(query, memory, config)
        self.V = nn.Linear(memory, config.units, bias=False)  # a bias would change no weight
        self.W = nn.Linear(query, config.units, bias=False)
        self.scale = 1 / math.sqrt(config.units)

    def energies(self, query: Tensor, keys: Tensor, state: State) -> Tensor:
        """See :meth:`Energy.energies`."""
        return self.W(query) @ keys.transpose(1, 2) * self.scale  # (B, K, S)
