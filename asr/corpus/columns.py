"""Columns of data directories: the texts and numbers of a million utterances in a few arrays.

A column of texts is one block of memory, so that it takes little more than its bytes, and processes
that are forked share it. :class:`Utterances` have a column for each property.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar, overload

import numpy as np

from asr.audio.clip import Clip

ROWS = 1 << 14  # of a column that are decoded at a time
Numbers = np.ndarray[Any, np.dtype[Any]]
T = TypeVar("T")


class Column(Sequence[T], ABC):
    """A column, whose rows are made when they are asked for."""

    @abstractmethod
    def _row(self, number: int) -> T:
        """Return a row, counted from 0."""

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        rows = range(len(self))[index]
        return self._row(rows) if isinstance(rows, int) else [self._row(row) for row in rows]


class Strings(Column[str]):
    """A column of texts: lines of UTF-8.

    Args:
        data: the texts; each ends in a line feed and contains no other.
        ends: offset after each line feed, (N,).
    """

    def __init__(self, data: bytes | memoryview, ends: Numbers) -> None:
        self.data, self.ends = data, ends

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Strings":
        """Make a column of texts without line feeds."""
        lines = [f"{text}\n".encode() for text in texts]
        return cls(b"".join(lines), np.cumsum([len(line) for line in lines], dtype=np.int64))

    def __len__(self) -> int:
        return len(self.ends)

    def lines(self, first: int, last: int) -> bytes:
        """Return the bytes of rows ``first`` to ``last``, which is excluded."""
        begin = int(self.ends[first - 1]) if first else 0
        return bytes(self.data[begin : int(self.ends[last - 1]) if last else 0])

    def _row(self, number: int) -> str:
        return self.lines(number, number + 1)[:-1].decode()

    def blocks(self) -> Iterator[tuple[int, str]]:
        """Yield the first row and the lines of a few thousand texts at a time."""
        for first in range(0, len(self), ROWS):
            yield first, self.lines(first, min(first + ROWS, len(self))).decode()

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(block[:-1].split("\n") for _, block in self.blocks())

    def __reduce__(self) -> tuple[Callable[..., "Strings"], tuple[bytes, Numbers]]:
        return Strings, (bytes(self.data), self.ends)


class Labels(Column[str]):
    """A column of texts that repeat, such as speakers.

    Args:
        names: the texts.
        codes: the index of each row in ``names``, (N,).
    """

    def __init__(self, names: Strings, codes: Numbers) -> None:
        self.names, self.codes = names, codes

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Labels":
        """Make a column of texts without line feeds."""
        known: dict[str, int] = {}
        codes = [known.setdefault(text, len(known)) for text in texts]
        return cls(Strings.of(known), np.array(codes, np.int32))

    def __len__(self) -> int:
        return len(self.codes)

    def _row(self, number: int) -> str:
        return self.names[int(self.codes[number])]

    def __iter__(self) -> Iterator[str]:
        return map(list(self.names).__getitem__, self.codes.tolist())


class Builder:
    """Collects the lines of a column.

    Args:
        size: most bytes of all lines.
    """

    def __init__(self, size: int) -> None:
        self._data = np.empty(size, np.uint8)  # the system gives memory for pages in use only
        self._used, self._ends = 0, [np.zeros(0, np.uint32 if size < 1 << 32 else np.int64)]

    def add(self, lines: Numbers, ends: Numbers) -> None:
        """Append lines (bytes), and the offset after each of their line feeds."""
        self._data[self._used : self._used + len(lines)] = lines
        self._ends.append((ends + self._used).astype(self._ends[0].dtype))
        self._used += len(lines)

    def column(self) -> Strings:
        """Return the column."""
        return Strings(self._data[: self._used].data, np.concatenate(self._ends))


@dataclass(frozen=True)
class Utterance:
    """One utterance of a data directory."""

    id: str
    speaker: str
    recording: str
    wav: str
    """Value of its recording in wav.scp: a path, or a command that ends in ``|``."""
    start_s: float
    """Start in the recording."""
    end_s: float | None
    """End in the recording; None means the end of the recording."""
    text: str | None
    """Transcript; None if the directory has no text."""
    duration_s: float | None
    """Duration from utt2dur or segments; None if both files are missing."""

    @property
    def clip(self) -> Clip:
        """The audio of the utterance."""
        return Clip.of_entry(self.wav, self.start_s, self.end_s)


@dataclass(frozen=True, eq=False)
class Utterances(Column[Utterance]):
    """Utterances in columns: an :class:`Utterance` is made when it is asked for."""

    ids: Strings
    """Id of each utterance, N in all."""
    speakers: Labels
    """Speaker of each utterance."""
    recordings: Labels
    """Id of each recording."""
    wavs: Labels
    """Value of each recording in wav.scp."""
    spans_s: Numbers | None
    """Begin and end in the recording in seconds, (2, N); an end of NaN is the recording's end.
    None: all utterances are whole recordings."""
    texts: Strings | None
    """Transcripts; None if the directory has no text."""
    durations_s: Numbers
    """Duration of each utterance, (N,); NaN if it is not known."""

    @classmethod
    def of(cls, utterances: Iterable[Utterance]) -> "Utterances":
        """Return utterances in columns; those that are already stay as they are."""
        if isinstance(utterances, Utterances):
            return utterances
        every = list(utterances)
        texts = None if all(u.text is None for u in every) else [u.text or "" for u in every]
        spans = [(u.start_s, np.nan if u.end_s is None else u.end_s) for u in every]
        return cls(
            Strings.of(u.id for u in every),
            Labels.of(u.speaker for u in every),
            Labels.of(u.recording for u in every),
            Labels.of(u.wav for u in every),
            np.array(spans, float).reshape(-1, 2).T,
            None if texts is None else Strings.of(texts),
            np.array([u.duration_s for u in every], float),  # None becomes NaN
        )

    @property
    def transcripts(self) -> Strings:
        """Transcripts; empty if the directory has no text."""
        return Strings.of([""] * len(self)) if self.texts is None else self.texts

    def __len__(self) -> int:
        return len(self.ids)

    def _row(self, number: int) -> Utterance:
        start_s, end_s = (0.0, np.nan) if self.spans_s is None else self.spans_s[:, number].tolist()
        duration_s = float(self.durations_s[number])
        return Utterance(
            self.ids[number],
            self.speakers[number],
            self.recordings[number],
            self.wavs[number],
            start_s,
            None if np.isnan(end_s) else end_s,
            None if self.texts is None else self.texts[number],
            None if np.isnan(duration_s) else duration_s,
        )
