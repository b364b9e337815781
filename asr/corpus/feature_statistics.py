"""Durations, frame counts and CMVN statistics of a data directory, for ``asr features``.

Features are not stored: they are computed from the audio when they are needed, because
augmentation changes the audio in each epoch.
"""

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from asr.audio.clip import CommandOutputs, command_of, read
from asr.audio.cmvn import CmvnStats, read_stats, write_stats
from asr.audio.features import FeatureExtractor
from asr.config import FeatureConfig
from asr.config.read import load_yaml, to_dict
from asr.corpus.columns import Numbers
from asr.corpus.datadir import DataDir, Utterance
from asr.corpus.saved import Report, Saved, measure_each
from asr.corpus.tables import STATISTICS, write_table
from asr.errors import InputError
from asr.files import detach, write_json

CMVN_FILE, SETTINGS_FILE = STATISTICS
SAVED_FILE = ".features"  # what a killed process has measured


def measure(
    utterance: Utterance, outputs: CommandOutputs, config: FeatureConfig
) -> tuple[float, CmvnStats]:
    """Return the seconds and the statistics of an utterance; raise InputError if unreadable."""
    waveform = read(utterance.clip, sample_rate=config.sample_rate, outputs=outputs)
    stats = CmvnStats.from_features(FeatureExtractor(config)(waveform))
    return len(waveform) / config.sample_rate, stats


def _row(
    utterance: Utterance, outputs: CommandOutputs, *, config: FeatureConfig
) -> tuple[float, int, Numbers, Numbers]:
    seconds, stats = measure(utterance, outputs, config)
    return seconds, int(stats.count), stats.sum, stats.square_sum


def speaker_totals(stats: Iterable[tuple[str, CmvnStats]]) -> dict[str, CmvnStats]:
    """Sum the statistics of each speaker, in the order in which they come."""
    totals: dict[str, CmvnStats] = {}
    for speaker, each in stats:
        totals[speaker] = totals[speaker] + each if speaker in totals else each
    return totals


def gather(
    directory: str | Path,
    config: FeatureConfig,
    jobs: int = 1,
    report: Report = lambda done, count: None,
) -> tuple[list[float], list[int]]:
    """Write utt2dur, utt2num_frames, cmvn.ark and features.json into a data directory.

    What is measured is saved in the directory until the files are written, so that a killed
    process goes on.

    Args:
        directory: a valid Kaldi data directory; transcripts are not required.
        config: the settings of the features, which features.json records.
        jobs: number of processes that read audio.
        report: called with the numbers of utterances that are done and of all.

    Returns:
        the seconds and the number of frames of each utterance.

    Raises:
        InputError: audio cannot be read; the message lists all such utterances, and nothing is
            written.
    """
    path = Path(directory)
    utterances = DataDir.load(path, text=False).utterances
    sums = ("f8", config.dim)
    fields = {"duration_s": "f8", "frames": "i8", "sum": sums, "square_sum": sums}
    saved = Saved(path / SAVED_FILE, fields, settings_of(config))
    work = partial(_row, config=config)
    places, errors = measure_each(utterances, work, saved, jobs, report)
    if errors:
        if any(command_of(wav) is not None for wav in utterances.wavs.names):
            saved.remove()  # the output of a command may change before the next run
        broken = [f"  {name}: {errors[name]}" for name in sorted(errors)]
        raise InputError(
            f"{path}: the audio of {len(broken)} of {len(utterances)} utterances cannot be read; "
            "fix the files, or remove their lines and run `asr data fix`:\n" + "\n".join(broken)
        )
    rows = saved.rows()
    durations_s, frames = rows["duration_s"][places].tolist(), rows["frames"][places].tolist()
    for name in STATISTICS:
        detach(path / name)
    ids = list(utterances.ids)
    write_table(path / "utt2dur", dict(zip(ids, map("{:.4f}".format, durations_s), strict=True)))
    write_table(path / "utt2num_frames", dict(zip(ids, map(str, frames), strict=True)))
    found = (rows[place] for place in places.tolist())
    stats = (CmvnStats(float(r["frames"]), r["sum"], r["square_sum"]) for r in found)
    totals = speaker_totals(zip(utterances.speakers, stats, strict=True))
    (path / CMVN_FILE).unlink(missing_ok=True)  # so that it never has the settings of others
    write_json(path / SETTINGS_FILE, settings_of(config))
    write_stats(path / CMVN_FILE, totals)
    saved.remove()
    return durations_s, frames


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
        check_settings(load_yaml(settings), config, path, again)
    return stats


def check_settings(
    theirs: Mapping[str, Any], config: FeatureConfig, where: str | Path, again: str
) -> None:
    """Raise InputError if statistics were made with other settings; ``again`` is the remedy."""
    ours = settings_of(config)
    differ = [f"{k} was {theirs.get(k)}, is {v}" for k, v in ours.items() if theirs.get(k) != v]
    if differ:
        raise InputError(f"{where}: made with other settings ({'; '.join(differ)}); {again}")


def settings_of(config: FeatureConfig) -> dict[str, Any]:
    """Return the settings on which the statistics depend."""
    return {k: v for k, v in to_dict(config).items() if k not in ("cmvn", "dither")}
