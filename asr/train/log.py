"""Log of a training: a progress bar or plain lines, JSON lines, TensorBoard events."""

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from torch.utils.tensorboard import SummaryWriter

from asr.console import Console, Progress
from asr.errors import InputError
from asr.files import plain, write_text
from asr.terminal import print_error

LINE_EVERY_S = 60.0  # between lines of progress, without a terminal


def clock(seconds: float) -> str:
    """Return seconds as h:mm:ss."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"


class Log:
    """Writes ``train.jsonl`` (a line for each step and epoch), TensorBoard events and messages.

    Args:
        folder: the training's folder.
        step: the last step of the checkpoint; lines of later steps, which a killed run has left,
            are removed.
        epoch: the last finished epoch; lines of later epochs are removed.
    """

    def __init__(self, folder: Path, step: int, epoch: int) -> None:
        self.path = folder / "train.jsonl"
        self._cut(step, epoch)
        self._file = self.path.open("a", encoding="utf-8")
        self._log = (folder / "log" / "train.txt").open("a", encoding="utf-8")
        self._events = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)
        self._console = Console(stderr=True, soft_wrap=True, highlight=False)
        self._terminal = self._console.file.isatty()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=self._console,
            disable=not self._terminal,
        )
        self._task = self._bar.add_task("", total=1.0, note="")
        self._bar.start()
        self._last_line_s = time.monotonic()

    def _cut(self, step: int, epoch: int) -> None:
        """Remove the lines of steps and epochs after the checkpoint."""
        if not self.path.exists():
            return
        kept = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
                if entry["step"] <= step and (entry["kind"] == "step" or entry["epoch"] <= epoch):
                    kept.append(line)
            except (ValueError, KeyError):  # a line that a crash cut short
                continue
        write_text(self.path, "".join(line + "\n" for line in kept))

    def record(self, entry: dict[str, Any], group: str) -> None:
        """Write a JSON line, and a TensorBoard value for every number in it."""
        try:
            self._file.write(json.dumps({"kind": group, **plain(entry)}, allow_nan=False) + "\n")
            self._file.flush()
        except OSError as error:
            found = f"{self.path}: cannot be written ({error.strerror})"
            raise InputError(f"{found}; free some space, and run the same command") from error
        for key, value in entry.items():
            if isinstance(value, (int, float)) and key != "step":
                self._events.add_scalar(f"{group}/{key}", value, entry["step"])

    def progress(self, done: float, label: str, note: str) -> None:
        """Move the bar; without a terminal, print a line once a minute."""
        if self._terminal:
            self._bar.update(self._task, completed=done, description=label, note=note)
        elif time.monotonic() - self._last_line_s > LINE_EVERY_S:
            self._last_line_s = time.monotonic()
            self.say(f"{label}: {100 * done:.0f} % of the training, {note}")

    def say(self, message: str) -> None:
        """Print a line on standard error, and write it to log/train.txt with the time."""
        with suppress(OSError):  # a full disk does not end the training because of a message
            self._console.print(message, markup=False)
        with suppress(OSError):
            self._log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}\n")
            self._log.flush()

    def close(self) -> None:
        """Stop the bar and close the files."""
        self._bar.stop()
        self._events.close()
        self._file.close()
        self._log.close()


class RankLog:
    """Log of a process other than rank 0: messages alone, on its standard error."""

    def say(self, message: str) -> None:
        """Print a line with the time."""
        print_error(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}")

    def record(self, entry: dict[str, Any], group: str) -> None:
        """Leave the entry to rank 0."""

    def progress(self, done: float, label: str, note: str) -> None:
        """Leave the progress to rank 0."""
