"""Kill a small training at random moments, and compare its end with an undisturbed training.

The trained process writes a line into a named pipe whenever it enters or leaves a phase. This
process waits until the chosen phase begins, waits a random share of its usual duration, and sends
the KILL signal to the training or to a process that reads audio.
"""

import json
import math
import multiprocessing
import os
import select
import signal
import socket
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import numpy as np
import torch

from asr.bench.corpus import make_corpus
from asr.config import TrainConfig
from asr.config.read import from_dict
from asr.errors import InputError, counted
from asr.store.model_file import read_model
from asr.store.weights import Weights
from asr.terminal import note
from asr.train.evaluate import Evaluation
from asr.train.group import joined
from asr.train.loop import Training

CONFIG = {
    "epochs": 4,
    "average": 2,
    "checkpoint_minutes": 0.0,
    "threads": 1,
    "device": "cpu",
    "features": {"mel_bins": 20},
    "augment": {"freq_width": 4, "time_width": 5},
    "model": {
        "encoder": {"units": 64, "pyramid": [2, 2], "dropout": 0.1},
        "attention": {"units": 32, "filters": 2, "filter_width": 5},
        "decoder": {"units": 64, "embedding": 16, "dropout": 0.1},
    },
    "batch": {"seconds": 8.0, "workers": 2},
    "distributed": {"timeout_s": 60.0},
}
UTTERANCES = 48
PHASES = ("step", "checkpoint", "dev", "loader")  # loader: a process that reads, during a step
PIPE, OUTPUT = "phases", "output.txt"
ROUNDING = 1e-6  # of sums over several processes
LONGEST_S = 120.0  # without a sign of life


class _Watched(Training):
    """A training that reports its phases."""

    pipe: int

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        os.write(self.pipe, f"{name}\n".encode())
        try:
            yield
        finally:
            os.write(self.pipe, b"other\n")

    def _step(self, *args: Any) -> None:
        with self._phase("step"):
            super()._step(*args)

    def _save(self) -> None:
        with self._phase("checkpoint"):
            super()._save()

    def _end_epoch(self) -> Evaluation:
        with self._phase("dev"):
            return super()._end_epoch()


def _train(corpus: Path, out: Path, index: int, ranks: int, port: int) -> None:
    """Train or resume; this is the main function of the processes that are killed."""
    with open(corpus / OUTPUT, "ab") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    torch.set_num_threads(1)
    numbers = {"RANK": index, "LOCAL_RANK": index, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in (numbers | address).items()})
    train, dev, tokens = (str(corpus / name) for name in ("train", "dev", "tokens.txt"))
    config = from_dict(TrainConfig, CONFIG)
    with joined("cpu", config.distributed.timeout_s, out) as rank:
        training = _Watched(config, train, dev, tokens, out, rank=rank)
        training.pipe = os.open(corpus / PIPE if index == 0 else os.devnull, os.O_WRONLY)
        training.run()


class _Attempt:
    """The processes of a training, and what the first of them reports."""

    def __init__(self, corpus: Path, out: Path, ranks: int) -> None:
        self._pipe = os.open(corpus / PIPE, os.O_RDONLY | os.O_NONBLOCK)
        self._rest = b""
        self.phase = "start"
        context, port = multiprocessing.get_context("fork"), _free_port()
        self.processes: list[BaseProcess] = [
            context.Process(target=_train, args=(corpus, out, index, ranks, port))
            for index in range(ranks)
        ]
        for process in self.processes:
            process.start()

    def phases(self) -> Iterator[str]:
        """Yield the phases as they begin, ``other`` between them, until the process ends.

        Raises:
            InputError: nothing has happened for a long time.
        """
        last_s = time.monotonic()
        while time.monotonic() - last_s < LONGEST_S:
            alive = any(process.is_alive() for process in self.processes)
            select.select([self._pipe], [], [], 0.05 if alive else 0)
            with suppress(BlockingIOError):
                self._rest += os.read(self._pipe, 1 << 16)
            *lines, self._rest = self._rest.split(b"\n")
            for line in lines:
                last_s, self.phase = time.monotonic(), line.decode()
                yield self.phase
            if not alive and not lines:
                return
        raise InputError(f"the training has stood still for {LONGEST_S:g} s")

    def kill(self, phase: str, random: Random) -> None:
        """Kill one of the processes; for ``loader``, one of those that read its audio."""
        pid = random.choice(self.processes).pid or 0
        path = Path(f"/proc/{pid}/task/{pid}/children")
        with suppress(OSError):  # it has just ended
            readers = path.read_text().split() if phase == "loader" else []
            os.kill(int(readers[0]) if readers else pid, signal.SIGKILL)

    def close(self) -> list[int | None]:
        """Kill the processes that have not ended; return the exit codes."""
        for process in self.processes:
            if process.is_alive():
                process.kill()
            process.join()
        with suppress(OSError):
            os.close(self._pipe)
        return [process.exitcode for process in self.processes]


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def _attempt(corpus: Path, out: Path, ranks: int) -> Iterator[_Attempt]:
    attempt = _Attempt(corpus, out, ranks)
    try:
        yield attempt
    finally:
        attempt.close()


def _undisturbed(corpus: Path, out: Path, ranks: int) -> dict[str, float]:
    """Train to the end; return the median duration of each phase in seconds."""
    found = defaultdict(list)
    with _attempt(corpus, out, ranks) as attempt:
        before, since_s = attempt.phase, time.monotonic()
        for phase in attempt.phases():
            now = time.monotonic()
            found[before].append(now - since_s)
            before, since_s = phase, now
    durations = {phase: median(seconds) for phase, seconds in found.items()}
    return durations | {"loader": durations.get("step", 0.0)}


@dataclass
class _Killer:
    """Kills trainings; ``hits`` counts the kills by the phase in which they came."""

    corpus: Path
    ranks: int
    kills: int
    durations_s: dict[str, float]
    random: Random
    hits: Counter[str] = field(default_factory=Counter)

    def train(self, out: Path) -> None:
        """Start a training again and again until it has ended by itself.

        Raises:
            InputError: it ended with an error although nothing was killed.
        """
        while True:
            with _attempt(self.corpus, out, self.ranks) as attempt:
                killed = self.hits.total() < self.kills and self._kill(attempt)
                for _ in attempt.phases():
                    pass
                if not any(attempt.close()):
                    return
                if not killed:
                    end = (self.corpus / OUTPUT).read_text(errors="replace")[-2000:]
                    raise InputError(f"the training failed after {self.hits}:\n{end}")

    def _kill(self, attempt: _Attempt) -> bool:
        """Kill in a random phase; return False if the training ended before."""
        phase, count = self.random.choice(PHASES), self.random.randint(1, 3)
        delay_s = self.random.random() * self.durations_s.get(phase, 0.0)
        began = "step" if phase == "loader" else phase
        for each in attempt.phases():
            count -= each == began
            if count == 0 or (began == "dev" and each == began):
                time.sleep(delay_s)
                attempt.kill(phase, self.random)
                died_in = attempt.phase
                if phase != "loader" and self.ranks == 1:
                    *_, died_in = died_in, *attempt.phases()  # what was still in the pipe
                self.hits[phase if phase == "loader" else died_in] += 1
                return True
        return False


def faults(kills: int, seed: int, ranks: int = 1) -> dict[str, Any]:
    """Kill trainings until there were so many kills; compare them with an undisturbed one.

    Args:
        kills: number of kills.
        seed: seed of the random times of the kills.
        ranks: processes of a training, of which one is killed at a time.

    Returns:
        whether all ended with the same weights and the same steps, the largest difference of a
        weight, the partial files left, the number of trainings, and the kills by phase.
    """
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder)
        make_corpus(corpus, UTTERANCES, from_dict(TrainConfig, CONFIG).features)
        os.mkfifo(corpus / PIPE)
        note("training without disturbance")
        killer = _Killer(
            corpus, ranks, kills, _undisturbed(corpus, corpus / "whole", ranks), Random(seed)
        )
        outs: list[Path] = []
        while killer.hits.total() < kills:
            outs.append(corpus / f"killed{len(outs) + 1}")
            killer.train(outs[-1])
            note(f"{killer.hits.total()} of {kills} kills, {counted(len(outs), 'training')} ended")
        allowed = 0.0 if ranks == 1 else ROUNDING
        return _compare(corpus / "whole", outs, allowed) | {"hits": dict(killer.hits)}


def _compare(whole: Path, outs: Sequence[Path], allowed: float = 0.0) -> dict[str, Any]:
    """Compare trainings; ``allowed`` is the largest difference of weights and losses."""
    largest = max(_difference(whole, out) for out in outs)
    same_steps = all(_same(_entries(out), _entries(whole), allowed) for out in outs)
    left = [str(path.relative_to(whole.parent)) for out in outs for path in out.rglob("*.tmp")]
    return {
        "identical": largest <= allowed and same_steps and not left,
        "largest_difference": largest,
        "same_steps": same_steps,
        "partial_files": left,
        "trainings": len(outs),
    }


def _same(ours: Any, theirs: Any, allowed: float) -> bool:
    """Whether two values from JSON are equal, up to rounding of numbers."""
    if isinstance(ours, list) and isinstance(theirs, list):
        pairs = zip(ours, theirs, strict=False)
        return len(ours) == len(theirs) and all(_same(*pair, allowed) for pair in pairs)
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return list(ours) == list(theirs) and _same([*ours.values()], [*theirs.values()], allowed)
    if not isinstance(ours, float):
        return bool(ours == theirs)
    return isinstance(theirs, float) and math.isclose(ours, theirs, rel_tol=allowed)


def _difference(one: Path, other: Path) -> float:
    """Return the largest difference of a weight of two final models."""
    ours, theirs = _weights(one), _weights(other)
    return max(float(np.abs(ours[name] - theirs[name]).max()) for name in ours)


def _weights(out: Path) -> Weights:
    return read_model(out)[1]


def _entries(out: Path) -> list[dict[str, Any]]:
    """Return the lines of train.jsonl without times."""
    lines = map(json.loads, (out / "train.jsonl").read_text().splitlines())
    return [{key: value for key, value in line.items() if not _is_time(key)} for line in lines]


def _is_time(key: str) -> bool:
    return key == "seconds" or (key.endswith("_s") and key != "audio_s")
