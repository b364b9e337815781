"""Text of subtitles and other transcripts of one recording, without their times.

The formats are subtitles (srt, vtt), Whisper's tsv, json and printed lines, Audacity's labels and
Praat's TextGrid. They are detected by their content, so that numbers and times are never words.
"""

import html
import json
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import dropwhile, islice, pairwise, takewhile
from pathlib import Path
from typing import Any

from asr.errors import InputError
from asr.text.transcripts import parse_trn, read_lines

_TIME = r"-?\d+(:\d+){1,3}([.,]\s?\d+)?"
_CUE = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}")
_PRINTED = re.compile(r"\s*\[\s*[\d:.]+s?\s*-{1,2}>\s*[\d:.]+s?\s*\]")  # by Whisper
_WORD_TIME = re.compile(r"<\d+:[\d:.]+>")
_TAG = re.compile(r"</?(b|i|u|c|v|s|ruby|rt|lang|font)\b[^<>]*>|<[\d:.]+>|\{\\[^{}]*\}", re.I)
_SPEAKER = re.compile(r"^\s*([-\u2013\u2014]+\s*(?!\d)|\[SPEAKER_\d+\]:?)")
_SECONDS = r"\s*-?\d+([.,]\d+)?([eE][-+]?\d+)?"
_LABEL = re.compile(rf"{_SECONDS}\t{_SECONDS}(\t|$)")
_TEXT_COLUMNS = {"text", "sentence", "transcript", "transcription"}
_OTHER_COLUMNS = {
    *("path", "audio", "audio_filepath", "file_name", "filename", "wav", "id", "utt_id", "utt-id"),
    *("utterance_id", "sentence_id", "client_id", "speaker", "start", "begin", "offset"),
    "duration",
}
_EXPECTED_JSON = (
    'expected one JSON object with "text", or with "segments" that have "text", as of a '
    "transcription; take a text file"
)
_INSPECTED = 50  # lines at the beginning, by which a format is detected
_OTHERS = {  # first lines of formats that are not supported
    "SubStation Alpha (ass, ssa)": re.compile(r"\[Script Info\]", re.I),
    "TTML or another XML": re.compile(r"<\?xml|<tt\b", re.I),
    "SubViewer (sbv)": re.compile(r"\d+:\d\d:\d\d\.\d+,\d+:\d\d:\d\d\.\d+$"),
    "LRC": re.compile(r"\[(\d+:\d\d([.:]\d+)?|(al|ar|au|by|length|offset|re|ti|ve):.*)\]", re.I),
}


def subtitle_format(lines: Sequence[str], path: Path) -> str | None:
    """Return srt, vtt, printed, tsv, json, labels or textgrid; None for other text.

    Raises:
        InputError: the file is a table, or has another format with times.
    """
    suffix = path.suffix.lower()
    filled = list(islice(filter(str.strip, lines), _INSPECTED))
    first = filled[0].strip() if filled else ""
    if suffix == ".vtt" or first.split()[:1] == ["WEBVTT"]:
        return "vtt"
    if suffix == ".srt" or any(map(_CUE.match, filled)):
        return "srt"
    if any(map(_PRINTED.match, filled)):
        return "printed"
    if suffix in (".json", ".jsonl") or re.match(r'\{\s*("|$)', first):
        return "json"
    if suffix == ".textgrid" or "ooTextFile" in first:
        return "textgrid"
    labels = [line for line in filled if not line.startswith("\\")]  # others are frequencies
    if labels and all(map(_LABEL.match, labels)):
        return "labels"
    return _table_format(first, path)


def _table_format(first: str, path: Path) -> str | None:
    """Return tsv if the header has start, end and text; None for plain text."""
    for name, pattern in _OTHERS.items():
        if pattern.match(first):
            raise InputError(
                f"{path}: looks like {name}, which is not read; convert it to srt, for example "
                f"with `ffmpeg -i {path.name} {path.stem}.srt`"
            )
    if {"start", "end", "text"} <= set(_columns(first, "\t")):
        return "tsv"
    columns = set(_columns(first, "[\t;,]"))
    if _TEXT_COLUMNS & columns and _OTHER_COLUMNS & columns:
        raise InputError(
            f'{path}:1: "{first[:60]}" is the header of a table, expected transcripts; remove it '
            "and the columns beside id and text, or make a data directory of the table with "
            f"`asr data import DIR --table {path}`"
        )
    return None


def _columns(line: str, separator: str) -> list[str]:
    return [field.strip().strip('"').lower() for field in re.split(separator, line)]


def plain_lines(path: str | Path) -> list[str]:
    """Return the lines of a plain text; those of a .trn without ids, of subtitles without times.

    Raises:
        InputError: the file cannot be read, or is not text.
    """
    lines = read_lines(path)
    if Path(path).suffix == ".trn":
        return list(parse_trn(lines, path).values())
    kind = subtitle_format(lines, Path(path))
    return lines if kind is None else subtitle_lines(lines, kind, Path(path))


def subtitle_lines(lines: Sequence[str], kind: str, path: Path) -> list[str]:
    """Return the lines of text in a file of one of the formats, without empty lines.

    Raises:
        InputError: the lines do not have that format.
    """
    texts = (" ".join(line.split()) for line in _READERS[kind](lines, path))
    return [text for text in texts if text]


def _srt(lines: Sequence[str], path: Path) -> Iterator[str]:
    """A cue may contain empty lines and ends at the number of the next one."""
    cues = _cue_lines(lines, path)
    numbered = bool(cues) and cues[0] > 0 and lines[cues[0] - 1].strip().isdigit()
    for start, after in pairwise([*cues, len(lines)]):
        cue = [line for line in lines[start + 1 : after] if line.strip()]
        apart = lines[after - 1].strip() and not lines[after - 2].strip()
        last = after == len(lines)
        if (numbered or apart) and not last and cue and cue[-1].strip().isdigit():
            cue.pop()
        yield from map(_words, cue)


def _vtt(lines: Sequence[str], path: Path) -> Iterator[str]:
    """A cue ends at an empty line, before names of cues, notes and styles.

    If words have times, as in YouTube's files, a cue begins with the last line of the one before.
    """
    rolling = any(map(_WORD_TIME.search, lines))
    last = None
    for start in _cue_lines(lines, path):
        cue = takewhile(bool if rolling else str.strip, lines[start + 1 :])
        texts = [line for line in map(_words, cue) if line.strip()]
        yield from texts[1:] if rolling and texts[:1] == [last] else texts
        last = texts[-1] if texts else last


def _printed(lines: Sequence[str], path: Path) -> Iterator[str]:
    for line in dropwhile(lambda line: not _PRINTED.match(line), lines):
        yield _PRINTED.sub("", line)


def _cue_lines(lines: Sequence[str], path: Path) -> list[int]:
    """Return the indices of the lines with times."""
    cues = [i for i, line in enumerate(lines) if _CUE.match(line)]
    if not cues and any(line.strip() and not line.startswith("WEBVTT") for line in lines):
        raise InputError(
            f"{path}: no line with times as 00:00:01,000 --> 00:00:02,000, expected subtitles; "
            "rename the file if it has another format"
        )
    return cues


def _words(line: str) -> str:
    """Return a line of a cue without tags, entities and speaker labels."""
    return _SPEAKER.sub("", html.unescape(_TAG.sub("", line)))


def _tsv(lines: Sequence[str], path: Path) -> Iterator[str]:
    rows = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    columns = _columns(rows[0][1], "\t")
    for number, line in rows[1:]:
        fields = line.split("\t")
        if len(fields) != len(columns):
            raise InputError(
                f"{path}:{number}: {len(fields)} fields, expected {len(columns)} as in the "
                "header; fix the line"
            )
        yield fields[columns.index("text")]


def _labels(lines: Sequence[str], path: Path) -> Iterator[str]:
    for line in lines:
        yield from line.split("\t", 2)[2:] if not line.startswith("\\") else ()


def _json(lines: Sequence[str], path: Path) -> Iterator[str]:
    """Yield the texts of the segments (whisper.cpp: transcription), or else of the key ``text``."""
    if any('"audio_filepath"' in line for line in lines):
        raise InputError(
            f"{path}: a manifest of utterances, expected transcripts; make a data directory of it "
            f"with `asr data import DIR --table {path}`; for a recogniser's pred_text, write lines "
            '"<utt-id> <words...>"'
        )
    try:
        value = json.loads("\n".join(lines))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: {str(error) or 'nested too deep'}, {_EXPECTED_JSON}") from error
    segments = value
    if isinstance(value, dict):
        segments = value.get("segments") or value.get("transcription")
    if segments and isinstance(segments, list) and all(map(_has_text, segments)):
        yield from (_whole(segment["text"]) for segment in segments)
    elif _has_text(value):
        yield _whole(value["text"])
    else:
        raise InputError(f"{path}: {_EXPECTED_JSON}")


def _whole(text: str) -> str:
    """Replace lone surrogates, which JSON can hold and UTF-8 cannot."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _has_text(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("text"), str)


def _textgrid(lines: Sequence[str], path: Path) -> Iterator[str]:
    """Yield the texts of the tier ``words``, or of the only tier."""
    tiers: dict[str, list[str]] = {}
    # a label may have several lines; in one line, its quotes need not be doubled
    label = r'^\s*(name|text|mark) = "((?:[^"]|"")*|.*)"\s*$'
    for found in re.finditer(label, "\n".join(lines), re.MULTILINE):
        if found[1] == "name":
            tiers[found[2].casefold()] = []
        elif tiers:
            tiers[list(tiers)[-1]].append(" ".join(found[2].replace('""', '"').split()))
    name = "words" if "words" in tiers else next(iter(tiers), "")
    if not tiers or (name != "words" and len(tiers) > 1):
        raise InputError(
            f"{path}: tiers {', '.join(tiers) or '(none)'}, expected one, or one named words, in "
            "Praat's long text format; save it in this form"
        )
    yield from tiers[name]


_READERS: dict[str, Callable[[Sequence[str], Path], Iterator[str]]] = {
    "srt": _srt,
    "vtt": _vtt,
    "printed": _printed,
    "tsv": _tsv,
    "labels": _labels,
    "json": _json,
    "textgrid": _textgrid,
}
