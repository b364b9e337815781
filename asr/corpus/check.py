"""Read all audio of a data directory and find what harms a training, for ``asr data check``."""

import math
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asr.audio.clip import CommandOutputs, command_of, info, recorded_blocks
from asr.corpus.columns import Numbers
from asr.corpus.datadir import DataDir, Utterance, Utterances
from asr.corpus.saved import Report, Saved, measure_each
from asr.errors import EmptyAudioError, InputError, counted

SAVED_FILE = ".check"  # what is known of audio that has not changed
SHOWN = 3  # examples of each kind
FULL_SCALE = 0.99  # samples from here on count as clipped; full scale is 1
POLICIES = ("warn", "drop", "stop")
KINDS = {  # usual policy, and what is wrong
    "unreadable": ("stop", "audio that cannot be read"),
    "empty": ("stop", "shorter than {shortest:g} s"),
    "silent": ("warn", "level below {silent:g} dB"),
    "stereo": ("warn", "more than one channel; the mean of all is used"),
    "clipped": ("warn", "more than {clipped:g} % of the samples at full scale"),
    "long": ("warn", "longer than {longest:g} s"),
    "fast": ("warn", "more than {fastest:g} characters a second"),
}
LIMITS = {  # usual value, unit, help
    "shortest": (0.1, "s", "shorter audio is 'empty'"),
    "longest": (30.0, "s", "longer audio is 'long'"),
    "silent": (-60.0, "dB", "audio below this level, relative to full scale, is 'silent'"),
    "clipped": (0.1, "percent", "audio with more of its samples at full scale is 'clipped'"),
    "fastest": (25.0, "characters/s", "a transcript with more characters a second is 'fast'"),
}
_FIELDS = {"duration_s": "f8", "level_db": "f8", "clipped": "f8", "channels": "i4"}


@dataclass(frozen=True)
class Checked:
    """What was found in a data directory."""

    report: dict[str, Any]
    """Counts, examples and seconds, for JSON."""
    stopped: list[str]
    """The kinds that were found and whose policy is stop."""
    drop: list[str]
    """Ids of the utterances that the policies remove."""
    keep: list[str]
    """Ids of the others."""


def policies(text: str) -> dict[str, str]:
    """Parse ``kind=policy,kind=policy``; the others have their usual policies.

    Raises:
        InputError: a kind or a policy does not exist.
    """
    found = {kind: policy for kind, (policy, _) in KINDS.items()}
    for each in filter(None, text.split(",")):
        kind, _, policy = each.strip().partition("=")
        if kind not in KINDS or policy not in POLICIES:
            raise InputError(
                f'--policy: found "{each}", expected KIND=POLICY with a kind of {", ".join(KINDS)} '
                f"and a policy of {', '.join(POLICIES)}"
            )
        found[kind] = policy
    return found


def check(
    directory: str | Path,
    limits: Mapping[str, float],
    chosen: Mapping[str, str],
    jobs: int = 1,
    report: Report = lambda done, count: None,
) -> Checked:
    """Read all audio of a valid data directory; transcripts are not required.

    What is known of the audio is saved in the directory, if it can be written.

    Args:
        directory: the data directory.
        limits: a value for each of :data:`LIMITS`.
        chosen: the policy of each kind.
        jobs: number of processes that read audio.
        report: called with the numbers of utterances that are done and of all.

    Raises:
        InputError: the directory is not valid.
    """
    path, started = Path(directory), time.monotonic()
    utterances = DataDir.load(path, text=(path / "text").is_file()).utterances
    with tempfile.TemporaryDirectory() as folder:
        place = path if os.access(path, os.W_OK) else Path(folder)
        saved = Saved(place / SAVED_FILE, _FIELDS, FULL_SCALE)
        places, errors = measure_each(utterances, _measure, saved, jobs, report)
        rows = np.append(saved.rows(), np.zeros(1, saved.dtype))[places]  # the last: unreadable
        if any(command_of(wav) is not None for wav in utterances.wavs.names):
            saved.remove()  # whether the output of a command has changed is unknown
    found = _found(utterances, rows, places < 0, limits, errors)
    kinds = {
        kind: {
            "count": len(where),
            "policy": chosen[kind],
            "what": KINDS[kind][1].format(**limits),
            "examples": {utterances.ids[i]: describe(i) for i in where[:SHOWN].tolist()},
        }
        for kind, (where, describe) in found.items()
    }
    dropped = [found[kind][0] for kind in KINDS if chosen[kind] == "drop"]
    summary = {
        "path": str(path),
        "utterances": len(utterances),
        "hours": float(rows["duration_s"].sum()) / 3600,
        "seconds": round(time.monotonic() - started, 3),
        "kinds": kinds,
    }
    stopped = [kind for kind in KINDS if chosen[kind] == "stop" and len(found[kind][0])]
    remove = np.isin(np.arange(len(utterances)), np.concatenate([np.zeros(0, int), *dropped]))
    ids = np.array(list(utterances.ids), object)
    return Checked(summary, stopped, ids[remove].tolist(), ids[~remove].tolist())


def _found(
    utterances: Utterances,
    rows: Numbers,
    failed: Numbers,
    limits: Mapping[str, float],
    errors: Mapping[str, str],
) -> dict[str, tuple[Numbers, Callable[[int], str]]]:
    """Return the utterances of each kind, with a function that describes one."""
    duration_s, level_db, clipped = rows["duration_s"], rows["level_db"], 100 * rows["clipped"]
    full = ~failed & (duration_s >= limits["shortest"])
    lengths = np.fromiter(map(len, utterances.transcripts), int, len(rows))

    def seconds(i: int) -> str:
        return f"{duration_s[i]:.2f} s"

    kinds: dict[str, tuple[Numbers, Callable[[int], str]]] = {
        "unreadable": (failed, lambda i: errors[utterances.ids[i]]),
        "empty": (~failed & ~full, seconds),
        "silent": (full & (level_db < limits["silent"]), lambda i: f"{level_db[i]:.1f} dB"),
        "stereo": (full & (rows["channels"] > 1), lambda i: f"{rows['channels'][i]} channels"),
        "clipped": (full & (clipped > limits["clipped"]), lambda i: f"{clipped[i]:.2f} %"),
        "long": (duration_s > limits["longest"], seconds),
        "fast": (
            full & (lengths > limits["fastest"] * duration_s),
            lambda i: f"{lengths[i]} characters in {seconds(i)}",
        ),
    }
    return {kind: (np.flatnonzero(mask), way) for kind, (mask, way) in kinds.items()}


def _measure(utterance: Utterance, outputs: CommandOutputs) -> tuple[float, float, float, int]:
    """Return seconds, level relative to full scale, share of clipped samples, and channels."""
    seconds, count, clipped, energy, channels = 0.0, 0, 0, 0.0, 1
    clip = utterance.clip
    with suppress(EmptyAudioError):
        channels = info(outputs.of(str(clip.source))[0] if clip.command else clip.source).channels
        for rate, block in recorded_blocks(utterance.clip, outputs=outputs):
            seconds += len(block) / rate
            count += len(block)
            clipped += int(np.count_nonzero(np.abs(block) >= FULL_SCALE))
            energy += float(np.square(block, dtype=np.float64).sum())
    level_db = 10 * math.log10(energy / count) if energy > 0 else -math.inf
    return seconds, level_db, clipped / max(1, count), channels


def show(report: Mapping[str, Any]) -> str:
    """Return the lines of a report."""
    head = f"{report['path']}: {counted(report['utterances'], 'utterance')}"
    lines = [f"{head}, {report['hours']:.2f} hours, checked in {report['seconds']:.0f} s"]
    for kind, found in report["kinds"].items():
        if found["count"]:
            count = counted(found["count"], "utterance")
            lines.append(f"{kind} ({found['policy']}): {count}: {found['what']}")
            lines += [f"  {name}: {told}" for name, told in found["examples"].items()]
    return "\n".join(lines if len(lines) > 1 else [f"{lines[0]}: nothing found"])
