"""Kaldi data directories: tables of lines ``<key> <value>``, sorted by key in byte order.

Python's ``sorted`` on text agrees with ``LC_ALL=C sort`` on UTF-8. Relative paths in wav.scp
are relative to the current directory, as in Kaldi.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from asr.errors import InputError
from asr.files import write_text

# What the lines of each file are keyed by. spk2utt is derived from utt2spk.
BY_UTTERANCE = ("text", "utt2spk", "segments", "utt2dur", "utt2num_frames", "feats.scp", "utt2uniq")
BY_RECORDING = ("wav.scp", "reco2dur")  # a recording is an utterance where there are no segments
BY_SPEAKER = ("spk2gender", "cmvn.scp")

Tables = dict[str, dict[str, str]]


@dataclass(frozen=True)
class Utterance:
    """One utterance of a data directory."""

    id: str
    speaker: str
    recording: str
    wav: str
    """Right-hand side of its wav.scp line: a path, or a command that ends in ``|``."""
    start_s: float
    """Where it begins in the recording."""
    end_s: float | None
    """Where it ends; None: with the recording."""
    text: str | None
    """Transcript; None where the directory has none."""
    duration_s: float | None
    """From utt2dur or segments, if they are there."""


@dataclass(frozen=True)
class DataDir:
    """A valid data directory.

    Args:
        path: where it is.
        utterances: sorted by id.
    """

    path: Path
    utterances: tuple[Utterance, ...]

    @classmethod
    def load(cls, path: str | Path, *, text: bool = True) -> "DataDir":
        """Check a directory and read it.

        Args:
            path: of the directory.
            text: whether transcripts have to be there.

        Raises:
            InputError: something is wrong with it; the message has the first problems.
        """
        from asr.corpus.validate import validate

        path = Path(path)
        if not path.is_dir():
            raise InputError(f"{path}: no such folder, expected a Kaldi data directory")
        problems = validate(path, text=text)
        if problems:
            shown = "\n".join(f"  {problem}" for problem in problems[:5])
            raise InputError(
                f"{path}: {len(problems)} problems in this data directory:\n{shown}\n"
                f"`asr data validate {path}` lists all, `asr data fix {path}` mends most"
            )
        return cls(path, _utterances(read_tables(path)))


def _utterances(tables: Tables) -> tuple[Utterance, ...]:
    segments, texts = tables.get("segments"), tables.get("text", {})
    durations = tables.get("utt2dur", {})
    result = []
    for name, speaker in sorted(tables["utt2spk"].items()):
        recording, begin, end, length = name, 0.0, None, None
        if segments is not None:
            recording, first, last = segments[name].split()
            begin, end = float(first), float(last)
            length = end - begin
        if name in durations:
            length = float(durations[name])
        wav = tables["wav.scp"][recording]
        result.append(Utterance(name, speaker, recording, wav, begin, end, texts.get(name), length))
    return tuple(result)


def split_line(line: str) -> tuple[str, str]:
    """Key and value of a line; the value is stripped."""
    key, _, value = line.strip().replace("\t", " ").partition(" ")
    return key, value.strip()


def read_table(path: str | Path) -> dict[str, str]:
    """Read a file of ``<key> <value>`` lines.

    Raises:
        InputError: it is missing, not UTF-8, or has a key twice.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot read ({error})") from error
    table: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        key, value = split_line(line)
        if key in table:
            raise InputError(f"{path}:{number}: {key} is there already; remove one of the lines")
        table[key] = value
    return table


def write_table(path: str | Path, table: Mapping[str, str]) -> Path:
    """Write a table, sorted by key, atomically."""
    return write_text(path, "".join(f"{key} {table[key]}\n" for key in sorted(table)))


def read_tables(path: Path) -> Tables:
    """Every table of a directory that this module knows, but for spk2utt."""
    names = (*BY_UTTERANCE, *BY_RECORDING, *BY_SPEAKER)
    return {name: read_table(path / name) for name in names if (path / name).is_file()}


def speakers_of(utt2spk: Mapping[str, str]) -> dict[str, str]:
    """spk2utt of utt2spk: the utterances of every speaker, joined by spaces."""
    speakers: dict[str, list[str]] = {}
    for name in sorted(utt2spk):
        speakers.setdefault(utt2spk[name], []).append(name)
    return {speaker: " ".join(names) for speaker, names in speakers.items()}


def write_tables(path: str | Path, tables: Tables) -> Path:
    """Write a directory: the tables, and spk2utt derived from utt2spk."""
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        write_table(path / name, table)
    write_table(path / "spk2utt", speakers_of(tables["utt2spk"]))
    return path


def restrict(tables: Tables, keep: set[str]) -> Tables:
    """The same tables for some of the utterances, with their recordings and speakers."""
    speakers = {s for name, s in tables["utt2spk"].items() if name in keep}
    recordings = keep
    if "segments" in tables:
        recordings = {s.split()[0] for name, s in tables["segments"].items() if name in keep}
    wanted = {
        **dict.fromkeys(BY_UTTERANCE, keep),
        **dict.fromkeys(BY_RECORDING, recordings),
        **dict.fromkeys(BY_SPEAKER, speakers),
    }
    return {
        name: {key: value for key, value in table.items() if key in wanted[name]}
        for name, table in tables.items()
    }
