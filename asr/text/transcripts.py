"""Files of transcripts: Kaldi's ``text``, sclite's ``trn``, and plain sentences."""

import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Sequence
from pathlib import Path

from asr.errors import InputError
from asr.text.characters import compose

ALTERNATIVES = re.compile(r"(?<!\S)\{((?!\S)|[^{}]*/)")  # { a / b } of sclite, or {a/b}
UTF16 = "UTF-16, as Windows writes it, expected UTF-8; convert the file: iconv -f utf-16 -t utf-8"


def read_lines(path: str | Path) -> list[str]:
    """Return the lines of a UTF-8 text file without their line ends.

    As in Kaldi, only a line feed ends a line: Unicode's other separators are text. Carriage
    returns end the lines of a file without line feeds.

    Raises:
        InputError: the file cannot be read or is not UTF-8.
    """
    text = read_text(path).replace("\r\n", "\n")
    lines = (text if "\n" in text else text.replace("\r", "\n")).split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def read_text(path: str | Path) -> str:
    """Return the content of a UTF-8 file, without a byte order mark.

    Raises:
        InputError: the file cannot be read or is not UTF-8.
    """
    try:
        return decode(Path(path).read_bytes(), path)
    except OSError as error:
        raise InputError(f"{path}: cannot read ({error.strerror}); check the path") from error


def is_utf16(blob: bytes) -> bool:
    """Return whether a file looks like UTF-16, with or without a byte order mark."""
    return blob.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) or b"\0" in blob[:2]


def decode(blob: bytes, path: str | Path) -> str:
    """Return the text of a UTF-8 file, without a byte order mark.

    Raises:
        InputError: the file is not UTF-8; the message names the line.
    """
    if is_utf16(blob):
        raise InputError(f"{path}:1: {UTF16}")
    try:
        return blob.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = blob.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}:{line}: byte 0x{blob[error.start]:02x} is not UTF-8; convert the file, for "
            "example with `iconv -f windows-1252 -t utf-8`"
        ) from error


def parse_text(lines: Sequence[str], path: str | Path) -> dict[str, str]:
    """Return the transcripts of Kaldi's ``text``: ``<utt-id> <words...>``; words may be absent.

    Raises:
        InputError: a line is empty, or two lines have the same id.
    """
    records: list[tuple[int, str, str]] = []
    for number, line in enumerate(lines, 1):
        fields = line.split(maxsplit=1)
        if not fields:
            raise InputError(
                f'{path}:{number}: empty line, expected "<utt-id> <words...>"; remove the line'
            )
        records.append((number, fields[0], fields[1].rstrip() if len(fields) == 2 else ""))
    return _unique(records, path)


def parse_trn(lines: Sequence[str], path: str | Path) -> dict[str, str]:
    """Return the transcripts of sclite's ``trn``: ``<words...> (<utt-id>)``; ``;;`` is a comment.

    Raises:
        InputError: a line has no id, two lines have the same id, or a line has alternatives.
    """
    records: list[tuple[int, str, str]] = []
    for number, line in enumerate(lines, 1):
        if is_trn_comment(line):
            continue
        name = trn_id(line)
        if name is None:
            raise InputError(
                f'{path}:{number}: found "{line}", expected "<words...> (<utt-id>)"; add the id'
            )
        words = line.rstrip()[: -len(name) - 2].strip()
        if ALTERNATIVES.search(words):
            raise InputError(
                f"{path}:{number}: alternatives {{ a / b }} are not scored; keep one of them"
            )
        records.append((number, name, words))
    return _unique(records, path)


def is_trn_comment(line: str) -> bool:
    """Return whether a line is empty or a comment, as in sclite."""
    return not line.strip() or line.startswith(";;")


def trn_id(line: str) -> str | None:
    """Return the utterance id in parentheses at the end of a line, or None."""
    last = line.split()[-1:] or [""]
    name = last[0][1:-1]  # which may have parentheses: talk_(1)
    return name if name and last[0] == f"({name})" else None


def _unique(records: Sequence[tuple[int, str, str]], path: str | Path) -> dict[str, str]:
    """Return the words of line numbers, ids and words by their ids in composed form."""
    first: dict[str, int] = {}
    texts: dict[str, str] = {}
    for number, name, words in records:
        name = compose(name)
        if name in first:
            raise InputError(
                f"{path}:{number}: utterance {name} is already on line {first[name]}, expected "
                "each id once; remove one of the two"
            )
        first[name] = number
        texts[name] = words
    return texts
