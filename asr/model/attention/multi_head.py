"""Several heads of any kind side by side, each with a context of its own (arXiv:1706.03762, 3.2.2).

alpha_m = attention_m(s_{i-1}, h)                               m = 1..M, each A / M wide
c       = [sum_t alpha_{1,t} h_t, ..., sum_t alpha_{M,t} h_t]

The paper's projection of each head, h_t W_m, is the slice of the cell's and the readout's weights
that multiplies the head's context.
"""

from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from asr.config import AttentionConfig
from asr.model.attention import Alignment, Attention, State, Table
from asr.model.padding import padding_mask


class Heads(tuple[Any, ...]):
    """Keys or states of all heads."""

    def select(self, rows: Any, steps: int | None = None) -> Self:
        """See :meth:`asr.model.attention.Table.select`."""
        return type(self)(part.select(rows, steps) for part in self)


@dataclass(frozen=True)
class HeadKeys(Table):
    """Keys of all heads."""

    parts: Heads
    padding: Tensor
    """True where there is no step, (B, S)."""
    over_steps = ("padding",)


class MultiHead(Attention):
    """The module's docstring has the equations."""

    def __init__(
        self, kind: type[Attention], query: int, memory: int, config: AttentionConfig
    ) -> None:
        super().__init__(query, memory, config)
        self.heads = config.heads
        self.sums_to_one, self.has_hard_form = kind.sums_to_one, kind.has_hard_form
        each = replace(config, heads=1, units=config.units // config.heads)
        self.parts: Any = nn.ModuleList(kind(query, memory, each) for _ in range(self.heads))

    def precompute(self, memory: Tensor, steps: Tensor, *, hard: bool = False) -> HeadKeys:
        """See :meth:`Attention.precompute`."""
        parts = Heads(part.precompute(memory, steps, hard=hard) for part in self.parts)
        return HeadKeys(parts, padding_mask(steps, memory.shape[1], memory.device))

    def start(self, keys: HeadKeys, rows: int) -> Heads:
        """See :meth:`Attention.start`."""
        pairs = zip(self.parts, keys.parts, strict=True)
        return Heads(part.start(key, rows) for part, key in pairs)

    def step(self, query: Tensor, keys: HeadKeys, state: State) -> tuple[Alignment, Heads]:
        """See :meth:`Attention.step`; heads with windows in different places show all steps."""
        each, S = zip(self.parts, keys.parts, state, strict=True), keys.padding.shape[1]
        found = [part.step(query, key, before) for part, key, before in each]
        weights = torch.cat([alignment.heads_over(S) for alignment, _ in found], dim=1)
        return Alignment(weights), Heads(after for _, after in found)  # weights (N, M, S)
