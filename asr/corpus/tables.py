"""Tables of a Kaldi data directory: files of lines ``<key> <value>``, sorted by key in byte order.

Python's ``sorted`` on text agrees with ``LC_ALL=C sort`` on UTF-8.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple

from asr.audio.clip import Clip
from asr.errors import InputError
from asr.files import is_data_directory, write_text
from asr.text.transcripts import read_lines

Tables = dict[str, dict[str, str]]
"""File name to the lines of the file: key to value."""

Unit = Literal["utterance", "recording", "speaker"]

# Statistics of all utterances together, which cannot be cut or joined, and their settings.
STATISTICS = ("cmvn.ark", "features.json")

_PREFIXES: dict[str, Unit] = {"utt2": "utterance", "reco2": "recording", "spk2": "speaker"}
_OTHERS: dict[str, Unit] = {
    "text": "utterance",
    "segments": "utterance",
    "feats.scp": "utterance",
    "vad.scp": "utterance",
    "wav.scp": "recording",
    "cmvn.scp": "speaker",
}


class Segment(NamedTuple):
    """What a line of segments says of its utterance."""

    recording: str
    start_s: float
    end_s: float

    @classmethod
    def parse(cls, value: str) -> "Segment":
        """Read ``<rec-id> <begin> <end>``; raises ValueError where it is something else."""
        recording, start, end = value.split()[:3]
        return cls(recording, float(start), float(end))


def keyed_by(name: str) -> Unit | None:
    """The unit that keys the lines of a file; None if it is no table, or spk2utt, which is derived.

    Kaldi's names say it: utt2dur and utt2lang are keyed by utterance, reco2dur by recording,
    spk2gender by speaker, whatever comes after the 2.
    """
    match = re.fullmatch(r"(utt2|reco2|spk2)\w+", name)
    if match and name != "spk2utt":
        return _PREFIXES[match[1]]
    return _OTHERS.get(name)


def table_names(path: Path) -> list[str]:
    """Names of the tables in a directory, sorted, without spk2utt."""
    return sorted(p.name for p in path.iterdir() if keyed_by(p.name) and p.is_file())


def split_line(line: str) -> tuple[str, str]:
    """Key and value of a line, without the spaces and tabs around them."""
    key, _, value = line.replace("\t", " ").strip(" ").partition(" ")
    return key, value.lstrip(" ")


def first_word(value: str) -> str:
    """Return the first word of a value; of one that is all white space, an empty text."""
    return (value.split() or [""])[0]


def read_table(path: str | Path) -> dict[str, str]:
    """Read a file of ``<key> <value>`` lines.

    Raises:
        InputError: it is missing, not UTF-8, has an empty line, or a key twice.
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
    """Write a table, sorted by key, atomically."""
    return write_text(path, "".join(f"{key} {table[key]}\n" for key in sorted(table)))


def read_tables(path: str | Path) -> Tables:
    """Every table that is in a directory, but for spk2utt.

    Raises:
        InputError: a table cannot be read.
    """
    path = Path(path)
    return {name: read_table(path / name) for name in table_names(path)}


def read_clips(path: Path) -> dict[str, Clip]:
    """The audio of every utterance of a directory: its segment, or else its recording.

    A segment that ends at -1 s ends with its recording, as in Kaldi.

    Raises:
        InputError: wav.scp or segments cannot be read.
    """
    recordings, segments = read_table(path / "wav.scp"), path / "segments"
    if not segments.is_file():
        return {name: Clip.of_entry(entry) for name, entry in recordings.items()}
    clips = {}
    for number, (name, value) in enumerate(read_table(segments).items(), 1):
        try:
            segment = Segment.parse(value)
        except ValueError:
            raise InputError(
                f'{segments}:{number}: "{value}", expected "<utt-id> <rec-id> <begin> <end>" in '
                "seconds; `asr data validate` lists all such lines"
            ) from None
        if segment.recording not in recordings:
            raise InputError(
                f"{segments}:{number}: {segment.recording} is not in wav.scp; add it or remove "
                "the line"
            )
        end_s = None if segment.end_s == -1 else max(segment.end_s, 0.0)
        clips[name] = Clip.of_entry(recordings[segment.recording], segment.start_s, end_s)
    return clips


def speakers_of(utt2spk: Mapping[str, str]) -> dict[str, str]:
    """spk2utt of utt2spk: the utterances of every speaker, joined by spaces."""
    speakers: dict[str, list[str]] = {}
    for name in sorted(utt2spk):
        speakers.setdefault(utt2spk[name], []).append(name)
    return {speaker: " ".join(names) for speaker, names in speakers.items()}


def split_speakers(utt2spk: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield neighbouring utterances whose speakers are not sorted, as (before, after).

    Sorted by utterance, utt2spk has to be sorted by speaker too.
    """
    names = sorted(utt2spk)
    for before, name in pairwise(names):
        if utt2spk[name] < utt2spk[before]:
            yield before, name


def write_tables(path: str | Path, tables: Tables) -> Path:
    """Write a directory: the tables, and spk2utt derived from utt2spk.

    Other tables and statistics that lie there stay only if they belong to the very same
    contents; those of a directory that is replaced are removed.

    Raises:
        InputError: a text of something else lies there, such as that of a decoding.
    """
    path = Path(path)
    refuse_text_of_others(path, tables)
    if path.is_dir() and not _holds(path, tables):
        for name in {*table_names(path), *STATISTICS} - tables.keys():
            (path / name).unlink(missing_ok=True)
    for name, table in tables.items():
        write_table(path / name, table)
    write_table(path / "spk2utt", speakers_of(tables["utt2spk"]))
    return path


def refuse_text_of_others(path: Path, tables: Tables) -> None:
    """Raise InputError where ``tables`` would replace the text of something else."""
    text = path / "text"
    same = _holds(path, {"text": tables.get("text", {})})  # left by a command that was killed
    if text.exists() and not is_data_directory(path) and not same:
        raise InputError(
            f"{text}: stands in a folder that is no data directory, and would be replaced; "
            "name another directory to write"
        )


def _holds(path: Path, tables: Tables) -> bool:
    try:
        return all(
            (path / name).is_file() and read_table(path / name) == table
            for name, table in tables.items()
        )
    except InputError:
        return False


def restrict(tables: Tables, keep: Collection[str]) -> Tables:
    """The same tables for some of the utterances, with their recordings and speakers."""
    keep = set(keep)
    recordings = keep
    if "segments" in tables:
        recordings = {first_word(s) for name, s in tables["segments"].items() if name in keep}
    wanted = {
        "utterance": keep,
        "recording": recordings,
        "speaker": {s for name, s in tables["utt2spk"].items() if name in keep},
    }
    result: Tables = {}
    for name, table in tables.items():
        keys = wanted[keyed_by(name) or "utterance"]
        result[name] = {key: value for key, value in table.items() if key in keys}
    return result
