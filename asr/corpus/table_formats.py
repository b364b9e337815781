"""Rows of tables, as spreadsheets, corpora and other toolkits write them.

A row is read as its author meant it, or it says what is wrong; two rows never become one.
"""

import json
import math
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

from asr.audio.formats import AUDIO_SUFFIXES
from asr.errors import InputError
from asr.text.characters import compose
from asr.text.names import spelled_on_disk
from asr.text.transcripts import decode

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
"""Names that others give to the columns; they count where the usual one is not there."""

NEEDED = ("audio", "text")
NUMBERS = ("id", "speaker", "start", "end", "duration")  # these may be numbers in JSON
BESIDE = ("", "clips", "wavs")  # where corpora have their audio: Common Voice, LJSpeech


@dataclass(frozen=True)
class Row:
    """One utterance to import."""

    where: str
    """File and line, for messages."""
    audio: str = ""
    text: str = ""
    id: str = ""
    speaker: str = ""
    """Empty: the utterance is its own speaker."""
    start: str = ""
    end: str = ""
    """Both or neither: seconds in the recording."""
    duration: str = ""
    """Seconds from start, or from the beginning of the recording."""
    gender: str = ""
    error: str = ""
    """Why the row cannot be read at all."""


Record = dict[str, str] | str
"""The values of a row by our names for the columns, or what is wrong with it."""


def read_rows(path: str | Path, columns: Mapping[str, str]) -> Iterator[Row]:
    """Rows of a table; a row that cannot be read has its ``error``.

    Args:
        path: ends in .csv (separated by commas, semicolons, tabs or bars), .tsv (tabs, no
            quoting), .jsonl or .json (objects one a line, a list of them, or an object with one
            such list); paths in it are relative to its folder, or to clips or wavs in there.
        columns: names of the columns; see COLUMNS. Those of ALIASES count too.

    Raises:
        InputError: the file is missing, of another kind, or lacks the columns audio and text.
    """
    path = Path(path)
    readers = {".csv": _read_csv, ".tsv": _read_csv, ".jsonl": _read_json, ".json": _read_json}
    if path.suffix.lower() not in readers:
        raise InputError(
            f"{path}: expected a table that ends in .csv, .tsv, .jsonl or .json; rename it"
        )
    try:
        source = decode(path.read_bytes(), path)
    except OSError as error:
        raise InputError(f"{path}: cannot read ({error.strerror}); check the path") from error
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
    try:
        end = round(float(start) + float(duration), 6)
    except ValueError:
        end = math.nan
    return str(end) if math.isfinite(end) else f"{start} + {duration}"


# -- Files -----------------------------------------------------------------------------------


def find_audio(folder: Path, name: str) -> str:
    """The path of an audio file that a table names, below its folder.

    The ending may be missing, the folder too where corpora have one for audio, and letters may
    be composed otherwise than in the name of the file. What is not found stays as it is.
    """
    if name.startswith("file:///"):
        name = unquote(name.removeprefix("file://"))
    paths = [str(folder / part / name) for part in BESIDE]
    if "\\" in name:
        paths.append(str(folder / name.replace("\\", "/")))
    return next(filter(None, map(_existing, paths)), str(folder / name))


def _existing(path: str) -> str:
    """A file by its path, without the ending, or with other forms of letters; empty: none."""
    if _is_file(path):
        return path
    folder, name = os.path.split(path)
    folder = spelled_on_disk(folder)
    found = _names(folder or ".").get(compose(name), "")
    return os.path.join(folder, found) if found else ""  # noqa: PTH118


def _is_file(path: str) -> bool:
    return os.path.isfile(path)  # noqa: PTH113  # false, not an error, for any path


@lru_cache(maxsize=64)
def _names(folder: str) -> dict[str, str]:
    """The files of a folder by their names in composed form, those of audio without ending too."""
    try:
        with os.scandir(folder) as entries:
            names = sorted((entry.name for entry in entries if entry.is_file()), reverse=True)
    except (OSError, ValueError):
        return {}
    audio = (Path(name) for name in names if Path(name).suffix.lower() in AUDIO_SUFFIXES)
    stems = {compose(path.stem): path.name for path in audio}
    return stems | {compose(name): name for name in names}


# -- CSV and TSV -----------------------------------------------------------------------------

_SEP = re.compile(r'"?sep=(.)"?\s*(?:\n|$)', re.IGNORECASE)
_LJSPEECH = (2, 3)  # fields of id|text|normalised
_BARE = "\t|"  # what separates fields that are not quoted, unless all names of columns are
_TIMES = ("start", "end", "duration")
_NULL = r"\N"  # MySQL's empty cell


def _read_csv(path: Path, source: str, columns: Mapping[str, str]) -> Iterator[tuple[int, Record]]:
    """Line number, and the values of a row or what is wrong with it."""
    source, first = _line_feeds(source), 1
    told = _SEP.match(source)
    if told:
        source, first = source[told.end() :], 2
    comma = told[1] if told else _separator(path, source, columns)
    rows = _split(source, comma, first, path.parent)
    line, names = next(rows, (first, []))
    if isinstance(names, str):
        raise InputError(f"{path}:{line}: {names}")
    positions = _positions(names, columns)
    if comma == "|" and len(names) in _LJSPEECH and not any(positions[need] for need in NEEDED):
        positions = {ours: [] for ours in columns} | {"audio": [0], "text": [len(names) - 1]}
        rows = chain([(line, names)], rows)
    _check_columns(f"{path}:{line}", names, positions, columns)
    for line, fields in rows:
        yield (
            line,
            fields if isinstance(fields, str) else _record(fields, len(names), positions, comma),
        )


def _line_feeds(source: str) -> str:
    """A source whose lines end in line feeds, whatever system it comes from.

    The first line tells: an old Mac writes line feeds too, but within cells alone.
    """
    source = re.sub(r"\r\r?\n", "\n", source)
    return source.replace("\r", "\n") if "\r" in source.partition("\n")[0] else source


def _separator(path: Path, source: str, columns: Mapping[str, str]) -> str:
    """What separates the columns, judged by the first line."""
    if path.suffix.lower() == ".tsv":
        return "\t"
    header = source.lstrip("\n").partition("\n")[0]
    for comma in ",;\t|":
        positions = _positions([name.strip('" ') for name in header.split(comma)], columns)
        if all(positions[need] for need in NEEDED):
            return comma
    return "|" if header.count("|") + 1 in _LJSPEECH else max(",;\t|", key=header.count)


def _positions(names: Sequence[str], columns: Mapping[str, str]) -> dict[str, list[int]]:
    """Where each column stands; once, if all is well."""
    names = [name.strip() for name in names]
    return {ours: _position(names, ours, name) for ours, name in columns.items()}


def _position(names: Sequence[str], ours: str, name: str) -> list[int]:
    """Where a column stands: by the name that the user gave, or by another usual one."""
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
        if not found and ours in NEEDED:
            raise InputError(
                f"{where}: found the columns {', '.join(names)}, expected one called "
                f'"{columns[ours]}"; name it with --{ours}-column, or add a first line of names'
            )


def _record(
    fields: list[str], count: int, positions: Mapping[str, list[int]], comma: str
) -> Record:
    while len(fields) > count and not fields[-1].strip():  # a spreadsheet's empty columns
        fields = fields[:-1]
    if len(fields) > count:
        remedy = "take it out of the text" if comma in _BARE else "put quotes around the text"
        mark = {"\t": "a tab"}.get(comma, f'"{comma}"')
        return f"{len(fields)} fields, expected {count}; {mark} separates them, {remedy}"
    return {
        ours: _value(ours, fields[position[0]].strip(), comma)
        if position and fields[position[0] :]
        else ""
        for ours, position in positions.items()
    }


def _value(ours: str, cell: str, comma: str) -> str:
    """What a cell says; semicolons separate columns where a comma is the decimal point."""
    if comma == ";" and ours in _TIMES:
        return cell.replace(",", ".")
    return "" if cell == _NULL else cell


def _split(
    source: str, comma: str, first: int, folder: Path
) -> Iterator[tuple[int, list[str] | str]]:
    """Line numbers and the fields of rows that are not empty, or what is wrong with a row."""
    if comma in _BARE and not _names_quoted(source, comma):
        rows = _split_bare(source, comma, first)
    else:
        rows = _Quoted(source, comma, first, folder).rows()
    for line, fields in rows:
        if isinstance(fields, str) or any(field.strip() for field in fields):
            yield line, fields


def _names_quoted(source: str, comma: str) -> bool:
    """Whether all fields of the first line are quoted, as R writes them: then so are the others."""
    header = source.lstrip("\n").partition("\n")[0]
    return all(re.fullmatch(r' *"[^"]*" *', name) for name in header.split(comma))


def _split_bare(source: str, comma: str, first: int) -> Iterator[tuple[int, list[str] | str]]:
    for line, text in enumerate(source.split("\n"), first):
        if "\0" in text:
            yield line, _NUL
        else:
            yield line, [_unquoted(field) for field in text.split(comma)]


def _unquoted(field: str) -> str:
    """A field of a TSV: its quotes are text, but those that were doubled with quotes around."""
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


class _Quoted:
    """Splits a CSV whose fields may have quotes around.

    Quotes inside are doubled (RFC 4180) or come after a backslash. Where neither reading fits,
    quotes in pairs within a line are text; any other quote at the beginning is an error.
    """

    def __init__(self, source: str, comma: str, first: int, folder: Path) -> None:
        self.source, self.comma, self.line, self.folder = source, comma, first, folder
        end = rf"[ \t]*(?={re.escape(comma)}|\n|\Z)"
        rest = rf'[^"\n{re.escape(comma)}]*'
        self.doubled = re.compile(rf' *"((?:[^"]|"")*+)"{end}')
        self.escaped = re.compile(rf' *"((?:[^"\\]|\\.|"")*+)"{end}', re.DOTALL)
        self.pairs = re.compile(rf' *(?:"[^"\n]*"{rest})++(?={re.escape(comma)}|\n|\Z)')
        self.bare = re.compile(rf"[^\n{re.escape(comma)}]*")

    def rows(self) -> Iterator[tuple[int, list[str] | str]]:
        """Line numbers, and the fields of a row or what is wrong with it."""
        position = 0
        while position < len(self.source):
            line = self.line
            fields, position = self._row(position)
            yield line, fields

    def _row(self, position: int) -> tuple[list[str] | str, int]:
        """The fields of the row at a position, or what is wrong with it, and the next position."""
        fields: list[str] = []
        begin, odd = position, 0
        while True:
            found = self._field(position)
            if found is None:
                return self._skip(begin, _STRAY)
            value, end = found
            if _names_audio(value, self.comma, self.folder):
                return self._skip(begin, _SWALLOWED)
            odd += self.source.count('"', position, end) % 2
            fields.append(value)
            if self.source[end : end + 1] != self.comma:
                break
            position = end + 1
        self.line += self.source.count("\n", begin, end) + 1
        if odd > 1:
            return _STRAY, end + 1
        return (_NUL if any("\0" in field for field in fields) else fields), end + 1

    def _field(self, position: int) -> tuple[str, int] | None:
        """The value of the field at a position and where it ends; None: a stray quote."""
        if not self.source.startswith('"', self._spaces(position)):
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

    def _spaces(self, position: int) -> int:
        while self.source.startswith(" ", position):
            position += 1
        return position

    def _skip(self, begin: int, wrong: str) -> tuple[str, int]:
        """Give up a row: the next one begins at the next line."""
        end = self.source.find("\n", begin)
        self.line += 1
        return wrong, len(self.source) if end < 0 else end + 1


def _names_audio(value: str, comma: str, folder: Path) -> bool:
    """Whether a field with line breaks has swallowed rows: each of them names its audio."""
    if "\n" not in value:
        return False
    pieces = {piece.strip('" ') for line in value.split("\n") for piece in line.split(comma)}
    return any(
        Path(piece).suffix.lower() in AUDIO_SUFFIXES or _is_file(find_audio(folder, piece))
        for piece in pieces - {""}
    )


# -- JSON ------------------------------------------------------------------------------------

_GAP = re.compile(r"[\s,:]*")
_NESTED = "nested too deep to be a row; fix the line"


def _read_json(path: Path, source: str, columns: Mapping[str, str]) -> Iterator[tuple[int, Record]]:
    """Line number, and the values of a row or what is wrong with it."""
    whole = _whole(path, source) if path.suffix.lower() == ".json" else None
    if isinstance(whole, dict) and all(_key(list(whole), n, columns[n]) for n in NEEDED):
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
    """The value that a source is as a whole; None: it has one in each line."""
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
    """Where the objects begin: in the list, or in the only list of the object."""
    start = re.compile(r"\s*[\[{]?").match(source)
    assert start
    if isinstance(whole, list):
        return start.end()
    lists = []
    if isinstance(whole, dict):
        inside = [begin for _, begin, _ in _members(source, start.end(), "}")]
        lists = [begin + 1 for begin in inside if source[begin] == "["]
    if len(lists) != 1:
        raise InputError(
            f"{path}:1: expected a list of objects, an object with one such list, or an object "
            f"in each line; found {'no list' if not lists else f'{len(lists)} lists'}"
        )
    return lists[0]


def _members(source: str, position: int, close: str) -> Iterator[tuple[str, int, int]]:
    """Text, begin and end of what stands in a list or an object, which is known to be JSON."""
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
    keys = {ours: _key(names, ours, name) for ours, name in columns.items()}
    missing = [need for need in NEEDED if keys[need] is None]
    if missing:
        lacks = " and no ".join(columns[need] for need in missing)
        return f"no {lacks}; add it, or name the key with --{missing[0]}-column"
    found: dict[str, Any] = {o: None if k is None else record[k] for o, k in keys.items()}
    if isinstance(found["audio"], dict):  # Hugging Face: {"path": ..., "bytes": null}
        found["audio"] = found["audio"].get("path") or found["audio"]
    wrong = [_wrong_value(ours, str(keys[ours]), value) for ours, value in found.items()]
    if any(wrong):
        return next(filter(None, wrong))
    return {ours: "" if value is None else str(value).strip() for ours, value in found.items()}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    double = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
    if double:
        raise ValueError(f'"{double[0]}" is there twice')
    return dict(pairs)


def _key(names: Sequence[str], ours: str, name: str) -> str | None:
    positions = _position(names, ours, name)
    return names[positions[0]] if positions else None


def _wrong_value(ours: str, key: str, value: Any) -> str:
    """What is wrong with a value; empty: nothing."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (value is None or isinstance(value, str) or (number and ours in NUMBERS)):
        expected = "a number or text" if ours in NUMBERS else "text in quotes"
        shown = "a list or an object" if isinstance(value, list | dict) else json.dumps(value)[:40]
        return f'"{key}" is {shown}, expected {expected}; fix the line'
    if isinstance(value, str) and any("\ud800" <= c <= "\udfff" for c in value):
        return f'"{key}" has half a surrogate pair (\\ud83d, say), which is no character; fix it'
    return ""
