"""Attention: which encoder steps the decoder looks at for the next character.

Each kind is one file of this folder and one line of :data:`asr.config.kinds.ATTENTIONS`. All other
code uses the interface: :class:`Attention` computes keys from the encoder's output, which only it
reads, passes a state from character to character, and returns an :class:`Alignment` for each. The
decoder, not the attention, computes the context: the sum of its own values with these weights. A
kind without a fast form in :mod:`asr.model.fast` runs in plain torch.

Letters: B utterances, K rows that look at each of them side by side, N = B K rows, M heads,
S encoder steps, W columns of a window, D encoder width, H decoder width, A width of the energies.
"""

from dataclasses import dataclass, fields
from pkgutil import resolve_name
from typing import Any, ClassVar, Self, TypeAlias

import torch
from torch import Tensor, nn

from asr.config import AttentionConfig
from asr.config.kinds import ATTENTIONS
from asr.search import protocol


@dataclass(frozen=True)
class Table:
    """Tensors that share their first axis: utterances in keys, rows in states.

    ``select`` also applies to tables inside it; other fields, such as a switch, stay as they are.
    """

    over_steps: ClassVar[tuple[str, ...]] = ()
    """Names of the fields whose second axis is the encoder's steps."""

    def select(self, rows: Any, steps: int | None = None) -> Self:
        """Return the table with rows picked or repeated.

        Args:
            rows: indices of the first axis.
            steps: length to which the fields of :attr:`over_steps` are cut, if given.
        """
        found = []
        for field in fields(self):
            value, cut = getattr(self, field.name), field.name in self.over_steps
            if isinstance(value, Tensor):
                value = value[rows, :steps].contiguous() if cut else value[rows]
            elif hasattr(value, "select"):
                value = value.select(rows, steps)
            found.append(value)
        return type(self)(*found)


Keys: TypeAlias = Any
"""What a kind precomputes from the encoder's output: a Table of utterances."""
State: TypeAlias = Any
"""What a kind passes from one character to the next: a Table of rows."""


class Alignment(protocol.Alignment):
    """Where one step of the decoder looks, in tensors.

    A window lies within the S steps of the batch. Its columns beyond the end of its utterance have
    weight 0.
    """

    __slots__ = ()

    def mix(self, values: Tensor) -> Tensor:
        """Return the weighted sum of the values.

        Args:
            values: of each head and encoder step, (B, M, S, G).

        Returns:
            (N, G), the sum over heads and steps.
        """
        if self.first is None:
            weights = self.weights.reshape(len(values), -1, values.shape[1] * values.shape[2])
            return torch.bmm(weights, values.flatten(1, 2)).flatten(0, 1)
        owner = owners(len(self.weights), values).unsqueeze(1)
        window = values.transpose(1, 2)[owner, self.columns()]  # (N, W, M, G)
        return torch.einsum("nmw,nwmg->ng", self.weights, window)


def owners(rows: int, keys: Tensor) -> Tensor:
    """Return the utterance of each of N rows, (N,); the keys (B, ...) give their number B."""
    return torch.arange(len(keys), device=keys.device).repeat_interleave(rows // len(keys))


class Attention(nn.Module):
    """Base class of all kinds of attention. Modules hold parameters; keys and states are values."""

    heads: int = 1
    """Number of heads (M)."""
    sums_to_one: bool = True
    """Whether the weights of a head sum to 1; otherwise their sum lies between 0 and 1."""
    has_hard_form: bool = False
    """Whether a search can choose single encoder steps, in time linear in their number."""

    def __init__(self, query: int, memory: int, config: AttentionConfig) -> None:
        """Make the parameters.

        Args:
            query: width of the decoder's state (H).
            memory: width of the encoder's output (D).
            config: sizes.
        """
        super().__init__()

    def precompute(self, memory: Tensor, steps: Tensor, *, hard: bool = False) -> Keys:
        """Project the encoder's output for the energies, once per batch.

        Args:
            memory: encoder output, (B, S, D).
            steps: real steps of each utterance, (B,), in main memory.
            hard: choose single encoder steps, for kinds with a hard form.
        """
        raise NotImplementedError

    def start(self, keys: Keys, rows: int) -> State:
        """Return the state before the first character, for N rows."""
        raise NotImplementedError

    def step(self, query: Tensor, keys: Keys, state: State) -> tuple[Alignment, State]:
        """Compute the weights for the next character.

        Args:
            query: decoder states BEFORE this step, (N, H).
            keys: from :meth:`precompute`.
            state: from :meth:`start` or the step before, N rows.

        Returns:
            the alignment, with weights (N, M, W), and the next state, N rows.
        """
        raise NotImplementedError


def make_attention(query: int, memory: int, config: AttentionConfig) -> Attention:
    """Return the attention that the settings name; see :class:`Attention`."""
    kind: type[Attention] = resolve_name(ATTENTIONS[config.kind])
    if config.heads == 1:
        return kind(query, memory, config)
    multi_head = resolve_name("asr.model.attention.multi_head.MultiHead")  # which imports this file
    made: Attention = multi_head(kind, query, memory, config)
    return made
