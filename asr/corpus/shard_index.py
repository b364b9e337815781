"""Index of tar shards: what a training needs to know before it reads audio.

``index.safetensors`` stands beside the shards and has columns with an entry for each utterance, the
CMVN sums of each speaker, and lists. Columns are mapped, not loaded, so that an index of millions
of utterances takes no memory of its own, and processes share it.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from safetensors.numpy import save

from asr.audio.cmvn import CmvnStats
from asr.errors import InputError, first_line
from asr.files import write_atomically
from asr.text.characters import clean
from asr.text.normalize import sentence_key
from asr.text.tokenizer import ctc_steps

INDEX_FILE = "index.safetensors"
VERSION = 1
COLUMNS = {  # an entry for each utterance
    "offset": np.int64,  # of the audio in its shard, in bytes
    "size": np.int32,
    "text_offset": np.int64,  # of the JSON
    "text_size": np.int32,
    "duration_s": np.float64,
    "steps": np.int32,  # characters, and blanks between repeated ones (ctc_steps)
    "speaker": np.int32,  # number in the list of speakers
    "id_end": np.int64,  # in the list of ids, in bytes
    "id_hash": np.int64,
    "sentence": np.int64,  # hash of the sentence without case and punctuation
}
LISTS = ("ids", "shards", "digests", "speakers", "words")  # texts, each ended by a line feed
PER_SHARD = ("count", "bytes")  # numbers of each shard
_TYPES = {"I64": np.int64, "I32": np.int32, "F64": np.float64, "U8": np.uint8}
AGAIN = "run `asr data index` on the folder of the shards"


def hashed(text: str) -> int:
    """Return a hash of a text, as a signed integer of 64 bits."""
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


@dataclass(frozen=True)
class Entry:
    """What the index says about an utterance."""

    id: str
    speaker: str
    text: str
    duration_s: float
    audio: tuple[int, int]
    """Offset and size in the shard, in bytes."""
    json: tuple[int, int]
    stats: CmvnStats

    @property
    def steps(self) -> int:
        """Fewest steps of a CTC path."""
        return ctc_steps(" ".join(self.text.split()))


def packed(stats: CmvnStats) -> np.ndarray:
    """Return statistics as a row (1 + 2 F,): frames, sums, square sums."""
    return np.concatenate([[stats.count], stats.sum, stats.square_sum])


def unpacked(row: np.ndarray) -> CmvnStats:
    """Return the statistics of a row of :func:`packed`."""
    width = (len(row) - 1) // 2
    return CmvnStats(float(row[0]), np.array(row[1 : 1 + width]), np.array(row[1 + width :]))


def lines_of(texts: Iterable[str]) -> np.ndarray:
    """Return one of :data:`LISTS` as an array of bytes."""
    return np.frombuffer("".join(f"{text}\n" for text in texts).encode(), np.uint8)


class ShardIndex:
    """An index; ``arrays`` holds every column of :data:`COLUMNS` by its name.

    Args:
        arrays: columns, lists and sums by name.
        info: version, settings of the features, characters with the first utterance of each, and a
            hash of what the shards were made from.
        where: its file, for messages.
    """

    def __init__(self, arrays: dict[str, np.ndarray], info: dict[str, Any], where: str) -> None:
        self.arrays, self.info, self.where = arrays, info, where
        self.first = np.concatenate([[0], np.cumsum(arrays["count"])])  # utterance of each shard
        self.shards = self.texts("shards")
        self._check()

    def _check(self) -> None:
        """Raise ValueError if arrays do not fit each other."""
        for name in COLUMNS:
            if self.arrays[name].shape != (len(self),):
                raise ValueError(f"{name} has {self.arrays[name].shape}, expected ({len(self)},)")
        if any("/" in name for name in self.shards):
            raise ValueError("a shard is outside of the folder")
        if not len(self.shards) == len(self.texts("digests")) == len(self.arrays["count"]):
            raise ValueError("the number of shards differs")
        for shard, rows in enumerate(self.rows()):
            self._check_rows(rows, int(self.arrays["bytes"][shard]))

    def _check_rows(self, rows: slice, size: int) -> None:
        """Raise ValueError if entries of a shard of ``size`` bytes are wrong."""
        column = {name: self.arrays[name][rows] for name in COLUMNS}
        for place, length in (("offset", "size"), ("text_offset", "text_size")):
            if (column[place] < 0).any() or (column[place] + column[length] > size).any():
                raise ValueError("an utterance is outside of its shard")
        before = int(self.arrays["id_end"][rows.start - 1]) if rows.start else 0
        if (np.diff(column["id_end"], prepend=before) < 1).any():
            raise ValueError("ids overlap")
        if not 0 <= column["speaker"].min() <= column["speaker"].max() < len(self.arrays["cmvn"]):
            raise ValueError("a speaker is missing")

    def rows(self) -> Iterator[slice]:
        """Yield the utterances of each shard, so that no column is copied as a whole."""
        for first, last in pairwise(self.first.tolist()):
            yield slice(first, last)

    def has(self, name: str, values: Iterable[int]) -> np.ndarray:
        """Return which values a column has."""
        wanted = np.array(list(values), np.int64)
        found = np.zeros(len(wanted), bool)
        for rows in self.rows():
            found |= np.isin(wanted, self.arrays[name][rows])
        return found

    def __len__(self) -> int:
        return int(self.first[-1])

    def texts(self, name: str) -> list[str]:
        """Return one of :data:`LISTS`."""
        return self.arrays[name].tobytes().decode().split("\n")[:-1]

    def id_of(self, row: int) -> str:
        """Return the id of an utterance."""
        ends = self.arrays["id_end"]
        start = int(ends[row - 1]) if row else 0
        return self.arrays["ids"][start : int(ends[row]) - 1].tobytes().decode()

    def speaker_stats(self) -> dict[str, CmvnStats]:
        """Return the CMVN statistics of every speaker."""
        rows = zip(self.texts("speakers"), self.arrays["cmvn"], strict=True)
        return {speaker: unpacked(row) for speaker, row in rows}

    @property
    def total_stats(self) -> CmvnStats:
        """CMVN statistics of all utterances."""
        return unpacked(self.arrays["cmvn_total"])

    def select(self, chosen: Sequence[int]) -> "ShardIndex":
        """Return the index of some of the shards; it keeps the lists and sums of all."""
        if list(chosen) == list(range(len(self.shards))):
            return self
        rows = [np.arange(self.first[i], self.first[i + 1]) for i in chosen]
        picked = np.concatenate(rows)
        arrays = {**self.arrays, **{name: self.arrays[name][picked] for name in COLUMNS}}
        ids = [self.id_of(int(row)) for row in picked]
        arrays["ids"] = lines_of(ids)
        arrays["id_end"] = np.cumsum([len(name.encode()) + 1 for name in ids])
        for name in PER_SHARD:
            arrays[name] = self.arrays[name][list(chosen)]
        for name in ("shards", "digests"):
            arrays[name] = lines_of(self.texts(name)[i] for i in chosen)
        return ShardIndex(arrays, self.info, self.where)

    def save(self, path: Path) -> Path:
        """Write the index atomically."""
        arrays = {name: np.ascontiguousarray(value) for name, value in self.arrays.items()}
        content = save(arrays, {"asr": json.dumps(self.info, sort_keys=True)})
        return write_atomically(path, lambda file: file.write(content))


def index_of_shard(
    name: str, size: int, digest: str, entries: Sequence[Entry], info: dict[str, Any]
) -> ShardIndex:
    """Make the index of one shard.

    Args:
        name: file name of the shard.
        size: its size in bytes.
        digest: its SHA-256.
        entries: its utterances, in the order of the file.
        info: settings of the features, and what else belongs to the index.
    """
    speakers = sorted({e.speaker for e in entries})
    number = {speaker: i for i, speaker in enumerate(speakers)}
    sums = np.zeros((len(speakers), len(packed(entries[0].stats))))
    for entry in entries:
        sums[number[entry.speaker]] += packed(entry.stats)
    characters = {c: e.id for e in reversed(entries) for c in e.text}  # the first with each
    rows = [
        (*e.audio, *e.json, e.duration_s, e.steps, number[e.speaker], len(e.id.encode()) + 1,
         hashed(e.id), hashed(sentence_key(e.text)))
        for e in entries
    ]  # fmt: skip
    columns = zip(COLUMNS.items(), zip(*rows, strict=True), strict=True)
    arrays = {name: np.array(values, dtype) for (name, dtype), values in columns}
    arrays["id_end"] = np.cumsum(arrays["id_end"])
    words = sorted({word for e in entries for word in clean(e.text).split()})
    lists = ([e.id for e in entries], [name], [digest], speakers, words)
    arrays |= {key: lines_of(texts) for key, texts in zip(LISTS, lists, strict=True)}
    arrays |= {"count": np.array([len(entries)]), "bytes": np.array([size])}
    # frames, sums, square sums: (speakers, 1 + 2 F) and (1 + 2 F)
    arrays |= {"cmvn": sums, "cmvn_total": sums.sum(0)}
    return ShardIndex(arrays, {"version": VERSION, **info, "characters": characters}, name)


def joined(parts: Sequence[ShardIndex], where: str) -> ShardIndex:
    """Join the indexes of shards, in this order.

    Raises:
        InputError: an id is in several shards.
    """
    speakers = sorted({speaker for part in parts for speaker in part.texts("speakers")})
    number = {speaker: i for i, speaker in enumerate(speakers)}
    sums = np.zeros((len(speakers), len(parts[0].arrays["cmvn_total"])))
    arrays: dict[str, list[np.ndarray]] = {name: [] for name in (*COLUMNS, *PER_SHARD, *LISTS[:3])}
    characters: dict[str, str] = {}
    end, words = 0, set()
    for part in parts:
        places = np.array([number[speaker] for speaker in part.texts("speakers")], np.int32)
        sums[places] += part.arrays["cmvn"]
        own = {"speaker": places[part.arrays["speaker"]], "id_end": part.arrays["id_end"] + end}
        for name, values in arrays.items():
            values.append(own.get(name, part.arrays[name]))
        end += len(part.arrays["ids"])
        characters = part.info["characters"] | characters
        words.update(part.texts("words"))
    whole = {name: np.concatenate(values) for name, values in arrays.items()}
    whole |= {"speakers": lines_of(speakers), "words": lines_of(sorted(words))}
    whole |= {"cmvn": sums, "cmvn_total": sums.sum(0)}
    index = ShardIndex(whole, {**parts[0].info, "characters": characters}, where)
    if len(np.unique(whole["id_hash"])) < len(index):
        ids = Counter(index.texts("ids"))
        twice = [name for name, count in ids.items() if count > 1]
        if twice:
            times = f"{twice[0]} is in the shards {ids[twice[0]]} times"
            raise InputError(f"{where}: {times}; keep one of them, and index the shards again")
    return index


def open_index(path: str | Path, file: BinaryIO | None = None) -> ShardIndex:
    """Map an index.

    Args:
        path: its file, or its address for messages.
        file: the open file, if it came from a server.

    Raises:
        InputError: there is no index, or it is damaged.
    """
    try:
        return _mapped(path, file)
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file; `asr data shard` writes it beside the shards, and for shards "
            f"of other programs {AGAIN}"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: not an index, or damaged ({first_line(error)}); {AGAIN}"
        ) from error


def _mapped(path: str | Path, file: BinaryIO | None) -> ShardIndex:
    data = np.memmap(path if file is None else file, np.uint8, "r")
    start = 8 + int.from_bytes(data[:8].tobytes(), "little")
    header = json.loads(data[8:start].tobytes())
    info = json.loads(header.pop("__metadata__")["asr"])
    if info["version"] != VERSION or not {"settings", "characters"} <= info.keys():
        raise ValueError(f"version {info['version']}, expected {VERSION}")
    arrays = {}
    for name, about in header.items():
        first, last = about["data_offsets"]
        content = data[start + first : start + last]
        arrays[name] = np.asarray(content).view(_TYPES[about["dtype"]]).reshape(about["shape"])
    return ShardIndex(arrays, info, str(path))
