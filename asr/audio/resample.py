"""Resampling of waveforms, at once or in blocks."""

from functools import lru_cache
from math import gcd
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

LARGEST_RATIO = 2000  # of rates; beyond it, the sinc table would grow without bound
ZEROS, ROLLOFF = 6, 0.99  # of the sinc on either side; cutoff over the lower Nyquist frequency
_NOTHING = np.zeros(0, np.float32)


def resample(waveform: np.ndarray, rate: int, target: int) -> np.ndarray:
    """Change the rate of a waveform (N,) by windowed-sinc interpolation.

    The result has ceil(N * target / rate) samples. They equal those of torchaudio's ``resample``.
    """
    if rate == target:
        return waveform
    resampler = Resampler(rate, target)
    return np.concatenate([resampler.push(waveform), resampler.close()])


class Resampler:
    """Resamples audio in blocks; the concatenated results equal those of :func:`resample`.

    Args:
        rate: samples per second of the input.
        target: samples per second of the output.
    """

    def __init__(self, rate: int, target: int) -> None:
        common = gcd(rate, target)
        self.period, self.made = rate // common, target // common  # samples in, samples out
        self.same = rate == target
        self.taken = self.given = 0  # samples
        self.stream: Any = None
        if max(self.period, self.made) > LARGEST_RATIO:
            import soxr

            self.stream = soxr.ResampleStream(rate, target, 1, dtype="float32", quality="HQ")
        elif not self.same:
            self.first, self.filters = sinc_filters(self.period, self.made)
            # Input samples on which the output of one period depends.
            self.span = int(self.first[-1] - self.first[0]) + self.filters.shape[1]
            self.samples = np.zeros(-self.first[0], np.float32)

    def push(self, waveform: np.ndarray) -> np.ndarray:
        """Take samples (N,) and return the output samples that they determine."""
        if self.same:
            return waveform
        self.taken += len(waveform)
        result = self._filtered(waveform)
        self.given += len(result)
        return result

    def close(self) -> np.ndarray:
        """Return the remaining samples."""
        if self.same:
            return _NOTHING
        left = -(-self.taken * self.made // self.period) - self.given
        if self.stream is not None:
            rest = self.stream.resample_chunk(_NOTHING, last=True)[:left]
            return np.pad(rest, (0, left - len(rest)))
        return self._filtered(np.zeros(self.span, np.float32))[:left]

    def _filtered(self, waveform: np.ndarray) -> np.ndarray:
        if self.stream is not None:
            return np.asarray(self.stream.resample_chunk(waveform))
        samples = np.concatenate([self.samples, waveform])
        periods = max(0, (len(samples) - self.span) // self.period + 1)
        self.samples = samples[periods * self.period :]
        result = np.empty((periods, self.made), np.float32)
        if periods:
            windows = sliding_window_view(samples, self.filters.shape[1])
            for made, first in enumerate(self.first - self.first[0]):
                rows = windows[first :: self.period][:periods]
                np.einsum("pn,n->p", rows, self.filters[made], out=result[:, made])
        return result.ravel()


@lru_cache(maxsize=32)
def sinc_filters(period: int, made: int) -> tuple[np.ndarray, np.ndarray]:
    """Compute the filters that turn ``period`` input samples into ``made`` output samples.

    Returns:
        The first input sample of each filter, relative to the beginning of the period, (made,),
        and the filters, each a sinc with a Hann window, (made, samples).
    """
    cutoff = ROLLOFF * min(1.0, made / period)  # relative to the input's Nyquist frequency
    reach = ZEROS / cutoff
    # Rounded as in torchaudio, with whose samples older models were trained.
    places = (np.arange(made) / made).astype(np.float32).astype(np.float64) * period
    first = np.ceil(places - reach).astype(int)
    times = cutoff * (first[:, None] + np.arange(int(2 * reach) + 1) - places[:, None])
    window = np.cos(np.pi / 2 * np.clip(times / ZEROS, -1, 1)) ** 2
    return first, (cutoff * window * np.sinc(times)).astype(np.float32)
