"""Channels to one waveform: their mean, or one of them where they cancel each other.

Some microphones, cables and programs turn the sign of one channel, so that the mean is silence.
Half a second after the other is therefore looked at, from the beginning of the file, whatever
block or segment is read: the same samples always give the same waveform.
"""

from collections.abc import Callable

import torch
from torch import Tensor

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


def cancelling(samples: Tensor) -> Tensor:
    """Whether the channels of windows (W, N, channels) cancel each other, (W,) of bool."""
    centred = samples - samples.mean(1, keepdim=True)
    powers = centred.square().mean(1)  # (W, channels)
    total = centred.sum(2).square().mean(1)
    return (powers.sum(1) > SILENCE) & (total < CANCELLED * powers.sum(1))


def _mixed(windows: Tensor) -> tuple[Tensor, bool]:
    """The waveforms of windows (W, N, channels), (W, N), and whether one has one channel alone."""
    waveforms = windows.mean(2)
    alone = cancelling(windows)
    for index in alone.nonzero().flatten().tolist():
        powers = windows[index].var(0, correction=0)
        loud = powers >= 0.5 * powers.max()
        waveforms[index] = windows[index][:, int(loud.int().argmax())]
    return waveforms, bool(alone.any())


class Mixer:
    """Makes one waveform of blocks of samples; joined, the results equal those of one block.

    Args:
        rate: samples per second.
        warn: called when channels cancel each other, which may be often.
    """

    def __init__(self, rate: int, warn: Callable[[], None]) -> None:
        self.size, self.warn = window(rate), warn
        self.rest: Tensor | None = None  # samples of a window that is not complete yet

    def push(self, samples: Tensor) -> Tensor:
        """Samples (N, channels) in; those that can be mixed now come out, (M,)."""
        if self.rest is not None and self.rest.shape[1] != samples.shape[1]:
            return torch.cat([self.close(), self.push(samples)])
        if samples.shape[1] == 1:
            return samples[:, 0]
        if self.rest is not None:
            samples = torch.cat([self.rest, samples])
        whole = len(samples) // self.size * self.size
        self.rest = samples[whole:]
        return (
            self._mix(samples[:whole].reshape(-1, self.size, samples.shape[1]))
            if whole
            else torch.zeros(0)
        )

    def close(self) -> Tensor:
        """The samples that are left."""
        rest, self.rest = self.rest, None
        return torch.zeros(0) if rest is None or not len(rest) else self._mix(rest.unsqueeze(0))

    def _mix(self, windows: Tensor) -> Tensor:
        waveforms, alone = _mixed(windows)
        if alone:
            self.warn()
        return waveforms.flatten()
