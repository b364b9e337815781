"""Resampling of waveforms, at once or in blocks."""

from functools import lru_cache
from math import ceil, gcd
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

LARGEST_RATIO = 700  # of rates, in lowest terms; beyond it soxr is faster than a product
ZEROS, ROLLOFF = 6, 0.99  # of the sinc on either side; cutoff over the lower Nyquist frequency
PRODUCT = 2**18  # multiplications at a time; OpenBLAS would start threads for more
_NOTHING = np.zeros(0, np.float32)


def resample(waveform: np.ndarray, rate: int, target: int) -> np.ndarray:
    """Change the rate of a waveform (N,) by windowed-sinc interpolation.

    The result has ceil(N * target / rate) samples. They equal those of torchaudio's ``resample``,
    unless a rate in lowest terms exceeds LARGEST_RATIO; then they are those of soxr.
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
            before, self.filters = sinc_filters(self.period, self.made)
            self.samples = np.zeros(before, np.float32)

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
        return self._filtered(np.zeros(len(self.filters), np.float32))[:left]

    def _filtered(self, waveform: np.ndarray) -> np.ndarray:
        if self.stream is not None:
            return np.asarray(self.stream.resample_chunk(waveform))
        samples, K = np.concatenate([self.samples, waveform]), len(self.filters)
        periods = max(0, (len(samples) - K) // self.period + 1)
        self.samples = samples[periods * self.period :]
        if not periods:
            return _NOTHING
        windows = sliding_window_view(samples, K)[:: self.period]  # (periods, K)
        rows = max(1, PRODUCT // self.filters.size)
        pieces = (np.ascontiguousarray(windows[i : i + rows]) for i in range(0, periods, rows))
        return np.concatenate([piece @ self.filters for piece in pieces]).ravel()


@lru_cache(maxsize=32)
def sinc_filters(period: int, made: int) -> tuple[int, np.ndarray]:
    """Compute the filters that turn ``period`` input samples into ``made`` output samples.

    Returns:
        The number of input samples before a period on which its output depends, and the filters,
        each a sinc with a Hann window, (K, made): their product with the K input samples from
        there on is the output. They equal those of torchaudio.
    """
    cutoff = ROLLOFF * min(1.0, made / period)  # relative to the input's Nyquist frequency
    before = ceil(ZEROS / cutoff)
    # Rounded as in torchaudio, with whose samples older models were trained.
    places = (np.arange(made) / made).astype(np.float32).astype(np.float64) * period
    times = cutoff * (np.arange(-before, period + before)[:, None] - places)
    times = np.clip(times, -ZEROS, ZEROS)
    window = np.cos(np.pi / 2 * times / ZEROS) ** 2
    return before, (cutoff * window * np.sinc(times)).astype(np.float32)
