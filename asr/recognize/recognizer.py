"""The recogniser: a model, search settings, and long audio cut at quiet places."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import overload

import numpy as np
import torch
from torch import Tensor

from asr.audio import io
from asr.config import DecodeConfig
from asr.device import pick_device
from asr.errors import InputError
from asr.model.checkpoint import LoadedModel, load_model
from asr.recognize.transcript import Segment, Transcript
from asr.search.decode import decode_features
from asr.search.diagnose import flags
from asr.search.scorer import Hypothesis

LONGEST_S = 30.0  # attention models lose their way in audio longer than they were trained on
EARLIEST_S = 20.0  # a long file is cut at its quietest place between these two
QUIET_S = 0.2  # length of the stretch whose energy counts

Source = str | Path | bytes | tuple[np.ndarray | Tensor, int]


def load(
    path: str | Path, device: str = "auto", config: DecodeConfig | None = None
) -> "Recognizer":
    """Load a recogniser.

    Args:
        path: folder of a training, or a model file.
        device: auto, cpu, cuda or cuda:N.
        config: search settings; by default a beam of 8 with CTC.

    Raises:
        InputError: there is no usable model.
    """
    return Recognizer(load_model(path, pick_device(device)), config or DecodeConfig())


def cut(waveform: Tensor, rate: int) -> list[tuple[int, int]]:
    """Cut a waveform (N,) longer than 30 s at quiet places; pairs of sample numbers."""
    pieces, start = [], 0
    while len(waveform) - start > LONGEST_S * rate:
        window = waveform[start + round(EARLIEST_S * rate) : start + round(LONGEST_S * rate)]
        size = round(QUIET_S * rate)
        energy = window.square().unfold(0, size, size // 4).mean(1)
        place = start + round(EARLIEST_S * rate) + int(energy.argmin()) * (size // 4) + size // 2
        pieces.append((start, place))
        start = place
    return [*pieces, (start, len(waveform))]


class Recognizer:
    """Turns audio into text.

    Args:
        loaded: the model.
        config: search settings.
    """

    def __init__(self, loaded: LoadedModel, config: DecodeConfig) -> None:
        self.loaded, self.config = loaded, config
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
            source: a file, the bytes of one, or samples with full scale 1, (N,) or
                (N, channels), and their rate; or a list of these.
            attention: whether the segments carry their attention weights.

        Raises:
            InputError: the audio cannot be read or is shorter than one analysis window.
        """
        if isinstance(source, list):
            return [self.transcribe(item, attention=attention) for item in source]
        waveform = self._waveform(source)
        segments = []
        pieces = cut(waveform, self.rate)
        for first in range(0, len(pieces), self.config.batch):
            batch = pieces[first : first + self.config.batch]
            features = [self.loaded.features(waveform[a:b]) for a, b in batch]
            found = decode_features(self.loaded, features, self.config)
            for (a, b), hypotheses in zip(batch, found, strict=True):
                segments.append(self._segment(a, b, hypotheses, attention))
        return Transcript(len(waveform) / self.rate, tuple(segments))

    def transcribe_file(self, path: str | Path) -> str:
        """The text of an audio file."""
        return self.transcribe(path).text

    def with_config(self, **changes: object) -> "Recognizer":
        """The same model with other search settings."""
        return Recognizer(self.loaded, replace(self.config, **changes))  # type: ignore[arg-type]

    def _waveform(self, source: Source) -> Tensor:
        if isinstance(source, (str, Path, bytes)):
            return io.read(source, sample_rate=self.rate)
        samples, rate = source
        waveform = torch.as_tensor(samples, dtype=torch.float32)
        if waveform.ndim == 2:
            waveform = waveform.mean(1)
        if waveform.ndim != 1 or not torch.isfinite(waveform).all():
            raise InputError(
                f"samples of shape {tuple(waveform.shape)}: expected finite numbers, (N,) or "
                "(N, channels)"
            )
        return io.resample(waveform, rate, self.rate)

    def _segment(self, a: int, b: int, found: Sequence[Hypothesis], attention: bool) -> Segment:
        best, tokenizer = found[0], self.loaded.tokenizer
        return Segment(
            a / self.rate,
            b / self.rate,
            " ".join(tokenizer.decode(best.tokens).split()),
            best.score,
            best.attention_score,
            flags(best),
            best.tokens,
            tuple(tokenizer.decode(h.tokens) for h in found),
            best.weights if attention else None,
        )
