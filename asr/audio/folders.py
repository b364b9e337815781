"""Search for the audio files in a folder."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from asr.errors import counted, listed
from asr.formats import AUDIO_SUFFIXES


@dataclass(frozen=True)
class Folder:
    """The files that a search found, and what it left out."""

    files: tuple[Path, ...]
    """Every visible file, sorted."""
    hidden: int = 0
    """Number of files that are hidden, such as a Mac's ``._a.wav``, or in a hidden folder."""
    broken: tuple[str, ...] = ()
    """Broken links, and folders that cannot be read."""
    below: int = 0
    """Number of subfolders that were not searched."""

    @property
    def audio(self) -> list[Path]:
        """The files with the extension of an audio file."""
        return [path for path in self.files if path.suffix.lower() in AUDIO_SUFFIXES]

    def left_out(self, others: int = 0) -> str:
        """Describe what was left out, for a message; empty if nothing was.

        Args:
            others: number of visible files that the caller does not use.
        """
        counts = {"other file": others, "hidden file": self.hidden, "subfolder": self.below}
        parts = [counted(number, noun) for noun, number in counts.items() if number]
        if self.broken:
            parts.append(f"{listed(self.broken)} (cannot be read)")
        return ", ".join(parts)


def is_file(path: str | Path) -> bool:
    """Return whether a path is a file; False for text that cannot be a path."""
    return os.path.isfile(path)  # noqa: PTH113  # faster than pathlib, for 300 000 recordings


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def search(folder: str | Path, *, recursive: bool = True) -> Folder:
    """Find the files in a folder; links are followed, and no folder is read twice.

    Args:
        folder: where to look; may be hidden itself.
        recursive: whether subfolders are searched.
    """
    found: list[Path] = []
    broken: list[str] = []
    hidden = below = 0
    for parent, folders, names in _walk(Path(folder), broken):
        shown = [name for name in names if not _is_hidden(name)]
        hidden += len(names) - len(shown)
        for name in folders:
            if _is_hidden(name):
                hidden += sum(len(inside) for _, _, inside in os.walk(parent / name))
        if not recursive:
            below = sum(not _is_hidden(name) for name in folders)
            folders.clear()
        for path in (parent / name for name in shown):
            if is_file(path):
                found.append(path)
            else:
                broken.append(str(path))
    return Folder(tuple(sorted(found)), hidden, tuple(broken), below)


def _walk(top: Path, broken: list[str]) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Yield folders with the names of their subfolders and files; linked folders come last.

    A folder that is also linked keeps its own name. The caller may remove subfolders.
    """
    waiting, seen = [top], set[str]()
    while waiting:
        start = waiting.pop(0)
        for name, folders, files in os.walk(
            start, onerror=lambda e: broken.append(str(e.filename))
        ):
            parent, real = Path(name), os.path.realpath(name)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            yield parent, folders, files
            folders[:] = sorted(folder for folder in folders if not _is_hidden(folder))
            waiting += [parent / folder for folder in folders if (parent / folder).is_symlink()]
