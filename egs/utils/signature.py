"""Print what files, folders and settings are, so that two states can be compared.

usage: signature.py [--inputs] ITEM...

A line for each item. A file: the checksum of its content, or size and time where it is larger
than 16 MiB or audio; of a wav.scp, size and time of the audio that it names, too. A folder: one
checksum over all files in it. ``name=value``: itself. With ``--inputs``, a path that does not
exist is an error.
"""

import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

LARGE = 1 << 24
AUDIO = {".flac", ".mp3", ".ogg", ".opus", ".raw", ".sph", ".wav"}


def file_state(path: Path) -> str:
    """Content of a small file, size and time of a large one or of audio."""
    info = path.stat()
    if info.st_size > LARGE or path.suffix.lower() in AUDIO:
        return f"{info.st_size} {info.st_mtime_ns}"
    content = path.read_bytes()
    if path.name == "wav.scp":
        content += b"".join(map(audio_state, content.splitlines()))
    return hashlib.sha256(content).hexdigest()


def audio_state(entry: bytes) -> bytes:
    """Size and time of the audio that a line of wav.scp names; nothing for a command."""
    try:
        info = os.stat(entry.partition(b" ")[2])  # noqa: PTH116  # names are bytes
    except (OSError, ValueError):
        return b""
    return b"%d %d\n" % (info.st_size, info.st_mtime_ns)


def files(folder: Path) -> Iterator[Path]:
    """Every file below a folder, in an order that does not depend on the disk."""
    for where, folders, names in os.walk(folder, followlinks=True):
        folders.sort()
        yield from (Path(where) / name for name in sorted(names))


def folder_state(folder: Path) -> str:
    """One checksum over the names and states of all files below a folder."""
    total = hashlib.sha256()
    for path in files(folder):
        total.update(f"{path.relative_to(folder)} {file_state(path)}\n".encode())
    return total.hexdigest()


def line(item: str, must_exist: bool) -> str:
    """What stands for one item."""
    path = Path(item)
    if path.is_dir():
        return f"{item}/ {folder_state(path)}"
    if path.is_file():
        return f"{item} {file_state(path)}"
    if "=" in item.partition("/")[0]:
        return item
    if must_exist:
        raise FileNotFoundError(item)
    return f"{item} is missing"


def main(argv: list[str]) -> int:
    """Print the lines; 2 when an input is missing."""
    must_exist = argv[:1] == ["--inputs"]
    try:
        for item in argv[must_exist:]:
            print(line(item, must_exist))
    except FileNotFoundError as error:
        print(f"{error}: not there; run the stage that makes it", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
