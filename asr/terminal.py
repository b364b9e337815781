"""Standard output and error: escape control characters, and survive a closed reader.

Within :func:`guarded`, all output of a command passes through :class:`Output`. It escapes control
characters of file names, transcripts and model cards, and characters outside the encoding. When
the reader has closed its end (:func:`reader_gone`), the work continues, since it may write files.
"""

import codecs
import errno
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

# Control characters except tab and newline; in a terminal also marks of writing direction.
# \uXXXX keeps JSON valid.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_GONE = {errno.EPIPE, errno.EIO, errno.EBADF}  # a closed pipe, a closed terminal, no stream


def _as_json(error: UnicodeError) -> tuple[str, int]:
    """Return characters that an encoding lacks as JSON writes them."""
    assert isinstance(error, UnicodeEncodeError)
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


_AS_JSON = "asr.as_json"
codecs.register_error(_AS_JSON, _as_json)


def escaped(text: str, *, terminal: bool = True) -> str:
    r"""Return a text with control characters as ``\u001b`` etc.

    Args:
        text: any text.
        terminal: whether a terminal shows the text; then marks of writing direction are escaped.
    """
    controls = _COMMANDS if terminal else _CONTROLS
    return controls.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class Output:
    """A text stream around standard output or standard error.

    Args:
        stream: the stream, or an Output around it; None if the process has no such stream.
        controls: whether control characters pass, for text that rich draws.
    """

    def __init__(self, stream: "TextIO | Output | None", *, controls: bool = False) -> None:
        stream = stream._stream if isinstance(stream, Output) else stream
        self.gone = stream is None
        self._stream: TextIO = stream or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        self._controls = controls
        self._encoding = getattr(self._stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        """Write a text, escaped for the stream; return its number of characters."""
        clean = text if self._controls else escaped(text, terminal=self._stream.isatty())
        clean = clean.encode(self._encoding, _AS_JSON).decode(self._encoding)
        with self._reader_may_close():
            self._stream.write(clean)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write lines."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush the stream."""
        with self._reader_may_close():
            self._stream.flush()

    @property
    def rich_proxied_file(self) -> "Output":
        """The stream that rich writes to; its control characters pass."""
        return Output(self._stream, controls=True)

    @contextmanager
    def _reader_may_close(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in _GONE:
                raise
            self._forget()
        except ValueError:  # the stream is closed
            self.gone = True

    def _forget(self) -> None:
        """Send the buffer, and all later output, to the null device."""
        self.gone = True
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Quiet:
    """Whether ``asr --quiet`` suppresses progress and notes; warnings are printed."""

    on = False


def note(text: str) -> None:
    """Print a line on standard error, except with ``--quiet``."""
    if not Quiet.on:
        print_error(text)


def print_error(text: object) -> None:
    """Print a line on standard error."""
    print(text, file=sys.stderr)


def warn(text: str) -> None:
    """Print a warning on standard error, also with ``--quiet``."""
    print_error(f"warning: {text}")


def reader_gone() -> bool:
    """Whether the reader of standard output has closed its end."""
    return sys.stdout is None or getattr(sys.stdout, "gone", False)


@contextmanager
def guarded() -> Iterator[None]:
    """Pass all output through :class:`Output`."""
    _open_closed_descriptors()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = Output(before[0]), Output(before[1])
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        sys.stdout, sys.stderr = before


def _open_closed_descriptors() -> None:
    """Open closed standard descriptors, so that no other file gets their number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
