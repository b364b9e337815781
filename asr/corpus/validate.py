"""Find every violation of Kaldi's conventions in a data directory.

Stricter than Kaldi's validate_data_dir.sh, which exits with 0 on a malformed utt2spk and
accepts empty transcripts.
"""

import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from asr.audio.clip import command_of, info
from asr.corpus.tables import (
    Segment,
    first_word,
    keyed_by,
    read_table,
    speakers_of,
    split_line,
    split_speakers,
)
from asr.errors import InputError, first_line, listed
from asr.text.characters import apostrophes, clean, decomposed, invisible, name_of, visible
from asr.text.transcripts import UTF16, is_utf16, read_lines

# Order in which files are read and reported.
FILES = (
    *("utt2spk", "spk2utt", "text", "wav.scp", "segments", "utt2dur", "reco2dur"),
    *("utt2num_frames", "spk2gender", "feats.scp", "cmvn.scp", "vad.scp", "utt2uniq", "utt2lang"),
)

RESERVED = {"<s>", "</s>", "#0"}

OVERSHOOT_S = 0.5  # a segment may end this much after its recording (Kaldi's extract-segments)
ROUNDING_S = 0.1  # a stated duration may differ this much from the audio's

_CONTROL = "\x00-\x08\x0b-\x1f\x7f-\x9f"
_SPACES = "\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"  # all but space and tab
_STRAY = "\udc80-\udcff"  # what surrogateescape makes of bytes that are not UTF-8
_UNSEEN = re.compile(f"[{_CONTROL}\u200b\ufeff]")
_STRANGE = re.compile(f"[{_CONTROL}{_SPACES}]")
_STRAY_BYTE = re.compile(f"[{_STRAY}]")
_SUSPECT = re.compile(f"[{_CONTROL}{_SPACES}{_STRAY}]")


@dataclass(frozen=True)
class Problem:
    """One violation."""

    file: str
    line: int
    """From 1; 0 where the file as a whole is meant."""
    message: str
    """What was found, what was expected, how to fix it."""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.message}"


class Line(NamedTuple):
    """Where a key stands, and what follows it."""

    number: int
    value: str


@dataclass(frozen=True)
class Table:
    """A file of a data directory as it is on disk."""

    file: str
    lines: dict[str, Line] = field(default_factory=dict)

    def problem(self, key: str, message: str) -> Problem:
        """A problem in the line of a key."""
        return Problem(self.file, self.lines[key].number, f"{key}: {message}")

    def values(self) -> dict[str, str]:
        """Key to value."""
        return {key: line.value for key, line in self.lines.items()}


_Tables = Mapping[str, Table]
Rule = Callable[[str], str]


def validate(
    path: str | Path,
    *,
    text: bool = True,
    wav: bool = True,
    feats: bool = False,
    audio: bool = False,
) -> list[Problem]:
    """Check a data directory.

    Args:
        path: of the directory.
        text: whether the file text has to be there; where it is, it is checked anyway.
        wav: the same for wav.scp.
        feats: the same for feats.scp.
        audio: open every audio file and compare its length with what the directory says;
            commands in wav.scp are not run.

    Returns:
        Every violation, file by file; none for a valid directory.
    """
    path = Path(path)
    if not path.is_dir():
        found = "a file" if path.exists() else "no such folder"
        return [Problem(str(path), 0, f"{found}, expected a data directory; check the path")]
    required = {"utt2spk", "spk2utt"}
    required |= {n for n, need in (("text", text), ("wav.scp", wav), ("feats.scp", feats)) if need}
    problems: list[Problem] = []
    tables: dict[str, Table] = {}
    for name in FILES:
        if (path / name).exists():
            table = _read(path / name, problems)
            if table.lines:
                tables[name] = table
        elif name in required:
            problems.append(Problem(str(path / name), 0, _absent(name)))
    if "segments" in tables and "wav.scp" not in tables:
        message = "no such file, but segments needs it; add it"
        problems.append(Problem(str(path / "wav.scp"), 0, message))
    for check in (*CHECKS, _audio_differs) if audio else CHECKS:
        problems += check(tables)
    order = {str(path / name): index for index, name in enumerate(FILES)}
    return sorted(problems, key=lambda p: (order[p.file], p.line))


def warnings(path: str | Path) -> list[str]:
    """What is allowed in a valid directory but rarely meant."""
    path = Path(path)
    found = []
    utt2spk = read_table(path / "utt2spk")
    if len(utt2spk) > 1 and len(set(utt2spk.values())) == 1:
        found.append(
            f"{path}/utt2spk: one speaker for all {len(utt2spk)} utterances; if the speakers are "
            "not known, write the utterance as its own speaker"
        )
    if (path / "wav.scp").is_file():
        pipes = sum(command_of(v) is not None for v in read_table(path / "wav.scp").values())
        if pipes:
            found.append(f"{path}/wav.scp: {pipes} entries are commands, which bash will run")
    return [*found, *other_forms(path), *_lost(path), *_apostrophes_differ(path)]


def other_forms(path: str | Path) -> Iterator[str]:
    """Files with letters in decomposed or other old forms; they count as the composed ones."""
    for name in FILES:
        file = Path(path) / name
        lines = read_lines(file) if file.is_file() else []
        lines = [split_line(line)[0] for line in lines] if _is_script(name) else lines
        found = [(number, c) for number, line in enumerate(lines, 1) if (c := decomposed(line))]
        if found:
            number, character = found[0]
            yield (
                f"{file}:{number}: {name_of(character)}, a letter that is not composed (Unicode "
                f"NFC), as in {len(found)} lines in all; `asr data fix {path}` composes them"
            )


def _lost(path: Path) -> Iterator[str]:
    file = path / "text"
    lines = enumerate(read_lines(file) if file.is_file() else [], 1)
    found = [number for number, line in lines if "\ufffd" in line]
    if found:
        yield (
            f"{file}:{found[0]}: {name_of(chr(0xFFFD))} stands for a letter that was lost when the "
            f"text was converted, as in {len(found)} lines in all; take the words from the original"
        )


def _apostrophes_differ(path: Path) -> Iterator[str]:
    file = path / "text"
    found = apostrophes("\n".join(read_lines(file)) if file.is_file() else "")
    if len(found) > 1:
        kinds = ", ".join(f"{name_of(c)} {count} times" for c, count in found.most_common())
        yield (
            f"{file}: {kinds}: apostrophes of several kinds are different characters; choose one, "
            "or normalise the transcripts with `asr data import --normalize librispeech`"
        )


def _absent(name: str) -> str:
    remedies = {
        "text": "add it, or say --no-text",
        "wav.scp": "add it, or say --no-wav",
        "feats.scp": "add it, or leave --feats out",
        "spk2utt": "`asr data fix` derives it from utt2spk",
    }
    return f"no such file, but it is required; {remedies.get(name, 'add it')}"


# -- Lines: encoding, order, fields ----------------------------------------------------------


def _read(file: Path, problems: list[Problem]) -> Table:
    """Read a file and add what is wrong with its lines to ``problems``."""
    table = Table(str(file))

    def add(number: int, message: str) -> None:
        problems.append(Problem(table.file, number, message))

    try:
        source = _decode(file)
    except InputError as error:
        add(0, str(error))
        return table
    lines = source.split("\n")
    if lines[-1]:
        add(len(lines), "the last line does not end in a line feed; add one")
    else:
        lines.pop()
    suspect = bool(_SUSPECT.search(source.replace("\n", "")))
    suspect |= not source.isascii() and visible(source) != source
    last = ""
    for number, line in enumerate(lines, 1):
        if suspect:
            for message in _strange(file.name, number, line):
                add(number, message)
            line = line.lstrip("\ufeff").rstrip("\r")
        key, value = split_line(line)
        if key <= last or line[0] in " \t":
            for message in _misplaced(line, key, last, table.lines):
                add(number, message)
        if key:
            table.lines.setdefault(key, Line(number, value))
            last = key
    return table


def _decode(file: Path) -> str:
    """The text of a file, with its bytes that are not UTF-8; raises InputError with a problem."""
    try:
        blob = file.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read ({error.strerror}); expected a file of lines") from None
    if is_utf16(blob):
        raise InputError(UTF16)
    if not blob:
        raise InputError("the file is empty; expected a line for each id")
    return blob.decode("utf-8", "surrogateescape")


def _strange(name: str, number: int, line: str) -> Iterator[str]:
    """Bytes and characters that must not be in a line."""
    if number == 1 and line.startswith("\ufeff"):
        yield "a byte order mark at the start; save the file as UTF-8 without BOM"
        line = line[1:]
    if line.endswith("\r"):
        yield "a carriage return at the end; convert the file: sed -i 's/\\r$//'"
        line = line.rstrip("\r")
    stray = _STRAY_BYTE.search(line)
    if stray:
        byte = ord(stray[0]) - 0xDC00
        yield f"byte 0x{byte:02x} is not UTF-8; convert the file: iconv -f latin1 -t utf-8"
    key, value = split_line(line)
    odd = _STRANGE.findall(key) if _is_script(name) else _STRANGE.findall(line)
    odd += invisible(key if _is_script(name) else line)
    odd += _UNSEEN.findall(value) if _is_script(name) else []
    for character in sorted(set(odd), key=line.index):
        remedy = "replace it by a space" if character.isspace() else "remove it"
        yield (
            f"{name_of(character)} in column {line.index(character) + 1}, expected only visible "
            f"characters, space and tab; {remedy}, or `asr data fix`"
        )


def _is_script(name: str) -> bool:
    """Whether a file lists paths, which may have any spaces and letters in any form."""
    return name.endswith(".scp")


def _misplaced(line: str, key: str, last: str, seen: Mapping[str, Line]) -> Iterator[str]:
    """What is wrong with the place of a line among the others."""
    if not key:
        yield "an empty line; remove it"
        return
    if line[0] in " \t":
        yield f"white space before {key}; remove it"
    if key in seen:
        yield f"{key} is in line {seen[key].number} already; remove one of the two"
    elif key < last:
        yield f"{key} comes after {last}; sort by bytes: LC_ALL=C sort, or `asr data fix`"


def is_number(text: str) -> bool:
    """Whether a text is a finite number, for other programs than Python too (not ``1_0``)."""
    try:
        return math.isfinite(float(text)) and text.isascii() and "_" not in text
    except ValueError:
        return False


def _seconds(value: str) -> str:
    good = is_number(value) and float(value) > 0
    return "" if good else f'found "{value}", expected seconds above 0; fix the number'


def _whole(value: str) -> str:
    good = value.isascii() and value.isdecimal() and value.strip("0")
    return "" if good else f'found "{value}", expected a whole number above 0; fix the number'


def _one_word(value: str) -> str:
    good = len(value.split()) == 1
    return "" if good else f'found "{value}", expected one word; fix the line'


def _something(value: str) -> str:
    return "" if value else "nothing after the id, expected a path; add it"


def _speaker(value: str) -> str:
    fields = len(value.split()) + 1
    if fields == 2:
        return ""
    found = "1 field" if fields == 1 else f"{fields} fields"
    remedy = "add the speaker" if fields == 1 else "remove the extra field"
    return f'{found}, expected "<utt-id> <spk-id>"; {remedy}'


def _gender(value: str) -> str:
    return "" if value in ("m", "f") else f'found "{value}", expected m or f; fix the line'


def _words(value: str) -> str:
    return "" if value else "an empty transcript; add the words or remove the utterance"


def _segment(value: str) -> str:
    fields = value.split()
    if len(fields) != 3 or not (is_number(fields[1]) and is_number(fields[2])):
        return f'found "{value}", expected "<rec-id> <begin> <end>" in seconds; fix the line'
    begin, end = float(fields[1]), float(fields[2])
    good = 0 <= begin < end
    return "" if good else f"{begin:g} to {end:g} s, expected 0 <= begin < end; fix the times"


def reserved_symbols(text: str) -> str:
    """What is wrong with the symbols of a transcript; empty: nothing."""
    found = sorted(RESERVED.intersection(text.split()))
    return f"{' '.join(found)} must not be in a transcript; take it out" if found else ""


RULES: dict[str, Rule] = {
    "utt2spk": _speaker,
    "text": _words,
    "wav.scp": _something,
    "segments": _segment,
    "utt2dur": _seconds,
    "reco2dur": _seconds,
    "utt2num_frames": _whole,
    "spk2gender": _gender,
    "feats.scp": _something,
    "cmvn.scp": _something,
    "vad.scp": _something,
    "utt2uniq": _one_word,
    "utt2lang": _one_word,
}
"""Rules for what follows the key in each file; a rule returns what is wrong, or nothing.

A line that breaks its rule is malformed: ``asr data fix`` removes it.
"""


def _break_rules(tables: _Tables) -> Iterator[Problem]:
    rules = [*RULES.items(), ("text", reserved_symbols)]
    for name, rule in rules:
        if name in tables:
            table = tables[name]
            for key, line in table.lines.items():
                message = rule(line.value)
                if message:
                    yield table.problem(key, message)


def _audio_missing(tables: _Tables) -> Iterator[Problem]:
    table = tables.get("wav.scp", Table(""))
    for key, (_, value) in table.lines.items():
        if not value or command_of(value) is not None:
            continue
        if value.startswith("~"):
            yield table.problem(key, f"{value}: ~ is not expanded; write the whole path")
        elif not _is_file(value):
            yield table.problem(key, _no_such_audio(value))


def _is_file(path: str) -> bool:
    return os.path.isfile(path)  # noqa: PTH113  # a third of the time, for 300 000 recordings


def _no_such_audio(value: str) -> str:
    if os.path.isdir(value):  # noqa: PTH112  # false, not an error, for any path
        return f"{value}: a folder, expected an audio file; fix the path"
    if Path(value).is_absolute():
        return f"{value}: no such file; fix the path"
    return (
        f"{value}: no such file in {Path.cwd()}; relative paths start at the current folder: "
        "`asr data import NEW --kaldi DIR --root CORPUS` makes them absolute"
    )


# -- Files that have to agree ----------------------------------------------------------------


def _first_lines(table: Table) -> dict[str, Line]:
    """The first line with each value: speakers of utt2spk, recordings of segments."""
    found: dict[str, Line] = {}
    for line in table.lines.values():
        words = line.value.split()
        if words:
            found.setdefault(words[0], line)
    return found


def _same_keys(table: Table, other: Table, keys: Mapping[str, Line]) -> Iterator[Problem]:
    """The keys of a table are ``keys``, which come from lines of another one."""
    name, other_name = Path(table.file).name, Path(other.file).name
    for key in table.lines.keys() - keys.keys():
        yield table.problem(key, f"not in {other_name}; remove the line or add it there")
    for key in keys.keys() - table.lines.keys():
        yield Problem(
            other.file,
            keys[key].number,
            f"{key}: no line in {name}; add it there, or `asr data fix`",
        )


def _look_alike(tables: _Tables) -> Iterator[Problem]:
    """No two keys differ only in invisible characters or in the form of a letter."""
    for table in tables.values():
        first: dict[str, str] = {}
        for key in table.lines:
            other = first.setdefault(clean(key), key)
            if other != key:
                where = table.lines[other].number
                yield table.problem(key, f"looks like the id in line {where}; rename one of them")


def _lists_differ(tables: _Tables) -> Iterator[Problem]:
    """Every file lists the utterances, speakers or recordings that it has to."""
    if "utt2spk" not in tables:
        return
    utt2spk = tables["utt2spk"]
    recordings, names = utt2spk, utt2spk.lines
    if "segments" in tables:
        recordings, names = tables["segments"], _first_lines(tables["segments"])
    wanted = {
        "utterance": (utt2spk, utt2spk.lines),
        "speaker": (utt2spk, _first_lines(utt2spk)),
        "recording": (recordings, names),
    }
    for name, table in tables.items():
        unit = "speaker" if name == "spk2utt" else keyed_by(name)
        if name != "utt2spk" and unit:
            yield from _same_keys(table, *wanted[unit])


def _speakers(utt2spk: Table) -> dict[str, str]:
    """Speaker of every utterance that has one, without the superfluous fields."""
    found = {key: first_word(line.value) for key, line in utt2spk.lines.items()}
    return {key: speaker for key, speaker in found.items() if speaker}


def _speakers_unsorted(tables: _Tables) -> Iterator[Problem]:
    table = tables.get("utt2spk", Table(""))
    speakers = _speakers(table)
    for before, key in split_speakers(speakers):
        yield table.problem(
            key,
            f"speaker {speakers[key]} comes after {speakers[before]} of {before}; make the speaker "
            'a prefix of the utterance, joined by "-" (not by "_", which sorts after digits and '
            "capitals): `asr data import NEW --kaldi DIR` does it",
        )


def _spk2utt_differs(tables: _Tables) -> Iterator[Problem]:
    if "utt2spk" not in tables or "spk2utt" not in tables:
        return
    derived = speakers_of(_speakers(tables["utt2spk"]))
    spk2utt = tables["spk2utt"]
    for speaker in derived.keys() & spk2utt.lines.keys():
        found, wanted = spk2utt.lines[speaker].value.split(), derived[speaker].split()
        if found == wanted:
            continue
        odd = sorted(set(found) ^ set(wanted))
        what = f"not the utterances of utt2spk ({listed(odd)})" if odd else "utterances not sorted"
        yield spk2utt.problem(speaker, f"{what}; `asr data fix` derives the file anew")


def _segments_wrong(tables: _Tables) -> Iterator[Problem]:
    """Segments end within their recordings, and are as long as utt2dur says."""
    yield from _ends_outside(tables, "reco2dur says that", _durations(tables, "reco2dur"))
    utt2dur = _durations(tables, "utt2dur")
    for key, segment in _segments(tables):
        length = segment.end_s - segment.start_s
        if abs(length - utt2dur.get(key, length)) > OVERSHOOT_S:
            message = f"lasts {length:g} s, but utt2dur says {utt2dur[key]:g} s; fix one of them"
            yield tables["segments"].problem(key, message)


def _segments(tables: _Tables) -> Iterator[tuple[str, Segment]]:
    """The well-formed lines of segments."""
    for key, line in tables.get("segments", Table("")).lines.items():
        if not _segment(line.value):
            yield key, Segment.parse(line.value)


def _ends_outside(tables: _Tables, whence: str, lengths: Mapping[str, float]) -> Iterator[Problem]:
    """Segments that end after their recordings, whose lengths in seconds are given."""
    for key, (recording, _, end_s) in _segments(tables):
        if end_s > lengths.get(recording, math.inf) + OVERSHOOT_S:
            yield tables["segments"].problem(
                key,
                f"ends at {end_s} s, but {whence} {recording} lasts {lengths[recording]:g} s; "
                "fix the times",
            )


def _durations(tables: _Tables, name: str) -> dict[str, float]:
    values = tables[name].values() if name in tables else {}
    return {key: float(value) for key, value in values.items() if not _seconds(value)}


# -- Audio -----------------------------------------------------------------------------------


def _audio_differs(tables: _Tables) -> Iterator[Problem]:
    """Every audio file opens, and is as long as the tables say."""
    wavs = tables.get("wav.scp", Table(""))
    lengths: dict[str, float] = {}
    for key, (_, value) in wavs.lines.items():
        if value and command_of(value) is None and _is_file(value):
            problem = _open(value, key, lengths)
            if problem:
                yield wavs.problem(key, problem)
    for name in ("reco2dur",) if "segments" in tables else ("reco2dur", "utt2dur"):
        for key, duration in _durations(tables, name).items():
            if abs(duration - lengths.get(key, duration)) > ROUNDING_S:
                yield tables[name].problem(
                    key, f"{duration:g} s, but the audio lasts {lengths[key]:.3f} s; fix it"
                )
    yield from _ends_outside(tables, "the audio of", lengths)


def _open(path: str, key: str, lengths: dict[str, float]) -> str:
    """Note the length of an audio file; returns why it cannot be read, or nothing."""
    try:
        length = info(path).duration_s
    except InputError as error:
        return first_line(error)
    if length == 0:
        return f"{path}: a header without any samples; record it again or remove the utterance"
    lengths[key] = length
    return ""


CHECKS: tuple[Callable[[_Tables], Iterator[Problem]], ...] = (
    *(_break_rules, _audio_missing, _look_alike, _lists_differ, _speakers_unsorted),
    *(_spk2utt_differs, _segments_wrong),
)
"""What is checked in the tables of every directory."""
