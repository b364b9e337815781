"""Protocol of a speech detector; asr/model/vad.py implements it."""

from collections.abc import Callable
from typing import Protocol

import numpy as np

RATE = 16000
FRAME = 512  # samples at this rate that get one probability: 32 ms


class SpeechDetector(Protocol):
    """Speech probabilities of a stream of audio, one for every 32 ms."""

    def push(self, waveform: np.ndarray) -> np.ndarray:
        """Take samples (N,) and return the probabilities of the frames that they complete."""

    def close(self) -> np.ndarray:
        """Return the probability of the last frame, padded with silence; empty without samples."""


MakeDetector = Callable[[int], SpeechDetector]
"""Makes a detector for a stream of the given sample rate in Hz."""
