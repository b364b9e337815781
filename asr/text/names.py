"""File names with composed or decomposed letters."""

import os

from asr.text.characters import compose


def spelled_on_disk(path: str) -> str:
    """Return a path as its file is spelled on disk; the same path if the file is missing.

    A Mac may decompose a letter with an accent, which tables and keyboards have as one character.
    """
    if path.isascii() or os.path.lexists(path):
        return path
    folder, name = os.path.split(path)
    if not name:
        return path
    folder = spelled_on_disk(folder)
    try:
        names = os.listdir(folder or ".")  # noqa: PTH208  # a folder may have many files
    except (OSError, ValueError):
        return path
    same = (found for found in names if compose(found) == compose(name))
    return os.path.join(folder, next(same, name))  # noqa: PTH118
