"""Another sample rate for waveforms, at once or in blocks."""

from functools import lru_cache
from math import gcd
from typing import Any

import numpy as np
import torch
import torchaudio
from torch import Tensor

LARGEST_RATIO = 2000  # of rates; beyond, the table of the sinc would grow without bound


def resample(waveform: Tensor, rate: int, target: int) -> Tensor:
    """Change the rate of a waveform (N,) by windowed-sinc interpolation.

    The result has ceil(N * target / rate) samples.
    """
    if rate == target:
        return waveform
    common = gcd(rate, target)
    if max(rate, target) // common > LARGEST_RATIO:
        import librosa

        result = librosa.resample(waveform.numpy(), orig_sr=rate, target_sr=target)
        return torch.from_numpy(result)
    return _resampler(rate // common, target // common)(waveform)


class Resampler:
    """Changes the rate of audio that comes in blocks; joined, the results equal :func:`resample`.

    Args:
        rate: samples per second that come in.
        target: samples per second that go out.
    """

    def __init__(self, rate: int, target: int) -> None:
        common = gcd(rate, target)
        self.period, self.made = rate // common, target // common  # so many in, so many out
        self.same = rate == target
        self.stream: Any = None
        self.sinc: Any = None
        if self.same:
            return
        if max(self.period, self.made) > LARGEST_RATIO:
            import soxr

            self.stream = soxr.ResampleStream(rate, target, 1, dtype="float32", quality="HQ")
            return
        self.sinc = _resampler(self.period, self.made)
        self.reach = self.sinc.width  # samples to both sides that an output depends on
        self.before = self.reach // self.period + 1  # periods of samples kept for the left side
        self.samples = torch.zeros(self.before * self.period)

    def push(self, waveform: Tensor) -> Tensor:
        """Samples (N,) in; those that can be known now come out."""
        if self.same:
            return waveform
        if self.stream is not None:
            return torch.from_numpy(self.stream.resample_chunk(waveform.numpy()))
        self.samples = torch.cat([self.samples, waveform])
        periods = (len(self.samples) - self.reach) // self.period - self.before
        if periods <= 0:
            return waveform[:0]
        result = self.sinc(self.samples)[self.before * self.made :][: periods * self.made]
        self.samples = self.samples[periods * self.period :]
        return result

    def close(self) -> Tensor:
        """The samples that are left."""
        if self.same:
            return torch.zeros(0)
        if self.stream is not None:
            rest = self.stream.resample_chunk(np.zeros(0, np.float32), last=True)
            return torch.from_numpy(rest)
        return self.sinc(self.samples)[self.before * self.made :]


@lru_cache(maxsize=32)
def _resampler(rate: int, target: int) -> torchaudio.transforms.Resample:
    return torchaudio.transforms.Resample(rate, target)
