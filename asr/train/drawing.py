"""Pictures of a training, drawn while it goes on."""

import multiprocessing
import sys
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from asr.errors import first_line
from asr.train.loader import detach, signals_blocked


class Drawing:
    """Draws in a process of its own, since a drawing would keep one core busy and others idle.

    The first pictures are drawn in this process, so that matplotlib is loaded only once.

    Args:
        say: called with a warning if a picture cannot be drawn, once.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._loaded = self._failed = False
        self._child: tuple[BaseProcess, Connection] | None = None

    def start(self, work: Callable[[], None]) -> None:
        """Begin to draw, after the drawing before has finished."""
        self.close()
        if self._loaded and sys.platform == "linux":
            with suppress(OSError):  # no process can be started
                self._start(work)
                return
        self._report(_failure(work))
        self._loaded = True

    def _start(self, work: Callable[[], None]) -> None:
        ours, theirs = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.get_context("fork").Process(
            target=_draw, args=(work, theirs), daemon=True
        )
        with theirs, signals_blocked():
            process.start()
        self._child = process, ours

    def close(self) -> None:
        """Wait until everything is drawn."""
        if self._child:
            process, answer = self._child
            self._child = None
            with answer, suppress(EOFError, OSError):  # it was killed
                self._report(answer.recv())
            process.join()

    def _report(self, failure: str) -> None:
        if failure and not self._failed:
            self._say(f"warning: a picture cannot be drawn: {failure}")
            self._failed = True


def _draw(work: Callable[[], None], answer: Connection) -> None:
    """Draw; this is the main function of the process."""
    detach()
    answer.send(_failure(work))


def _failure(work: Callable[[], None]) -> str:
    """Draw; return why that failed, or an empty string."""
    try:
        work()
    except Exception as error:  # settings, fonts and versions of matplotlib, a full disk
        return first_line(error) or type(error).__name__
    return ""
