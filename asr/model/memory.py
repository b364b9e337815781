"""Encoder output of a batch, prepared for the decoder."""

from dataclasses import dataclass

from torch import Tensor

from asr.model.attention import Keys
from asr.model.padding import padding_mask


@dataclass(frozen=True)
class Memory:
    """The encoder's output; the decoder only reads it."""

    states: Tensor
    """(B, S, D); 0 on padding."""
    keys: Keys
    """The attention's keys of these states."""
    values: Tensor
    """What the decoder sums by attention weights: (B, M, S, G), or (B, M, S, G + V) for a search;
    see :meth:`asr.model.decoder.AttentionDecoder.precompute`."""
    steps: Tensor
    """Number of encoder steps of each utterance, (B,), in main memory."""

    @property
    def padding(self) -> Tensor:
        """True on padding, (B, S)."""
        return padding_mask(self.steps, self.states.shape[1], self.states.device)

    def select(self, rows: list[int]) -> "Memory":
        """Return some of the utterances, cut to the longest of them."""
        steps = self.steps[rows]
        longest = int(steps.max())
        return Memory(
            self.states[rows, :longest],
            self.keys.select(rows, longest),
            self.values[rows, :, :longest],
            steps,
        )
