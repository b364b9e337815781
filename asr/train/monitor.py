"""Monitor of processes that train together: which of them has ended or hangs, and where.

A thread in every process writes what the process does into torch's store, twice a second. When a
process waits in vain, it reads the entries of the others: one that is not renewed belongs to a
process that was killed, and one with fewer exchanges to a process that hangs.
"""

import json
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from torch._C._distributed_c10d import Store

BEAT_S = 0.5  # between two entries of a process
SILENT_S = 4.0  # without a new entry, a process counts as killed
PATIENCE_S = 15.0  # for finding out who has ended
INTERRUPTED = "interrupted"  # why a process has ended that got a signal
SHOWN = 8  # lines of a log in a message


def rank_log(folder: Path, index: int) -> Path:
    """Return the log of a process in the folder of a training."""
    return folder / "log" / (f"rank{index}.log" if index else "train.txt")


@dataclass
class Entry:
    """What a process writes about itself."""

    host: str = ""
    process: int = 0
    beat: int = 0
    """Number of entries written so far."""
    exchanges: int = 0
    """Number of exchanges between the processes that this one has begun."""
    activity: str = "start"
    """What the process does."""
    ended: str = ""
    """Why the process has ended."""
    follows: bool = False
    """Whether it has ended only because of another process."""

    @property
    def where(self) -> str:
        """Host and number of the process."""
        return f"{self.host or 'unknown host'}, process {self.process}"


class Monitor(threading.Thread):
    """Writes the entry of this process, and reads those of the others on demand.

    Args:
        store: a store that all processes share.
        index: rank of this process.
        count: number of processes.
        folder: folder of the training, for the ends of logs.
    """

    def __init__(self, store: Store, index: int, count: int, folder: Path) -> None:
        super().__init__(daemon=True, name="monitor")
        self.store, self.index, self.count, self.folder = store, index, count, folder
        self.entry = Entry(socket.gethostname(), os.getpid())
        self.entries: dict[int, tuple[Entry, float]] = {}  # of the others, and when they changed
        self._closing, self._watching = threading.Event(), threading.Event()
        self._asked: set[int] = set()  # processes that shall write where they are into their logs
        self.lost: list[int] = []  # processes that have failed
        self._late = False  # whether a time limit has passed

    def run(self) -> None:
        """Write and read entries until :meth:`close`."""
        while True:
            last = self._closing.is_set()
            with suppress(RuntimeError):  # the store has ended with its process
                self._write()
                if self._watching.is_set():
                    self._read()
            if last:
                return
            self._closing.wait(BEAT_S)

    def _write(self) -> None:
        self.entry.beat += 1
        self.store.set(f"entry/{self.index}", json.dumps(asdict(self.entry)))
        if self.store.check([key := f"trace/{self.index}"]):
            self.store.delete_key(key)
            frame = sys._current_frames().get(threading.main_thread().ident or 0)
            with suppress(OSError), rank_log(self.folder, self.index).open("a") as log:
                log.write("the others wait for this process, which is at:\n")
                log.writelines(traceback.format_stack(frame))

    def _read(self) -> None:
        for rank in self.others():
            key = f"entry/{rank}"
            found = Entry()
            if self.store.check([key]):
                found = Entry(**json.loads(self.store.get(key)))
            if rank not in self.entries or self.entries[rank][0] != found:
                self.entries[rank] = found, time.monotonic()
            if self._late and found.exchanges < self.entry.exchanges and rank not in self._asked:
                self._asked.add(rank)
                self.store.set(f"trace/{rank}", "")

    def others(self) -> list[int]:
        """Return the ranks of the other processes."""
        return [rank for rank in range(self.count) if rank != self.index]

    def close(self) -> None:
        """Write the last entry, which says why the process ends."""
        try:
            if self.index == 0:  # the store may end with this process; the others read it before
                self._watching.set()
                until = time.monotonic() + SILENT_S
                while time.monotonic() < until and not self._all_ended():
                    time.sleep(BEAT_S / 5)
        finally:
            self._closing.set()
            self.join(2.0)  # the store may not answer any more

    def _all_ended(self) -> bool:
        alive = [rank for rank in self.others() if rank not in self.lost]
        return all(rank in self.entries and self.entries[rank][0].ended for rank in alive)

    def explain(self, limit_s: float | None) -> tuple[str, list[int]]:
        """Return which processes failed, and their ranks, after an exchange has failed.

        Args:
            limit_s: the time limit that has passed, or None if a connection was closed.
        """
        self._late = limit_s is not None
        self._watching.set()
        began = time.monotonic()
        while (waited := time.monotonic() - began) < PATIENCE_S:
            time.sleep(BEAT_S / 5)
            if len(self.entries) < self.count - 1:
                continue
            if lines := self._failed() or (limit_s is not None and self._hanging(limit_s, waited)):
                self.lost = [*lines]
                return "\n".join(lines.values()), self.lost
        if not self.entries:
            return "the store of torchrun does not answer: its machine or the network failed", [0]
        followers = {r: e.ended for r, (e, _) in self.entries.items() if e.ended}
        said = "".join(f"; rank {rank} has ended: {text}" for rank, text in followers.items())
        return f"the connection to another process broke{said}", [*followers]

    def ended(self) -> tuple[str, list[int]] | None:
        """Return what :meth:`explain` does, or None if no other process has failed."""
        self._watching.set()
        time.sleep(2 * BEAT_S)
        failed = self._failed().items()
        lines = {r: line for r, line in failed if self.entries[r][0].ended != INTERRUPTED}
        return ("\n".join(lines.values()), [*lines]) if lines else None

    def _failed(self) -> dict[int, str]:
        """Return what to say of processes that have ended with an error or were killed."""
        now, lines = time.monotonic(), {}
        for rank, (entry, changed) in sorted(self.entries.items()):
            if entry.ended and not entry.follows:
                lines[rank] = self._line(rank, entry, f"has ended: {entry.ended}")
            elif not entry.ended and now - changed > SILENT_S:
                text = "does not answer: it was killed, or its machine or the network failed"
                lines[rank] = self._line(rank, entry, text)
        return lines

    def _hanging(self, limit_s: float, waited_s: float) -> dict[int, str]:
        """Return what to say of processes that have begun fewer exchanges than this one."""
        late = [r for r, (e, _) in self.entries.items() if e.exchanges < self.entry.exchanges]
        if waited_s < SILENT_S + 2 * BEAT_S:  # they write where they are, if they live
            return {}
        text = f"hangs: the others have waited {limit_s:g} s for it (distributed.timeout_s)"
        return {rank: self._line(rank, self.entries[rank][0], text) for rank in late}

    def _line(self, rank: int, entry: Entry, text: str) -> str:
        path = rank_log(self.folder, rank)
        lines: Sequence[str] = []
        with suppress(OSError):
            lines = path.read_text(errors="replace").splitlines()[-SHOWN:]
        end = "".join(f"\n  {line}" for line in lines) if lines else " cannot be read here"
        return (
            f"rank {rank} ({entry.where}) {text}; it was at: {entry.activity}; the end of its "
            f"log {path}:{end}"
        )
