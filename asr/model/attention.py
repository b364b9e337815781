"""Which encoder steps the decoder looks at next.

One interface, chosen by ``attention.kind``: a module with ``keys(states)``, computed once per
utterance, and ``forward(queries, memory, previous)``, called once per character.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from asr.config import AttentionConfig
from asr.model.product import affine


@dataclass(frozen=True)
class Memory:
    """What the encoder made of a batch; the decoder only reads it."""

    states: Tensor
    """Encoder output, (B, S, D); 0 on padding."""
    keys: Tensor
    """Its part of the attention energies, (B, S, A)."""
    values: Tensor
    """What each step brings to the decoder, (B, S, 3H) or (B, S, 3H + V): see ``remember``."""
    steps: Tensor
    """Real encoder steps, (B,), in main memory: a GPU need not be waited for to know them."""
    padding: Tensor
    """True where there is no step, (B, S)."""

    def select(self, rows: list[int]) -> "Memory":
        """Some of the utterances, cut to the longest of them."""
        steps = self.steps[rows]
        longest = int(steps.max())
        return Memory(
            self.states[rows, :longest],
            self.keys[rows, :longest],
            self.values[rows, :longest],
            steps,
            self.padding[rows, :longest],
        )


class LocationAttention(nn.Module):
    """Additive attention that also sees where it looked last (arXiv:1506.07503, eq. 9).

    Args:
        query: width of the decoder state (H).
        states: width of the encoder (D).
        config: sizes.
    """

    def __init__(self, query: int, states: int, config: AttentionConfig) -> None:
        super().__init__()
        self.V = nn.Linear(states, config.units)
        self.W = nn.Linear(query, config.units, bias=False)
        self.filters = nn.Conv1d(
            1, config.filters, config.filter_width, padding=config.filter_width // 2, bias=False
        )
        self.U = nn.Linear(config.filters, config.units, bias=False)
        self.w = nn.Linear(config.units, 1, bias=False)

    def keys(self, states: Tensor) -> Tensor:
        """The encoder's part of the energies: (B, S, D) to (B, S, A)."""
        return affine(states, self.V.weight.t(), self.V.bias)

    def forward(self, queries: Tensor, memory: Memory, previous: Tensor) -> Tensor:
        """Weigh the encoder steps for the next character.

        Args:
            queries: decoder states BEFORE this step, (B, K, H): K rows look at each utterance.
            memory: encoder output of B utterances, its keys and padding.
            previous: weights of the last character, (B, K, S); see :func:`uniform_weights`.

        Returns:
            weights, (B, K, S): they sum to 1 and are 0 on padding.
        """
        batch, rows, _ = queries.shape
        location = self.filters(previous.flatten(0, 1).unsqueeze(1))  # (B K, C, S)
        location = location.transpose(1, 2).view(batch, rows, -1, location.shape[1])  # (B, K, S, C)
        mix = memory.keys.unsqueeze(1) + self.W(queries).unsqueeze(2) + self.U(location)
        energies = self.w(mix.tanh()).squeeze(-1)  # (B, K, S)
        return energies.masked_fill(memory.padding.unsqueeze(1), -torch.inf).softmax(-1)


def uniform_weights(memory: Memory) -> Tensor:
    """Where attention starts: the same weight on every real step, (B, S)."""
    real = (~memory.padding).to(memory.states.dtype)
    return real / real.sum(1, keepdim=True)
