"""What a training says: a progress bar or plain lines, JSON lines, and TensorBoard events."""

import json
import sys
import time
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from torch.utils.tensorboard import SummaryWriter

from asr.console import Console, Progress
from asr.files import write_text

PLAIN_EVERY_S = 60.0  # without a terminal: one progress line a minute


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"


class Journal:
    """Writes ``train.jsonl`` (a line for each step and epoch), events and messages.

    Args:
        folder: of the training.
        step: where the training stands; lines of later steps, left by a run that was
            killed, are taken out.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self.path = folder / "train.jsonl"
        self._cut(step)
        self._file = self.path.open("a", encoding="utf-8")
        self._log = (folder / "log" / "train.txt").open("a", encoding="utf-8")
        self._events = SummaryWriter(str(folder / "tensorboard"), purge_step=step or None)
        self._terminal = sys.stderr.isatty()
        self._console = Console(stderr=True, soft_wrap=True, highlight=False)
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

    def _cut(self, step: int) -> None:
        """Keep the lines of the steps that the checkpoint knows."""
        if not self.path.exists():
            return
        lines = self.path.read_text(encoding="utf-8").splitlines()
        kept = []
        for line in lines:
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line)
            except (ValueError, KeyError):  # the line that a crash cut short
                continue
        write_text(self.path, "".join(line + "\n" for line in kept))

    def record(self, entry: dict[str, Any], group: str) -> None:
        """One JSON line, and a TensorBoard value for every number in it."""
        self._file.write(json.dumps({"kind": group, **entry}) + "\n")
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
