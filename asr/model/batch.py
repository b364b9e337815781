"""A padded batch of utterances, the input of the network."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from asr.errors import counted


class Count(NamedTuple):
    """Divisors of a loss: those of one batch, or of all batches of an update."""

    characters: int
    """Characters of the transcripts."""
    utterances: int
    """Transcripts; the decoder also predicts an <eos> for each."""


@dataclass(frozen=True)
class Batch:
    """Utterances padded to the longest; if each has two copies, all first copies come first.

    ``frames`` and ``lengths`` stay in main memory when the rest is on a GPU, so that reading them
    does not wait for the GPU.
    """

    features: Tensor
    """Normalised frames, (B, T, F); 0 on padding."""
    frames: Tensor
    """Number of frames of each utterance, (B,)."""
    tokens: Tensor
    """Characters, without <sos> and <eos>, (B, U); 0 on padding."""
    lengths: Tensor
    """Number of characters of each utterance, (B,)."""
    ids: tuple[str, ...] = ()
    """Utterance ids; none if no audio of the batch could be read."""
    audio_s: float = 0.0
    """Seconds of audio after speed perturbation, without padding; each copy is counted."""
    errors: tuple[str, ...] = ()
    """Messages about utterances whose audio could not be read."""

    def __str__(self) -> str:
        """Return the sizes of the batch for a message."""
        if not self.ids:
            return "no utterance"
        longest, number = int(self.frames.argmax()), counted(len(set(self.ids)), "utterance")
        return (
            f"{number}, {self.audio_s:.0f} s, the longest {self.ids[longest]} "
            f"({self.frames[longest]} frames, {self.lengths[longest]} characters)"
        )

    def to(self, device: torch.device) -> "Batch":
        """Return the batch with its features and tokens on a device."""
        return replace(self, features=self.features.to(device), tokens=self.tokens.to(device))

    def select(self, rows: Sequence[int]) -> "Batch":
        """Return some of the utterances, padded to the longest of them."""
        chosen = list(rows)
        frames, lengths = self.frames[chosen], self.lengths[chosen]
        return Batch(
            self.features[chosen, : int(frames.max())],
            frames,
            self.tokens[chosen, : int(lengths.max())],
            lengths,
            tuple(self.ids[row] for row in chosen),
            self.audio_s * float(frames.sum() / self.frames.sum()),
        )

    def halves(self, copies: int) -> tuple["Batch", "Batch"]:
        """Return two halves; the copies of an utterance stay together."""
        size = len(self.ids) // copies
        rows = range(len(self.ids))
        return (
            self.select([row for row in rows if row % size < size // 2]),
            self.select([row for row in rows if row % size >= size // 2]),
        )

    @property
    def count(self) -> Count:
        """The numbers of characters and utterances of this batch."""
        return Count(int(self.lengths.sum()), len(self.lengths))
