"""rich's console and progress bar, which escape control characters of text."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import rich.console
import rich.progress
from rich.file_proxy import FileProxy
from rich.markup import escape
from rich.segment import Segment

from asr.terminal import Output, Quiet, escaped, note

LINES_S = 30.0  # between two lines about progress where there is no terminal


class Console(rich.console.Console):
    """A console that escapes control characters of text, but not its own."""

    def __init__(self, *, stderr: bool = False, **options: Any) -> None:
        options.setdefault("quiet", stderr and Quiet.on)
        stream = sys.stderr if stderr else sys.stdout
        options.setdefault("file", Output(stream, controls=True))
        super().__init__(**options)

    def render(
        self,
        renderable: rich.console.RenderableType,
        options: rich.console.ConsoleOptions | None = None,
    ) -> Iterable[Segment]:
        """Return the segments of an object to print."""
        for segment in super().render(renderable, options):
            text = segment.text if segment.control else escaped(segment.text)
            yield segment._replace(text=text)


class Progress(rich.progress.Progress):
    """A progress bar on standard error; text printed meanwhile appears above it, escaped."""

    def start(self) -> None:
        """Show the bar."""
        super().start()
        if isinstance(sys.stdout, FileProxy):  # rich's stream lets control characters pass
            sys.stdout = Output(sys.stdout)  # type: ignore[arg-type]
        if isinstance(sys.stderr, FileProxy):
            sys.stderr = Output(sys.stderr)  # type: ignore[arg-type]


@contextmanager
def progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """Show how far a work is and the time left: a bar, or a line now and then without a terminal.

    Yields:
        a function that is called with what is done and with all that there is to do.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(title)
        return
    with Progress(console=console) as bar:
        task = bar.add_task(escape(title))
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _lines(title: str) -> Callable[[int, int], None]:
    started = last = time.monotonic()
    before = -1

    def report(done: int, total: int) -> None:
        nonlocal last, before
        before = done if before < 0 else before  # by a process that was killed
        now = time.monotonic()
        if now - last > LINES_S and done > before:
            minutes = (now - started) / 60 * (total - done) / (done - before)
            note(f"{title}: {done} of {total}, about {minutes:.0f} minutes left")
            last = now

    return report
