"""Audio of any length into pieces that a model can follow, as the audio comes in.

Attention models lose their way in audio that is longer than what they were trained on, and write
words into silence. So speech is found first (see :mod:`asr.audio.vad`), padded with some of the
audio around it, and cut at pauses. Which pause ends a segment depends on its length: in the
beginning only a long one does, near the limit any breath. What is cut never overlaps and never
leaves out speech, and no segmenter holds more than its longest piece and a few seconds.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from asr.audio.vad import CHUNK, RATE, MakeDetector, SpeechDetector
from asr.config import SegmentationConfig
from asr.config.settings import HYSTERESIS, SHORTEST_PAUSE_S
from asr.errors import InputError

WHOLE_S = 60.0  # longest audio that is taken in one piece where nothing may be cut
FIXED_S = 30.0  # longest piece without a speech detector
EARLIEST_S = 20.0  # such a piece is cut at its quietest place between these two
QUIET_S = 0.2  # length of the stretch whose energy counts
SHORTEST_SPEECH_S = 0.09  # shorter sounds are clicks


@dataclass(frozen=True)
class Piece:
    """A stretch of audio for the model."""

    start: int
    """Number of its first sample."""
    waveform: np.ndarray
    """(N,)."""

    @property
    def end(self) -> int:
        """Number of the sample after its last."""
        return self.start + len(self.waveform)


class Segmenter(Protocol):
    """Takes audio in blocks and gives pieces as soon as they are complete."""

    def push(self, waveform: np.ndarray) -> Iterator[Piece]:
        """Take samples (N,)."""
        ...

    def close(self) -> Iterator[Piece]:
        """Give what is left at the end of the audio."""
        ...


def make_segmenter(
    config: SegmentationConfig, rate: int, make_detector: MakeDetector | None
) -> Segmenter:
    """The segmenter of the settings, for one stream of audio at ``rate`` samples per second.

    Raises:
        InputError: a speech detector is needed, and there is none or it cannot be made.
    """
    if config.vad == "silero":
        if make_detector is None:
            raise InputError("no speech detector here; go without it: --vad fixed")
        return SpeechSegmenter(config, rate, make_detector(rate))
    return FixedSegmenter(rate) if config.vad == "fixed" else WholeSegmenter(rate)


def quietest(window: np.ndarray, rate: int) -> int:
    """The middle of the quietest 0.2 s of a window (N,), as the number of a sample."""
    size = min(round(QUIET_S * rate), len(window))
    step = max(1, size // 4)
    energy = sliding_window_view(np.square(window), size)[::step].mean(1)
    return int(energy.argmin()) * step + size // 2


class SampleBuffer:
    """The last samples of a stream, found by their numbers."""

    def __init__(self) -> None:
        self.first = 0
        self.samples = np.zeros(0, np.float32)

    @property
    def end(self) -> int:
        """Number of the sample that comes next."""
        return self.first + len(self.samples)

    def push(self, waveform: np.ndarray) -> None:
        """Add samples at the end."""
        self.samples = np.concatenate([self.samples, waveform])

    def take(self, start: int, end: int) -> np.ndarray:
        """A copy of the samples from ``start`` to ``end``."""
        return self.samples[start - self.first : end - self.first].copy()

    def forget(self, before: int) -> None:
        """Drop what comes before a sample."""
        if before > self.first:
            self.samples = self.samples[before - self.first :].copy()
            self.first = before


class FixedSegmenter:
    """All of the audio, cut at its quietest place after 20 to 30 s."""

    def __init__(self, rate: int) -> None:
        self.rate, self.buffer = rate, SampleBuffer()

    def push(self, waveform: np.ndarray) -> Iterator[Piece]:
        """Take samples (N,)."""
        self.buffer.push(waveform)
        longest, earliest = round(FIXED_S * self.rate), round(EARLIEST_S * self.rate)
        while len(self.buffer.samples) > longest:
            window = self.buffer.samples[earliest:longest]
            yield self._cut(self.buffer.first + earliest + quietest(window, self.rate))

    def close(self) -> Iterator[Piece]:
        """Give the rest."""
        yield self._cut(self.buffer.end)

    def _cut(self, end: int) -> Piece:
        piece = Piece(self.buffer.first, self.buffer.take(self.buffer.first, end))
        self.buffer.forget(end)
        return piece


class WholeSegmenter:
    """All of the audio in one piece.

    Raises:
        InputError: it is longer than a minute.
    """

    def __init__(self, rate: int) -> None:
        self.rate, self.buffer = rate, SampleBuffer()

    def push(self, waveform: np.ndarray) -> Iterator[Piece]:
        """Take samples (N,)."""
        self.buffer.push(waveform)
        if self.buffer.end > WHOLE_S * self.rate:
            raise InputError(
                f"longer than {WHOLE_S:g} s, the most that --vad none takes; "
                "cut it, or take --vad silero or fixed"
            )
        yield from ()

    def close(self) -> Iterator[Piece]:
        """Give it."""
        yield Piece(0, self.buffer.samples)


class SpeechSegmenter:
    """The speech of the audio, padded, and cut at pauses.

    Args:
        config: thresholds and lengths.
        rate: samples per second.
        detector: of speech, for a stream of this rate.
    """

    def __init__(self, config: SegmentationConfig, rate: int, detector: SpeechDetector) -> None:
        self.config, self.rate = config, rate
        self.detector, self.buffer = detector, SampleBuffer()
        self.padding = round(config.padding_s * rate)
        self.chunks = 0  # that have a probability
        self.speaking = False
        self.begin: int | None = None  # of the segment that has begun: its first speech
        self.end = 0  # of its last speech
        self.over = False  # a pause has ended it, and what comes after is awaited for its padding
        self.taken = 0  # the sample after the last piece

    def push(self, waveform: np.ndarray) -> Iterator[Piece]:
        """Take samples (N,)."""
        self.buffer.push(waveform)
        yield from self._follow(self.detector.push(waveform))

    def close(self) -> Iterator[Piece]:
        """Give the speech that the audio ends with."""
        yield from self._follow(self.detector.close())
        if self.begin is not None:
            self.end = min(self.end, self.buffer.end)
            yield from self._give(self.buffer.end)

    def _follow(self, probabilities: np.ndarray) -> Iterator[Piece]:
        for probability in probabilities.tolist():
            start, now = self._sample(self.chunks), self._sample(self.chunks + 1)
            self.chunks += 1
            level = self.config.threshold - (HYSTERESIS if self.speaking else 0.0)
            self.speaking = probability >= level
            yield from self._speech(start, now) if self.speaking else self._silence(now)

    def _sample(self, chunk: int) -> int:
        """Where a chunk begins."""
        return chunk * CHUNK * self.rate // RATE

    def _speech(self, start: int, now: int) -> Iterator[Piece]:
        if self.over:
            yield from self._give((self.end + start) // 2)
        self.begin = start if self.begin is None else self.begin
        self.end = now
        if now - self.begin >= self.config.longest_s * self.rate:
            yield self._split(now)

    def _silence(self, now: int) -> Iterator[Piece]:
        if self.begin is None:
            self.buffer.forget(min(self.buffer.end, now - self.padding))
            return
        self.over = self.over or now - self.end >= self._pause() * self.rate
        if self.over and now - self.end >= 2 * self.padding:
            yield from self._give(now)

    def _pause(self) -> float:
        """Seconds of silence that end the segment, given its length."""
        assert self.begin is not None
        share = (self.end - self.begin) / (self.config.longest_s * self.rate)
        return max(SHORTEST_PAUSE_S, self.config.pause_s * (1.0 - share))

    def _give(self, latest: int) -> Iterator[Piece]:
        """The segment with its padding, which goes to ``latest`` at most."""
        assert self.begin is not None
        begin, self.begin, self.over = self.begin, None, False
        shortest = 0.0 if begin == self.taken else SHORTEST_SPEECH_S * self.rate
        if self.end - begin > shortest:
            start = max(self.taken, begin - self.padding)
            self.taken = min(self.end + self.padding, latest)
            yield Piece(start, self.buffer.take(start, self.taken))
        self.buffer.forget(max(self.taken, self.end - self.padding))

    def _split(self, now: int) -> Piece:
        """The first part of a segment that got too long, up to its quietest place."""
        assert self.begin is not None
        half = (self.begin + now) // 2
        end = half + quietest(self.buffer.take(half, now), self.rate)
        start = max(self.taken, self.begin - self.padding)
        piece = Piece(start, self.buffer.take(start, end))
        self.taken = self.begin = end
        self.buffer.forget(end)
        return piece
