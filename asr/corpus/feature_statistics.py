"""Durations, frame counts and CMVN statistics of a data directory, for ``asr features``.

Features are not stored: they are computed from the audio when they are needed, because
augmentation changes the audio in each epoch.
"""

from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from asr.audio.clip import Outputs, read
from asr.audio.cmvn import CmvnStats, read_stats, write_stats
from asr.audio.features import FeatureExtractor
from asr.config import FeatureConfig
from asr.config.read import load_yaml, to_dict
from asr.corpus.datadir import DataDir, Utterance
from asr.corpus.tables import STATISTICS, write_table
from asr.errors import InputError, first_line
from asr.files import write_json

CMVN_FILE, SETTINGS_FILE = STATISTICS


@dataclass(frozen=True)
class Measured:
    """Duration, number of frames and CMVN statistics of an utterance, or an error."""

    id: str
    speaker: str
    duration_s: float
    frames: int
    stats: CmvnStats | None
    error: str = ""


def measure(
    utterance: Utterance, config: FeatureConfig, outputs: Outputs | None = None
) -> Measured:
    """Read an utterance and sum up its features; if it cannot be read, return the error."""
    try:
        waveform = read(utterance.clip, sample_rate=config.sample_rate, outputs=outputs)
        features = FeatureExtractor(config)(waveform)
    except InputError as error:
        return Measured(utterance.id, utterance.speaker, 0.0, 0, None, first_line(error))
    stats = CmvnStats.from_features(features)
    duration_s = len(waveform) / config.sample_rate
    return Measured(utterance.id, utterance.speaker, duration_s, len(features), stats)


def speaker_totals(measured: Iterable[Measured]) -> dict[str, CmvnStats]:
    """Sum the statistics of each speaker."""
    totals: dict[str, CmvnStats] = {}
    for item in measured:
        if item.stats is not None:
            known = totals.get(item.speaker)
            totals[item.speaker] = item.stats if known is None else known + item.stats
    return totals


def gather(directory: str | Path, config: FeatureConfig, jobs: int = 1) -> list[Measured]:
    """Write utt2dur, utt2num_frames, cmvn.ark and features.json into a data directory.

    Args:
        directory: a valid Kaldi data directory; transcripts are not required.
        config: the settings of the features, which features.json records.
        jobs: number of processes that read audio.

    Raises:
        InputError: audio cannot be read; the message lists all such utterances, and nothing is
            written.
    """
    path = Path(directory)
    utterances = DataDir.load(path, text=False).utterances
    with ProcessPoolExecutor(jobs) as pool:
        measured = list(
            pool.map(partial(measure, config=config, outputs=Outputs()), utterances, chunksize=8)
        )
    broken = [f"  {m.id}: {m.error}" for m in measured if m.error]
    if broken:
        raise InputError(
            f"{path}: the audio of {len(broken)} of {len(measured)} utterances cannot be read; "
            "fix the files, or remove their lines and run `asr data fix`:\n" + "\n".join(broken)
        )
    write_table(path / "utt2dur", {m.id: f"{m.duration_s:.4f}" for m in measured})
    write_table(path / "utt2num_frames", {m.id: str(m.frames) for m in measured})
    write_stats(path / CMVN_FILE, speaker_totals(measured))
    write_json(path / SETTINGS_FILE, settings_of(config))
    return measured


def read_speaker_stats(directory: str | Path, config: FeatureConfig) -> dict[str, CmvnStats]:
    """Read the statistics that ``asr features`` wrote into a data directory.

    Raises:
        InputError: there are no statistics, or they belong to other features.
    """
    path = Path(directory) / CMVN_FILE
    if not path.is_file():
        raise InputError(f"{path}: no such file; run `asr features {directory}` first")
    again = f"run `asr features {directory} --config FILE` with the configuration of the training"
    stats = read_stats(path)
    for speaker, value in stats.items():
        if len(value.sum) != config.dim:
            raise InputError(
                f"{path}: {speaker} has {len(value.sum)} features a frame, the configuration "
                f"{config.dim}; {again}"
            )
    settings = Path(directory) / SETTINGS_FILE
    if settings.is_file():  # other toolkits do not write this file
        theirs, ours = load_yaml(settings), settings_of(config)
        differ = [f"{k} was {theirs.get(k)}, is {v}" for k, v in ours.items() if theirs.get(k) != v]
        if differ:
            raise InputError(f"{path}: made with other settings ({'; '.join(differ)}); {again}")
    return stats


def settings_of(config: FeatureConfig) -> dict[str, Any]:
    """Return the settings on which the statistics depend."""
    return {k: v for k, v in to_dict(config).items() if k not in ("cmvn", "dither")}
