"""Utterances side by side, as the network takes them."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor


class Count(NamedTuple):
    """Counts that divide the sums of a loss, of one batch or of those of several machines."""

    characters: float
    """Characters of the transcripts, which CTC writes."""
    utterances: float
    """Transcripts, each with one <eos>, which the decoder writes, too."""


@dataclass(frozen=True)
class Batch:
    """Utterances side by side, padded to the longest; of two copies, all first ones first.

    Counts stay in main memory, also when the rest is on a GPU: what has to be known of them is
    known without waiting for it.
    """

    features: Tensor
    """Normalised frames, (B, T, F); 0 on padding."""
    frames: Tensor
    """Real frames, (B,)."""
    tokens: Tensor
    """Characters without special ones, (B, U); 0 on padding."""
    lengths: Tensor
    """Real characters, (B,)."""
    ids: tuple[str, ...] = ()
    """Names of the utterances; the batch is empty if no audio could be read."""
    audio_s: float = 0.0
    """Audio in the batch after speed perturbation, without padding, in seconds."""
    errors: tuple[str, ...] = ()
    """Why utterances that belong here are missing: audio that could not be read."""

    def to(self, device: torch.device) -> "Batch":
        """The same batch with features and tokens on a device."""
        return replace(self, features=self.features.to(device), tokens=self.tokens.to(device))

    @property
    def count(self) -> Count:
        """Characters and utterances of this batch alone."""
        return Count(int(self.lengths.sum()), len(self.lengths))
