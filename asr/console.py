"""rich's console and progress bar, which escape control characters of text."""

import sys
from collections.abc import Iterable
from typing import Any

import rich.console
import rich.progress
from rich.file_proxy import FileProxy
from rich.segment import Segment

from asr.terminal import Output, Quiet, escaped


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
