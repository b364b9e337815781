"""Forward attention: weights only move forward (Zhang et al., arXiv:1807.06736, eq. 7 and 8).

e_t         = w . tanh(V h_t + b + W s_{i-1})
alpha_{i,t} ~ softmax(e)_t sum_{k=0..D} alpha_{i-1,t-k}         alpha_0 = (1, 0, 0, ...)

and they sum to 1. D is the setting ``window``. In the paper, which goes from characters to speech,
D is 1; here one character lasts for many steps. The factors are added as logarithms, so that their
product does not underflow to 0 / 0.
"""

from torch import Tensor

from asr.config import AttentionConfig
from asr.model.attention.additive import Additive
from asr.model.attention.energy import log_or_minus_inf, shift_forward
from asr.model.attention.location import FromFirstStep, LastWeights


class Forward(FromFirstStep, Additive):
    """The module's docstring has the equations."""

    def __init__(self, query: int, memory: int, config: AttentionConfig) -> None:
        super().__init__(query, memory, config)
        self.window = config.window

    def energies(self, query: Tensor, keys: Tensor, state: LastWeights) -> Tensor:
        """See :meth:`Energy.energies`."""
        reached = shift_forward(state.weights, state.weights.new_ones(self.window + 1))  # (N, S)
        return super().energies(query, keys, state) + log_or_minus_inf(reached).view(
            len(keys), -1, keys.shape[1]
        )
