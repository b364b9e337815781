"""Measurements of utterances, saved while a command runs, so that a killed command goes on."""

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from asr.audio.clip import CommandOutputs
from asr.corpus.columns import Numbers
from asr.corpus.datadir import Utterance, Utterances
from asr.corpus.jobs import in_processes
from asr.corpus.shard_index import hashed
from asr.errors import InputError, first_line
from asr.files import lock

PATIENCE_S = 2.0
CHUNK = 64  # utterances that a process measures at a time
Report = Callable[[int, int], object]
"""Called with the number of utterances done and of all utterances."""
Work = Callable[[Utterance, CommandOutputs], tuple[Any, ...]]
"""Returns the numbers of a row of an utterance; raises InputError if it cannot be read."""


class Saved:
    """Rows of numbers by key, in a file that grows.

    Args:
        path: the file; it begins with a hash of what the numbers depend on.
        fields: numpy's types of the numbers in a row, such as ``{"duration_s": "f8"}``.
        settings: on what the numbers depend besides the audio; rows of other settings are dropped.

    Raises:
        InputError: the file cannot be written, or another process writes it.
    """

    def __init__(self, path: Path, fields: dict[str, Any], settings: object) -> None:
        self.path, self.dtype = path, np.dtype([("key", "i8"), *fields.items()])
        head = hashlib.sha256(repr((self.dtype.descr, settings)).encode()).digest()
        self._head = len(head)
        try:
            self._file = open(path, "a+b")  # noqa: SIM115  # open as long as the lock
        except OSError as error:
            raise InputError(
                f"{path}: cannot write ({error.strerror}); copy the data directory to a folder "
                "that you may write"
            ) from error
        self._lock()
        self._file.seek(0)
        if self._file.read(len(head)) != head:
            self._file.truncate(0)
            self._write(head)
        self._file.truncate(self._head + len(self) * self.dtype.itemsize)  # of a killed process

    def _lock(self) -> None:
        """Lock the file; the processes of a killed command keep it for a moment."""
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                return lock(self._file.fileno(), self.path.parent)
            except InputError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._file.flush()

    def __len__(self) -> int:
        return (os.fstat(self._file.fileno()).st_size - self._head) // self.dtype.itemsize

    def append(self, rows: Numbers) -> None:
        """Save rows."""
        self._write(rows.tobytes())

    def rows(self) -> Numbers:
        """Return all rows; they stay in the file."""
        if not len(self):
            return np.zeros(0, self.dtype)
        # The process that had the lock before may have removed the file, but not this open one.
        return np.memmap(self._file, self.dtype, "r", offset=self._head, shape=(len(self),))

    def remove(self) -> None:
        """Remove the file when its rows are not needed any more."""
        with suppress(OSError):
            self.path.unlink()


def keys_of(utterances: Utterances) -> Numbers:
    """Return a hash of each utterance, (N,): of its id, its times, and its recording's file.

    A file counts as changed if its size or its time of modification has changed.
    """
    files = [hashed(f"{wav}\n{stamp(wav)}") for wav in utterances.wavs.names]
    spans = utterances.spans_s
    parts = [None] * len(utterances) if spans is None else spans.T.tolist()
    rows = zip(utterances.ids, utterances.wavs.codes.tolist(), parts, strict=True)
    found = (hashed(f"{name} {files[number]} {part}") for name, number, part in rows)
    return np.fromiter(found, np.int64, len(utterances))


def stamp(wav: str) -> str:
    """Return the size and the time of modification of a file; empty for a command."""
    try:
        status = os.stat(wav)  # noqa: PTH116  # faster than pathlib, for a million recordings
    except (OSError, ValueError):  # a command, or a file that is reported when it is read
        return ""
    return f"{status.st_size} {status.st_mtime_ns}"


def measure_each(
    utterances: Utterances, work: Work, saved: Saved, jobs: int, report: Report
) -> tuple[Numbers, dict[str, str]]:
    """Measure the utterances whose rows are not saved yet.

    Args:
        utterances: N utterances.
        work: what a process does for an utterance; its numbers are the fields of ``saved``.
        saved: receives the rows.
        jobs: number of processes.
        report: called with the numbers of utterances that are done and of all.

    Returns:
        the index of each utterance in ``saved.rows()``, (N,), -1 if it could not be measured; and
        the reasons by id.
    """
    keys, errors = keys_of(utterances), dict[str, str]()
    left = np.flatnonzero(_places(keys, saved) < 0)
    done = len(keys) - len(left)
    report(done, len(keys))
    parts = (left[first : first + CHUNK].tolist() for first in range(0, len(left), CHUNK))
    calls = ((work, part, [utterances[i] for i in part]) for part in parts)
    for measured, failed in in_processes(_measure, calls, jobs):
        saved.append(np.array([(keys[i], *row) for i, row in measured], saved.dtype))
        errors |= {utterances.ids[i]: reason for i, reason in failed}
        done += len(measured) + len(failed)
        report(done, len(keys))
    return _places(keys, saved), errors


def _measure(
    work: Work, part: list[int], utterances: Sequence[Utterance]
) -> tuple[list[tuple[int, tuple[Any, ...]]], list[tuple[int, str]]]:
    """Return the rows of the utterances that could be read, and the errors of the others."""
    outputs, rows, failed = CommandOutputs(), [], []
    for number, utterance in zip(part, utterances, strict=True):
        try:
            rows.append((number, work(utterance, outputs)))
        except InputError as error:
            failed.append((number, first_line(error)))
    return rows, failed


def _places(keys: Numbers, saved: Saved) -> Numbers:
    """Return the index of the row of each key, or -1."""
    known = np.array(saved.rows()["key"])
    order = known.argsort(kind="stable")
    places = np.append(order, -1)[np.searchsorted(known, keys, sorter=order)]
    return np.where(np.append(known, 0)[places] == keys, places, -1)
