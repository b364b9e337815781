"""Segmentation of audio of any length into chunks that a model can follow, as the audio arrives.

Attention models fail on audio that is much longer than their training utterances, and write words
into silence. A speech detector (:mod:`asr.audio.vad`) therefore finds the speech, which is padded
with some of the audio around it and cut at pauses. The pause that ends a chunk becomes shorter as
the chunk becomes longer. Chunks never overlap and leave out no speech, and a segmenter holds no
more audio than its longest chunk with a pause and its padding.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from asr.audio.vad import FRAME, RATE, MakeDetector, SpeechDetector
from asr.config import SegmentationConfig
from asr.config.settings import HYSTERESIS, SHORTEST_PAUSE_S
from asr.errors import InputError

WHOLE_S = 60.0  # longest audio that --vad none accepts
FIXED_S = 30.0  # longest chunk without a speech detector
EARLIEST_S = 20.0  # such a chunk is cut at the quietest place between these two
QUIET_S = 0.2  # window over which the energy is averaged
SHORTEST_SPEECH_S = 0.09  # shorter sounds are clicks


@dataclass(frozen=True)
class AudioChunk:
    """A stretch of a recording."""

    start: int
    """Number of its first sample in the recording."""
    waveform: np.ndarray
    """Samples, (N,)."""

    @property
    def end(self) -> int:
        """Number of the sample after its last."""
        return self.start + len(self.waveform)


def quietest(window: np.ndarray, rate: int) -> int:
    """Return the middle of the quietest 0.2 s of a window (N,), as a sample number."""
    size = min(round(QUIET_S * rate), len(window))
    step = max(1, size // 4)
    energy = sliding_window_view(np.square(window), size)[::step].mean(1)
    return int(energy.argmin()) * step + size // 2


class SampleBuffer:
    """The most recent samples of a stream, addressed by their numbers in the stream."""

    def __init__(self) -> None:
        self.first = 0
        self.samples = np.zeros(0, np.float32)

    @property
    def end(self) -> int:
        """Number of the next sample."""
        return self.first + len(self.samples)

    def push(self, waveform: np.ndarray) -> None:
        """Append samples (N,)."""
        self.samples = np.concatenate([self.samples, waveform])

    def chunk(self, start: int, end: int) -> AudioChunk:
        """Return a copy of the samples from ``start`` to ``end``."""
        return AudioChunk(start, self.samples[start - self.first : end - self.first].copy())

    def drop(self, before: int) -> None:
        """Drop the samples before a number."""
        if before > self.first:
            self.samples = self.samples[before - self.first :]
            self.first = before


class FixedSegmenter:
    """Cuts the audio at its quietest place after 20 to 30 s."""

    def __init__(self, rate: int) -> None:
        self.rate, self.buffer = rate, SampleBuffer()

    def push(self, waveform: np.ndarray) -> Iterator[AudioChunk]:
        """Take samples (N,)."""
        self.buffer.push(waveform)
        longest, earliest = round(FIXED_S * self.rate), round(EARLIEST_S * self.rate)
        while len(self.buffer.samples) > longest:
            window = self.buffer.samples[earliest:longest]
            end = self.buffer.first + earliest + quietest(window, self.rate)
            yield self.buffer.chunk(self.buffer.first, end)
            self.buffer.drop(end)

    def close(self) -> Iterator[AudioChunk]:
        """Yield the rest."""
        if len(self.buffer.samples):
            yield self.buffer.chunk(self.buffer.first, self.buffer.end)


class WholeSegmenter(FixedSegmenter):
    """Keeps the audio in one chunk, at most 60 s long."""

    def push(self, waveform: np.ndarray) -> Iterator[AudioChunk]:
        """Take samples (N,); raise InputError once there are more than 60 s."""
        self.buffer.push(waveform)
        if self.buffer.end > WHOLE_S * self.rate:
            raise InputError(
                f"longer than {WHOLE_S:g} s, the limit of --vad none; cut the audio, or use "
                "--vad silero or fixed"
            )
        yield from ()


class SpeechSegmenter:
    """Keeps the speech of the audio, padded and cut at pauses.

    Args:
        config: thresholds and lengths.
        rate: samples per second.
        detector: speech detector for a stream of this rate.
    """

    def __init__(self, config: SegmentationConfig, rate: int, detector: SpeechDetector) -> None:
        self.config, self.rate = config, rate
        self.detector, self.buffer = detector, SampleBuffer()
        self.padding = round(config.padding_s * rate)
        self.frames = 0  # speech probabilities so far
        self.speaking = False
        self.begin: int | None = None  # first sample of the current speech
        self.end = 0  # the sample after the last speech
        self.ended = False  # a pause has ended the speech; its padding is still to come
        self.yielded = 0  # the sample after the last chunk

    def push(self, waveform: np.ndarray) -> Iterator[AudioChunk]:
        """Take samples (N,)."""
        self.buffer.push(waveform)
        yield from self._process(self.detector.push(waveform))

    def close(self) -> Iterator[AudioChunk]:
        """Yield the speech at the end of the audio."""
        yield from self._process(self.detector.close())
        if self.begin is not None:
            self.end = min(self.end, self.buffer.end)
            yield from self._finish(self.buffer.end)

    def _process(self, probabilities: np.ndarray) -> Iterator[AudioChunk]:
        for probability in probabilities.tolist():
            start, now = self._sample(self.frames), self._sample(self.frames + 1)
            self.frames += 1
            threshold = self.config.threshold - (HYSTERESIS if self.speaking else 0.0)
            self.speaking = probability >= threshold
            yield from self._speech(start, now) if self.speaking else self._silence(now)

    def _sample(self, frame: int) -> int:
        """Return the first sample of a frame of the detector."""
        return frame * FRAME * self.rate // RATE

    def _speech(self, start: int, now: int) -> Iterator[AudioChunk]:
        if self.ended:
            yield from self._finish((self.end + start) // 2)
        self.begin = start if self.begin is None else self.begin
        self.end = now
        if now - self.begin >= self.config.longest_s * self.rate:
            yield self._split(now)

    def _silence(self, now: int) -> Iterator[AudioChunk]:
        if self.begin is None:
            self.buffer.drop(min(self.buffer.end, now - self.padding))
            return
        self.ended = self.ended or now - self.end >= self._pause_s() * self.rate
        if self.ended and now - self.end >= 2 * self.padding:
            yield from self._finish(now)

    def _pause_s(self) -> float:
        """Return the length of silence that ends the current speech."""
        assert self.begin is not None
        share = (self.end - self.begin) / (self.config.longest_s * self.rate)
        return max(SHORTEST_PAUSE_S, self.config.pause_s * (1.0 - share))

    def _finish(self, latest: int) -> Iterator[AudioChunk]:
        """Yield the current speech with its padding, which ends at ``latest`` at most."""
        assert self.begin is not None
        begin, self.begin, self.ended = self.begin, None, False
        is_rest = 0 < begin == self.yielded  # of speech that was split
        shortest = 0.0 if is_rest else SHORTEST_SPEECH_S * self.rate
        if self.end - begin > shortest:
            start = max(self.yielded, begin - self.padding)
            self.yielded = min(self.end + self.padding, latest)
            yield self.buffer.chunk(start, self.yielded)
        self.buffer.drop(max(self.yielded, self.end - self.padding))

    def _split(self, now: int) -> AudioChunk:
        """Return the first part of speech that is too long, up to its quietest place."""
        assert self.begin is not None
        half = (self.begin + now) // 2
        end = half + quietest(self.buffer.chunk(half, now).waveform, self.rate)
        chunk = self.buffer.chunk(max(self.yielded, self.begin - self.padding), end)
        self.yielded = self.begin = end
        self.buffer.drop(end)
        return chunk


Segmenter = FixedSegmenter | SpeechSegmenter


def make_segmenter(
    config: SegmentationConfig, rate: int, make_detector: MakeDetector | None
) -> Segmenter:
    """Return a segmenter for one stream of audio at ``rate`` samples per second.

    Raises:
        InputError: the settings need a speech detector that does not exist or cannot be made.
    """
    if config.vad == "silero":
        if make_detector is None:
            raise InputError("there is no speech detector here; use --vad fixed")
        return SpeechSegmenter(config, rate, make_detector(rate))
    return FixedSegmenter(rate) if config.vad == "fixed" else WholeSegmenter(rate)
