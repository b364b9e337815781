"""Monotonic chunkwise attention, MoChA (Chiu and Raffel, arXiv:1712.05382, eq. 19 to 23).

alpha       as in :mod:`.hard_monotonic`: probability of the stop
u_t         = w' . tanh(V' h_t + b' + W' s_{i-1})               energies of their own
D_k         = log sum_{l=k-n+1..k} exp(u_l)                     of the n steps that end at k
beta_t      = sum_{k=t..t+n-1} alpha_k exp(u_t - D_k)           the weights

In the hard form these are the softmax over the chunk that ends at the stop.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from asr.config import AttentionConfig
from asr.model.attention import Alignment, owners
from asr.model.attention.additive import Additive
from asr.model.attention.hard_monotonic import HardMonotonic
from asr.model.attention.monotonic import MonotonicKeys


@dataclass(frozen=True)
class ChunkKeys(MonotonicKeys):
    """Keys that also hold the encoder's part of the energies within a chunk."""

    content: Tensor
    """(B, S, A)."""
    over_steps: ClassVar[tuple[str, ...]] = (*MonotonicKeys.over_steps, "content")


class MoChA(HardMonotonic):
    """The module's docstring has the equations."""

    def __init__(self, query: int, memory: int, config: AttentionConfig) -> None:
        super().__init__(query, memory, config)
        self.content = Additive(query, memory, config)
        self.chunk = config.chunk

    def precompute(self, memory: Tensor, steps: Tensor, *, hard: bool = False) -> ChunkKeys:
        """See :meth:`Attention.precompute`."""
        keys = super().precompute(memory, steps, hard=hard)
        return ChunkKeys(keys.keys, keys.padding, keys.steps, hard, self.content.project(memory))

    def soft_weights(self, query: Tensor, keys: MonotonicKeys, alpha: Tensor) -> Tensor:
        """See :meth:`Monotonic.soft_weights`."""
        assert isinstance(keys, ChunkKeys)
        u = self.content.energies(query, keys.content, None).flatten(0, 1)  # (N, S)
        return self.spread(u, alpha)

    def spread(self, u: Tensor, alpha: Tensor) -> Tensor:
        """Return the weights from energies u and stopping probabilities alpha, all (N, S)."""
        before = min(self.chunk, u.shape[1]) - 1

        def chunks(x: Tensor, sides: tuple[int, int], value: float = 0.0) -> Tensor:
            return pad(x, sides, value=value).unfold(1, before + 1, 1)  # (N, S, n)

        D = chunks(u, (before, 0), -torch.inf).logsumexp(2)
        shares = (u.unsqueeze(2) - chunks(D, (0, before), torch.inf)).exp()  # of t in k's chunk
        return (chunks(alpha, (0, before)) * shares).sum(2)

    def hard_alignment(self, query: Tensor, keys: MonotonicKeys, step: Tensor) -> Alignment:
        """See :meth:`Monotonic.hard_alignment`."""
        assert isinstance(keys, ChunkKeys)
        width = self.width(keys, step)
        first = (step - width + 1).clamp(min=0)
        columns = first.unsqueeze(1) + torch.arange(width, device=step.device)
        near = keys.content[owners(len(query), keys.keys).unsqueeze(1), columns]  # (N, W, A)
        u = self.content.energies(query.unsqueeze(1), near, None)  # (N, 1, W)
        later = (columns > step.unsqueeze(1)).unsqueeze(1)
        return Alignment(u.masked_fill(later, -torch.inf).softmax(-1), first)

    def width(self, keys: ChunkKeys, step: Tensor) -> int:
        """Return the number of columns of a window that holds a chunk."""
        return min(self.chunk, keys.keys.shape[1])
