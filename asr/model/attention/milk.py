"""Monotonic infinite lookback attention, MILk (Arivazhagan et al., arXiv:1906.05218, eq. 5 to 9).

alpha, u    as in :mod:`.mocha`: the stop, and energies of their own
D_k         = log sum_{l<=k} exp(u_l)                           of all steps up to k
beta_t      = sum_{k>=t} alpha_k exp(u_t - D_k)                 the weights
            = exp(u_t - D_t) z_t,  z_t = alpha_t + exp(D_t - D_{t+1}) z_{t+1}

In the hard form these are the softmax over all steps up to the stop.
"""

import torch
from torch import Tensor

from asr.model.attention import Alignment
from asr.model.attention.mocha import ChunkKeys, MoChA
from asr.model.attention.monotonic import MonotonicKeys, scan


class MILk(MoChA):
    """The module's docstring has the equations."""

    def spread(self, u: Tensor, alpha: Tensor) -> Tensor:
        """See :meth:`MoChA.spread`."""
        D = u.logcumsumexp(1)
        factor = torch.cat([(D[:, :-1] - D[:, 1:]).exp(), torch.zeros_like(D[:, :1])], dim=1)
        z = scan(factor.flip(1), alpha.flip(1)).flip(1)
        return (u - D).exp() * z

    def hard_alignment(self, query: Tensor, keys: MonotonicKeys, step: Tensor) -> Alignment:
        """See :meth:`Monotonic.hard_alignment`; the weights of later steps are 0."""
        return Alignment(super().hard_alignment(query, keys, step).heads_over(keys.keys.shape[1]))

    def width(self, keys: ChunkKeys, step: Tensor) -> int:
        """Return the number of steps up to the last stop."""
        return int(step.max()) + 1
