"""Columns of data directories: the texts and numbers of a million utterances in a few arrays.

A column of texts is one block of memory, so that it takes little more than its bytes, and processes
that are forked share it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, overload

import numpy as np

ROWS = 1 << 14  # of a column that are decoded at a time
Numbers = np.ndarray[Any, np.dtype[Any]]


class Column(Sequence[str], ABC):
    """A column of texts, whose rows are made when they are asked for."""

    @abstractmethod
    def _row(self, number: int) -> str:
        """Return the text of a row, counted from 0."""

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        rows = range(len(self))[index]
        return self._row(rows) if isinstance(rows, int) else [self._row(row) for row in rows]


class Strings(Column):
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


class Labels(Column):
    """A column of texts that repeat, such as speakers.

    Args:
        names: the texts.
        codes: the index of each row in ``names``, (N,); None: row i has name i.
    """

    def __init__(self, names: "Strings | Paths", codes: Numbers | None = None) -> None:
        self.names, self.codes = names, codes

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Labels":
        """Make a column of texts without line feeds."""
        known: dict[str, int] = {}
        codes = [known.setdefault(text, len(known)) for text in texts]
        return cls(Strings.of(known), np.array(codes, np.int32))

    def __len__(self) -> int:
        return len(self.names if self.codes is None else self.codes)

    def _row(self, number: int) -> str:
        return self.names[number if self.codes is None else int(self.codes[number])]

    def __iter__(self) -> Iterator[str]:
        if self.codes is None:
            return iter(self.names)
        names = list(self.names)
        return (names[code] for code in self.codes)


class Paths(Column):
    """A column of paths, many of which are in the same folder.

    Args:
        folders: the beginning of each path, up to its last slash, included.
        files: the rest of each path.
    """

    def __init__(self, folders: Labels, files: Strings) -> None:
        self.folders, self.files = folders, files

    def __len__(self) -> int:
        return len(self.files)

    def _row(self, number: int) -> str:
        return self.folders[number] + self.files[number]

    def __iter__(self) -> Iterator[str]:
        return map(str.__add__, self.folders, self.files)


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
