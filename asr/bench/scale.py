"""How a training starts with many utterances: from a data directory and from tar shards.

The corpora are made of a few recordings of noise that all utterances share: shards are links to one
file, whose utterances have other ids in the index. What a training reads before its first batch
is as long as that of a real corpus: tables or index.
"""

import io
import json
import multiprocessing
import os
import tarfile
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from asr.audio.cmvn import CmvnStats, write_stats
from asr.bench.measure import memory_mb
from asr.config import BatchConfig, FeatureConfig, TrainConfig
from asr.corpus.feature_statistics import CMVN_FILE, SETTINGS_FILE, settings_of
from asr.corpus.shard_index import INDEX_FILE, ShardIndex, hashed, lines_of
from asr.corpus.shard_writing import index_shard
from asr.files import write_json, write_text
from asr.model.machine import proc
from asr.text.tokenizer import CharTokenizer
from asr.train.data import TrainData
from asr.train.loader import load_batches
from asr.train.rank import Rank

FEATURES = FeatureConfig()
RATE_HZ = FEATURES.sample_rate
RECORDINGS, PER_SHARD, PER_SPEAKER = 20, 1000, 100
WORDS = ["ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE", "TEN"]
BATCH = BatchConfig(seconds=60.0)
BATCHES = 25  # whose reading is measured, after the first


def scale(utterances: int) -> dict[str, Any]:
    """Measure trainings with a number of utterances, each in a process of its own.

    Above a thousand, the number is rounded up to thousands.

    Returns:
        for ``directory`` and ``shards``: seconds to open and check the data, to plan an epoch and
        to the first batch (all included); MB that the data take in the main process, its largest
        size, and MB of a process that reads audio that it shares with no other; and utterances
        per second of one such process.
    """
    if utterances > PER_SHARD:  # whole shards
        utterances = -(-utterances // PER_SHARD) * PER_SHARD
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        clips = _make_recordings(root / "audio", 1)
        _make_directory(root / "dev", 10, _make_recordings(root / "other", 2), "dev", "ZERO ")
        _make_directory(root / "directory", utterances, clips, "train")
        _make_shards(root / "shards", utterances, clips)
        CharTokenizer.from_texts([*WORDS, "ZERO ALL"]).to_file(root / "tokens.txt")
        found = {
            "directory": _measured(root, str(root / "directory")),
            "shards": _measured(root, f"{root}/shards/*.tar"),
        }
    flat = {f"{kind}_{name}": v for kind, values in found.items() for name, v in values.items()}
    return {"utterances": utterances, **flat}


def _make_recordings(root: Path, seed: int) -> list[tuple[Path, float]]:
    """Write noise of 1 to 4 s; return the files and their durations."""
    random, clips = np.random.default_rng(seed), []
    root.mkdir()
    for number in range(RECORDINGS):
        path, length_s = root / f"{number}.flac", 1.0 + 3.0 * number / RECORDINGS
        soundfile.write(path, random.normal(0, 0.05, int(length_s * RATE_HZ)), RATE_HZ)
        clips.append((path, length_s))
    return clips


def _text(number: int) -> str:
    return " ".join(WORDS[number // 10**place % 10] for place in range(3))


def _make_directory(
    folder: Path, count: int, clips: list[tuple[Path, float]], prefix: str, more: str = ""
) -> None:
    """Write a data directory with the files of ``asr features``."""
    numbers = range(count)
    speakers = [f"{prefix}{i // PER_SPEAKER:06d}" for i in numbers]
    ids = [f"{speakers[i]}-{i:08d}" for i in numbers]
    chosen = [clips[i % len(clips)] for i in numbers]
    tables = {
        "wav.scp": (str(path) for path, _ in chosen),
        "text": (more + _text(i) for i in numbers),
        "utt2spk": speakers,
        "utt2dur": (f"{length_s:.4f}" for _, length_s in chosen),
    }
    for name, values in tables.items():
        lines = (f"{key} {value}\n" for key, value in zip(ids, values, strict=True))
        write_text(folder / name, "".join(lines))
    of_speaker: dict[str, list[str]] = {}
    for name, speaker in zip(ids, speakers, strict=True):
        of_speaker.setdefault(speaker, []).append(name)
    lines = (f"{speaker} {' '.join(names)}\n" for speaker, names in of_speaker.items())
    write_text(folder / "spk2utt", "".join(lines))
    ones = np.ones(FEATURES.dim)
    write_stats(
        folder / CMVN_FILE, dict.fromkeys(of_speaker, CmvnStats(1.0, 10 * ones, 101 * ones))
    )
    write_json(folder / SETTINGS_FILE, settings_of(FEATURES))


def _make_shards(folder: Path, count: int, clips: list[tuple[Path, float]]) -> None:
    """Write one shard, links to it, and an index in which each has utterances of its own."""
    folder.mkdir()
    first = folder / "train-000000.tar"
    each = min(count, PER_SHARD)
    with tarfile.open(first, "w", format=tarfile.GNU_FORMAT) as tar:
        for number in range(each):
            about = json.dumps({"text": _text(number)}).encode()
            audio = clips[number % len(clips)][0].read_bytes()
            for suffix, content in (("flac", audio), ("json", about)):
                member = tarfile.TarInfo(f"{number:06d}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    part, copies = index_shard(first, FEATURES, {}), count // each
    names = [f"train-{i:06d}.tar" for i in range(copies)]
    for name in names[1:]:
        os.link(first, folder / name)
    _tiled(part, names).save(folder / INDEX_FILE)


def _tiled(part: ShardIndex, names: list[str]) -> ShardIndex:
    """Return the index of copies of a shard."""
    arrays = {name: np.tile(value, len(names)) for name, value in part.arrays.items()}
    count = len(part) * len(names)
    speakers = np.arange(count) // PER_SPEAKER
    ids = [f"train{speakers[i]:06d}-{i:08d}" for i in range(count)]
    known = [f"train{i:06d}" for i in range(int(speakers[-1]) + 1)]
    arrays |= {
        "ids": lines_of(ids),
        "id_end": np.cumsum([len(name) + 1 for name in ids]),
        "id_hash": np.array([hashed(name) for name in ids]),
        "speaker": speakers.astype(np.int32),
        "speakers": lines_of(known),
        "shards": lines_of(names),
        "words": part.arrays["words"],
        "cmvn": np.tile(part.arrays["cmvn_total"], (len(known), 1)),
        "cmvn_total": part.arrays["cmvn_total"] * len(known),
    }
    return ShardIndex(arrays, part.info, "")


def _measured(root: Path, train: str) -> dict[str, float]:
    """Return the numbers of :func:`measure`, from another process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, str(root), train).result()


def measure(root: str, train: str) -> dict[str, float]:
    """Open a training set, plan an epoch and read batches; return seconds, MB and speed."""
    torch.set_num_threads(1)
    config = TrainConfig(features=FEATURES, batch=BATCH)
    before, started = _private_mb(os.getpid()), time.perf_counter()
    tokenizer = CharTokenizer.from_file(f"{root}/tokens.txt")
    data = TrainData(config, train, f"{root}/dev", tokenizer)
    opened = time.perf_counter()
    plan = data.epoch(1, Rank(torch.device("cpu")))
    planned = time.perf_counter()
    main_mb = _private_mb(os.getpid()) - before
    with closing(load_batches(data.train, plan.batches(), workers=1)) as batches:
        next(batches)
        first = time.perf_counter()
        read = sum(len(batch.ids) for batch in islice(batches, BATCHES))
        seconds = time.perf_counter() - first
        loader_mb = sum(_private_mb(p.pid or 0) for p in multiprocessing.active_children())
    return {
        "open_s": opened - started,
        "plan_s": planned - opened,
        "first_batch_s": first - started,
        "main_mb": main_mb,
        "main_peak_mb": memory_mb(),
        "loader_mb": loader_mb,
        "utterances_per_s": read / seconds,
    }


def _private_mb(process: int) -> float:
    """Return the memory that a process shares with no other process or file, in MiB (Linux)."""
    return int(proc(f"{process}/smaps_rollup", r"^Private_Dirty:\s*(\d+)") or 0) / 1024
