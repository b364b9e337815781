"""Benchmark of a long recording: speed, memory, and word errors beside those of its utterances."""

import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

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
PAUSE_S = (0.3, 3.0)  # shortest and longest pause between utterances
LOWEST_DB = -90.0  # quietest noise in pauses; a third of them is silent


class Reference(NamedTuple):
    """An utterance with its transcript."""

    waveform: np.ndarray
    text: str


def references(data: str) -> list[Reference]:
    """Return the utterances of a Kaldi data directory, or of the bundled test set without a name.

    Raises:
        InputError: the directory is missing or invalid.
    """
    if data:
        return [Reference(read(u.clip), u.text or "") for u in DataDir.load(data).utterances]
    found = []
    for table in sorted(MINI.rglob("*.trans.txt")):
        for line in table.read_text(encoding="utf-8").splitlines():
            name, _, text = line.partition(" ")
            found.append(Reference(read(table.with_name(f"{name}.opus")), text))
    if not found:
        raise InputError(f"{MINI}: no bundled corpus; give a data directory with --data")
    return found


def pause(noise_db: float, generator: torch.Generator) -> np.ndarray:
    """Return silence or coloured noise as long as a pause between sentences."""
    samples = round(uniform(*PAUSE_S, generator) * SAMPLE_RATE)
    colour = sorted(COLOURS)[randint(len(COLOURS), generator)]
    level = 10 ** (uniform(LOWEST_DB, noise_db, generator) / 20) * (randint(3, generator) > 0)
    return level * coloured_noise(samples, colour, generator, SAMPLE_RATE).numpy()


def join(
    utterances: list[Reference], minutes: float, noise_db: float, path: Path
) -> list[Reference]:
    """Write a recording of at least ``minutes``, and return its utterances in order."""
    generator, written, samples = torch.Generator().manual_seed(0), list[Reference](), 0
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, 1, "PCM_16", format="FLAC") as file:
        while samples < minutes * 60 * SAMPLE_RATE:
            utterance = utterances[len(written) % len(utterances)]
            part = np.concatenate([utterance.waveform, pause(noise_db, generator)])
            file.write(part)
            samples += len(part)
            written.append(utterance)
    return written


def errors(spoken: list[Reference], found: list[str]) -> float:
    """Return the word error rate of all texts, joined, in percent."""
    reference = " ".join(utterance.text for utterance in spoken)
    return 100 * score(reference, " ".join(filter(None, found))).wer


def one_by_one(recognizer: Recognizer, utterances: list[Reference]) -> list[str]:
    """Return the text of each utterance, recognised as a recording of its own."""
    alone = Recognizer(recognizer.utterance_recognizer, SegmentationConfig(vad="none"))
    return [t.text for t in alone.transcribe([(u.waveform, SAMPLE_RATE) for u in utterances])]


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
        model: see :func:`asr.load`.
        data: see :func:`references`.
        minutes: length of the recording.
        noise_db: loudest noise in pauses, in dB below full scale.
        search: settings of both searches.
        segmentation: how the long recording is cut.
    """
    utterances = references(data)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "long.flac"
        spoken = join(utterances, minutes, noise_db, path)
        recognizer = load(model, config=search, segmentation=segmentation)
        before_mb, started = memory_mb(), time.perf_counter()
        found: Transcript = recognizer.transcribe(path)
        seconds = time.perf_counter() - started
    peak_mb = memory_mb()
    kept_s = sum(segment.end_s - segment.start_s for segment in found.segments)
    joined = errors(spoken, [found.text])
    texts = one_by_one(recognizer, spoken[: len(utterances)])
    alone = errors(spoken, [texts[i % len(texts)] for i in range(len(spoken))])
    return {
        "utterances": len(spoken),
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
