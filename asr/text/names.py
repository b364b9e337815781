"""File names whose letters are composed or decomposed."""

import os

from asr.text.characters import compose


def spelled_on_disk(path: str) -> str:
    """Return a path as its file is spelled on disk; the same path if there is no such file.

    A Mac may write an accent as a mark of its own, where tables and keyboards have one letter.
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
