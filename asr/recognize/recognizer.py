"""Recognition of audio of any length: segmentation, features, batches, transcripts."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import ArrayLike

from asr.arrays import FloatArray
from asr.audio.arrays import ArrayReader
from asr.audio.clip import BLOCK_S, Clip, CommandOutputs, blocks
from asr.audio.cmvn import CmvnStats
from asr.audio.features import normalize
from asr.audio.resample import Resampler, resample
from asr.audio.vad import MakeDetector
from asr.config import SegmentationConfig
from asr.errors import InputError
from asr.recognize.segmentation import AudioChunk, Segmenter, make_segmenter
from asr.recognize.transcript import Segment, Transcript
from asr.recognize.utterances import Chunk, UtteranceRecognizer

WINDOW_S = 240.0  # audio that is collected, sorted by length and then decoded
WINDOW_BATCHES = 4  # limit of the same in batches

Source = str | Path | bytes | Clip | tuple[ArrayLike, int]


@dataclass
class _Job:
    """An input that is being recognised."""

    samples: int = 0
    """Samples read so far."""
    waiting: int = 0
    """Chunks that are not decoded yet."""
    complete: bool = False
    """Whether all of the input has been read."""
    segments: list[Segment] = field(default_factory=list)
    error: InputError | None = None


_Task = tuple[_Job, Chunk]


class Recognizer:
    """Turns audio into text.

    Several threads may use one recogniser: it does not change after it is made, every call has its
    own segmenters and queues, and the calls take turns at the network, which uses all processors
    anyway. Only the generators that it returns belong to one thread.

    Args:
        utterance_recognizer: recognises the chunks.
        segmentation: how audio is cut; by default at pauses.
        make_detector: makes a speech detector for a sample rate.

    Raises:
        InputError: the segmentation needs a speech detector that is missing.
    """

    def __init__(
        self,
        utterance_recognizer: UtteranceRecognizer,
        segmentation: SegmentationConfig | None = None,
        make_detector: MakeDetector | None = None,
    ) -> None:
        self.utterance_recognizer = utterance_recognizer
        self.header, self.config = utterance_recognizer.header, utterance_recognizer.config
        self.rate = self.header.config.features.sample_rate
        self.segmentation = segmentation or SegmentationConfig()
        self.make_detector = make_detector
        self._segmenter()  # validates the settings early

    @overload
    def transcribe(self, source: Source, *, attention: bool = False) -> Transcript: ...
    @overload
    def transcribe(self, source: list[Source], *, attention: bool = False) -> list[Transcript]: ...
    def transcribe(
        self, source: Source | list[Source], *, attention: bool = False
    ) -> Transcript | list[Transcript]:
        """Return the transcript of an audio source, or those of a list of sources.

        Args:
            source: a path, the bytes of a file, a :class:`~asr.audio.clip.Clip` (a stretch or a
                channel of a file), or a pair of samples, (N,) or (N, channels), floats with full
                scale 1 or integers, and their rate in Hz; or a list of these.
            attention: whether the segments carry their attention weights.

        Raises:
            InputError: the audio cannot be read, or, without a speech detector, is shorter than
                one analysis window or longer than ``--vad none`` accepts.

        Example:
            >>> import asr, numpy
            >>> recognizer = asr.load("exp/las")
            >>> whole = recognizer.transcribe("talk.wav")
            >>> half = recognizer.transcribe(asr.Clip("talk.wav", 0.0, 1.2))
            >>> silence = recognizer.transcribe((numpy.zeros(16000), 16000))
            >>> whole.duration_s, half.duration_s, silence.text
            (2.4, 1.2, '')
        """
        results = []
        sources = source if isinstance(source, list) else [source]
        for result in self.transcribe_each(sources, attention=attention):
            if isinstance(result, InputError):
                raise result
            results.append(result)
        return results if isinstance(source, list) else results[0]

    def transcribe_each(
        self,
        sources: Iterable[Source],
        *,
        speakers: Iterable[CmvnStats | None] = (),
        attention: bool = False,
        report: Callable[[float], None] | None = None,
    ) -> Iterator[Transcript | InputError]:
        """Recognise many inputs, ``config.batch`` chunks of similar length at a time.

        Memory holds some minutes of audio, however many and however long the inputs are.

        Args:
            sources: see :meth:`transcribe`; may be a generator.
            speakers: statistics of each input's speaker, for a model that normalises by speaker;
                by default an input has one speaker.
            attention: whether the segments carry their attention weights.
            report: called with the seconds of audio that were read since its last call.

        Yields:
            The transcript of each input in order, or the error of one that cannot be read.

        Example:
            >>> import asr
            >>> recognizer = asr.load("exp/las")
            >>> for found in recognizer.transcribe_each(["talk.wav", "missing.wav"]):
            ...     print(type(found).__name__)
            Transcript
            AudioError
        """
        jobs: deque[_Job] = deque()
        window: list[_Task] = []
        outputs = CommandOutputs()
        for source, speaker in zip(sources, chain(speakers, repeat(None)), strict=False):
            job = _Job()
            jobs.append(job)
            try:
                for task in self._tasks(source, speaker, job, report, outputs):
                    window.append(task)
                    if self._is_full(window):
                        self._decode_all(window, attention)
                        window = []
                        yield from self._finished(jobs)
            except InputError as error:
                job.error = error
            job.complete = True
            yield from self._finished(jobs)
        self._decode_all(window, attention)
        yield from self._finished(jobs)

    def _tasks(
        self,
        source: Source,
        speaker: CmvnStats | None,
        job: _Job,
        report: Callable[[float], None] | None,
        outputs: CommandOutputs,
    ) -> Iterator[_Task]:
        if speaker is None and self.header.config.features.cmvn == "speaker":
            speaker = CmvnStats.zero(self.utterance_recognizer.extractor.dim)
            for chunk in self._segment(self._blocks(source, outputs)):
                speaker += CmvnStats.from_features(
                    self.utterance_recognizer.extractor(chunk.waveform)
                )

        def counted() -> Iterator[np.ndarray]:
            for block in self._blocks(source, outputs):
                job.samples += len(block)
                if report:
                    report(len(block) / self.rate)
                yield block

        for chunk in self._segment(counted()):
            job.waiting += 1
            yield (
                job,
                self._chunk(chunk, self.utterance_recognizer.features(chunk.waveform, speaker)),
            )

    def chunks(self, source: Source, speaker: CmvnStats | None = None) -> list[Chunk]:
        """Return the chunks of an audio source with their features; see :meth:`transcribe`."""
        return [chunk for _, chunk in self._tasks(source, speaker, _Job(), None, CommandOutputs())]

    def _chunk(self, chunk: AudioChunk, features: FloatArray) -> Chunk:
        return Chunk(features, chunk.start / self.rate, chunk.end / self.rate)

    def _segment(self, blocks: Iterable[np.ndarray]) -> Iterator[AudioChunk]:
        segmenter = self._segmenter()
        for block in blocks:
            yield from segmenter.push(block)
        yield from segmenter.close()

    def _segmenter(self) -> Segmenter:
        return make_segmenter(self.segmentation, self.rate, self.make_detector)

    def _is_full(self, window: Sequence[_Task]) -> bool:
        seconds = sum(chunk.end_s - chunk.start_s for _, chunk in window)
        return seconds >= WINDOW_S or len(window) >= WINDOW_BATCHES * self.config.batch

    def _decode_all(self, window: list[_Task], attention: bool) -> None:
        """Decode the chunks of a window and add the segments to their inputs."""
        window = sorted(window, key=lambda task: len(task[1].features))
        for first in range(0, len(window), self.config.batch):
            self._decode(window[first : first + self.config.batch], attention)

    def _decode(self, batch: list[_Task], attention: bool) -> None:
        """Decode chunks and add the segments to their inputs."""
        found = self.utterance_recognizer.recognize_each(
            [chunk for _, chunk in batch], attention=attention
        )
        for (job, _), segment in zip(batch, found, strict=True):
            if isinstance(segment, InputError):
                job.error = segment
            else:
                job.segments.append(segment)
                job.waiting -= 1

    def _finished(self, jobs: deque[_Job]) -> Iterator[Transcript | InputError]:
        while jobs and jobs[0].complete and (jobs[0].error or not jobs[0].waiting):
            job = jobs.popleft()
            segments = sorted(job.segments, key=lambda segment: segment.start_s)
            yield job.error or Transcript(job.samples / self.rate, tuple(segments))

    def stream(
        self, blocks: Iterable[ArrayLike], rate: int | None = None, *, attention: bool = False
    ) -> Iterator[Segment]:
        """Recognise audio while it is being recorded.

        The encoder reads a segment in both directions, so text appears only when the segment has
        ended: with a speech detector after a pause, or once the speech lasts ``longest_s``, with
        ``fixed`` after at most 30 s, with ``none`` at the end. Memory holds one segment.

        Args:
            blocks: samples as they arrive, each (N,) or (N, channels), of any length.
            rate: samples per second; by default the model's rate.
            attention: whether the segments carry their attention weights.

        Yields:
            Segments with times from the beginning of the stream.

        Raises:
            InputError: samples are not finite numbers or have a wrong shape.

        Example:
            >>> import asr, soundfile
            >>> recognizer = asr.load("exp/las")
            >>> blocks = soundfile.blocks("talk.wav", blocksize=1600)
            >>> for segment in recognizer.stream(blocks, rate=16000):
            ...     print(f"{segment.start_s:.1f} to {segment.end_s:.1f} s")
            0.0 to 2.4 s
        """
        config, extract = self.header.config.features, self.utterance_recognizer.extractor
        speaker = CmvnStats.zero(config.dim) if config.cmvn == "speaker" else None
        for chunk in self._segment(self._resampled(blocks, self.rate if rate is None else rate)):
            features = extract(chunk.waveform)
            if speaker is not None:
                speaker += CmvnStats.from_features(features)
            normalized = normalize(features, config.cmvn, self.header.cmvn, speaker)
            batch = [self._chunk(chunk, normalized)]
            yield from self.utterance_recognizer.recognize(batch, attention=attention)

    def _resampled(self, arrays: Iterable[ArrayLike], rate: int) -> Iterator[np.ndarray]:
        reader = ArrayReader(rate)
        resampler = Resampler(reader.rate, self.rate)
        for array in arrays:
            yield resampler.push(reader.push(array))
        yield resampler.push(reader.close())
        yield resampler.close()

    def _blocks(self, source: Source, outputs: CommandOutputs) -> Iterator[np.ndarray]:
        """Yield the audio at the model's rate, a block at a time."""
        if isinstance(source, (str, Path, bytes)):
            source = Clip(source)
        if isinstance(source, Clip):
            yield from blocks(source, sample_rate=self.rate, outputs=outputs)
            return
        if not (isinstance(source, tuple) and len(source) == 2):
            raise InputError(
                f"{type(source).__name__}: expected a path, the bytes of a file, a Clip, or "
                "samples with their rate, (samples, rate)"
            )
        samples, rate = source
        reader = ArrayReader(rate)
        waveform = resample(reader.whole(samples), reader.rate, self.rate)
        size = round(BLOCK_S * self.rate)
        yield from (waveform[start : start + size] for start in range(0, len(waveform), size))
