"""Local attention around a predicted centre (Luong et al., arXiv:1508.04025, "local-p", eq. 9, 10).

p       = S sigmoid(v . tanh(P s_{i-1}))                        S: real steps
e_t     = s_{i-1} . (W h_t) / sqrt(H)
alpha_i = softmax(e_t) exp(-(t - p)^2 / (2 (D / 2)^2))          |t - p| <= D

The weights sum to less than 1, as the Gaussian is not normalised.
"""

import torch
from torch import Tensor, nn

from asr.config import AttentionConfig
from asr.model.attention import State
from asr.model.attention.energy import NoState
from asr.model.attention.window import Windowed


class LocalP(Windowed):
    """The module's docstring has the equations."""

    sums_to_one: bool = False

    def __init__(self, query: int, memory: int, config: AttentionConfig) -> None:
        super().__init__(query, memory, config)
        self.P = nn.Linear(query, config.units, bias=False)
        self.v = nn.Linear(config.units, 1, bias=False)

    def centre(self, query: Tensor, steps: Tensor, state: State) -> Tensor:
        """See :meth:`Windowed.centre`."""
        return steps * self.v(self.P(query).tanh()).squeeze(1).sigmoid()

    def weigh(self, energies: Tensor, distance: Tensor) -> Tensor:
        """See :meth:`Windowed.weigh`."""
        gauss = torch.exp(-2 * (distance / self.window).square())
        return energies.softmax(-1) * gauss

    def moved(self, centre: Tensor, mean: Tensor) -> State:
        """Return an empty state: the centre is predicted anew for each character."""
        return NoState()
