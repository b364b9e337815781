"""The folder of a training: its state, the models of its epochs, and a lock."""

import itertools
import os
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from asr.errors import InputError
from asr.files import check_folder, lock, remove_temporaries
from asr.model.batch import Batch
from asr.store.find import MODEL_FILE
from asr.terminal import warn
from asr.text.tokenizer import CharTokenizer
from asr.train.checkpoint import read_state, write_state

SUBFOLDERS = ("checkpoints", "log", "pictures")
_locks: list[TextIO] = []


def forget_locks() -> None:
    """Close the locks in a forked process, which may outlive the training by a moment."""
    for file in _locks:
        file.close()


def _name_also(path: Path, name: Path) -> None:
    """Give a file a second name; rename it if the file system has no hard links."""
    try:
        os.link(path, name)
    except OSError:
        path.replace(name)


class RunFolder:
    """The files that a training writes.

    Args:
        path: the folder; :meth:`make` creates it.
        checkpoints: number of states that are kept: ``last.pt``, the one before as ``last.1.pt``,
            and so on.

    Raises:
        InputError: the folder cannot be written.
    """

    def __init__(self, path: str | Path, checkpoints: int = 2) -> None:
        check_folder(path)
        self.path = Path(path)
        self.final, self.tokens = self.path / MODEL_FILE, self.path / "tokens.txt"
        self.state_file = self.path / "checkpoints" / "last.pt"
        older = (self.state_file.with_name(f"last.{i}.pt") for i in range(1, checkpoints))
        self._states = [self.state_file, *older]  # the newest first
        self._read_ns = 0  # modification time of the newest state when it was read or written
        self._sound = True  # whether the newest state can be read

    def make(self) -> None:
        """Create the folder and its subfolders; raise InputError if that fails."""
        try:
            for folder in SUBFOLDERS:
                (self.path / folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"{self.path}: cannot be made ({error.strerror}); name another --out folder"
            ) from error

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the folder against a second training; the lock ends with the process.

        Temporary files of a killed training are removed.

        Raises:
            InputError: another training runs there, or has run since the state was read.
        """
        with (self.path / "log" / "lock").open("w") as file:
            lock(file.fileno(), self.path)
            if self._changed_ns() != self._read_ns:
                raise InputError(
                    f"{self.state_file}: another training has changed this file meanwhile; start "
                    "this one again"
                )
            for folder in (self.path, *(self.path / name for name in SUBFOLDERS)):
                remove_temporaries(folder)
            _locks.append(file)
            try:
                yield
            finally:
                _locks.remove(file)

    def _changed_ns(self) -> int:
        return self.state_file.stat().st_mtime_ns if self.state_file.exists() else 0

    def save(self, state: dict[str, Any]) -> None:
        """Replace the state atomically, and keep the states before.

        Raises:
            InputError: the file cannot be written; the previous state is unchanged.
        """
        write_state(self.state_file, state, self._keep_older if self._sound else lambda: None)
        for path in set(self.state_file.parent.glob("last.*.pt")) - set(self._states):
            path.unlink(missing_ok=True)  # more states were kept before
        self._read_ns, self._sound = self._changed_ns(), True

    def _keep_older(self) -> None:
        """Give every state the name of the one before it; the newest also keeps its own name."""
        pairs = list(itertools.pairwise(self._states))
        for newer, older in reversed(pairs):
            if newer.exists():
                older.unlink(missing_ok=True)
                _name_also(newer, older)

    def load(self) -> dict[str, Any] | None:
        """Return the newest state that can be read, or None if the training is new.

        Raises:
            InputError: all states are damaged, or a finished model is there without a state.
        """
        self._read_ns = self._changed_ns()
        failure: InputError | None = None
        for path in filter(Path.exists, self._states):
            try:
                state = read_state(path)
            except InputError as error:
                failure = failure or error
                continue
            if path != self.state_file:
                found = str(failure).split(";")[0] if failure else f"{self.state_file}: missing"
                warn(f"{found}; going on from the state before, {path.name}")
                self._sound = False
            return state
        if failure:
            raise failure
        if self.final.exists():
            raise InputError(
                f"{self.final}: a model whose training cannot go on, because {self.state_file} is "
                "missing; name another --out folder, or move the model away"
            )
        return None

    def write_tokens(self, tokenizer: CharTokenizer) -> None:
        """Write tokens.txt; raise InputError if the folder has one with other characters."""
        if (
            self.tokens.is_file()
            and CharTokenizer.from_file(self.tokens).symbols != tokenizer.symbols
        ):
            raise InputError(
                f"{self.tokens}: other characters than those of this training; move the file "
                "away, or name another --out folder"
            )
        tokenizer.to_file(self.tokens)

    def model(self, entry: dict[str, Any]) -> Path:
        """Return the model file of an epoch, given its entry in the history."""
        return self.path / "checkpoints" / str(entry["checkpoint"])

    def keep(self, names: Set[str]) -> None:
        """Delete the models of all epochs but the named ones."""
        for path in self.state_file.parent.glob("epoch_*.safetensors"):
            if path.name not in names:
                path.unlink(missing_ok=True)

    def save_batch(self, batch: Batch, step: int, part: int = 0) -> Path:
        """Save a micro-batch of a skipped step for inspection; return the file's path."""
        path = self.path / "log" / (f"skipped_{step:06d}" + f"_{part}" * (part > 0) + ".pt")
        write_state(path, asdict(batch))
        return path
