"""Lengths of files and warnings about them that this process has counted and printed."""

import os
import sys
from collections.abc import Callable, Hashable
from pathlib import Path

_printed: set[tuple[str, str]] = set()
_frames: dict[Hashable, int] = {}


def warn_once(name: str, message: str) -> None:
    """Print a warning about a file, unless it was printed before."""
    if (name, message) not in _printed:
        _printed.add((name, message))
        print(f"warning: {name}: {message}", file=sys.stderr)


def identity(source: str | Path | bytes) -> Hashable:
    """A key that changes when the file does; None for bytes, of which nothing is remembered."""
    if isinstance(source, bytes):
        return None
    state = Path(source).stat()
    return (os.path.realpath(source), state.st_ino, state.st_size, state.st_mtime_ns)


def remembered(key: Hashable, count: Callable[[], int]) -> int:
    """Return the samples of a file; they are counted once as long as the file does not change."""
    if key is None:
        return count()
    if key not in _frames:
        _frames[key] = count()
    return _frames[key]
