"""Atomic writes: a file is either the old one or the new one, never half of either."""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from asr.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_atomically(path: str | Path, write: Callable[[BinaryIO], object]) -> Path:
    """Let ``write`` fill a temporary file beside ``path``, then rename it into place.

    Args:
        path: the file to make or to replace; its folder is made if need be.
        write: receives the temporary file, opened for binary writing.

    Returns:
        ``path``.

    Raises:
        InputError: the disk is full or the folder cannot be written; whatever stood
            at ``path`` before is untouched and the temporary file is gone.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            f"{path}: cannot write ({reason}); free some space or choose another folder. "
            "What was there before is unchanged"
        ) from error
    finally:
        with suppress(OSError):  # it is gone already, or its folder is none
            temporary.unlink()
    return path


def write_text(path: str | Path, text: str) -> Path:
    """Write UTF-8 text atomically; lines end in ``\\n`` on every system."""
    return write_atomically(path, lambda file: file.write(text.encode("utf-8")))


def write_json(path: str | Path, value: Any) -> Path:
    """Write a value as indented JSON, atomically."""
    return write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_png(figure: "Figure", path: str | Path) -> Path:
    """Write a matplotlib figure atomically; needs no screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    return write_atomically(path, lambda file: canvas.print_png(file))  # type: ignore[no-untyped-call]
