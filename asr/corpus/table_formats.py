"""Rows of tables, in the formats of spreadsheets, corpora and other toolkits.

A row that could be read in two ways has an error; two rows are never read as one.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from asr.audio.folders import is_file
from asr.corpus.tables import is_number
from asr.errors import InputError
from asr.formats import AUDIO_SUFFIXES
from asr.text.characters import compose, spelled_on_disk
from asr.text.transcripts import read_text

COLUMNS = ("audio", "text", "speaker", "id", "start", "end", "duration", "gender")
ALIASES = {
    "audio": (
        *("audio_filepath", "path", "wav", "file", "filename", "audio_path"),
        *("file_name", "wav_filename", "audio_file"),
    ),
    "text": ("sentence", "transcript", "transcription", "txt", "wrd"),
    "speaker": ("client_id", "speaker_id", "spk_id", "speaker_name", "spk"),
    "start": ("offset",),
}
"""Other common names of the columns, for a table without a column of the usual name."""

NEEDED = ("audio", "text")
NUMBERS = ("id", "speaker", "start", "end", "duration")  # columns that may be numbers in JSON
FOLDERS = ("", "clips", "wavs")  # folders of the audio beside a table: Common Voice, LJSpeech


@dataclass(frozen=True)
class Row:
    """One utterance to import."""

    where: str
    """The file and line of the row, for messages."""
    audio: str = ""
    text: str = ""
    id: str = ""
    speaker: str = ""
    """Empty if the utterance is its own speaker."""
    start: str = ""
    end: str = ""
    """Start and end in the recording, in seconds; both or neither are given."""
    duration: str = ""
    """Seconds from the start, or from the beginning of the recording."""
    gender: str = ""
    error: str = ""
    """Why the row cannot be read, if it cannot."""


Record = dict[str, str] | str
"""The values of a row by the names in COLUMNS, or an error."""

Fields = list[str] | str
"""The fields of a row, or an error."""


def read_rows(path: str | Path, columns: Mapping[str, str]) -> Iterator[Row]:
    """Yield the rows of a table; a row that cannot be read has its ``error``.

    Args:
        path: a .csv (separated by commas, semicolons, tabs or bars), a .tsv (tabs, no quoting), a
            .jsonl or a .json (one object on each line, a list of objects, or an object with one
            such list). Paths in it are relative to its folder, or to clips or wavs in that folder.
        columns: the name of each column of COLUMNS; a column may also have a name of ALIASES.

    Raises:
        InputError: the file is missing or empty, has another format, or no column audio or text.
    """
    path = Path(path)
    readers = {".csv": _read_csv, ".tsv": _read_csv, ".jsonl": _read_json, ".json": _read_json}
    if path.suffix.lower() not in readers:
        sheet = path.suffix.lower() in (".xlsx", ".xls", ".ods", ".numbers")
        remedy = "save it as CSV in UTF-8" if sheet else "rename it"
        remedy = "name a folder of recordings with --folder" if path.is_dir() else remedy
        raise InputError(
            f"{path}: expected a table that ends in .csv, .tsv, .jsonl or .json; {remedy}"
        )
    source = read_text(path)
    if not source.strip():
        raise InputError(f"{path}: an empty file, expected a table; save the table again")
    _names.cache_clear()
    for line, record in readers[path.suffix.lower()](path, source, columns):
        where = f"{path}:{line}"
        yield Row(where, error=record) if isinstance(record, str) else _row(where, path, record)


def _row(where: str, path: Path, values: dict[str, str]) -> Row:
    audio = values.pop("audio")
    audio = find_audio(path.parent, audio) if audio else ""
    if values["start"] and values["duration"] and not values["end"]:
        values["end"] = _sum(values["start"], values["duration"])
    part = f"-{values['start']}" if values["start"] else ""
    named = Path(audio)
    stem = named.stem if named.suffix.lower() in AUDIO_SUFFIXES else named.name
    name = values.pop("id") or stem + part
    return Row(where, audio, id=name, **values)


def _sum(start: str, duration: str) -> str:
    if is_number(start) and is_number(duration):
        return str(round(float(start) + float(duration), 6))
    return f"{start} + {duration}"


def find_audio(folder: Path, name: str) -> str:
    """Return the path of an audio file that is named in a table in ``folder``.

    The name in the table may lack the suffix or the folder of the audio, and its letters may be
    composed differently. If there is no such file, the path is that of the name.
    """
    if name.startswith("file:///"):
        name = unquote(name.removeprefix("file://"))
    paths = [str(folder / part / name) for part in FOLDERS]
    if "\\" in name:
        paths.append(str(folder / name.replace("\\", "/")))
    return next(filter(None, map(_existing, paths)), str(folder / name))


def _existing(path: str) -> str:
    """Return the file of a path without suffix or in other forms of letters, or an empty text."""
    if is_file(path):
        return path
    folder, name = os.path.split(path)
    folder = spelled_on_disk(folder)
    found = _names(folder or ".").get(compose(name), "")
    return os.path.join(folder, found) if found else ""  # noqa: PTH118


@lru_cache(maxsize=64)
def _names(folder: str) -> dict[str, str]:
    """Return the files of a folder by composed name; audio files also by name without suffix."""
    try:
        with os.scandir(folder) as entries:
            names = sorted((entry.name for entry in entries if entry.is_file()), reverse=True)
    except (OSError, ValueError):
        return {}
    audio = (Path(name) for name in names if Path(name).suffix.lower() in AUDIO_SUFFIXES)
    stems = {compose(path.stem): path.name for path in audio}
    return stems | {compose(name): name for name in names}


_SEP_LINE = re.compile(r'"?sep=(.)"?\s*(?:\n|$)', re.IGNORECASE)
_QUOTE = re.compile(r' *"')
_LJSPEECH = (2, 3)  # number of fields in id|text|normalised
_BARE = "\t|"  # separators of fields without quotes, unless all names of columns are quoted
_TIMES = ("start", "end", "duration")
_NULL = r"\N"  # MySQL's empty cell


def _read_csv(path: Path, source: str, columns: Mapping[str, str]) -> Iterator[tuple[int, Record]]:
    """Yield for each row the number of its first line, and its values or its error."""
    source, first = _line_feeds(source), 1
    declared = _SEP_LINE.match(source)
    if declared:
        source, first = source[declared.end() :], 2
    separator = declared[1] if declared else _find_separator(path, source, columns)
    rows = _split(source, separator, first, path.parent)
    line, names = next(rows, (first, []))
    if isinstance(names, str):
        raise InputError(f"{path}:{line}: {names}")
    positions = _positions(names, columns)
    if separator == "|" and len(names) in _LJSPEECH and not any(positions[n] for n in NEEDED):
        positions = {ours: [] for ours in columns} | {"audio": [0], "text": [len(names) - 1]}
        rows = chain([(line, names)], rows)
    _check_columns(f"{path}:{line}", names, positions, columns)
    for line, fields in rows:
        if not isinstance(fields, str):
            yield line, _record(fields, len(names), positions, separator)
        else:
            yield line, fields


def _line_feeds(source: str) -> str:
    """Return a source whose lines end in line feeds; an old Mac has line feeds only in cells."""
    source = re.sub(r"\r\r?\n", "\n", source)
    return source.replace("\r", "\n") if "\r" in source.partition("\n")[0] else source


def _find_separator(path: Path, source: str, columns: Mapping[str, str]) -> str:
    """Return the separator of the columns, determined from the first line."""
    if path.suffix.lower() == ".tsv":
        return "\t"
    header = source.lstrip("\n").partition("\n")[0]
    for separator in ",;\t|":
        positions = _positions([name.strip('" ') for name in header.split(separator)], columns)
        if all(positions[need] for need in NEEDED):
            return separator
    return "|" if header.count("|") + 1 in _LJSPEECH else max(",;\t|", key=header.count)


def _positions(names: Sequence[str], columns: Mapping[str, str]) -> dict[str, list[int]]:
    """Return the positions of each column; a valid table has each column once."""
    names = [name.strip() for name in names]
    return {ours: _position(names, ours, name) for ours, name in columns.items()}


def _position(names: Sequence[str], ours: str, name: str) -> list[int]:
    """Return the positions of a column by the name that the user gave, or by an alias."""
    others = ALIASES.get(ours, ()) if name == ours else ()
    for each in (name, *others):
        for found in (names, [n.lower() for n in names]):
            if each in found:
                return [i for i, n in enumerate(found) if n == each]
    return []


def _check_columns(
    where: str,
    names: Sequence[str],
    positions: Mapping[str, list[int]],
    columns: Mapping[str, str],
) -> None:
    for ours, found in positions.items():
        if len(found) > 1:
            raise InputError(
                f'{where}: {len(found)} columns are called "{names[found[0]]}"; rename the others'
            )
        named = columns[ours] not in (ours, "none")
        if not found and (ours in NEEDED or named):
            raise InputError(
                f"{where}: found the columns {', '.join(names)}, expected one called "
                f'"{columns[ours]}"; name it with --{ours}-column, or add a first line of names'
            )


def _record(
    fields: list[str], count: int, positions: Mapping[str, list[int]], separator: str
) -> Record:
    while len(fields) > count and not fields[-1].strip():  # empty columns of a spreadsheet
        fields = fields[:-1]
    if len(fields) > count:
        remedy = "remove it from the text" if separator in _BARE else "put quotes around the text"
        mark = "a tab" if separator == "\t" else f'"{separator}"'
        return f"{len(fields)} fields, expected {count}; {mark} separates them, {remedy}"
    cells = {
        ours: fields[p[0]] if p and p[0] < len(fields) else "" for ours, p in positions.items()
    }
    return {ours: _value(ours, cell.strip(), separator) for ours, cell in cells.items()}


def _value(ours: str, cell: str, separator: str) -> str:
    """Return the value of a cell; tables with semicolons have decimal commas."""
    if separator == ";" and ours in _TIMES:
        return cell.replace(",", ".")
    return "" if cell == _NULL else cell


def _split(source: str, separator: str, first: int, folder: Path) -> Iterator[tuple[int, Fields]]:
    """Yield for each row that is not empty the number of its first line, and its fields."""
    if separator not in _BARE or _names_quoted(source, separator):
        rows = _QuotedTable(source, separator, first, folder).rows()
    else:
        lines = enumerate(source.split("\n"), first)
        rows = ((line, _split_bare(text, separator)) for line, text in lines)
    for line, fields in rows:
        if isinstance(fields, str) or any(field.strip() for field in fields):
            yield line, fields


def _names_quoted(source: str, separator: str) -> bool:
    """Whether all fields of the first line are quoted, as R writes them, so that all lines are."""
    header = source.lstrip("\n").partition("\n")[0]
    return all(re.fullmatch(r' *"[^"]*" *', name) for name in header.split(separator))


def _split_bare(line: str, separator: str) -> Fields:
    return _NUL if "\0" in line else [_unquoted(field) for field in line.split(separator)]


def _unquoted(field: str) -> str:
    """Return the text of a TSV field: quotes are text unless a quoted field doubles them."""
    if '""' in field and re.fullmatch(r'"(?:[^"]|"")*""(?:[^"]|"")*"', field):
        return field[1:-1].replace('""', '"')
    return field


_NUL = "a NUL byte; the file is damaged, or UTF-16: convert it with `iconv -f utf-16 -t utf-8`"
_STRAY = (
    'a quote (") that is not closed before the next separator or line; remove it, or put quotes '
    "around the whole text and double those in it"
)
_SWALLOWED = (
    'the quotes hold several lines that look like rows; close the quote (") that was left open, '
    "or write the text in one line"
)


class _QuotedTable:
    """Splits a CSV whose fields may be quoted.

    A quote in a quoted field is doubled (RFC 4180) or follows a backslash. If neither reading fits,
    pairs of quotes within a line are text; any other quote at the beginning is an error.
    """

    def __init__(self, source: str, separator: str, first: int, folder: Path) -> None:
        self.source, self.separator, self.line, self.folder = source, separator, first, folder
        comma = re.escape(separator)
        end = rf"[ \t]*(?={comma}|\n|\Z)"
        rest = rf'[^"\n{comma}]*'
        self.doubled = re.compile(rf' *"((?:[^"]|"")*+)"{end}')
        self.escaped = re.compile(rf' *"((?:[^"\\]|\\.|"")*+)"{end}', re.DOTALL)
        self.pairs = re.compile(rf' *(?:"[^"\n]*"{rest})++(?={comma}|\n|\Z)')
        self.bare = re.compile(rf"[^\n{comma}]*")

    def rows(self) -> Iterator[tuple[int, Fields]]:
        """Yield for each row the number of its first line, and its fields."""
        position = 0
        while position < len(self.source):
            line = self.line
            fields, position = self._row(position)
            yield line, fields

    def _row(self, position: int) -> tuple[Fields, int]:
        """Return the fields of the row at a position, and the position of the next row."""
        fields: list[str] = []
        begin, odd = position, 0
        while True:
            found = self._field(position)
            if found is None:
                return self._skip(begin, _STRAY)
            value, end = found
            if _names_audio(value, self.separator, self.folder):
                return self._skip(begin, _SWALLOWED)
            odd += self.source.count('"', position, end) % 2
            fields.append(value)
            if self.source[end : end + 1] != self.separator:
                break
            position = end + 1
        self.line += self.source.count("\n", begin, end) + 1
        if odd > 1:
            return _STRAY, end + 1
        return (_NUL if any("\0" in field for field in fields) else fields), end + 1

    def _field(self, position: int) -> tuple[str, int] | None:
        """Return the value and the end of the field at a position; None for a stray quote."""
        if not _QUOTE.match(self.source, position):
            match = self.bare.match(self.source, position)
            assert match
            return match[0], match.end()
        doubled = self.doubled.match(self.source, position)
        escaped = self.escaped.match(self.source, position)
        if doubled and (not doubled[1].endswith("\\") or not escaped):
            return doubled[1].replace('""', '"'), doubled.end()
        if escaped and not (doubled and escaped.end() != doubled.end()):
            return re.sub(r'\\(["\\])', r"\1", escaped[1]).replace('""', '"'), escaped.end()
        pairs = self.pairs.match(self.source, position)
        return (pairs[0], pairs.end()) if pairs and not escaped else None

    def _skip(self, begin: int, wrong: str) -> tuple[str, int]:
        """Skip a row with an error: the next row starts on the next line."""
        end = self.source.find("\n", begin)
        self.line += 1
        return wrong, len(self.source) if end < 0 else end + 1


def _names_audio(value: str, separator: str, folder: Path) -> bool:
    """Whether a field with line breaks contains other rows, each of which names its audio."""
    if "\n" not in value:
        return False
    pieces = {piece.strip('" ') for line in value.split("\n") for piece in line.split(separator)}
    return any(
        Path(piece).suffix.lower() in AUDIO_SUFFIXES or is_file(find_audio(folder, piece))
        for piece in pieces - {""}
    )


_GAP = re.compile(r"[\s,:]*")
_NESTED = "nested too deeply for a row; fix the line"


def _read_json(path: Path, source: str, columns: Mapping[str, str]) -> Iterator[tuple[int, Record]]:
    """Yield for each row the number of its line, and its values or its error."""
    whole = _whole(path, source) if path.suffix.lower() == ".json" else None
    if isinstance(whole, dict) and all(_position(list(whole), n, columns[n]) for n in NEEDED):
        yield 1, _parse_json(source, columns)
    elif whole is not None:
        position = _start_of_list(path, source, whole)
        line = 1 + source.count("\n", 0, position)
        for text, begin, end in _members(source, position, "]"):
            line += source.count("\n", position, begin)
            yield line, _parse_json(text, columns)
            line, position = line + source.count("\n", begin, end), end
    else:
        for line, text in enumerate(_line_feeds(source).split("\n"), 1):
            if text.strip():
                yield line, _parse_json(text, columns)


def _whole(path: Path, source: str) -> Any:
    """Return the JSON value of a source, or None if each line is a value."""
    try:
        return json.loads(source)
    except RecursionError:
        return None
    except json.JSONDecodeError as error:
        begin = source.lstrip().partition("\n")[0].rstrip()
        if begin.startswith("{") and begin.endswith("}"):
            return None
        raise InputError(f"{path}:{error.lineno}: not JSON ({error}); fix the file") from error
    except ValueError:  # a number with thousands of digits
        return None


def _start_of_list(path: Path, source: str, whole: Any) -> int:
    """Return the position after the bracket of the list, or of the only list in the object."""
    start = re.compile(r"\s*[\[{]?").match(source)
    assert start
    if isinstance(whole, list):
        return start.end()
    members = _members(source, start.end(), "}") if isinstance(whole, dict) else ()
    lists = [begin + 1 for _, begin, _ in members if source[begin] == "["]
    if len(lists) != 1:
        raise InputError(
            f"{path}:1: expected a list of objects, an object with one such list, or an object "
            f"on each line; found {'no list' if not lists else f'{len(lists)} lists'}"
        )
    return lists[0]


def _members(source: str, position: int, close: str) -> Iterator[tuple[str, int, int]]:
    """Yield the text, begin and end of each value in a list or an object of valid JSON."""
    decoder = json.JSONDecoder()
    while True:
        gap = _GAP.match(source, position)
        assert gap
        if source[gap.end()] == close:
            return
        _, position = decoder.raw_decode(source, gap.end())
        yield source[gap.end() : position], gap.end(), position


def _parse_json(text: str, columns: Mapping[str, str]) -> Record:
    try:
        record = json.loads(text, object_pairs_hook=_once)
    except RecursionError:
        return _NESTED
    except ValueError as error:
        return f"not JSON ({error}); fix the line"
    if not isinstance(record, dict):
        return f"found {text.strip()[:40]}, expected an object in braces; fix the line"
    names = list(record)
    positions = {ours: _position(names, ours, name) for ours, name in columns.items()}
    missing = [need for need in NEEDED if not positions[need]]
    if missing:
        absent = " and no ".join(columns[need] for need in missing)
        return f"no {absent}; add it, or name the key with --{missing[0]}-column"
    keys = {ours: names[found[0]] for ours, found in positions.items() if found}
    values = {ours: record[keys[ours]] if ours in keys else None for ours in columns}
    if isinstance(values["audio"], dict):  # Hugging Face: {"path": ..., "bytes": null}
        values["audio"] = values["audio"].get("path") or values["audio"]
    wrong = (_wrong_value(ours, keys.get(ours, ""), value) for ours, value in values.items())
    return next(filter(None, wrong), None) or {
        ours: "" if value is None else str(value).strip() for ours, value in values.items()
    }


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    double = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
    if double:
        raise ValueError(f'"{double[0]}" is repeated')
    return dict(pairs)


def _wrong_value(ours: str, key: str, value: Any) -> str:
    """Return an error if a value has the wrong type, or an empty text."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (value is None or isinstance(value, str) or (number and ours in NUMBERS)):
        expected = "a number or text" if ours in NUMBERS else "text in quotes"
        shown = "a list or an object" if isinstance(value, list | dict) else json.dumps(value)[:40]
        return f'"{key}" is {shown}, expected {expected}; fix the line'
    if isinstance(value, str) and any("\ud800" <= c <= "\udfff" for c in value):
        return (
            f'"{key}" has half a surrogate pair, such as \\ud83d, which is not a character; fix it'
        )
    return ""
