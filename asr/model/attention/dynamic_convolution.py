"""Dynamic convolution attention: by location alone (Battenberg et al., arXiv:1910.10288, 2.2).

f       = filters * alpha_{i-1}                                 C filters that are learnt
g       = (G tanh(W s_{i-1} + b)) * alpha_{i-1}                 C filters of the decoder's state
p       = log sum_{k=0..n} P(k) alpha_{i-1,t-k}                 P: beta-binomial, a = 0.1, b = 0.9
alpha_i = softmax(w . tanh(U f_t + T g_t + c) + p_t)            alpha_0 = (1, 0, 0, ...)

The prior P lets weights move on by 0 to n steps, n / 10 on average; n is 10 in the paper. Where p
is -inf, the weight is 0. The encoder's output affects the weights only through the decoder's state:
the key of every step is c.
"""

import numpy as np
import torch
from scipy.special import betaln
from torch import Tensor, nn
from torch.nn.functional import pad

from asr.arrays import FloatArray
from asr.config import AttentionConfig
from asr.model.attention.energy import log_or_minus_inf, shift_forward
from asr.model.attention.location import FromFirstStep, LastWeights


def beta_binomial(n: int, a: float, b: float) -> FloatArray:
    """Probabilities of 0 to n, (n + 1,)."""
    k = np.arange(n + 1)
    choices = -np.log(n + 1) - betaln(n - k + 1, k + 1)  # log of n over k
    return np.exp(choices + betaln(k + a, n - k + b) - betaln(a, b))


class DynamicConvolution(FromFirstStep):
    """The module's docstring has the equations."""

    prior: Tensor
    """P, (n + 1,), in double precision."""

    def __init__(self, query: int, memory: int, config: AttentionConfig) -> None:
        super().__init__(query, memory, config)
        A, C, width = config.units, config.filters, config.filter_width
        self.filters = nn.Conv1d(1, C, width, padding=width // 2, bias=False)
        self.U = nn.Linear(C, A, bias=False)
        self.W = nn.Linear(query, A)
        self.G = nn.Linear(A, C * width, bias=False)
        self.T = nn.Linear(C, A)
        self.w = nn.Linear(A, 1, bias=False)
        prior = torch.from_numpy(beta_binomial(config.window, 0.1, 0.9))
        self.register_buffer("prior", prior, persistent=False)

    def project(self, memory: Tensor) -> Tensor:
        """Return the same keys for every step: (B, S, D) to c (B, S, A)."""
        c: Tensor = self.T.bias
        return c.expand(*memory.shape[:2], -1)

    def energies(self, query: Tensor, keys: Tensor, state: LastWeights) -> Tensor:
        """See :meth:`Energy.energies`."""
        last, (C, _, width) = state.weights, self.filters.weight.shape
        static = self.filters(last.unsqueeze(1)).transpose(1, 2)  # (N, S, C)
        filters = self.G(self.W(query).tanh()).view(len(last), width, C)
        dynamic = pad(last, (width // 2, width // 2)).unfold(1, width, 1) @ filters  # (N, S, C)
        mix = self.U(static) + dynamic @ self.T.weight.t()  # (N, S, A)
        mix = mix.view(*query.shape[:2], *mix.shape[1:]) + keys.unsqueeze(1)  # (B, K, S, A)
        energies = self.w(mix.tanh()).squeeze(-1)  # (B, K, S)
        prior = log_or_minus_inf(shift_forward(last, self.prior.to(last.dtype)))  # (N, S)
        return energies + prior.view_as(energies)
