"""Content-based attention by a bilinear form (Luong et al., arXiv:1508.04025, "general", eq. 8).

e_t = s_{i-1} . (W h_t) / sqrt(H)

The paper compares with the state after the step; here it is the one before, as in all kinds. The
paper has no scale. Without one, a step of the optimiser, which changes each of the H D weights by
about the learning rate, changes an energy by several units, and attention hardly learns to align.
"""

import math

from torch import Tensor, nn

from asr.config import AttentionConfig
from asr.model.attention import State
from asr.model.attention.energy import Energy
from asr.model.fast.product import affine


class General(Energy):
    """The module's docstring has the equations."""

    def __init__(self, query: int, memory: int, config: AttentionConfig) -> None:
        super().__init__(query, memory, config)
        self.W = nn.Linear(memory, query, bias=False)
        self.scale = 1 / math.sqrt(query)

    def project(self, memory: Tensor) -> Tensor:
        """W h / sqrt(H): (B, S, D) to (B, S, H)."""
        return affine(memory, self.W.weight.t() * self.scale)

    def energies(self, query: Tensor, keys: Tensor, state: State) -> Tensor:
        """See :meth:`Energy.energies`."""
        return query @ keys.transpose(1, 2)  # (B, K, S)
