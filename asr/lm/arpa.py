"""ARPA files: back-off n-grams, plain or compressed by gzip."""

import gzip
import io
import math
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from asr.arrays import FloatArray, IntArray
from asr.errors import InputError, counted
from asr.files import write_atomically

SPECIAL = BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
ZERO = -99.0  # log10 of 0 in ARPA files
MOST_DIGITS = 12  # of a number of n-grams
MOST_BACKOFF = 30.0  # far above those of real models; the product over nine orders is finite
DEFAULT_UNKNOWN = -7.0  # log10 probability of unknown words if a file has no <unk>
_GZIP = b"\x1f\x8b"
_FIELD = re.compile(r"[^ \t]+")  # a word may contain a no-break space


@dataclass(frozen=True)
class Order:
    """The n-grams of one order (k), R of them."""

    words: IntArray
    """Ids of their words, (R, k)."""
    log_probs: FloatArray
    """log10 of the last word's probability after the others, (R,)."""
    backoffs: FloatArray
    """log10 of the back-off weight of the n-gram as a history, (R,)."""


@dataclass(frozen=True)
class Arpa:
    """The contents of an ARPA file."""

    words: tuple[str, ...]
    """The vocabulary, with <s>, </s> and <unk>; a word's position is its id."""
    orders: tuple[Order, ...]
    """Unigrams first, in which row i is word i."""


def read_arpa(path: str | Path) -> Arpa:
    """Read an ARPA file of any toolkit, plain or compressed by gzip.

    Raises:
        InputError: the file is missing, cut short or malformed.
    """
    try:
        with open(path, "rb") as raw:
            packed = raw.read(2) == _GZIP
            raw.seek(0)
            stream = gzip.GzipFile(fileobj=raw) if packed else raw
            lines = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="\n")
            return _Reader(str(path), lines).read()
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"{path}: cannot read ({reason}); expected an ARPA file in UTF-8, plain or .gz"
        ) from error


class _Reader:
    """Reads the sections of an ARPA file in turn."""

    def __init__(self, path: str, lines: Iterator[str]) -> None:
        self.path, self.lines = path, lines
        self.number, self.line = 0, ""
        self.ids: dict[str, int] = {}

    def read(self) -> Arpa:
        while self._next() != "\\data\\":
            if self.line.startswith("\\"):
                raise self._error("expected the line \\data\\ first; is this an ARPA file?")
        counts = self._counts()
        orders: list[Order] = []
        for order, count in enumerate(counts, 1):
            if self.line != f"\\{order}-grams:":
                raise self._error(f'expected "\\{order}-grams:"')
            orders.append(self._section(order, count, order == len(counts)))
        if self.line != "\\end\\":
            raise self._error(
                "expected \\end\\; the file is cut short, or \\data\\ lists too few orders"
            )
        for name in (BEGIN, END):
            if name not in self.ids:
                raise InputError(f"{self.path}: {name} is not among the 1-grams, expected it there")
        return Arpa(tuple(self.ids), tuple(orders))

    def _next(self) -> str:
        """Return the next line that is not blank, stripped."""
        for line in self.lines:
            self.number += 1
            self.line = line.strip()
            if self.line:
                return self.line
        self.number, self.line = self.number + 1, "the end of the file"
        raise self._error("expected more; the file is cut short")

    def _error(self, message: str) -> InputError:
        return InputError(f'{self.path}:{self.number}: found "{self.line[:80]}", {message}')

    def _counts(self) -> list[int]:
        """Read the numbers of n-grams: lines ``ngram <order>=<count>``."""
        counts: list[int] = []
        while not self._next().startswith("\\"):
            name, _, count = self.line.partition("=")
            count = count.strip()
            good = count.isascii() and count.isdecimal() and len(count) <= MOST_DIGITS
            if name.split() != ["ngram", str(len(counts) + 1)] or not good:
                raise self._error(f'expected "ngram {len(counts) + 1}=<count>"')
            counts.append(int(count))
        if not counts:
            raise self._error('expected "ngram 1=<count>"')
        return counts

    def _section(self, order: int, count: int, last: bool) -> Order:
        """Read the n-grams of one order and the line after them."""
        begin = self.number
        words: list[list[int]] = []
        log_probs: list[float] = []
        backoffs: list[float] = []
        while not self._next().startswith("\\"):
            line = self.line  # split() is the faster one, but splits at any white space of Unicode
            log_prob, *ngram = line.split() if line.isascii() else _FIELD.findall(line)
            backoff = ngram.pop() if len(ngram) == order + 1 and not last else "0"
            if len(ngram) != order:
                expected = f"<log10> and {counted(order, 'word')}"
                expected += "" if last else ", optionally followed by a back-off weight"
                raise self._error(f"{len(ngram) + 1} fields, expected {expected}")
            try:
                log_probs.append(float(log_prob))
                backoffs.append(float(backoff))
            except ValueError:
                raise self._error("expected numbers around the words") from None
            if not log_probs[-1] <= 1e-4:
                raise self._error("expected a log10 of a probability, which is 0 or less")
            if not -math.inf < backoffs[-1] <= MOST_BACKOFF:
                raise self._error(
                    f"expected a log10 of a back-off weight, at most {MOST_BACKOFF:g}"
                )
            words.append(self._ids(ngram))
        if len(words) != count:
            raise InputError(
                f"{self.path}:{self.number}: {len(words)} {order}-grams since line {begin}, "
                f"expected {count} as in \\data\\; the file is damaged"
            )
        if order == 1 and UNKNOWN not in self.ids:
            words.append(self._ids([UNKNOWN]))
            log_probs.append(DEFAULT_UNKNOWN)
            backoffs.append(0.0)
        table = np.array(words, np.int64).reshape(-1, order)
        return Order(table, np.minimum(np.array(log_probs, np.float64), 0.0), np.array(backoffs))

    def _ids(self, ngram: Sequence[str]) -> list[int]:
        """Return the ids of the words of an n-gram; a unigram defines its word."""
        words = [UNKNOWN if word == "<UNK>" else word for word in ngram]
        if len(words) == 1:
            if words[0] in self.ids:
                raise self._error("expected every word once")
            self.ids[words[0]] = len(self.ids)
        try:
            return [self.ids[word] for word in words]
        except KeyError as error:
            raise self._error(f"the word {error} is not among the 1-grams") from None


def write_arpa(arpa: Arpa, path: str | Path) -> Path:
    """Write an ARPA file atomically, compressed if its name ends in .gz."""
    path = Path(path)

    def write(file: BinaryIO) -> None:
        gz = path.suffix == ".gz"  # without name and time: the same model gives the same file
        with gzip.GzipFile("", "wb", 6, file, mtime=0) if gz else nullcontext(file) as stream:
            stream.writelines(line.encode() for line in _lines(arpa))

    return write_atomically(path, write)


def _lines(arpa: Arpa) -> Iterator[str]:
    yield "\\data\\\n"
    for k, order in enumerate(arpa.orders, 1):
        yield f"ngram {k}={len(order.words)}\n"
    for k, order in enumerate(arpa.orders, 1):
        yield f"\n\\{k}-grams:\n"
        rows = zip(
            order.log_probs.tolist(), order.words.tolist(), order.backoffs.tolist(), strict=True
        )
        for log_prob, ids, backoff in rows:
            words = " ".join(arpa.words[i] for i in ids)
            tail = "" if k == len(arpa.orders) or backoff == 0 else f"\t{backoff:.7g}"
            yield f"{log_prob:.7g}\t{words}{tail}\n"
    yield "\n\\end\\\n"
