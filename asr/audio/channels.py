"""Mixing of channels: their mean, or one of them if they cancel each other.

Some microphones, cables and programs turn the sign of one channel, so that the mean is silence.
Half a second after the other is therefore looked at, from the beginning of the file, whatever
block or segment is read: the same samples always give the same waveform.
"""

from collections.abc import Callable

import numpy as np

WINDOW_S = 0.5
CANCELLED = 0.25  # power of the sum over the sum of powers: 1 for unrelated channels, 2 for equal
SILENCE = 1e-8  # power, where full scale is 1: below the noise of 16 bits


WARNING = (
    "its channels cancel each other (one has the sign of the other turned); one of them is read "
    "where they do"
)


def window(rate: int) -> int:
    """Samples of a stretch whose channels are mixed in one way."""
    return max(1, round(WINDOW_S * rate))


def whole_windows(begin: int, end: int, rate: int) -> tuple[int, int]:
    """The windows that a span of samples lies in; the last may go beyond the file."""
    size = window(rate)
    return begin // size * size, -(-end // size) * size


def _mixed(windows: np.ndarray) -> tuple[np.ndarray, bool]:
    """The waveforms of windows (W, channels, N), (W, N), and whether one has one channel alone."""
    waveforms = windows.mean(1)
    powers = windows.var(2)  # (W, channels)
    total = windows.shape[1] ** 2 * waveforms.var(1)
    alone = (powers.sum(1) > SILENCE) & (total < CANCELLED * powers.sum(1))
    for index in np.flatnonzero(alone):
        loud = powers[index] >= 0.5 * powers[index].max()
        waveforms[index] = windows[index, loud.argmax()]
    return waveforms, bool(alone.any())


class Mixer:
    """Makes one waveform of blocks of samples; joined, the results equal those of one block.

    Args:
        rate: samples per second.
        warn: called when channels cancel each other, which may be often.
    """

    def __init__(self, rate: int, warn: Callable[[], None]) -> None:
        self.size, self.warn = window(rate), warn
        self.rest: np.ndarray | None = None  # samples of a window that is not complete yet

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Samples (N, channels) in; those that can be mixed now come out, (M,)."""
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
        """The samples that are left."""
        rest, self.rest = self.rest, None
        return np.zeros(0, np.float32) if rest is None else self._mix(rest, len(rest))

    def _mix(self, samples: np.ndarray, size: int) -> np.ndarray:
        """Whole windows of so many samples, (N, channels), to one waveform (N,)."""
        if not len(samples):
            return np.zeros(0, np.float32)
        windows = samples.reshape(-1, size, samples.shape[1]).transpose(0, 2, 1)
        waveforms, alone = _mixed(np.ascontiguousarray(windows))
        if alone:
            self.warn()
        return waveforms.ravel()
