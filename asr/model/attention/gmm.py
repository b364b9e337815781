"""Mixture of Gaussians that move on, version 2 (Battenberg et al., arXiv:1910.10288, section 2.1).

(w, d, r)   = V tanh(W s_{i-1} + b) + c                         K components of each
mu_i        = mu_{i-1} + softplus(d)                            mu_0 = 0
alpha_{i,t} = sum_k softmax(w)_k N(t; mu_{i,k}, softplus(r_k)^2)

As in the paper's V2b, c starts with a move of 1 step and a width of 10. N is the mass between
t - 1/2 and t + 1/2 instead of the density at t, so that the weights of narrow components, too,
sum to at most 1. Mass before or after the audio is lost.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from asr.config import AttentionConfig
from asr.model.attention import Alignment, Attention, Table, owners
from asr.model.padding import padding_mask

MOVE, WIDTH = 1.0, 10.0  # of all components at first, in encoder steps


@dataclass(frozen=True)
class Padding(Table):
    """The keys: this kind does not read the content of the encoder's output."""

    padding: Tensor
    """True where there is no step, (B, S)."""
    over_steps = ("padding",)


@dataclass(frozen=True)
class Means(Table):
    """The positions of the components."""

    means: Tensor
    """mu, (N, K)."""


class GMM(Attention):
    """The module's docstring has the equations."""

    sums_to_one: bool = False

    def __init__(self, query: int, memory: int, config: AttentionConfig) -> None:
        super().__init__(query, memory, config)
        self.W = nn.Linear(query, config.units)
        self.V = nn.Linear(config.units, 3 * config.components)
        first = [0.0, *(math.log(math.expm1(x)) for x in (MOVE, WIDTH))]  # softplus reversed
        with torch.no_grad():
            self.V.bias.copy_(torch.tensor(first).repeat_interleave(config.components))

    def precompute(self, memory: Tensor, steps: Tensor, *, hard: bool = False) -> Padding:
        """See :meth:`Attention.precompute`."""
        return Padding(padding_mask(steps, memory.shape[1], memory.device))

    def start(self, keys: Padding, rows: int) -> Means:
        """See :meth:`Attention.start`; all components at the first step."""
        return Means(self.V.bias.new_zeros(rows, len(self.V.bias) // 3))

    def step(self, query: Tensor, keys: Padding, state: Means) -> tuple[Alignment, Means]:
        """See :meth:`Attention.step`."""
        w, d, r = self.V(self.W(query).tanh()).chunk(3, dim=1)  # (N, K)
        means, widths = state.means + softplus(d), softplus(r)
        edges = torch.arange(keys.padding.shape[1] + 1, device=query.device) - 0.5  # (S + 1,)
        z = (edges - means.unsqueeze(2)) / widths.unsqueeze(2)  # (N, K, S + 1)
        mass = torch.special.ndtr(z).diff(dim=2)
        weights = (w.softmax(1).unsqueeze(1) @ mass).squeeze(1)  # (N, S)
        weights = weights.masked_fill(keys.padding[owners(len(query), keys.padding)], 0.0)
        return Alignment(weights.unsqueeze(1)), Means(means)
