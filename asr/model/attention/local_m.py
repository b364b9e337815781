"""Local attention around a centre that moves forward (Luong et al., arXiv:1508.04025, "local-m").

p_i     = max(p_{i-1}, sum_t alpha_{i-1,t} t)                   p_1 = 0
e_t     = s_{i-1} . (W h_t) / sqrt(H)
alpha_i = softmax(e_t)                                          |t - p_i| <= D

In the paper p_i = i, because its encoder steps are words, as its outputs are. Here a character
lasts for many steps or few, so the centre is the mean of the last weights, and it never moves back.
(In arXiv:1506.07503, section 2.3, it is their median.)
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from asr.model.attention import Table
from asr.model.attention.energy import EnergyKeys
from asr.model.attention.window import Windowed


@dataclass(frozen=True)
class Centre(Table):
    """The centre of the next window."""

    step: Tensor
    """p, (N,)."""


class LocalM(Windowed):
    """The module's docstring has the equations."""

    def start(self, keys: EnergyKeys, rows: int) -> Centre:
        """Return the first encoder step as the centre."""
        return Centre(keys.keys.new_zeros(rows))

    def centre(self, query: Tensor, steps: Tensor, state: Centre) -> Tensor:
        """See :meth:`Windowed.centre`."""
        return state.step

    def moved(self, centre: Tensor, mean: Tensor) -> Centre:
        """Return the mean of the weights as the centre, if it lies ahead."""
        return Centre(torch.maximum(centre, mean))
