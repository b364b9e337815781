"""Characters to ids and back; the table is ``tokens.txt``, one ``<symbol> <id>`` a line."""

import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from asr.errors import InputError
from asr.files import write_text
from asr.text.characters import APOSTROPHES, clean
from asr.text.transcripts import read_lines

BLANK = "<blank>"
UNKNOWN = "<unk>"
SPACE = "<space>"
END = "<sos/eos>"
_WHITE_SPACE = frozenset(filter(str.isspace, map(chr, range(0x3001))))


class CharTokenizer:
    """Every character of the training transcripts has an id.

    ``<blank>`` (CTC's) is 0, ``<unk>`` is 1, ``<sos/eos>`` is last: one symbol starts and
    ends a sentence, so ``sos_id == eos_id``. White space of any kind is ``<space>``.

    Args:
        symbols: in the order of their ids; length V.
        where: named in error messages, for example a file's path.

    Raises:
        InputError: a symbol is doubled, is in the wrong place, or is not one character.
    """

    blank_id = 0
    unk_id = 1

    def __init__(self, symbols: Sequence[str], where: str = "symbols") -> None:
        _check_symbols(symbols, where)
        self.symbols = list(symbols)
        self.sos_id = self.eos_id = len(symbols) - 1
        self._characters = [_character(symbol) for symbol in symbols]
        self._ids = {char: i for i, char in enumerate(self._characters) if len(char) == 1}
        self._known = _WHITE_SPACE.union(self._ids)

    @classmethod
    def from_texts(cls, texts: Iterable[str]) -> "CharTokenizer":
        """The characters that occur in some texts, in the order of their code points."""
        characters = {" " if c.isspace() else c for text in texts for c in clean(text)}
        symbols = [SPACE if c == " " else c for c in sorted(characters)]
        return cls([BLANK, UNKNOWN, *symbols, END])

    @classmethod
    def from_file(cls, path: str | Path) -> "CharTokenizer":
        """Read ``tokens.txt``.

        Raises:
            InputError: a line is not ``<symbol> <id>``, the ids do not count up from 0, or
                the symbols are not those of a character table.
        """
        symbols = []
        for number, line in enumerate(read_lines(path)):
            fields = line.split()
            if len(fields) != 2 or fields[1] != str(number):
                raise InputError(
                    f'{path}:{number + 1}: found "{line}", expected "<symbol> {number}": ids count '
                    "up from 0; make the file again with `asr chars`"
                )
            symbols.append(fields[0])
        return cls(symbols, str(path))

    def to_file(self, path: str | Path) -> Path:
        """Write ``tokens.txt``, atomically."""
        return write_text(path, self.table())

    def table(self) -> str:
        """The lines of ``tokens.txt``."""
        return "".join(f"{symbol} {i}\n" for i, symbol in enumerate(self.symbols))

    def __len__(self) -> int:
        return len(self.symbols)

    def form(self, text: str) -> str:
        """A text in the characters of the table, as far as they go.

        They are clean and composed (:mod:`asr.text.characters`). Those that the table lacks
        become a letter and its marks, or another apostrophe, where it has these: tables that
        were made of decomposed transcripts go on as before.
        """
        for same in (clean(text), text):
            if self._known.issuperset(same):
                return same
        return "".join(map(self._spelled, clean(text)))

    def _spelled(self, character: str) -> str:
        """A character as the table has it, or as it is."""
        if character in self._known:
            return character
        if character in APOSTROPHES:
            return next(filter(self._known.__contains__, APOSTROPHES), character)
        parts = unicodedata.decomposition(character)
        if not parts or parts.startswith("<"):
            return character
        spelled = "".join(self._spelled(chr(int(code, 16))) for code in parts.split())
        return spelled if self._known.issuperset(spelled) else character

    def encode(self, text: str) -> list[int]:
        """One id per character of :meth:`form`, ``unk_id`` for unknown ones; no start or end."""
        return [self._ids.get(" " if c.isspace() else c, self.unk_id) for c in self.form(text)]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of some ids; blank, start and end vanish, unknown shows as U+FFFD."""
        return "".join(self._characters[i] for i in ids if i not in (self.blank_id, self.eos_id))


def _character(symbol: str) -> str:
    return {SPACE: " ", UNKNOWN: "\N{REPLACEMENT CHARACTER}"}.get(symbol, symbol)


def _check_symbols(symbols: Sequence[str], where: str) -> None:
    """Line i + 1 of ``tokens.txt`` holds symbol i, hence the numbers in the messages."""
    places = {0: BLANK, 1: UNKNOWN, max(2, len(symbols) - 1): END}
    if len(symbols) < len(places):
        raise InputError(f"{where}: {len(symbols)} symbols, expected {', '.join(places.values())}")
    seen: set[str] = set()
    for i, symbol in enumerate(symbols):
        expected = places.get(i, f"one visible character or {SPACE}")
        if i in places:
            valid = symbol == expected
        else:
            valid = symbol == SPACE or (len(symbol) == 1 and not symbol.isspace())
        if not valid:
            raise InputError(
                f'{where}:{i + 1}: symbol "{symbol}", expected {expected}; make the file again '
                "with `asr chars`"
            )
        if symbol in seen:
            raise InputError(f'{where}:{i + 1}: symbol "{symbol}" is there twice; remove one')
        seen.add(symbol)
