"""Files of transcripts: Kaldi's ``text``, sclite's ``trn``, and plain sentences."""

from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Sequence
from pathlib import Path

from asr.errors import InputError
from asr.text.characters import compose

UTF16 = "UTF-16, as Windows writes it, expected UTF-8; convert the file: iconv -f utf-16 -t utf-8"


def read_lines(path: str | Path) -> list[str]:
    """The lines of a UTF-8 text file without their line ends.

    Only a line feed ends a line, as for Kaldi: the other separators of Unicode are text. In a
    file without any, carriage returns end the lines.

    Raises:
        InputError: the file cannot be read or is not UTF-8.
    """
    try:
        blob = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot read ({error.strerror}); check the path") from error
    text = decode(blob, path).replace("\r\n", "\n")
    lines = (text if "\n" in text else text.replace("\r", "\n")).split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def is_utf16(blob: bytes) -> bool:
    """Whether a file is in UTF-16, with a byte order mark or without, as ASCII would be."""
    return blob.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) or b"\0" in blob[:2]


def decode(blob: bytes, path: str | Path) -> str:
    """The text of a UTF-8 file, without a byte order mark.

    Raises:
        InputError: it is not UTF-8; with the line, and how to convert it.
    """
    if is_utf16(blob):
        raise InputError(f"{path}:1: {UTF16}")
    try:
        return blob.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = blob.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}:{line}: byte 0x{blob[error.start]:02x} is not UTF-8; convert the file, for "
            "example with `iconv -f latin1 -t utf-8`"
        ) from error


def parse_text(lines: Sequence[str], path: str | Path) -> dict[str, str]:
    """Transcripts of Kaldi's ``text``: ``<utt-id> <words...>``; words may be absent.

    Raises:
        InputError: a line is empty or an id is there twice.
    """
    records: list[tuple[str, str]] = []
    for number, line in enumerate(lines, 1):
        fields = line.split(maxsplit=1)
        if not fields:
            raise InputError(
                f'{path}:{number}: empty line, expected "<utt-id> <words...>"; remove the line'
            )
        records.append((fields[0], fields[1].rstrip() if len(fields) == 2 else ""))
    return _unique(records, path)


def parse_trn(lines: Sequence[str], path: str | Path) -> dict[str, str]:
    """Transcripts of sclite's ``trn``: ``<words...> (<utt-id>)``; ``;;`` starts a comment.

    Raises:
        InputError: a line has no id, an id is there twice, or a line has alternatives.
    """
    records: list[tuple[str, str]] = []
    numbers: list[int] = []
    for number, line in enumerate(lines, 1):
        if is_trn_comment(line):
            continue
        name = trn_id(line)
        if name is None:
            raise InputError(
                f'{path}:{number}: found "{line}", expected "<words...> (<utt-id>)"; add the id'
            )
        words = line.rstrip()[: -len(name) - 2].strip()
        if "{" in words.split():
            raise InputError(
                f"{path}:{number}: alternatives {{ a / b }} are not scored; keep one of them"
            )
        records.append((name, words))
        numbers.append(number)
    return _unique(records, path, numbers)


def is_trn_comment(line: str) -> bool:
    """Whether sclite passes over a line."""
    return not line.strip() or line.startswith(";;")


def trn_id(line: str) -> str | None:
    """The utterance id in parentheses at the end of a line, or None."""
    head, parenthesis, name = line.rstrip().rpartition("(")
    name, end = name[:-1], name[-1:]
    separate = head == "" or head[-1].isspace()
    valid = bool(parenthesis) and end == ")" and name and len(name.split()) == 1
    return name if valid and separate and ")" not in name else None


def _unique(
    records: Sequence[tuple[str, str]], path: str | Path, numbers: Sequence[int] | None = None
) -> dict[str, str]:
    """Records by their ids, in composed form."""
    first: dict[str, int] = {}
    records = [(compose(name), words) for name, words in records]
    for number, (name, _) in zip(numbers or range(1, len(records) + 1), records, strict=True):
        if name in first:
            raise InputError(
                f"{path}:{number}: utterance {name} is already on line {first[name]}, expected "
                "each id once; remove one of the two"
            )
        first[name] = number
    return dict(records)
