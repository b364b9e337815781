"""A long recording made of short ones: memory, speed, and what length costs in accuracy."""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from asr.audio.clip import SAMPLE_RATE, read
from asr.bench.measure import memory_mb
from asr.config import DecodeConfig, SegmentationConfig
from asr.corpus.datadir import DataDir
from asr.errors import InputError
from asr.loading import load
from asr.recognize.recognizer import Recognizer
from asr.recognize.transcript import Transcript
from asr.score import score
from asr.train.augment import COLOURS, coloured_noise, randint, uniform

MINI = Path(__file__).resolve().parents[2] / "data" / "mini" / "test-mini"
GAP_S = (0.3, 3.0)  # between two utterances
LOWEST_DB = -90.0  # a third of the gaps is silent, noise in the others is as loud as this or more


@dataclass(frozen=True)
class Spoken:
    """An utterance with its transcript."""

    waveform: np.ndarray
    text: str


def utterances(data: str) -> list[Spoken]:
    """Those of a Kaldi data directory; without a name, of the bundled corpus's test set.

    Raises:
        InputError: there is no such directory, or something is wrong in it.
    """
    if data:
        return [Spoken(read(u.clip), u.text or "") for u in DataDir.load(data).utterances]
    found = []
    for table in sorted(MINI.rglob("*.trans.txt")):
        for line in table.read_text(encoding="utf-8").splitlines():
            name, _, text = line.partition(" ")
            found.append(Spoken(read(table.with_name(f"{name}.opus")), text))
    if not found:
        raise InputError(f"{MINI}: the bundled corpus is not there; name a data directory: --data")
    return found


def gap(noise_db: float, generator: torch.Generator) -> np.ndarray:
    """Silence or noise of some colour, as long as a pause between sentences."""
    samples = round(uniform(*GAP_S, generator) * SAMPLE_RATE)
    colour = sorted(COLOURS)[randint(len(COLOURS), generator)]
    level = 10 ** (uniform(LOWEST_DB, noise_db, generator) / 20) * (randint(3, generator) > 0)
    return level * coloured_noise(samples, colour, generator).numpy()


def join(spoken: list[Spoken], minutes: float, noise_db: float, path: Path) -> list[Spoken]:
    """Write a recording of at least ``minutes`` and return its utterances in order."""
    generator = torch.Generator().manual_seed(0)
    said: list[Spoken] = []
    samples = 0
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, 1, "PCM_16", format="FLAC") as file:
        for utterance in cycle(spoken):
            part = np.concatenate([utterance.waveform, gap(noise_db, generator)])
            file.write(part)
            samples += len(part)
            said.append(utterance)
            if samples >= minutes * 60 * SAMPLE_RATE:
                return said
    raise AssertionError("a cycle has no end")


def errors(said: list[Spoken], found: list[str]) -> float:
    """Word error rate of all texts, one after the other, in percent."""
    reference = " ".join(utterance.text for utterance in said)
    return 100 * score(reference, " ".join(filter(None, found))).wer


def one_by_one(recognizer: Recognizer, said: list[Spoken]) -> Iterator[str]:
    """Yield the text of each utterance, recognised by itself; repeated ones are recognised once."""
    alone = Recognizer(recognizer.utterances, SegmentationConfig(vad="none"))
    distinct = list({id(utterance): utterance for utterance in said}.values())
    found = alone.transcribe([(utterance.waveform, SAMPLE_RATE) for utterance in distinct])
    texts = {id(u): t.text for u, t in zip(distinct, found, strict=True)}
    yield from (texts[id(utterance)] for utterance in said)


def transcribe(
    model: str | None,
    data: str,
    minutes: float,
    noise_db: float,
    search: DecodeConfig,
    segmentation: SegmentationConfig,
) -> dict[str, Any]:
    """Transcribe a long recording, then the same utterances one by one.

    Args:
        model: as :func:`asr.load` takes it.
        data: see :func:`utterances`.
        minutes: length of the recording.
        noise_db: loudest noise between utterances, full scale 0.
        search: settings of both.
        segmentation: how the long one is cut.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "long.flac"
        said = join(utterances(data), minutes, noise_db, path)
        recognizer = load(model, config=search, segmentation=segmentation)
        before_mb, started = memory_mb(), time.perf_counter()
        found: Transcript = recognizer.transcribe(path)
        seconds = time.perf_counter() - started
    peak_mb = memory_mb()
    kept_s = sum(segment.end_s - segment.start_s for segment in found.segments)
    joined = errors(said, [found.text])
    alone = errors(said, list(one_by_one(recognizer, said)))
    return {
        "utterances": len(said),
        "audio_s": found.duration_s,
        "seconds": seconds,
        "real_time_factor": seconds / found.duration_s,
        "peak_memory_mb": peak_mb,
        "memory_before_mb": before_mb,
        "kept_s": kept_s,
        "segments": len(found.segments),
        "longest_segment_s": max((s.end_s - s.start_s for s in found.segments), default=0.0),
        "wer_percent": joined,
        "wer_one_by_one_percent": alone,
        "wer_difference": joined - alone,
    }
