"""Results about files that this process keeps, and the warnings that it has printed."""

import os
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import TypeVar

from asr.terminal import warn

T = TypeVar("T")
lengths: dict[Hashable, int] = {}  # samples of files and streams that had to be decoded to count
_printed: set[Hashable] = set()


def warn_once(name: str, message: str, key: Hashable = None) -> None:
    """Print a warning about a file once for each key, by default for each name and message."""
    key = key or (name, message)
    if key not in _printed:
        _printed.add(key)
        warn(f"{name}: {message}")


def identity(source: str | Path | bytes) -> Hashable:
    """Return a key that changes when the file does; None for bytes, whose results are not kept."""
    if isinstance(source, bytes):
        return None
    state = Path(source).stat()
    return (os.path.realpath(source), state.st_ino, state.st_size, state.st_mtime_ns)


def cached(results: dict[Hashable, T], key: Hashable, compute: Callable[[], T]) -> T:
    """Return the result of a key; compute it if it is not kept, and always if the key is None."""
    if key is None:
        return compute()
    if key not in results:
        results[key] = compute()
    return results[key]
