"""Encoder output of a batch, prepared for the decoder."""

from dataclasses import dataclass

from torch import Tensor

from asr.model.attention import Keys


@dataclass(frozen=True)
class Memory:
    """The encoder's output; the decoder only reads it."""

    states: Tensor
    """(B, S, D); 0 on padding."""
    keys: Keys
    """What the attention made of it."""
    values: Tensor
    """What each step brings to the decoder, (B, M, S, G) or, for a search, (B, M, S, G + V): see
    :meth:`asr.model.decoder.AttentionDecoder.precompute`."""
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
            self.keys.select(rows, longest),
            self.values[rows, :, :longest],
            steps,
            self.padding[rows, :longest],
        )
