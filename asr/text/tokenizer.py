"""Characters to token ids and back, by the table ``tokens.txt`` of lines ``<symbol> <id>``."""

import unicodedata
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from asr.errors import InputError
from asr.files import write_text
from asr.text.characters import APOSTROPHES, clean
from asr.text.transcripts import read_lines

BLANK = "<blank>"
UNKNOWN = "<unk>"
SPACE = "<space>"
END = "<sos/eos>"
_CHARACTERS = {SPACE: " ", UNKNOWN: "\N{REPLACEMENT CHARACTER}"}
_WHITE_SPACE = frozenset(filter(str.isspace, map(chr, range(0x3001))))


class CharTokenizer:
    """A table of the characters in the training transcripts, with an id for each.

    The id of CTC's ``<blank>`` is 0, that of ``<unk>`` 1, and ``<sos/eos>``, which starts and ends
    a sentence, is last. White space of any kind is ``<space>``.

    Args:
        symbols: in the order of their ids; length V.
        where: name of the table in error messages, such as a file's path.

    Raises:
        InputError: a symbol is duplicated, is in the wrong position, or is not one character.
    """

    blank_id = 0
    unk_id = 1

    def __init__(self, symbols: Sequence[str], where: str = "symbols") -> None:
        _check_symbols(symbols, where)
        self.symbols = list(symbols)
        self.eos_id = len(symbols) - 1
        self._characters = [_CHARACTERS.get(symbol, symbol) for symbol in symbols]
        self._ids = {char: i for i, char in enumerate(self._characters) if len(char) == 1}
        self._known = _WHITE_SPACE.union(self._ids)

    @classmethod
    def from_texts(cls, texts: Iterable[str]) -> "CharTokenizer":
        """Collect the characters of texts, in the order of their code points."""
        characters = {" " if c.isspace() else c for text in texts for c in clean(text)}
        symbols = [SPACE if c == " " else c for c in sorted(characters)]
        return cls([BLANK, UNKNOWN, *symbols, END])

    @classmethod
    def from_file(cls, path: str | Path) -> "CharTokenizer":
        """Read ``tokens.txt``.

        Raises:
            InputError: a line is not ``<symbol> <id>``, the ids do not count up from 0, or a
                symbol is invalid.
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
        """Write ``tokens.txt`` atomically."""
        return write_text(path, self.table())

    def table(self) -> str:
        """Return the content of ``tokens.txt``."""
        return "".join(f"{symbol} {i}\n" for i, symbol in enumerate(self.symbols))

    def __len__(self) -> int:
        return len(self.symbols)

    def normalize(self, text: str) -> str:
        """Return a clean text (:mod:`asr.text.characters`) in the characters of the table.

        If a character is missing in the table, its decomposition or another apostrophe replaces
        it, as in tables of decomposed transcripts; other missing characters are kept.
        """
        for candidate in (clean(text), text):
            if self._known.issuperset(candidate):
                return candidate
        return "".join(map(self._spelled, clean(text)))

    def _spelled(self, character: str) -> str:
        """Return a character in the table's spelling, or as it is if the table has none."""
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
        """Return an id for each character of :meth:`normalize`; no start or end symbol."""
        text = self.normalize(text)
        return [self._ids.get(" " if c.isspace() else c, self.unk_id) for c in text]

    def unknown(self, text: str) -> list[str]:
        """Return the characters of a text that have no id, in order."""
        ids = self.encode(text)
        return [c for c, i in zip(self.normalize(text), ids, strict=True) if i == self.unk_id]

    def is_plain(self, characters: Collection[str]) -> bool:
        """Whether each of these characters has an id of its own, in whatever text it stands."""
        others = set(characters) - {" "} if " " in self._ids else set(characters)
        return not any(c.isspace() or not c.isprintable() for c in others) and (
            others <= self._ids.keys() - {_CHARACTERS[UNKNOWN]}
        )

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ids, without blank, start and end; unknown becomes U+FFFD."""
        return "".join(self._characters[i] for i in ids if i not in (self.blank_id, self.eos_id))


def ctc_steps(tokens: Sequence[object]) -> int:
    """Return the fewest steps of a CTC path: characters, and a blank between repeated ones."""
    return len(tokens) + sum(a == b for a, b in pairwise(tokens))


def _check_symbols(symbols: Sequence[str], where: str) -> None:
    special = {0: BLANK, 1: UNKNOWN, max(2, len(symbols) - 1): END}
    if len(symbols) < len(special):
        raise InputError(f"{where}: {len(symbols)} symbols, expected {', '.join(special.values())}")
    seen: set[str] = set()
    for i, symbol in enumerate(symbols):
        visible = symbol == SPACE or (len(symbol) == 1 and not symbol.isspace())
        valid = symbol == special[i] if i in special else visible
        if not valid:
            expected = special.get(i, f"one visible character or {SPACE}")
            raise InputError(
                f'{where}:{i + 1}: symbol "{symbol}", expected {expected}; make the file again '
                "with `asr chars`"
            )
        if symbol in seen:
            raise InputError(f'{where}:{i + 1}: symbol "{symbol}" is there twice; remove one')
        seen.add(symbol)
