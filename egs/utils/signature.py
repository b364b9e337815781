"""Print the state of files, folders and settings, so that two states can be compared.

usage: signature.py [--inputs | --outputs] ITEM...

Each item gets a line. For a file it has the checksum of its content, or size and time if the file
is audio, or larger than 16 MiB and no table; for a wav.scp also size and time of the audio in it.
For a folder it has one checksum over all files below it. A ``name=value`` item is printed as it is.
With ``--inputs`` or ``--outputs``, a path that does not exist is an error.
"""

import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

LARGE = 1 << 24
REMEDIES = {
    "--inputs": "not there; check the path, or run the stage that makes it",
    "--outputs": "not there; this stage should have written it",
}
TABLES = {"", ".scp"}  # suffixes
AUDIO = {".flac", ".mp3", ".ogg", ".opus", ".raw", ".sph", ".wav"}


def file_state(path: Path) -> str:
    """Return the checksum of a table or a small file, or size and time of audio and large files."""
    info = path.stat()
    suffix = path.suffix.lower()
    if suffix in AUDIO or (info.st_size > LARGE and suffix not in TABLES):
        return f"{info.st_size} {info.st_mtime_ns}"
    content = path.read_bytes()
    if path.name == "wav.scp":
        content += b"".join(map(audio_state, content.splitlines()))
    return hashlib.sha256(content).hexdigest()


def audio_state(entry: bytes) -> bytes:
    """Return size and time of the audio in a line of wav.scp; nothing for a command."""
    try:
        info = os.stat(entry.split(None, 1)[1])  # noqa: PTH116  # names are bytes
    except (OSError, ValueError, IndexError):
        return b""
    return b"%d %d\n" % (info.st_size, info.st_mtime_ns)


def files(folder: Path) -> Iterator[Path]:
    """Yield every file below a folder, in an order that does not depend on the disk."""
    for where, folders, names in os.walk(folder, followlinks=True):
        folders.sort()
        yield from (Path(where) / name for name in sorted(names))


def folder_state(folder: Path) -> str:
    """Return one checksum over the names and states of all files below a folder."""
    total = hashlib.sha256()
    for path in files(folder):
        total.update(
            f"{path.relative_to(folder)} {file_state(path)}\n".encode(errors="surrogateescape")
        )
    return total.hexdigest()


def line(item: str, must_exist: bool) -> str:
    """Return the line of an item."""
    if os.path.isdir(item):  # noqa: PTH112  # an item that is too long for a name is no folder
        return f"{item}/ {folder_state(Path(item))}"
    if os.path.isfile(item):  # noqa: PTH113
        return f"{item} {file_state(Path(item))}"
    if "=" in item.partition("/")[0]:
        return item
    if must_exist:
        raise FileNotFoundError(item)
    return f"{item} is missing"


def main(argv: list[str]) -> int:
    """Print the lines; return 2 if an input or an output is missing."""
    remedy = REMEDIES.get("".join(argv[:1]))
    try:
        for item in argv[bool(remedy) :]:
            print(line(item, must_exist=bool(remedy)))
    except FileNotFoundError as error:
        print(f"{error}: {remedy}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
