"""Additive, content-based attention (arXiv:1409.0473, section 3.1).

e_t = w . tanh(V h_t + b + W s_{i-1})
"""

from torch import Tensor, nn

from asr.config import AttentionConfig
from asr.model.attention import State
from asr.model.attention.energy import Energy


class Additive(Energy):
    """The module's docstring has the equations."""

    def __init__(self, query: int, memory: int, config: AttentionConfig) -> None:
        super().__init__(query, memory, config)
        self.V = nn.Linear(memory, config.units)
        self.W = nn.Linear(query, config.units, bias=False)
        self.w = nn.Linear(config.units, 1, bias=False)

    def energies(self, query: Tensor, keys: Tensor, state: State) -> Tensor:
        """See :meth:`Energy.energies`."""
        mix = keys.unsqueeze(1) + self.W(query).unsqueeze(2)  # (B, K, S, A)
        return self.w(mix.tanh()).squeeze(-1)
