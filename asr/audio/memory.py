"""What a process knows of files that it has read: their lengths, and what was said of them."""

import os
import sys
from collections.abc import Callable, Hashable
from pathlib import Path

_told: set[tuple[str, str]] = set()
_frames: dict[Hashable, int] = {}


def warn_once(name: str, message: str) -> None:
    """Print a warning about a file, unless it was printed before."""
    if (name, message) not in _told:
        _told.add((name, message))
        print(f"warning: {name}: {message}", file=sys.stderr)


def identity(source: str | Path | bytes) -> Hashable:
    """What changes when a file does; None: bytes, of which nothing is remembered."""
    if isinstance(source, bytes):
        return None
    state = Path(source).stat()
    return (os.path.realpath(source), state.st_ino, state.st_size, state.st_mtime_ns)


def remembered(key: Hashable, count: Callable[[], int]) -> int:
    """The samples of a file, which are counted once as long as it does not change."""
    if key is None:
        return count()
    if key not in _frames:
        _frames[key] = count()
    return _frames[key]
