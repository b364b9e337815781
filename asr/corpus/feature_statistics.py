"""What ``asr features`` measures: lengths, and the statistics for normalisation.

Features are computed from the audio whenever they are needed, at more than a thousand times
real time, because every epoch changes the audio; nothing but small files is stored.
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
    """What one utterance's audio turned out to be."""

    id: str
    speaker: str
    duration_s: float
    frames: int
    stats: CmvnStats | None
    error: str = ""


def measure(
    utterance: Utterance, config: FeatureConfig, outputs: Outputs | None = None
) -> Measured:
    """Read an utterance and sum up its features; an unreadable one says why."""
    try:
        waveform = read(utterance.clip, sample_rate=config.sample_rate, outputs=outputs)
        features = FeatureExtractor(config)(waveform)
    except InputError as error:
        return Measured(utterance.id, utterance.speaker, 0.0, 0, None, first_line(error))
    stats = CmvnStats.from_features(features)
    duration_s = len(waveform) / config.sample_rate
    return Measured(utterance.id, utterance.speaker, duration_s, len(features), stats)


def speaker_totals(measured: Iterable[Measured]) -> dict[str, CmvnStats]:
    """The statistics of every speaker."""
    totals: dict[str, CmvnStats] = {}
    for item in measured:
        if item.stats is not None:
            known = totals.get(item.speaker)
            totals[item.speaker] = item.stats if known is None else known + item.stats
    return totals


def gather(directory: str | Path, config: FeatureConfig, jobs: int = 1) -> list[Measured]:
    """Measure a data directory and write what is found into it.

    utt2dur, utt2num_frames, cmvn.ark, and in features.json how the features were made.

    Args:
        directory: a valid Kaldi data directory; a transcript is not needed.
        config: how features are made.
        jobs: processes that read audio.

    Raises:
        InputError: audio could not be read; the message lists every such utterance, and
            nothing is written.
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
            "fix the files, or take their lines out and run `asr data fix`:\n" + "\n".join(broken)
        )
    write_table(path / "utt2dur", {m.id: f"{m.duration_s:.4f}" for m in measured})
    write_table(path / "utt2num_frames", {m.id: str(m.frames) for m in measured})
    write_stats(path / CMVN_FILE, speaker_totals(measured))
    write_json(path / SETTINGS_FILE, _that_count(config))
    return measured


def read_speaker_stats(directory: str | Path, config: FeatureConfig) -> dict[str, CmvnStats]:
    """The statistics that ``asr features`` left in a data directory.

    Raises:
        InputError: there are none, or they belong to other features.
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
    if settings.is_file():  # statistics of other toolkits have none
        theirs, ours = load_yaml(settings), _that_count(config)
        differ = [f"{k} was {theirs.get(k)}, is {v}" for k, v in ours.items() if theirs.get(k) != v]
        if differ:
            raise InputError(f"{path}: of other features ({'; '.join(differ)}); {again}")
    return stats


def _that_count(config: FeatureConfig) -> dict[str, Any]:
    """The settings that statistics depend on."""
    return {k: v for k, v in to_dict(config).items() if k not in ("cmvn", "dither")}
