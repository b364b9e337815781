"""Make a data directory from a table, from a folder of wav+txt pairs, or from another one.

Paths in the result are absolute, so that it works from any folder. Ids are made of the given
ones: white space becomes ``_``, and the speaker is put in front, joined by ``-``, so that the
directory is sorted by speaker too. Two sources that would get one id are refused.
"""

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from asr.corpus.datadir import Tables, read_table, read_tables, write_tables
from asr.errors import InputError

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".sph")
SHOWN = 20


@dataclass(frozen=True)
class Row:
    """One utterance to import."""

    where: str
    """File and line, for messages."""
    audio: str
    text: str
    id: str
    speaker: str = ""
    """Empty: the utterance is its own speaker."""
    start: str = ""
    end: str = ""
    """Both or neither: seconds in the recording."""
    gender: str = ""


def safe(name: str) -> str:
    """A name without white space, fit for a key."""
    return re.sub(r"\s+", "_", name.strip())


def read_rows(path: str | Path, columns: dict[str, str]) -> Iterator[Row]:
    """Rows of a CSV, TSV or JSON-lines table.

    Args:
        path: ends in .csv, .tsv or .jsonl; paths in it are relative to its folder.
        columns: names of the columns for audio, text, speaker, id, start, end and gender.

    Raises:
        InputError: the file is missing, of another kind, or lacks the columns audio and text.
    """
    path = Path(path)
    try:
        source = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot read ({error})") from error
    for line, record in _records(path, source):
        for need in ("audio", "text"):
            if columns[need] not in record:
                raise InputError(
                    f'{path}:{line}: no column "{columns[need]}", found '
                    f"{', '.join(map(str, record))}; "
                    f"name it with --{need}-column"
                )
        values = {k: str(record.get(c) or "").strip() for k, c in columns.items()}
        audio = values.pop("audio")
        name = values.pop("id") or (
            Path(audio).stem + (f"-{values['start']}" if values["start"] else "")
        )
        yield Row(f"{path}:{line}", str(path.parent / audio) if audio else "", id=name, **values)


def _records(path: Path, source: str) -> Iterator[tuple[int, dict[str, str]]]:
    if path.suffix == ".jsonl":
        for number, line in enumerate(source.splitlines(), 1):
            if line.strip():
                try:
                    record = json.loads(line)
                except ValueError as error:
                    raise InputError(f"{path}:{number}: not JSON ({error})") from error
                if not isinstance(record, dict):
                    raise InputError(f"{path}:{number}: expected an object, found {line[:40]}")
                yield number, record
    elif path.suffix in (".csv", ".tsv"):
        delimiter = "," if path.suffix == ".csv" else "\t"
        reader = csv.DictReader(source.splitlines(), delimiter=delimiter)
        for record in reader:
            record.pop(None, None)
            yield reader.line_num, record
    else:
        raise InputError(f"{path}: expected a table that ends in .csv, .tsv or .jsonl")


def pair_rows(folder: str | Path, *, speaker_from_folder: bool) -> Iterator[Row]:
    """Audio files with a text file of the same name beside them, in a folder and below.

    Raises:
        InputError: there are none.
    """
    folder = Path(folder)
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES)
    if not found:
        raise InputError(f"{folder}: no audio file ({', '.join(AUDIO_SUFFIXES)}) in it")
    for audio in found:
        transcript = audio.with_suffix(".txt")
        text = ""
        if transcript.is_file():
            text = " ".join(transcript.read_text(encoding="utf-8-sig").split())
        speaker = audio.parent.name if speaker_from_folder else ""
        name = "-".join(audio.relative_to(folder).with_suffix("").parts)
        yield Row(str(transcript), str(audio), text, audio.stem if speaker else name, speaker)


def import_rows(
    rows: Iterable[Row], target: str | Path, normalize: Callable[[str], str]
) -> tuple[int, int]:
    """Write rows as a data directory; returns its utterances and speakers.

    Raises:
        InputError: rows are bad; the message lists them, and nothing is written.
    """
    problems: list[str] = []
    tables: Tables = {"wav.scp": {}, "text": {}, "utt2spk": {}}
    origin: dict[str, str] = {}
    for row in rows:
        speaker, name = safe(row.speaker), safe(row.id)
        utterance = name if not speaker or name.startswith(f"{speaker}-") else f"{speaker}-{name}"
        text = " ".join(normalize(row.text).split())
        problem = _problem(row, text)
        if utterance in origin:
            problem = (
                f"{row.where}: id {utterance} is that of {origin[utterance]} too; add an id column"
            )
        origin.setdefault(utterance, row.where)
        if problem:
            problems.append(problem)
            continue
        audio = str(Path(row.audio).resolve())
        tables["utt2spk"][utterance] = speaker or utterance
        tables["text"][utterance] = text
        if row.start:
            recording = safe(re.sub(r"\W+", "_", str(Path(audio).with_suffix(""))).strip("_"))
            tables.setdefault("segments", {})[utterance] = f"{recording} {row.start} {row.end}"
            tables["wav.scp"][recording] = audio
        else:
            tables["wav.scp"][utterance] = audio
        if row.gender:
            tables.setdefault("spk2gender", {})[speaker or utterance] = row.gender[0].lower()
    if "segments" in tables and len(tables["segments"]) < len(tables["utt2spk"]):
        problems.append("some rows have start and end and some have not; give all or none of them")
    _raise(problems)
    if not tables["utt2spk"]:
        raise InputError("nothing to import: no rows")
    write_tables(target, tables)
    return len(tables["utt2spk"]), len(set(tables["utt2spk"].values()))


def _problem(row: Row, text: str) -> str:
    if not row.audio or not Path(row.audio).is_file():
        return f"{row.where}: audio {row.audio or '(nothing)'}: no such file"
    if not text:
        return f"{row.where}: no transcript for {row.audio}"
    if bool(row.start) != bool(row.end):
        return f"{row.where}: start {row.start!r} and end {row.end!r}; expected both or neither"
    if row.gender and row.gender[0].lower() not in "mf":
        return f"{row.where}: gender {row.gender!r}, expected m or f"
    return ""


def _raise(problems: list[str]) -> None:
    if problems:
        rest = len(problems) - SHOWN
        more = [f"... and {rest} more"] if rest > 0 else []
        raise InputError(
            f"{len(problems)} rows cannot be imported, nothing was written:\n"
            + "\n".join(problems[:SHOWN] + more)
        )


def import_kaldi(
    source: str | Path, target: str | Path, root: str | Path, normalize: Callable[[str], str]
) -> tuple[int, int]:
    """Copy a Kaldi-like directory: tabs, any order, relative paths, ids without the speaker.

    Args:
        source: with wav.scp, text and utt2spk at least.
        target: the directory to write; returns its utterances and speakers.
        root: what relative paths in wav.scp are relative to.
        normalize: applied to transcripts.

    Raises:
        InputError: a file is missing, or audio is; the message lists what.
    """
    source, root = Path(source), Path(root)
    for need in ("wav.scp", "text", "utt2spk"):
        read_table(source / need)  # a clear error where one is missing
    tables = {
        name: {safe(key): value for key, value in table.items()}
        for name, table in read_tables(source).items()
        if name not in ("feats.scp", "cmvn.scp", "utt2uniq", "utt2num_frames")
    }
    rename = {
        name: name if name.startswith(f"{speaker}-") or name == speaker else f"{speaker}-{name}"
        for name, speaker in tables["utt2spk"].items()
    }
    recordings = {} if "segments" in tables else rename
    problems = []
    for key, value in tables["wav.scp"].items():
        if not value.endswith("|"):
            audio = (root / value).resolve()
            tables["wav.scp"][key] = str(audio)
            if not audio.is_file():
                problems.append(f"{source}/wav.scp: {key}: {audio}: no such file; see --root")
    _raise(problems)
    tables["text"] = {key: " ".join(normalize(v).split()) for key, v in tables["text"].items()}
    renamed = {}
    for name, table in tables.items():
        by = (
            recordings
            if name in ("wav.scp", "reco2dur")
            else {}
            if name == "spk2gender"
            else rename
        )
        renamed[name] = {by.get(key, key): value for key, value in table.items()}
    write_tables(target, renamed)
    return len(renamed["utt2spk"]), len(set(renamed["utt2spk"].values()))
