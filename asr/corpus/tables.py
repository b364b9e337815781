"""Tables of a Kaldi data directory: files of lines ``<key> <value>``, sorted by key in byte order.

Python's ``sorted`` on text agrees with ``LC_ALL=C sort`` on UTF-8.
"""

import math
import re
from collections.abc import Collection, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple

from asr.audio.clip import Clip
from asr.errors import InputError
from asr.files import detach, is_data_directory, write_text
from asr.grouping import grouped
from asr.text.transcripts import read_lines

Tables = dict[str, dict[str, str]]
"""For each file name, the values of its lines by key."""

Unit = Literal["utterance", "recording", "speaker"]

# The CMVN statistics of the speakers, which cannot be cut or joined, and their settings.
STATISTICS = ("cmvn.ark", "features.json")
_AUDIO = {"utt2spk", "wav.scp", "segments"}  # what statistics depend on

_UNITS: dict[str, Unit] = {
    **dict.fromkeys(("utt2*", "text", "segments", "feats.scp", "vad.scp"), "utterance"),
    **dict.fromkeys(("reco2*", "wav.scp"), "recording"),
    **dict.fromkeys(("spk2*", "cmvn.scp"), "speaker"),
}


class Segment(NamedTuple):
    """The value of a line of segments: the part of a recording that an utterance occupies."""

    recording: str
    start_s: float
    end_s: float
    """NaN, which is -1 in the file as in Kaldi, means the end of the recording."""

    @classmethod
    def parse(cls, value: str) -> "Segment":
        """Parse ``<rec-id> <begin> <end>``; raise ValueError if the value has another form."""
        recording, start, end = value.split()
        if not (is_number(start) and is_number(end)):
            raise ValueError(f"{start} and {end}")
        return cls(recording, float(start), math.nan if float(end) == -1 else float(end))


def is_number(text: str) -> bool:
    """Whether a text is a finite number for any program; Python alone accepts ``1_0``."""
    try:
        return math.isfinite(float(text)) and text.isascii() and "_" not in text
    except ValueError:
        return False


def keyed_by(name: str) -> Unit | None:
    """Return the unit by which a file is keyed, or None if the file is not a table.

    Files such as utt2dur, reco2dur and spk2gender are keyed by what their name says before the 2.
    spk2utt does not count as a table, because it is derived from utt2spk.
    """
    if name == "spk2utt":
        return None
    match = re.fullmatch(r"(utt2|reco2|spk2)\w+", name)
    return _UNITS.get(f"{match[1]}*" if match else name)


def table_names(path: Path) -> list[str]:
    """Return the sorted names of the tables in a directory, without spk2utt."""
    return sorted(p.name for p in path.iterdir() if keyed_by(p.name) and p.is_file())


def split_line(line: str) -> tuple[str, str]:
    """Return the key and the value of a line, without the spaces and tabs around them."""
    key, _, value = line.replace("\t", " ").strip(" ").partition(" ")
    return key, value.lstrip(" ")


def first_word(value: str) -> str:
    """Return the first word of a value, or an empty text if there is no word."""
    return (value.split() or [""])[0]


def read_table(path: str | Path) -> dict[str, str]:
    """Read a file of ``<key> <value>`` lines.

    Raises:
        InputError: the file is missing or not UTF-8, a line is empty, or a key is repeated.
    """
    table: dict[str, str] = {}
    for number, line in enumerate(read_lines(path), 1):
        key, value = split_line(line)
        if not key:
            raise InputError(f'{path}:{number}: empty line, expected "<id> <value>"; remove it')
        if key in table:
            raise InputError(f"{path}:{number}: {key} is there already; remove one of the lines")
        table[key] = value
    return table


def write_table(path: str | Path, table: Mapping[str, str]) -> Path:
    """Write a table, sorted by key, atomically; a link is replaced, not the file that it names."""
    detach(Path(path))
    return write_text(path, table_text(table))


def table_text(table: Mapping[str, str]) -> str:
    """Return the lines of a table, sorted by key."""
    return "".join(f"{key} {table[key]}\n" for key in sorted(table))


def read_tables(path: str | Path) -> Tables:
    """Read all tables of a directory except spk2utt.

    Raises:
        InputError: a table cannot be read.
    """
    path = Path(path)
    if not path.is_dir():
        raise InputError(f"{path}: no such folder, expected a data directory; check the path")
    return {name: read_table(path / name) for name in table_names(path)}


def read_clips(path: Path) -> dict[str, Clip]:
    """Return the audio of each utterance of a directory: its segment, or its recording.

    A segment whose end is -1 s ends with its recording, as in Kaldi.

    Raises:
        InputError: wav.scp or segments cannot be read.
    """
    recordings, segments = read_table(path / "wav.scp"), path / "segments"
    if not segments.is_file():
        return {name: Clip.of_entry(entry) for name, entry in recordings.items()}
    clips = {}
    for number, (name, value) in enumerate(read_table(segments).items(), 1):
        where = f"{segments}:{number}"
        try:
            recording, start_s, end_s = Segment.parse(value)
        except ValueError:
            raise InputError(
                f'{where}: "{value}", expected "<utt-id> <rec-id> <begin> <end>" in seconds; '
                "`asr data validate` lists all such lines"
            ) from None
        if recording not in recordings:
            raise InputError(f"{where}: {recording} is not in wav.scp; add it or remove the line")
        end = None if math.isnan(end_s) else max(end_s, 0.0)
        clips[name] = Clip.of_entry(recordings[recording], start_s, end)
    return clips


def speakers_of(utt2spk: Mapping[str, str]) -> dict[str, str]:
    """Derive spk2utt from utt2spk: the utterances of each speaker, joined by spaces."""
    speakers = grouped(sorted(utt2spk), utt2spk.__getitem__)
    return {speaker: " ".join(names) for speaker, names in speakers.items()}


def split_speakers(utt2spk: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield neighbours in utt2spk, sorted by utterance, whose speakers are not sorted."""
    for before, name in pairwise(sorted(utt2spk)):
        if utt2spk[name] < utt2spk[before]:
            yield before, name


def write_tables(path: str | Path, tables: Tables) -> Path:
    """Write a directory: the tables, and spk2utt derived from utt2spk.

    Other tables in the directory are kept only if the tables to write are already there, unchanged,
    and statistics only if those of the audio are; those of replaced contents are removed.

    Raises:
        InputError: the directory holds a text of another kind, such as that of a decoding.
    """
    path = Path(path)
    refuse_text_of_others(path, tables)
    if path.is_dir() and not _holds(path, tables):
        audio = {name: tables[name] for name in _AUDIO if name in tables}
        same = _holds(path, audio) and not (_AUDIO & {*table_names(path)}) - tables.keys()
        gone = {*table_names(path)} - tables.keys() | (set() if same else {*STATISTICS})
        for name in gone:
            (path / name).unlink(missing_ok=True)
    for name, table in tables.items():
        write_table(path / name, table)
    write_table(path / "spk2utt", speakers_of(tables["utt2spk"]))
    return path


def refuse_text_of_others(path: Path, tables: Tables) -> None:
    """Raise InputError if ``tables`` would replace a text that is not of a data directory."""
    text = path / "text"
    same = _holds(path, {"text": tables.get("text", {})})  # left behind by a killed command
    if text.exists() and not is_data_directory(path) and not same:
        raise InputError(
            f"{text}: would be replaced, but its folder is not a data directory; name another "
            "directory to write"
        )


def _holds(path: Path, tables: Tables) -> bool:
    try:
        return all(
            (path / name).is_file() and read_table(path / name) == table
            for name, table in tables.items()
        )
    except InputError:
        return False


def ids_of(tables: Tables, utterances: Collection[str]) -> dict[Unit, set[str]]:
    """Return the ids of some utterances, of their recordings and of their speakers."""
    keep, utt2spk = set(utterances), tables["utt2spk"]
    segments = tables.get("segments", {name: name for name in keep})
    return {
        "utterance": keep,
        "recording": {first_word(segments[name]) for name in keep & segments.keys()},
        "speaker": {utt2spk[name] for name in keep & utt2spk.keys()},
    }


def restrict(tables: Tables, utterances: Collection[str]) -> Tables:
    """Return the tables of some of the utterances, with their recordings and speakers."""
    wanted = ids_of(tables, utterances)
    result: Tables = {}
    for name, table in tables.items():
        keys = wanted[keyed_by(name) or "utterance"]
        result[name] = {key: value for key, value in table.items() if key in keys}
    return result
