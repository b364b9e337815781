"""Protocol of a speech detector; asr/model/vad.py implements it."""

from collections.abc import Callable
from typing import Protocol

import numpy as np

RATE = 16000
CHUNK = 512  # samples at this rate that get one probability: 32 ms


class SpeechDetector(Protocol):
    """Speech probabilities of a stream of audio, one for every 32 ms."""

    def push(self, waveform: np.ndarray) -> np.ndarray:
        """Probabilities of the chunks that are complete with these samples, (N,)."""

    def close(self) -> np.ndarray:
        """That of the last chunk, which silence fills up; empty where there is none."""


MakeDetector = Callable[[int], SpeechDetector]
"""Makes a detector for a stream of so many samples per second."""
