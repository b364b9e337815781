"""Log of a training: a progress bar or plain lines, JSON lines, TensorBoard events."""

import json
import math
import os
import sys
import time
from pathlib import Path
from typing import IO, Any

from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from torch.utils.tensorboard import SummaryWriter

from asr.console import Console, Progress
from asr.files import write_text
from asr.terminal import Quiet

PLAIN_EVERY_S = 60.0  # without a terminal: one progress line a minute


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"


def plain(value: Any) -> Any:
    """A value as JSON has it: None in place of numbers that are not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


class Messages:
    """Standard error, as long as somebody reads it; afterwards messages go nowhere.

    A pipe whose reader has ended, or a terminal that was closed, is no reason to stop.
    """

    def __init__(self, stream: IO[str] | None) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def isatty(self) -> bool:
        """Whether somebody looks on."""
        return self._stream is not None and self._stream.isatty()

    def write(self, text: str) -> int:
        """Write and flush, if that is possible."""
        try:
            if self._stream is not None:
                self._stream.write(text)
                self._stream.flush()
        except (OSError, ValueError):  # broken, or closed
            self._give_up()
        return len(text)

    def flush(self) -> None:
        """Do nothing: :meth:`write` has."""

    def _give_up(self) -> None:
        """Let what was not written, and all that others write, go to the null device."""
        stream, self._stream = self._stream, None
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())  # type: ignore[union-attr]
            os.close(null)
        except (OSError, ValueError, AttributeError):  # a stream without a descriptor
            return


class Log:
    """Writes ``train.jsonl`` (a line for each step and epoch), events and messages.

    Args:
        folder: of the training.
        step: where the training stands; lines of later steps, left by a run that was
            killed, are taken out.
        epoch: that has ended last; lines of later ones are taken out, too.
    """

    def __init__(self, folder: Path, step: int, epoch: int) -> None:
        self.path = folder / "train.jsonl"
        self._cut(step, epoch)
        self._file = self.path.open("a", encoding="utf-8")
        self._log = (folder / "log" / "train.txt").open("a", encoding="utf-8")
        self._events = SummaryWriter(str(folder / "tensorboard"), purge_step=step or None)
        messages = Messages(sys.stderr)
        self._terminal = messages.isatty()
        self._console = Console(
            file=messages,
            quiet=Quiet.on,
            soft_wrap=True,
            highlight=False,
        )
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
        self._said = time.monotonic()

    def _cut(self, step: int, epoch: int) -> None:
        """Keep the lines of the steps and epochs that the checkpoint knows."""
        if not self.path.exists():
            return
        lines = self.path.read_text(encoding="utf-8").splitlines()
        kept = []
        for line in lines:
            try:
                entry = json.loads(line)
                if entry["step"] <= step and (entry["kind"] == "step" or entry["epoch"] <= epoch):
                    kept.append(line)
            except (ValueError, KeyError):  # the line that a crash cut short
                continue
        write_text(self.path, "".join(line + "\n" for line in kept))

    def record(self, entry: dict[str, Any], group: str) -> None:
        """One JSON line, and a TensorBoard value for every number in it."""
        self._file.write(json.dumps({"kind": group, **plain(entry)}, allow_nan=False) + "\n")
        self._file.flush()
        for key, value in entry.items():
            if isinstance(value, (int, float)) and key != "step":
                self._events.add_scalar(f"{group}/{key}", value, entry["step"])

    def progress(self, share: float, label: str, note: str) -> None:
        """Move the bar; without a terminal, print a line once a minute."""
        if self._terminal:
            self._bar.update(self._task, completed=share, description=label, note=note)
        elif time.monotonic() - self._said > PLAIN_EVERY_S:
            self._said = time.monotonic()
            self.say(f"{label}: {100 * share:.0f} % of the training, {note}")

    def say(self, message: str) -> None:
        """A line for people, on standard error and in log/train.txt."""
        self._console.print(message, markup=False)
        self._log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}\n")
        self._log.flush()

    def close(self) -> None:
        """Stop the bar and close the files."""
        self._bar.stop()
        self._events.close()
        self._file.close()
        self._log.close()
