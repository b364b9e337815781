"""ARPA files: back-off n-grams as the field's toolkits write them, plain or compressed."""

import gzip
import io
import math
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr.arrays import FloatArray, IntArray
from asr.errors import InputError
from asr.files import write_atomically

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
ZERO = -99.0  # how ARPA files write log 0
MOST_DIGITS = 12  # of a number of n-grams
MOST_BACKOFF = 30.0  # far above those of real models; the product over nine orders is finite
NO_UNKNOWN = -7.0  # log10 of an unknown word's probability where a file has no <unk>
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class Order:
    """The n-grams of one order (k), R of them."""

    words: IntArray
    """Ids of their words, (R, k)."""
    log_probs: FloatArray
    """log10 of the last word's probability after the others, (R,)."""
    backoffs: FloatArray
    """log10 of the back-off weight of the whole as a history, (R,)."""


@dataclass(frozen=True)
class Arpa:
    """The contents of an ARPA file."""

    words: tuple[str, ...]
    """The vocabulary, with <s>, </s> and <unk>; a word's position is its id."""
    orders: tuple[Order, ...]
    """Unigrams first; row i of them is word i."""


def read_arpa(path: str | Path) -> Arpa:
    """Read an ARPA file, plain or compressed by gzip, of any toolkit.

    Raises:
        InputError: it is missing, cut short or malformed; with the line.
    """
    with _open_text(Path(path)) as lines:
        return _Reader(str(path), lines).read()


@contextmanager
def _open_text(path: Path) -> Iterator[Iterator[str]]:
    try:
        with open(path, "rb") as raw:
            packed = raw.read(2) == _GZIP
            raw.seek(0)
            stream = gzip.GzipFile(fileobj=raw) if packed else raw
            yield io.TextIOWrapper(stream, encoding="utf-8", newline="\n")
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"{path}: cannot read ({reason}); expected an ARPA file in UTF-8, plain or .gz"
        ) from error


class _Reader:
    """Reads the sections of an ARPA file one after another."""

    def __init__(self, path: str, lines: Iterator[str]) -> None:
        self.path, self.lines = path, lines
        self.number, self.line = 0, ""
        self.ids: dict[str, int] = {}

    def read(self) -> Arpa:
        while self._next() != "\\data\\":
            if self.line.startswith("\\"):
                self._fail("expected the line \\data\\ first; is this an ARPA file?")
        counts = self._counts()
        orders: list[Order] = []
        for order, count in enumerate(counts, 1):
            if self.line != f"\\{order}-grams:":
                self._fail(f'expected "\\{order}-grams:"')
            orders.append(self._section(order, count, order == len(counts)))
        if self.line != "\\end\\":
            self._fail("expected \\end\\; the file is cut short, or \\data\\ lists too few orders")
        for name in (BEGIN, END):
            if name not in self.ids:
                raise InputError(f"{self.path}: {name} is not among the 1-grams, expected it there")
        return _with_unknown(Arpa(tuple(self.ids), tuple(orders)))

    def _next(self) -> str:
        """Return the next line that is not blank, without space around it."""
        for line in self.lines:
            self.number += 1
            self.line = line.strip()
            if self.line:
                return self.line
        self.number, self.line = self.number + 1, "the end of the file"
        self._fail("expected more; the file is cut short")
        raise AssertionError

    def _fail(self, message: str) -> None:
        raise InputError(f'{self.path}:{self.number}: found "{self.line[:80]}", {message}')

    def _counts(self) -> list[int]:
        """Read the numbers of n-grams: ``ngram <order>=<count>`` lines."""
        counts: list[int] = []
        while not self._next().startswith("\\"):
            name, _, count = self.line.partition("=")
            count = count.strip()
            good = count.isascii() and count.isdecimal() and len(count) <= MOST_DIGITS
            if name.split() != ["ngram", str(len(counts) + 1)] or not good:
                self._fail(f'expected "ngram {len(counts) + 1}=<count>"')
            counts.append(int(count))
        if not counts:
            self._fail('expected "ngram 1=<count>"')
        return counts

    def _section(self, order: int, count: int, last: bool) -> Order:
        """Read the n-grams of one order; stop at the line after them."""
        begin = self.number
        words: list[list[int]] = []
        log_probs: list[float] = []
        backoffs: list[float] = []
        while not self._next().startswith("\\"):
            fields = self.line.split()
            backed = len(fields) == order + 2
            if len(fields) != order + 1 and not (backed and not last):
                self._fail(f"{len(fields)} fields, expected <log10> and {order} words"
                           + ("" if last else ", and a back-off weight or none"))  # fmt: skip
            try:
                log_probs.append(float(fields[0]))
                backoffs.append(float(fields[-1]) if backed else 0.0)
            except ValueError:
                self._fail("expected numbers around the words")
            if not log_probs[-1] <= 1e-4:
                self._fail("expected a log10 of a probability, which is 0 or less")
            if not -math.inf < backoffs[-1] <= MOST_BACKOFF:
                self._fail(f"expected a log10 of a back-off weight, at most {MOST_BACKOFF:g}")
            words.append(self._ids(fields[1 : order + 1], order))
        if len(words) != count:
            raise InputError(
                f"{self.path}:{self.number}: {len(words)} {order}-grams since line {begin}, "
                f"expected {count} as \\data\\ says; the file is damaged"
            )
        table = np.array(words, np.int64).reshape(-1, order)
        return Order(table, np.minimum(np.array(log_probs, np.float64), 0.0), np.array(backoffs))

    def _ids(self, words: Sequence[str], order: int) -> list[int]:
        if order == 1:
            word = UNKNOWN if words[0] == "<UNK>" else words[0]
            if word in self.ids:
                self._fail("expected every word once")
            self.ids[word] = len(self.ids)
            return [self.ids[word]]
        try:
            return [self.ids[w] for w in words]
        except KeyError as error:
            if str(error) == "'<UNK>'" and UNKNOWN in self.ids:
                return [self.ids[UNKNOWN if w == "<UNK>" else w] for w in words]
            self._fail(f"the word {error} is not among the 1-grams")
            raise


def _with_unknown(arpa: Arpa) -> Arpa:
    """Give unknown words a little probability where the file has none for them."""
    if UNKNOWN in arpa.words:
        return arpa
    first = arpa.orders[0]
    first = Order(
        np.vstack([first.words, [[len(arpa.words)]]]),
        np.append(first.log_probs, NO_UNKNOWN),
        np.append(first.backoffs, 0.0),
    )
    return Arpa((*arpa.words, UNKNOWN), (first, *arpa.orders[1:]))


def write_arpa(arpa: Arpa, path: str | Path) -> Path:
    """Write an ARPA file atomically, compressed if its name ends in .gz."""
    path = Path(path)

    def write(file: io.BufferedIOBase) -> None:
        if path.suffix == ".gz":  # without name and time: the same model is the same file
            with gzip.GzipFile("", "wb", 6, file, mtime=0) as packed:
                packed.writelines(line.encode() for line in _lines(arpa))
        else:
            file.writelines(line.encode() for line in _lines(arpa))

    return write_atomically(path, write)  # type: ignore[arg-type]


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
