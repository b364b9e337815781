"""The folder of a training: its state, the models of its epochs, and a lock."""

import fcntl
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from asr.errors import InputError
from asr.files import check_folder
from asr.model.batch import Batch
from asr.store.find import MODEL_FILE
from asr.terminal import warn
from asr.train.checkpoint import read_state, write_state


class RunFolder:
    """The files that a training writes.

    Args:
        path: the folder; :meth:`make` creates it.

    Raises:
        InputError: the folder cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        check_folder(path)
        self.path = Path(path)
        self.final = self.path / MODEL_FILE
        self.state_file = self.path / "checkpoints" / "last.pt"
        self._read_ns = 0  # modification time of the state that was read or written last

    def make(self) -> None:
        """Create the folder and its subfolders; raise InputError if that fails."""
        try:
            for folder in ("checkpoints", "log", "pictures"):
                (self.path / folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"{self.path}: cannot be made ({error.strerror}); name another --out folder"
            ) from error

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the folder against a second training; the lock ends with the process.

        Raises:
            InputError: another training runs there, or has run since the state was read.
        """
        with (self.path / "log" / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise InputError(
                    f"{self.path}: another training is writing into this folder; wait for it, "
                    "stop it, or use another --out"
                ) from error
            except OSError as error:  # some network file systems
                warn(f"{self.path} cannot be locked ({error.strerror})")
            if self._changed_ns() != self._read_ns:
                raise InputError(
                    f"{self.state_file}: another training has changed this file meanwhile; start "
                    "this one again"
                )
            yield

    def _changed_ns(self) -> int:
        return self.state_file.stat().st_mtime_ns if self.state_file.exists() else 0

    def save(self, state: dict[str, Any]) -> None:
        """Replace the state atomically.

        Raises:
            InputError: the file cannot be written; the previous state is unchanged.
        """
        write_state(self.state_file, state)
        self._read_ns = self._changed_ns()

    def load(self) -> dict[str, Any] | None:
        """Return the state that was saved last, or None if the training is new.

        Raises:
            InputError: the file is damaged.
        """
        self._read_ns = self._changed_ns()
        return read_state(self.state_file) if self._read_ns else None

    def model(self, entry: dict[str, Any]) -> Path:
        """Return the model file of an epoch, given its entry in the history."""
        return self.path / "checkpoints" / str(entry["checkpoint"])

    def keep(self, names: Set[str]) -> None:
        """Delete the models of all epochs but the named ones."""
        for path in self.state_file.parent.glob("epoch_*.safetensors"):
            if path.name not in names:
                path.unlink(missing_ok=True)

    def save_batch(self, batch: Batch, step: int, share: int = 0) -> Path:
        """Save a share of the batch of a skipped step for inspection; return the file's path."""
        path = self.path / "log" / (f"skipped_{step:06d}" + f"_{share}" * (share > 0) + ".pt")
        write_state(path, asdict(batch))
        return path
