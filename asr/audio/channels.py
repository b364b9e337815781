"""Mixing of channels: their mean, or one of them if they cancel each other.

Some microphones, cables and programs invert one channel, so that the mean is silence. Each window
of half a second is therefore checked. Windows count from the beginning of the file, so that the
same samples always give the same waveform, whatever block or segment is read.
"""

from collections.abc import Callable

import numpy as np

WINDOW_S = 0.5
CANCELLED = 0.25  # power of the sum over the sum of powers: 1 for unrelated channels, 2 for equal
SILENCE = 1e-8  # power with full scale 1: below the noise of 16 bits
WARNING = (
    "its channels cancel each other (one is the inverse of the other); only one of them is read "
    "where they do"
)


def window(rate: int) -> int:
    """Return the number of samples in a window."""
    return max(1, round(WINDOW_S * rate))


def whole_windows(begin: int, end: int, rate: int) -> tuple[int, int]:
    """Extend a span of samples to whole windows; the last may end after the file."""
    size = window(rate)
    return begin // size * size, -(-end // size) * size


def _mixed(windows: np.ndarray) -> tuple[np.ndarray, bool]:
    """Mix windows (W, channels, N).

    Returns:
        waveforms (W, N), and whether the channels of any window cancel each other.
    """
    waveforms = windows.mean(1)
    powers = windows.var(2)  # (W, channels)
    total = windows.shape[1] ** 2 * waveforms.var(1)
    cancelled = (powers.sum(1) > SILENCE) & (total < CANCELLED * powers.sum(1))
    for index in np.flatnonzero(cancelled):
        loud = powers[index] >= 0.5 * powers[index].max()
        waveforms[index] = windows[index, loud.argmax()]
    return waveforms, bool(cancelled.any())


class Mixer:
    """Mixes blocks of samples; the concatenated results do not depend on the block size.

    Args:
        rate: samples per second.
        warn: called for every block in which channels cancel each other.
    """

    def __init__(self, rate: int, warn: Callable[[], None]) -> None:
        self.size, self.warn = window(rate), warn
        self.rest: np.ndarray | None = None  # samples of an incomplete window

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Take samples (N, channels) and return those that can be mixed now, (M,)."""
        if self.rest is not None and self.rest.shape[1] != samples.shape[1]:
            return np.concatenate([self.close(), self.push(samples)])
        if samples.shape[1] == 1:
            return samples[:, 0]
        if self.rest is not None:
            samples = np.concatenate([self.rest, samples])
        whole = len(samples) // self.size * self.size
        self.rest = samples[whole:]
        return self._mix(samples[:whole], self.size)

    def close(self) -> np.ndarray:
        """Return the remaining samples."""
        rest, self.rest = self.rest, None
        return np.zeros(0, np.float32) if rest is None else self._mix(rest, len(rest))

    def _mix(self, samples: np.ndarray, size: int) -> np.ndarray:
        """Mix whole windows of ``size`` samples, (N, channels) to (N,)."""
        if not len(samples):
            return np.zeros(0, np.float32)
        windows = samples.reshape(-1, size, samples.shape[1]).transpose(0, 2, 1)
        waveforms, cancelled = _mixed(np.ascontiguousarray(windows))
        if cancelled:
            self.warn()
        return waveforms.ravel()
