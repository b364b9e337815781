"""The folder of a training: its state, the models of its epochs, and a lock."""

import fcntl
import sys
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from asr.errors import InputError
from asr.files import check_folder, write_atomically
from asr.model.batch import Batch
from asr.store.find import MODEL_FILE
from asr.train.checkpoint import read_state, write_state


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Lock a folder against a second training; the lock ends with the process.

    Raises:
        InputError: a training is at work there.
    """
    with (folder / "log" / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"{folder}: another training is writing into this folder; wait for it, stop it, "
                "or use another --out"
            ) from error
        except OSError as error:  # some network file systems
            print(f"warning: {folder} cannot be locked ({error.strerror})", file=sys.stderr)
        yield


class RunFolder:
    """The files that a training writes.

    Args:
        path: of the folder, which is made by :meth:`make`.

    Raises:
        InputError: nothing can be written there.
    """

    def __init__(self, path: str | Path) -> None:
        check_folder(path)
        self.path = Path(path)
        self.final = self.path / MODEL_FILE
        self.state_file = self.path / "checkpoints" / "last.pt"
        self._seen = 0

    def make(self) -> None:
        """Make the folder and those in it; raises InputError."""
        for folder in ("checkpoints", "log", "pictures"):
            try:
                (self.path / folder).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(
                    f"{self.path / folder}: cannot be made ({error.strerror}); name another --out "
                    "folder"
                ) from error

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the folder.

        Raises:
            InputError: one is at work, or has been since the state was read.
        """
        with folder_lock(self.path):
            if self._changed_at() != self._seen:
                raise InputError(
                    f"{self.state_file}: another training has gone on meanwhile; start this one "
                    "again"
                )
            yield

    def _changed_at(self) -> int:
        return self.state_file.stat().st_mtime_ns if self.state_file.exists() else 0

    def save(self, state: dict[str, Any]) -> None:
        """Replace the state atomically; raises InputError, and then the one before is untouched."""
        write_state(self.state_file, state)
        self._seen = self._changed_at()

    def load(self) -> dict[str, Any] | None:
        """The state that was saved last, or None; raises InputError where it is damaged."""
        self._seen = self._changed_at()
        return read_state(self.state_file) if self._seen else None

    def model(self, entry: dict[str, Any]) -> Path:
        """The file of an epoch's model, given the epoch's entry in the history."""
        return self.path / "checkpoints" / str(entry["checkpoint"])

    def keep(self, names: Set[str]) -> None:
        """Delete the models of epochs with other names."""
        for path in self.state_file.parent.glob("epoch_*.safetensors"):
            if path.name not in names:
                path.unlink(missing_ok=True)

    def save_batch(self, batch: Batch, step: int) -> Path:
        """Keep the batch of a skipped step for people to look at."""
        path = self.path / "log" / f"skipped_{step:06d}.pt"
        return write_atomically(path, lambda file: torch.save(asdict(batch), file))
