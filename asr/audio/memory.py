"""Results about files that this process keeps, and the warnings that it has printed."""

import os
import sys
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
_MAX_ENTRIES = 20_000
_printed: set[Hashable] = set()
_results: dict[Hashable, Any] = {}


def warn_once(name: str, message: str, key: Hashable = None) -> None:
    """Print a warning about a file, unless it, or one with the same key, was printed before."""
    key = key or (name, message)
    if key not in _printed:
        _printed.add(key)
        print(f"warning: {name}: {message}", file=sys.stderr)


def identity(source: str | Path | bytes) -> Hashable:
    """Return a key that changes when the file does; None for bytes, whose results are not kept."""
    if isinstance(source, bytes):
        return None
    state = Path(source).stat()
    return (os.path.realpath(source), state.st_ino, state.st_size, state.st_mtime_ns)


def cached(key: Hashable, compute: Callable[[], T]) -> T:
    """Return what ``compute`` returns; it is called once for each key, but always for None."""
    if key is None:
        return compute()
    if key not in _results:
        if len(_results) >= _MAX_ENTRIES:
            _results.clear()
        _results[key] = compute()
    return _results[key]
