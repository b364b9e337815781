"""The recogniser: a model, search settings, and long audio cut at quiet places."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import overload

import numpy as np
import torch
from torch import Tensor

from asr.audio import io
from asr.audio.cmvn import CmvnStats
from asr.config import DecodeConfig, from_dict
from asr.device import pick_device
from asr.errors import InputError
from asr.model.checkpoint import LoadedModel, load_model
from asr.model.find import default_model
from asr.recognize.confidence import LOW
from asr.recognize.interpret import Interpreter
from asr.recognize.transcript import Segment, Transcript

LONGEST_S = 30.0  # attention models lose their way in audio longer than they were trained on
EARLIEST_S = 20.0  # a long file is cut at its quietest place between these two
QUIET_S = 0.2  # length of the stretch whose energy counts

Source = str | Path | bytes | tuple[np.ndarray | Tensor, int]


def load(
    path: str | Path | None = None,
    device: str = "auto",
    config: DecodeConfig | None = None,
    min_confidence: float = LOW,
) -> "Recognizer":
    """Load a recogniser.

    Args:
        path: folder of a training, a model file, or the name of a model that ships; by default
            the model that comes with the package.
        device: auto, cpu, cuda or cuda:N.
        config: search settings; by default those that come with the model (``asr export
            --search``), or else a beam of 8 with CTC.
        min_confidence: segments below it get the flag ``low-confidence``.

    Raises:
        InputError: there is no usable model, or a setting is out of range.
    """
    loaded = load_model(path or default_model(), pick_device(device))
    if config is None:
        config = from_dict(DecodeConfig, loaded.info.get("search", {}), str(loaded.path))
    return Recognizer(loaded, config, min_confidence)


def quietest(window: Tensor, rate: int) -> int:
    """Where to cut a window (N,) of 30 s: its quietest sample after the first 20 s."""
    first, size = round(EARLIEST_S * rate), round(QUIET_S * rate)
    energy = window[first:].square().unfold(0, size, size // 4).mean(1)
    return first + int(energy.argmin()) * (size // 4) + size // 2


def pieces(
    read: Callable[[float, float], Tensor], duration_s: float, rate: int
) -> Iterator[tuple[int, Tensor]]:
    """Cut audio longer than 30 s at quiet places, without ever holding more than a window.

    Args:
        read: gives the samples from one time to another, in seconds.
        duration_s: length of the audio.
        rate: samples per second.

    Yields:
        The first sample's number and the samples (N,) of each piece.
    """
    start = 0
    while duration_s - start / rate > LONGEST_S:
        window = read(start / rate, start / rate + LONGEST_S)
        place = quietest(window, rate)
        yield start, window[:place]
        start += place
    yield start, read(start / rate, duration_s)


@dataclass
class _Job:
    """An input on its way to a transcript."""

    waiting: int = 0
    """Pieces that are not decoded yet."""
    samples: int = 0
    segments: list[Segment] = field(default_factory=list)
    error: InputError | None = None


@dataclass(frozen=True)
class _Piece:
    """A piece of an input, ready for the model."""

    job: _Job
    start: int
    end: int
    features: Tensor


class Recognizer:
    """Turns audio into text.

    Args:
        loaded: the model.
        config: search settings.
        min_confidence: segments below it get the flag ``low-confidence``.

    Raises:
        InputError: a setting is out of range.
    """

    def __init__(
        self, loaded: LoadedModel, config: DecodeConfig, min_confidence: float = LOW
    ) -> None:
        self.loaded, self.config, self.min_confidence = loaded, config, min_confidence
        self.interpreter = Interpreter(loaded, config, min_confidence)
        self.rate = loaded.config.features.sample_rate

    @overload
    def transcribe(self, source: Source, *, attention: bool = False) -> Transcript: ...
    @overload
    def transcribe(self, source: list[Source], *, attention: bool = False) -> list[Transcript]: ...
    def transcribe(
        self, source: Source | list[Source], *, attention: bool = False
    ) -> Transcript | list[Transcript]:
        """Recognise audio.

        Args:
            source: a file, the bytes of one, or samples, (N,) or (N, channels), floats with
                full scale 1 or signed integers, and their rate; or a list of these.
            attention: whether the segments carry their attention weights.

        Raises:
            InputError: the audio cannot be read or is shorter than one analysis window.
        """
        results = []
        sources = source if isinstance(source, list) else [source]
        for result in self.transcribe_each(sources, attention=attention):
            if isinstance(result, InputError):
                raise result
            results.append(result)
        return results if isinstance(source, list) else results[0]

    def transcribe_each(
        self, sources: Iterable[Source], *, attention: bool = False
    ) -> Iterator[Transcript | InputError]:
        """Recognise many inputs, ``config.batch`` pieces of audio at a time.

        An input that cannot be read does not stop the others: its error comes in its place.
        Results come in the order of the inputs. Memory holds one batch of pieces, however
        long and however many the files are.
        """
        jobs: deque[_Job] = deque()
        batch: list[_Piece] = []
        for source in sources:
            job = _Job()
            try:
                for piece in self._pieces(source, job):
                    batch.append(piece)
                    if len(batch) == self.config.batch:
                        self._decode(batch, attention)
                        batch = []
            except InputError as error:
                job.error = error
            jobs.append(job)
            while jobs and (jobs[0].error or not jobs[0].waiting):
                yield self._result(jobs.popleft())
        self._decode(batch, attention)
        yield from map(self._result, jobs)

    def _pieces(self, source: Source, job: _Job) -> Iterator[_Piece]:
        read, duration_s = self._reader(source)
        speaker = None
        if self.loaded.config.features.cmvn == "speaker":  # an input is taken for one speaker
            speaker = CmvnStats.zero(self.loaded.extractor.dim)
            for _, waveform in pieces(read, duration_s, self.rate):
                speaker += CmvnStats.from_features(self.loaded.extractor(waveform))
        for start, waveform in pieces(read, duration_s, self.rate):
            features = self.loaded.features(waveform, speaker)
            job.samples = start + len(waveform)
            job.waiting += 1
            yield _Piece(job, start, job.samples, features)

    def _decode(self, batch: Sequence[_Piece], attention: bool) -> None:
        """Hand the segments of a batch to the inputs that they belong to."""
        if not batch:
            return
        features = [piece.features for piece in batch]
        spans = [(piece.start / self.rate, piece.end / self.rate) for piece in batch]
        segments = self.interpreter(features, spans, attention=attention)
        for piece, segment in zip(batch, segments, strict=True):
            piece.job.segments.append(segment)
            piece.job.waiting -= 1

    def _result(self, job: _Job) -> Transcript | InputError:
        return job.error or Transcript(job.samples / self.rate, tuple(job.segments))

    def transcribe_file(self, path: str | Path) -> str:
        """The text of an audio file."""
        return self.transcribe(path).text

    def with_config(self, **changes: object) -> "Recognizer":
        """The same model with other search settings."""
        config = replace(self.config, **changes)  # type: ignore[arg-type]
        return Recognizer(self.loaded, config, self.min_confidence)

    def _reader(self, source: Source) -> tuple[Callable[[float, float], Tensor], float]:
        """A function that gives the samples between two times, and the length in seconds."""
        if isinstance(source, (str, Path)):
            path, length_s = source, io.info(source).duration_s

            def read(start_s: float, end_s: float) -> Tensor:
                return io.read(path, sample_rate=self.rate, start_s=start_s, end_s=end_s)

            return read, length_s
        if isinstance(source, bytes):
            waveform = io.read(source, sample_rate=self.rate)
        else:
            waveform = io.resample(_mono(*source), source[1], self.rate)

        def part(start_s: float, end_s: float) -> Tensor:
            return waveform[round(start_s * self.rate) : round(end_s * self.rate)]

        return part, len(waveform) / self.rate


def _mono(samples: np.ndarray | Tensor, rate: int) -> Tensor:
    """Samples (N,) or (N, channels), signed integers or floats, as a waveform (N,)."""
    values = torch.as_tensor(samples)
    waveform = values.float()
    if not values.is_floating_point():  # 16-bit samples reach from -32768 to 32767
        waveform = waveform / (torch.iinfo(values.dtype).max + 1)
    if waveform.ndim == 2:
        waveform = waveform.mean(1)
    if waveform.ndim != 1 or not torch.isfinite(waveform).all():
        raise InputError(
            f"samples of shape {tuple(waveform.shape)}: expected finite numbers, "
            "(N,) or (N, channels)"
        )
    if rate <= 0:
        raise InputError(f"a rate of {rate} samples per second, expected more than 0")
    return waveform
