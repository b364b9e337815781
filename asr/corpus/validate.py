"""Find every violation of Kaldi's conventions in a data directory.

Stricter than Kaldi's validate_data_dir.sh, which exits with 0 on a malformed utt2spk and
accepts empty transcripts.
"""

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from asr.corpus.datadir import speakers_of

_STRANGE = re.compile(r"[^\S \t]|[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\ufeff]")
_RESERVED = {"<s>", "</s>", "#0"}
_SLACK_S = 0.05  # a segment may end this much after its recording: times are rounded


@dataclass(frozen=True)
class Problem:
    """One violation."""

    file: str
    line: int
    """From 1; 0 where the file as a whole is meant."""
    message: str
    """What was found, what was expected, how to mend it."""

    def __str__(self) -> str:
        return (
            f"{self.file}:{self.line}: {self.message}"
            if self.line
            else f"{self.file}: {self.message}"
        )


@dataclass(frozen=True)
class _Line:
    number: int
    value: str


_Table = dict[str, _Line]


class _Checker:
    """Gathers problems; each method checks one thing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems: list[Problem] = []
        self.tables: dict[str, _Table] = {}

    def add(self, name: str, line: int, message: str) -> None:
        self.problems.append(Problem(str(self.path / name), line, message))

    def read(self, name: str, required: bool) -> None:
        """Read a file if it is there, and check what holds for all of them."""
        file = self.path / name
        if not file.is_file():
            if required:
                self.add(name, 0, "no such file, but it is required")
            return
        data = file.read_bytes()
        if not data:
            self.add(name, 0, "the file is empty")
        elif not data.endswith(b"\n"):
            self.add(name, data.count(b"\n") + 1, "the last line does not end; add a newline")
        table: _Table = {}
        last = ""
        for number, raw in enumerate(data.split(b"\n")[: data.count(b"\n") + 1], 1):
            if not raw and number > data.count(b"\n"):
                continue
            key = self._line(name, number, raw, table)
            if key and key < last:
                self.add(
                    name,
                    number,
                    f"{key} comes after {last}; sort by bytes: LC_ALL=C sort, or `asr data fix`",
                )
            last = key or last
        self.tables[name] = table

    def _line(self, name: str, number: int, raw: bytes, table: _Table) -> str:
        """Check one line and keep it; returns its key, empty if it has none."""
        try:
            line = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            self.add(name, number, f"not UTF-8 ({error.reason}); convert the file with iconv")
            return ""
        if number == 1 and line.startswith("\ufeff"):
            self.add(name, number, "a byte order mark; save the file as UTF-8 without BOM")
            line = line[1:]
        if line.endswith("\r"):
            self.add(name, number, "a carriage return at the end; convert with `sed 's/\\r$//'`")
            line = line[:-1]
        strange = _STRANGE.search(line)
        if strange:
            found = f"U+{ord(strange[0]):04X}"
            self.add(
                name, number, f"character {found}; only space, tab and visible ones are allowed"
            )
        fields = line.split(maxsplit=1)
        if not fields:
            self.add(name, number, "an empty line; remove it")
            return ""
        key = fields[0]
        if line[0].isspace():
            self.add(name, number, "white space before the key; remove it")
        if key in table:
            self.add(name, number, f"{key} is in line {table[key].number} already; remove one")
        else:
            table[key] = _Line(number, fields[1].rstrip() if len(fields) > 1 else "")
        return key

    def each(self, name: str, check: Callable[[str, str], str]) -> None:
        """Run a check on every line of a file; it returns a message, or nothing."""
        for key, line in self.tables.get(name, {}).items():
            message = check(key, line.value)
            if message:
                self.add(name, line.number, message)

    def same_keys(self, name: str, other: str, keys: Iterable[str]) -> None:
        """The keys of a file are those of another one."""
        table, wanted = self.tables.get(name), set(keys)
        if table is None:
            return
        for key, line in table.items():
            if key not in wanted:
                self.add(
                    name, line.number, f"{key} is not in {other}; remove the line or add it there"
                )
        for key in sorted(wanted - table.keys()):
            self.add(name, 0, f"no line for {key}, which is in {other}; add it, or `asr data fix`")

    def speakers(self) -> None:
        """utt2spk is sorted by speaker too, and spk2utt says the same."""
        table = self.tables.get("utt2spk", {})
        pairs = {key: line.value for key, line in table.items()}
        last = ""
        for key, line in table.items():
            if line.value < last:
                self.add(
                    "utt2spk",
                    line.number,
                    f"{key}: speaker {line.value} comes after {last}; make the speaker a prefix of "
                    'the utterance, joined by "-" ("_" sorts after letters and digits)',
                )
            last = line.value
        derived = speakers_of(pairs)
        self.same_keys("spk2utt", "utt2spk", derived)
        self.each(
            "spk2utt",
            lambda speaker, value: (
                f"{speaker}: utterances differ from utt2spk; `asr data fix` derives it anew"
                if speaker in derived and value.split() != derived[speaker].split()
                else ""
            ),
        )

    def recordings(self) -> None:
        """Segments lie within recordings, and every recording has one."""
        segments = self.tables.get("segments")
        if segments is None:
            return
        wavs, used = self.tables.get("wav.scp", {}), set()
        durations = {k: line.value for k, line in self.tables.get("reco2dur", {}).items()}
        for name, line in segments.items():
            fields = line.value.split()
            if len(fields) != 3 or not (_is_number(fields[1]) and _is_number(fields[2])):
                message = (
                    f'{name}: found "{line.value}", expected "<recording> <begin> <end>" in seconds'
                )
                self.add("segments", line.number, message)
                continue
            recording, begin, end = fields[0], float(fields[1]), float(fields[2])
            used.add(recording)
            if not 0 <= begin < end:
                self.add(
                    "segments",
                    line.number,
                    f"{name}: {begin:g} to {end:g} s; expected 0 <= begin < end",
                )
            if wavs and recording not in wavs:
                self.add(
                    "segments", line.number, f"{name}: recording {recording} is not in wav.scp"
                )
            length = durations.get(recording, "")
            if _is_number(length) and end > float(length) + _SLACK_S:
                self.add(
                    "segments",
                    line.number,
                    f"{name}: ends at {end:g} s, {recording} has {length} s",
                )
        for recording, line in wavs.items():
            if recording not in used:
                self.add(
                    "wav.scp", line.number, f"{recording} has no segment; remove it or add one"
                )


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _positive(_key: str, value: str) -> str:
    good = _is_number(value) and float(value) > 0
    return "" if good else f'found "{value}", expected a number of seconds above 0'


def _whole(_key: str, value: str) -> str:
    good = value.isdecimal() and int(value) > 0
    return "" if good else f'found "{value}", expected a whole number above 0'


def _transcript(key: str, value: str) -> str:
    if not value:
        return f"{key}: an empty transcript; add the words or remove the utterance"
    reserved = _RESERVED.intersection(value.split())
    return f"{key}: {min(reserved)} must not be in a transcript; remove it" if reserved else ""


def _one_field(key: str, value: str) -> str:
    fields = len(value.split()) + 1
    return "" if fields == 2 else f'{fields} fields, expected "{key} <value>"; mend the line'


def _speaker(key: str, value: str) -> str:
    fields = len(value.split()) + 1
    if fields == 2:
        return ""
    remedy = "add the speaker" if fields < 2 else "remove the extra field"
    return f'{fields} fields, expected "<utt-id> <spk-id>"; {remedy}'


def _audio(key: str, value: str) -> str:
    if not value:
        return f"{key}: no path; add it"
    if value.endswith("|"):
        return ""
    if value.startswith("~"):
        return f"{key}: {value}: ~ is not expanded; write the whole path"
    if not Path(value).is_file():
        return f"{key}: {value}: no such file, seen from {Path.cwd()}; mend the path"
    return ""


def validate(
    path: str | Path, *, text: bool = True, wav: bool = True, feats: bool = False
) -> list[Problem]:
    """Check a data directory.

    Args:
        path: of the directory.
        text: whether the file text has to be there; where it is, it is checked anyway.
        wav: the same for wav.scp.
        feats: the same for feats.scp.

    Returns:
        Every violation, file by file; none for a valid directory.
    """
    path = Path(path)
    if not path.is_dir():
        return [Problem(str(path), 0, "no such folder; expected a Kaldi data directory")]
    check = _Checker(path)
    required = {"utt2spk", "spk2utt"}
    required |= {n for n, need in (("text", text), ("wav.scp", wav), ("feats.scp", feats)) if need}
    names = ["utt2spk", "spk2utt", "text", "wav.scp", "segments", "utt2dur", "reco2dur"]
    names += ["utt2num_frames", "spk2gender", "feats.scp", "cmvn.scp"]
    for name in names:
        check.read(name, name in required)
    for name, rule in (
        ("utt2spk", _speaker),
        ("text", _transcript),
        ("wav.scp", _audio),
        ("utt2dur", _positive),
        ("reco2dur", _positive),
        ("utt2num_frames", _whole),
        ("feats.scp", _one_field),
        ("cmvn.scp", _one_field),
    ):
        check.each(name, rule)
    check.each(
        "spk2gender", lambda k, v: "" if v in ("m", "f") else f'{k}: found "{v}", expected m or f'
    )
    utt2spk = check.tables.get("utt2spk", {})
    utterance_files = ["text", "segments", "utt2dur", "utt2num_frames", "feats.scp"]
    if "segments" not in check.tables:
        utterance_files.append("wav.scp")
    else:
        check.same_keys("reco2dur", "wav.scp", check.tables.get("wav.scp", {}))
    for name in utterance_files if "utt2spk" in check.tables else []:
        check.same_keys(name, "utt2spk", utt2spk)
    for name in ("spk2gender", "cmvn.scp"):
        check.same_keys(name, "utt2spk", {line.value for line in utt2spk.values()})
    check.speakers()
    check.recordings()
    return sorted(check.problems, key=lambda p: (names.index(Path(p.file).name), p.line))


def warnings(path: str | Path) -> list[str]:
    """What is allowed but rarely meant."""
    from asr.corpus.datadir import read_table

    path = Path(path)
    found = []
    speakers = set(read_table(path / "utt2spk").values())
    if len(speakers) == 1:
        found.append(f"{path}: one speaker for all utterances; speaker statistics will mix people")
    if (path / "wav.scp").is_file():
        pipes = sum(v.endswith("|") for v in read_table(path / "wav.scp").values())
        if pipes:
            found.append(f"{path}/wav.scp: {pipes} entries are commands that bash will run")
    return found
