"""Utterances from tar shards: on disk, or on a server by range requests.

Shards are named by a pattern such as ``shards/*.tar``, ``shards/train-{000000..000007}.tar`` or
``https://host/shards/*.tar``. The names come from the index that stands beside the shards, so that
a missing one is noticed, and a server need not list its files.
"""

import fnmatch
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr.audio.clip import Clip
from asr.config import ShardConfig
from asr.corpus.remote import MissingFileError, fetch, is_remote
from asr.corpus.shard_index import INDEX_FILE, ShardIndex, open_index
from asr.corpus.shard_writing import parse_json
from asr.errors import InputError, first_line, listed
from asr.terminal import warn

CONNECTIONS = 8  # requests of a process at the same time
PIECE = 1 << 24  # bytes of an index that are asked for at a time


@dataclass(frozen=True)
class ShardUtterance:
    """An utterance of a shard, with its audio."""

    id: str
    speaker: str
    text: str
    duration_s: float
    clip: Clip


def are_shards(name: str) -> bool:
    """Whether ``--train`` names shards, not a directory."""
    return name.endswith(".tar") or is_remote(name)


def expanded(pattern: str) -> Iterator[str]:
    """Yield the alternatives of braces, as in a shell: ``{0..9}``, ``{000..011}`` and ``{a,b}``."""
    found = re.search(r"\{(\d+)\.\.(\d+)\}|\{([^{}]*,[^{}]*)\}", pattern)
    if found is None:
        yield pattern
        return
    if found[3] is None:
        numbers = range(int(found[1]), int(found[2]) + 1)
        values = [f"{number:0{len(found[1])}d}" for number in numbers]
        if not values:
            raise InputError(f"{pattern}: {found[0]} counts down; write the smaller number first")
    else:
        values = found[3].split(",")
    for value in values:
        yield from expanded(pattern[: found.start()] + value + pattern[found.end() :])


def _chosen(pattern: str, index: ShardIndex) -> list[int]:
    """Return the numbers of the shards that a pattern of names matches."""
    number = {name: i for i, name in enumerate(index.shards)}
    found: set[int] = set()
    for each in expanded(pattern):
        names = [each] if each in number else fnmatch.filter(index.shards, each)
        if not names:
            raise InputError(
                f"{index.where}: has no shard {each}, only {listed(index.shards)}; check the "
                "pattern, or run `asr data index` on the folder of the shards"
            )
        found.update(number[name] for name in names)
    return sorted(found)


def _open_remote(url: str, config: ShardConfig) -> ShardIndex:
    """Download an index into a file without a name, and map it."""
    file = tempfile.TemporaryFile()  # noqa: SIM115
    content, total = fetch(url, 0, PIECE, config)
    file.write(content)
    while file.tell() < total:
        file.write(fetch(url, file.tell(), PIECE, config)[0])
    file.flush()
    return open_index(url, file)


class Shards:
    """The utterances of shards, in the order of the shards; audio is read when it is asked for.

    Args:
        pattern: the shards, see above.
        config: how they are read.

    Raises:
        InputError: there is no index, it has no such shard, or more shards are missing than
            ``config.missing`` allows.
    """

    def __init__(self, pattern: str, config: ShardConfig) -> None:
        folder, _, names = pattern.rpartition("/")
        if "{" in folder or "*" in folder:
            raise InputError(f"{pattern}: braces and * may stand only after the last /")
        self.folder, self.config, self.pattern = folder or ".", config, pattern
        where = self.path(INDEX_FILE)
        whole = _open_remote(where, config) if is_remote(where) else open_index(where)
        self.index = whole.select(_chosen(names, whole))
        self.missing: set[str] = set()
        if not is_remote(where):
            self._check_files()

    def path(self, name: str) -> str:
        """Return the path or address of a file beside the shards."""
        return f"{self.folder}/{name}"

    def _check_files(self) -> None:
        missing = [name for name in self.index.shards if not Path(self.path(name)).is_file()]
        if len(missing) > self.config.missing:
            raise InputError(self._missing(missing, "no such file"))
        if missing:
            warn(f"{listed(self.path(name) for name in missing)}: no such file; left out")

    def _missing(self, names: Sequence[str], reason: str) -> str:
        paths = listed(self.path(name) for name in names)
        return (
            f"{paths}: {reason}; write or copy {'it' if len(names) == 1 else 'them'} again, or "
            f"leave up to N missing shards out with --shards.missing N (now {self.config.missing})"
        )

    def __len__(self) -> int:
        return len(self.index)

    @property
    def durations_s(self) -> np.ndarray:
        """Duration of every utterance in seconds, (N,)."""
        return self.index.arrays["duration_s"]

    def fetch(self, numbers: Sequence[int]) -> Iterator[ShardUtterance | str]:
        """Read utterances, several at a time from a server; yield a message for missing ones.

        Raises:
            InputError: a shard does not fit its index, too many are missing, or a server fails.
        """
        if not is_remote(self.folder):
            yield from map(self._read_or_miss, numbers)
            return
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            yield from pool.map(self._read_or_miss, numbers)

    def _read_or_miss(self, number: int) -> ShardUtterance | str:
        try:
            return self[number]
        except MissingFileError as error:
            shard = self.index.shards[self._shard(number)]
            self.missing.add(shard)
            if len(self.missing) > self.config.missing:
                raise InputError(self._missing(sorted(self.missing), first_line(error))) from error
            return first_line(error)

    def _shard(self, number: int) -> int:
        return int(np.searchsorted(self.index.first, number, side="right")) - 1

    def __getitem__(self, number: int) -> ShardUtterance:
        """Read the audio and the JSON of an utterance at once.

        Raises:
            MissingFileError: its shard is missing.
            InputError: the shard does not fit the index, or a server fails.
        """
        column = self.index.arrays
        shard = self._shard(number)
        path = self.path(self.index.shards[shard])
        audio, text = (
            (int(column[f"{what}offset"][number]), int(column[f"{what}size"][number]))
            for what in ("", "text_")
        )
        start, end = min(audio[0], text[0]), max(sum(audio), sum(text))
        content, total = self._bytes(path, start, end - start)
        if total != int(column["bytes"][shard]) or len(content) != end - start:
            raise InputError(
                f"{path}: {total} bytes, the index says {int(column['bytes'][shard])}; copy the "
                "shards and their index again, or run `asr data index` on their folder"
            )
        parts = (content[o - start : o - start + size] for o, size in (audio, text))
        return self._utterance(number, path, *parts)

    def _bytes(self, path: str, start: int, size: int) -> tuple[bytes, int]:
        if is_remote(path):
            return fetch(path, start, size, self.config)
        try:
            with open(path, "rb", buffering=0) as file:
                return os.pread(file.fileno(), size, start), os.fstat(file.fileno()).st_size
        except FileNotFoundError as error:
            raise MissingFileError(f"{path}: no such file") from error
        except OSError as error:
            raise InputError(f"{path}: cannot read ({error.strerror}); check the disk") from error

    def _utterance(self, number: int, path: str, audio: bytes, about: bytes) -> ShardUtterance:
        name = self.index.id_of(number)
        found, text, speaker = parse_json(about, name, path)
        if found != name:
            raise InputError(
                f"{path}: has {found} where the index has {name}; run `asr data index` again"
            )
        duration_s = float(self.durations_s[number])
        return ShardUtterance(name, speaker, text, duration_s, Clip(audio, name=f"{path}: {name}"))
