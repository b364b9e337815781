"""Find every violation of Kaldi's conventions in a data directory.

The checks are stricter than Kaldi's validate_data_dir.sh, which exits with 0 on a malformed utt2spk
and accepts empty transcripts.
"""

import math
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import NamedTuple

from asr.audio.clip import MAX_OVERSHOOT_S, command_of, info
from asr.audio.folders import is_file, search
from asr.corpus.columns import Utterances
from asr.corpus.quick import (
    CONTROL,
    LONGEST_S,
    RESERVED,
    SPACES,
    STRAY,
    SUSPECT,
    read_blocks,
    read_columns,
)
from asr.corpus.tables import (
    Segment,
    first_word,
    is_number,
    keyed_by,
    speakers_of,
    split_line,
    split_speakers,
)
from asr.errors import InputError, counted, first_line, listed
from asr.files import is_data_directory
from asr.text.characters import (
    APOSTROPHES,
    apostrophes,
    clean,
    decomposed,
    invisible,
    name_of,
    visible,
)
from asr.text.transcripts import UTF16, decode, is_utf16

ROUNDING_S = 0.1  # the duration in a table may differ by this much from that of the audio

_REMEDIES = {
    "text": "add it, or give --no-text",
    "wav.scp": "add it, or give --no-wav",
    "feats.scp": "add it, or leave --feats out",
    "spk2utt": "`asr data fix` derives it from utt2spk",
}
_UNSEEN = re.compile(f"[{CONTROL}\u200b\ufeff]")
_STRANGE = re.compile(f"[{CONTROL}{SPACES}]")
_ARCHIVE_ENTRY = re.compile(r"\.ark:\d+$")
_PIPE = re.compile(rb"\|[ \t]*\n")
_NOT_UTF8 = "is not UTF-8"
_STRAY_BYTE = re.compile(f"[{STRAY}]")


@dataclass(frozen=True)
class Problem:
    """A violation of the conventions."""

    file: str
    line: int
    """Number of the line, from 1; 0 for the whole file."""
    message: str
    """What was found, what was expected, and the remedy."""
    fixable: bool = False
    """Whether ``asr data fix`` solves it."""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.message}"


class Line(NamedTuple):
    """Number and value of the line of a key."""

    number: int
    value: str


@dataclass(frozen=True)
class Table:
    """A file of a data directory; the first line of each key, in the order of the file."""

    file: str
    lines: dict[str, Line] = field(default_factory=dict)

    def problem(self, key: str, message: str, *, fixable: bool = False) -> Problem:
        """Return a problem in the line of a key."""
        return Problem(self.file, self.lines[key].number, f"{key}: {message}", fixable)


_Tables = Mapping[str, Table]
Rule = Callable[[str], str]


def validate(path: str | Path, **options: bool) -> list[Problem]:
    """Return all violations in a data directory, file by file: none in a valid one.

    Args:
        path: the directory.
        options: those of :func:`inspect`.
    """
    return inspect(path, **options)[0]


def inspect(
    path: str | Path,
    *,
    text: bool = True,
    wav: bool = True,
    feats: bool = False,
    audio: bool = False,
) -> tuple[list[Problem], Utterances | None]:
    """Check a data directory.

    Args:
        path: the directory.
        text: whether the file text is required; if it exists, it is checked in any case.
        wav: whether wav.scp is required, likewise.
        feats: whether feats.scp is required, likewise.
        audio: whether to open every audio file and compare its duration with the tables;
            commands in wav.scp are not run.

    Returns:
        All violations, file by file, and the utterances if the quick first check finds no other
        violations than those of the audio.

    Raises:
        InputError: the path is not a folder, or a folder of recordings.
    """
    path = Path(path)
    if not path.is_dir():
        what = "a file" if path.exists() else "no such folder"
        raise InputError(f"{path}: {what}, expected a data directory; check the path")
    if not is_data_directory(path) and search(path).audio:
        raise InputError(
            f"{path}: a folder of recordings, expected a data directory; `asr data import OUT "
            f"--folder {path}` or `--table` makes a data directory of it"
        )
    optional = {"text": text, "wav.scp": wav, "feats.scp": feats}
    required = ["utt2spk", "spk2utt", *(name for name, wanted in optional.items() if wanted)]
    found = read_columns(path, required, FILES)
    if found is not None and not audio:
        return [], found
    return _problems(path, required, audio=audio), found


def fix_remedy(path: str | Path, problems: Collection[Problem]) -> str:
    """Return the end of a message: how many problems ``asr data fix`` solves; empty if none.

    It solves none if a file is missing or cannot be read.
    """
    number = sum(problem.fixable for problem in problems)
    missing = any(not (problem.line or problem.fixable) for problem in problems)
    if missing or not number or any(_NOT_UTF8 in problem.message for problem in problems):
        return ""
    return (
        f"; `asr data fix {quote(str(path))}` fixes {'all' if number == len(problems) else number}"
    )


def _problems(path: Path, required: Collection[str], *, audio: bool) -> list[Problem]:
    problems: list[Problem] = []
    tables: dict[str, Table] = {}
    for name in FILES:
        if (path / name).exists():
            table = _read(path / name, problems)
            if table.lines:
                tables[name] = table
        elif name in required:
            message = f"no such file, but it is required; {_REMEDIES.get(name, 'add it')}"
            problems.append(Problem(str(path / name), 0, message, name == "spk2utt"))
    if "segments" in tables and "wav.scp" not in tables:
        message = "no such file, but segments needs it; add it"
        problems.append(Problem(str(path / "wav.scp"), 0, message))
    checks = (
        *(_break_rules, _audio_missing, _look_alike, _lists_differ, _speakers_unsorted),
        *(_spk2utt_differs, _segments_wrong, *([_audio_differs] if audio else [])),
    )
    for check in checks:
        problems += check(tables)
    order = {str(path / name): index for index, name in enumerate(FILES)}
    return sorted(problems, key=lambda p: (order[p.file], p.line))


def warnings(path: str | Path) -> list[str]:
    """Return warnings about what a valid directory may have but rarely should."""
    path = Path(path)
    found = []
    speakers, count = set[bytes](), 0
    for raw in _raw(path / "utt2spk"):  # sorted by speaker
        speakers.update(raw.split(maxsplit=2)[1:2], raw.rsplit(maxsplit=1)[-1:])
        count += raw.count(b"\n")
    if len(speakers) == 1 < count:
        found.append(
            f"{path}/utt2spk: one speaker for all {count} utterances; if the speakers are not "
            "known, make each utterance its own speaker"
        )
    pipes = sum(len(_PIPE.findall(raw)) for raw in _raw(path / "wav.scp"))
    if pipes:
        found.append(f"{path}/wav.scp: bash will run {counted(pipes, 'command')} with your rights")
    return [*found, *other_forms(path), *_text_warnings(path / "text")]


def _raw(file: Path) -> Iterator[bytes]:
    return read_blocks(file) if file.is_file() else iter(())


def _texts(file: Path) -> Iterator[tuple[int, str]]:
    """Yield blocks of lines that are not ASCII, and the number of lines before each."""
    before = 0
    for raw in _raw(file):
        if not raw.isascii():
            yield before, decode(raw, file)
        before += raw.count(b"\n")


def other_forms(path: str | Path) -> Iterator[str]:
    """Yield a warning for each file with letters that are not composed; they count as composed.

    The directory is valid.
    """
    for file in (Path(path) / name for name in FILES):
        found: list[tuple[int, str]] = []
        for before, text in _texts(file):
            lines = text.split("\n") if file.suffix == ".scp" or decomposed(text) else []
            if file.suffix == ".scp":  # paths may have letters in any form
                lines = [split_line(line)[0] for line in lines]
            numbered = enumerate(lines, before + 1)
            found += [(number, c) for number, line in numbered if (c := decomposed(line))]
        if found:
            number, character = found[0]
            yield (
                f"{file}:{number}: {name_of(character)}, a letter that is not composed (Unicode "
                f"NFC), in {counted(len(found), 'line')} in all; `asr data fix {path}` composes "
                "the letters"
            )


def _text_warnings(file: Path) -> Iterator[str]:
    lost, kinds = [], Counter[str]()
    for before, text in _texts(file):
        if "\ufffd" in text:
            lines = enumerate(text.split("\n"), before + 1)
            lost += [number for number, line in lines if "\ufffd" in line]
    if lost:
        yield (
            f"{file}:{lost[0]}: {name_of(chr(0xFFFD))} stands for a letter that was lost when the "
            f"text was converted, in {counted(len(lost), 'line')} in all; take the words from the "
            "original"
        )
    seen = set[str]()
    for raw in _raw(file):
        seen |= {
            c for c in APOSTROPHES if not (raw.isascii() and ord(c) > 127) and c.encode() in raw
        }
    if len(seen) > 1:
        for raw in _raw(file):
            kinds += apostrophes(decode(raw, file))
    if len(kinds) > 1:
        listed = ", ".join(f"{name_of(c)} {count} times" for c, count in kinds.most_common())
        yield (
            f"{file}: {listed}: apostrophes of several kinds are different characters; choose one, "
            "or normalise the transcripts with `asr data import --normalize librispeech`"
        )


def _read(file: Path, problems: list[Problem]) -> Table:
    """Read a file and append the problems of its lines to ``problems``."""
    table = Table(str(file))

    def add(number: int, message: str) -> None:
        problems.append(Problem(table.file, number, message, fixable=True))

    try:
        source = _decode(file)
    except InputError as error:
        problems.append(Problem(table.file, 0, str(error)))
        return table
    lines = source.removesuffix("\n").split("\n")
    if not source.endswith("\n"):
        add(len(lines), "the last line does not end in a line feed; add one")
    suspect = bool(SUSPECT.search(source.replace("\n", "")))
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
    """Return the text of a file, with surrogates for bytes that are not UTF-8."""
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
    """Yield a message for each byte and character that a line must not contain."""
    if number == 1 and line.startswith("\ufeff"):
        yield "a byte order mark at the start; save the file as UTF-8 without BOM"
        line = line[1:]
    if line.endswith("\r"):
        yield "a carriage return at the end; convert the file: sed -i 's/\\r$//'"
        line = line.rstrip("\r")
    stray = _STRAY_BYTE.search(line)
    if stray:
        byte = ord(stray[0]) - 0xDC00
        yield f"byte 0x{byte:02x} {_NOT_UTF8}; convert the file: iconv -f windows-1252 -t utf-8"
    key, value = split_line(line)
    if name.endswith(".scp"):  # paths may have spaces and letters of any kind
        odd = [*_STRANGE.findall(key), *invisible(key), *_UNSEEN.findall(value)]
    else:
        odd = [*_STRANGE.findall(line), *invisible(line)]
    for character in sorted(set(odd), key=line.index):
        remedy = "replace it with a space" if character.isspace() else "remove it"
        yield (
            f"{name_of(character)} in column {line.index(character) + 1}, expected only visible "
            f"characters, space and tab; {remedy}, or `asr data fix`"
        )


def _misplaced(line: str, key: str, last: str, seen: Mapping[str, Line]) -> Iterator[str]:
    """Yield the problems of a line's position in the file."""
    if not key:
        yield "an empty line; remove it"
        return
    if line[0] in " \t":
        yield f"white space before {key}; remove it"
    if key in seen:
        yield f"{key} is in line {seen[key].number} already; remove one of the two"
    elif key < last:
        yield f"{key} comes after {last}; sort by bytes: LC_ALL=C sort, or `asr data fix`"


def _expect(valid: Callable[[str], object], expected: str) -> Rule:
    """Return the rule that ``valid`` accepts the value; ``expected`` also names the remedy."""
    return lambda value: "" if valid(value) else f'found "{value}", expected {expected}'


def _forbid_empty(message: str) -> Rule:
    return lambda value: "" if value else message


def _speaker(value: str) -> str:
    fields = len(value.split()) + 1
    if fields == 2:
        return ""
    remedy = "add the speaker" if fields == 1 else "remove the extra field"
    return f'{counted(fields, "field")}, expected "<utt-id> <spk-id>"; {remedy}'


def _segment(value: str) -> str:
    fields = value.split()
    if len(fields) != 3 or not (is_number(fields[1]) and is_number(fields[2])):
        return f'found "{value}", expected "<rec-id> <begin> <end>" in seconds; fix the line'
    begin, end = float(fields[1]), float(fields[2])
    if 0 <= begin < LONGEST_S and (begin < end < LONGEST_S or end == -1):
        return ""
    expected = f"0 <= begin < end < {LONGEST_S:g}, or the end -1"
    return f"{begin:g} to {end:g} s, expected {expected}; fix the times"


def reserved_symbols(text: str) -> str:
    """Return a message if a transcript contains reserved symbols, else an empty text."""
    found = sorted({*RESERVED}.intersection(text.split()))
    return f"{' '.join(found)} must not be in a transcript; remove it" if found else ""


_SECONDS = _expect(
    lambda v: is_number(v) and 0 < float(v) < LONGEST_S,
    f"seconds above 0 and below {LONGEST_S:g}; fix the number",
)
_COUNT = _expect(
    lambda v: v.isascii() and v.isdecimal() and v.strip("0"),  # int() refuses 5000 digits
    "a whole number above 0; fix the number",
)
_ONE_WORD = _expect(lambda v: len(v.split()) == 1, "one word; fix the line")
_PATH = _forbid_empty("nothing after the id, expected a path; add it")

RULES: dict[str, Rule] = {
    "utt2spk": _speaker,
    "text": _forbid_empty("an empty transcript; add the words or remove the utterance"),
    "wav.scp": _PATH,
    "segments": _segment,
    "utt2dur": _SECONDS,
    "reco2dur": _SECONDS,
    "utt2num_frames": _COUNT,
    "spk2gender": _expect(lambda v: v in ("m", "f"), "m or f; fix the line"),
    "feats.scp": _PATH,
    "cmvn.scp": _PATH,
    "vad.scp": _PATH,
    "utt2uniq": _ONE_WORD,
    "utt2lang": _ONE_WORD,
}
"""For each file, the rule of a value: it returns a message, or an empty text if the value is valid.

A line that breaks its rule is malformed: ``asr data fix`` removes it.
"""

FILES = ("utt2spk", "spk2utt", *list(RULES)[1:])
"""Files in the order in which they are read and reported."""


def _break_rules(tables: _Tables) -> Iterator[Problem]:
    for name, rule in (*RULES.items(), ("text", reserved_symbols)):
        table = tables.get(name, Table(""))
        for key, line in table.lines.items():
            if message := rule(line.value):
                yield table.problem(key, message, fixable=rule is not reserved_symbols)


def _audio_paths(tables: _Tables) -> Iterator[tuple[str, str]]:
    """Yield the key and path of each line of wav.scp that is not a command."""
    for key, (_, value) in tables.get("wav.scp", Table("")).lines.items():
        if value and command_of(value) is None:
            yield key, value


def _audio_missing(tables: _Tables) -> Iterator[Problem]:
    for key, path in _audio_paths(tables):
        if path.startswith("~"):
            message = f"{path}: ~ is not expanded; write the whole path"
            yield tables["wav.scp"].problem(key, message)
        elif not is_file(path):
            yield tables["wav.scp"].problem(key, _no_such_audio(path))


def _no_such_audio(value: str) -> str:
    if os.path.isdir(value):  # noqa: PTH112  # false, not an error, for any path
        return f"{value}: a folder, expected an audio file; fix the path"
    if _ARCHIVE_ENTRY.search(value):
        return (
            f"{value}: an entry of a Kaldi archive, expected an audio file or a command; write "
            f"`wav-copy {value} - |`, with Kaldi installed"
        )
    if Path(value).is_absolute():
        return f"{value}: no such file; fix the path"
    return (
        f"{value}: no such file in {Path.cwd()}; relative paths start at the current folder: "
        "`asr data import NEW --kaldi DIR --root CORPUS` makes them absolute"
    )


def _first_lines(table: Table) -> dict[str, Line]:
    """Return the first line of each value: speakers of utt2spk, recordings of segments."""
    found: dict[str, Line] = {}
    for line in table.lines.values():
        if word := first_word(line.value):
            found.setdefault(word, line)
    return found


def _same_keys(table: Table, other: Table, keys: Mapping[str, Line]) -> Iterator[Problem]:
    """Check that the keys of a table are ``keys``, which come from lines of another table."""
    name, other_name = Path(table.file).name, Path(other.file).name
    for key in table.lines.keys() - keys.keys():
        yield table.problem(
            key, f"not in {other_name}; remove the line or add it there", fixable=True
        )
    for key in keys.keys() - table.lines.keys():
        message = f"{key}: no line in {name}; add it there, or `asr data fix`"
        yield Problem(other.file, keys[key].number, message, fixable=True)


def _look_alike(tables: _Tables) -> Iterator[Problem]:
    """Check that no two keys differ only in invisible characters or in the form of a letter."""
    for table in tables.values():
        first: dict[str, str] = {}
        for key in table.lines:
            other = first.setdefault(clean(key), key)
            if other != key:
                where = table.lines[other].number
                yield table.problem(key, f"looks like the id in line {where}; rename one of them")


def _lists_differ(tables: _Tables) -> Iterator[Problem]:
    """Check that every file lists exactly the utterances, speakers or recordings it should."""
    if "utt2spk" not in tables:
        return
    utt2spk = tables["utt2spk"]
    wanted = {
        "utterance": (utt2spk, utt2spk.lines),
        "speaker": (utt2spk, _first_lines(utt2spk)),
        "recording": (utt2spk, utt2spk.lines),
    }
    if "segments" in tables:
        wanted["recording"] = tables["segments"], _first_lines(tables["segments"])
    for name, table in tables.items():
        unit = "speaker" if name == "spk2utt" else keyed_by(name)
        if name != "utt2spk" and unit:
            yield from _same_keys(table, *wanted[unit])


def _speakers(utt2spk: Table) -> dict[str, str]:
    """Return the speaker of each utterance that has one, without superfluous fields."""
    lines = utt2spk.lines.items()
    return {key: speaker for key, line in lines if (speaker := first_word(line.value))}


def _speakers_unsorted(tables: _Tables) -> Iterator[Problem]:
    table = tables.get("utt2spk", Table(""))
    speakers = _speakers(table)
    for before, key in split_speakers(speakers):
        yield table.problem(
            key,
            f"speaker {speakers[key]} comes after {speakers[before]} of {before}; make the speaker "
            'a prefix of the utterance, joined by "-" (not by "_", which sorts after digits and '
            "capitals): `asr data import NEW --kaldi DIR` does this",
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
        message = f"{what}; `asr data fix` derives the file again"
        yield spk2utt.problem(speaker, message, fixable=True)


def _segments_wrong(tables: _Tables) -> Iterator[Problem]:
    """Check that segments end within their recordings and last as long as utt2dur says."""
    segments = _segments(tables)
    lengths = _durations(tables, "reco2dur")
    yield from _ends_outside(tables, segments, "reco2dur says that", lengths)
    utt2dur = _durations(tables, "utt2dur")
    for key, segment in segments.items():
        length = segment.end_s - segment.start_s
        if abs(length - utt2dur.get(key, length)) > MAX_OVERSHOOT_S:
            message = f"lasts {length:g} s, but utt2dur says {utt2dur[key]:g} s; fix one of them"
            yield tables["segments"].problem(key, message)


def _segments(tables: _Tables) -> dict[str, Segment]:
    lines = tables.get("segments", Table("")).lines
    return {k: Segment.parse(line.value) for k, line in lines.items() if not _segment(line.value)}


def _ends_outside(
    tables: _Tables, segments: Mapping[str, Segment], source: str, lengths: Mapping[str, float]
) -> Iterator[Problem]:
    """Check that segments do not end after their recordings, whose lengths are in seconds."""
    for key, (recording, start_s, end_s) in segments.items():
        length = lengths.get(recording, math.inf)
        if end_s > length + MAX_OVERSHOOT_S or start_s >= length:
            times = f"{start_s:g} to {end_s:g} s"
            message = f"{times}, but {source} {recording} lasts {length:g} s"
            yield tables["segments"].problem(key, f"{message}; fix the times")


def _durations(tables: _Tables, name: str) -> dict[str, float]:
    lines = tables.get(name, Table("")).lines
    return {k: float(line.value) for k, line in lines.items() if not _SECONDS(line.value)}


def _audio_differs(tables: _Tables) -> Iterator[Problem]:
    """Check that every audio file can be opened and lasts as long as the tables say."""
    lengths: dict[str, float] = {}
    for key, path in _audio_paths(tables):
        if is_file(path):
            try:
                lengths[key] = audio_duration_s(path)
            except InputError as error:
                yield tables["wav.scp"].problem(key, first_line(error))
    for name in ("reco2dur",) if "segments" in tables else ("reco2dur", "utt2dur"):
        for key, duration in _durations(tables, name).items():
            if abs(duration - lengths.get(key, duration)) > ROUNDING_S:
                message = f"{duration:g} s, but the audio lasts {lengths[key]:.3f} s; fix it"
                yield tables[name].problem(key, message)
    yield from _ends_outside(tables, _segments(tables), "the audio of", lengths)


def audio_duration_s(path: str) -> float:
    """Return the duration of an audio file in seconds.

    Raises:
        InputError: the file cannot be read, or has no samples.
    """
    duration_s = info(path).duration_s
    if duration_s == 0:
        raise InputError(
            f"{path}: a header without any samples; record it again or remove the utterance"
        )
    return duration_s
