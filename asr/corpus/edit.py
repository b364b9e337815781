"""Fix, cut and join data directories, with all tables in them."""

import random
import re
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np

from asr.corpus.datadir import DataDir, read_valid
from asr.corpus.tables import (
    STATISTICS,
    Tables,
    first_word,
    ids_of,
    keyed_by,
    restrict,
    speakers_of,
    split_line,
    split_speakers,
    table_names,
    table_text,
    write_tables,
)
from asr.corpus.validate import RULES, other_forms, validate
from asr.errors import InputError, counted
from asr.files import check_folder, write_atomically
from asr.grouping import grouped
from asr.terminal import note
from asr.text.characters import changed_characters, clean
from asr.text.transcripts import read_lines

BACKUP = ".backup"
# All others may be written by hand.
_FOUND_AGAIN = {*STATISTICS, "wav.scp", "reco2dur", "utt2dur", "utt2num_frames"}

# An utterance is kept if each of these files that exists lists it. Any other table that does not
# list all kept utterances is removed instead, because it can be computed again.
ESSENTIAL = {"utt2spk", "text", "segments", "feats.scp", "wav.scp"}

_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]")  # other than white space
_BREAKS = re.compile(r"[\t-\r\x1c-\x1f\x85]")  # control characters that are white space


def fix(path: str | Path) -> list[str]:
    """Sort, drop malformed and repeated lines, and keep the utterances that every file lists.

    Like Kaldi's fix_data_dir.sh, but every removed line is reported. The original files are kept
    in ``.backup/`` in the directory, or in ``.backup.2/`` and so on if it exists.

    Returns:
        The changes, a sentence each; empty if nothing was changed.

    Raises:
        InputError: no utterance is left, a required file is missing, or a file is not UTF-8;
            nothing is changed.
    """
    path = Path(path)
    valid = not validate(path, text=(path / "text").is_file())
    if valid and not list(other_forms(path)):
        return []
    for name in ("utt2spk", "wav.scp"):
        if not (path / name).is_file():
            raise InputError(f"{path / name}: no such file; add it, because it cannot be derived")
    done: list[str] = []
    tables = {name: _read_leniently(path / name, done) for name in table_names(path)}
    keep = _common(tables)
    if not keep:
        names = ", ".join(sorted(ESSENTIAL & tables.keys()))
        raise InputError(f"{path}: no utterance is in all of {names}; nothing was changed")
    fixed = restrict(tables, keep)
    incomplete = _incomplete(fixed)
    done += _losses(path, tables, fixed, incomplete)
    for name in incomplete:
        del fixed[name]
    changed = _changed(path, fixed)
    if not (changed or incomplete):
        return []
    backup = _back_up(path)
    for name in incomplete:
        (path / name).unlink()
    write_tables(path, fixed)
    kept = f"kept {len(keep)} of {len(tables['utt2spk'])} utterances"
    changes = f"changed {', '.join(changed)}; " if changed else ""
    lost = any((backup / name).exists() and not (path / name).exists() for name in STATISTICS)
    again = "; run `asr features` again" if lost else ""
    return [*done, f"{path}: {kept}; {changes}originals in {backup}{again}"]


def _changed(path: Path, tables: Tables) -> list[str]:
    """Return the files of a directory that tables to write will change."""
    written = {**tables, "spk2utt": speakers_of(tables["utt2spk"])}
    return [
        name
        for name, table in sorted(written.items())
        if not (path / name).is_file() or (path / name).read_bytes() != table_text(table).encode()
    ]


def _read_leniently(path: Path, done: list[str]) -> dict[str, str]:
    """Return the usable lines of a table; append a message for each dropped line to ``done``."""
    table: dict[str, str] = {}
    first: dict[str, int] = {}
    lines = read_lines(path)
    for number, line in enumerate(lines, 1):
        key, value = _fix_characters(path.name, line)
        if not key:
            continue
        wrong = RULES[path.name](value) if path.name in RULES else ""
        if key in table:
            differs = "" if value == table[key] else ", where it has another value"
            wrong = f"already in line {first[key]}{differs}"
        if wrong:
            done.append(f"{path}:{number}: {key}: line removed: {wrong.partition(';')[0]}")
        else:
            table[key], first[key] = value, number
    paths = path.name.endswith(".scp")
    note = changed_characters(split_line(line)[0] if paths else line for line in lines)
    done += [f"{path}: {note}"] if note else []
    return table


def _fix_characters(name: str, line: str) -> tuple[str, str]:
    """Return the cleaned key and value of a line; a path only loses its control characters."""
    key, value = split_line(_BREAKS.sub(" ", _CONTROL.sub("", line.lstrip("\ufeff"))))
    value = value if name.endswith(".scp") else clean(value)
    spaced = name in ("text", "segments")
    return "_".join(clean(key).split()), " ".join(value.split()) if spaced else value


def _common(tables: Tables) -> set[str]:
    """Return the utterances that every essential table lists."""
    listing = {"utt2spk", "text", "segments", "feats.scp"} & tables.keys()
    keep = set.intersection(*(set(tables[name]) for name in listing))
    segments = tables.get("segments", {})
    return {u for u in keep if first_word(segments.get(u, u)) in tables["wav.scp"]}


def _incomplete(tables: Tables) -> list[str]:
    """Return the names of the known, not essential tables that miss an id."""
    wanted = ids_of(tables, tables["utt2spk"])
    return [
        name
        for name in sorted(tables.keys() & RULES.keys() - ESSENTIAL)
        if wanted[keyed_by(name) or "utterance"] - tables[name].keys()
    ]


def _losses(path: Path, before: Tables, after: Tables, incomplete: list[str]) -> Iterator[str]:
    for name in incomplete:
        yield f"{path / name}: removed: it has no line for some {keyed_by(name)}s; create it again"
    for name in sorted(after.keys() - set(incomplete)):
        for key in sorted(before[name].keys() - after[name].keys()):
            yield f"{path / name}: {key}: line removed: another file does not list this id"


def _back_up(path: Path) -> Path:
    """Copy the tables into the first free folder, so that no backup is replaced; return it."""
    folders = (path / (BACKUP if n == 1 else f"{BACKUP}.{n}") for n in count(1))
    folder = next(each for each in folders if not each.exists())
    for name in [*table_names(path), "spk2utt", *STATISTICS]:
        if (path / name).is_file():
            with open(path / name, "rb") as original:
                write_atomically(folder / name, partial(shutil.copyfileobj, original))
    return folder


def replace_tables(path: str | Path, tables: Tables) -> None:
    """Write a directory; if it held other utterances, its files are backed up, and a note says so.

    Raises:
        InputError: see :func:`asr.corpus.tables.write_tables`.
    """
    path = Path(path)
    if others := _listed_in(path) - tables["utt2spk"].keys():
        count = counted(len(others), "other utterance")
        note(f"note: {path} held {count}; its former files are kept in {_back_up(path)}")
    elif lost := [n for n in _by_hand(path) if _loses(path / n, tables.get(n, {}))]:
        files = " and ".join(lost)
        note(f"note: {path} had another {files}; its former files are kept in {_back_up(path)}")
    write_tables(path, tables)


def _by_hand(path: Path) -> list[str]:
    """Return the tables of a directory, which need not exist, that people may have written."""
    names = table_names(path) if path.is_dir() else []
    return [name for name in names if name not in _FOUND_AGAIN and not name.endswith(".scp")]


def _loses(file: Path, table: Mapping[str, str]) -> bool:
    """Whether a file has lines that a table to write in its place does not have."""
    lines = file.read_bytes().splitlines() if file.is_file() else []
    return not set(table_text(table).encode().splitlines()).issuperset(lines)


def _listed_in(path: Path) -> set[str]:
    """Return the utterances of a directory, which need not be valid; none if it is not one."""
    files = (path / name for name in ("utt2spk", "segments", "wav.scp"))
    file = next(filter(Path.is_file, files), None)
    lines = file.read_text("utf-8", "replace").split("\n") if file else []
    return {first_word(line) for line in lines} - {""}


def subset(source: str | Path, target: str | Path, keep: Iterable[str]) -> int:
    """Write a directory with some of the utterances; return their number.

    Raises:
        InputError: an id is unknown, there is no id, or the target is the source.
    """
    check_target(source, target)
    tables, keep = read_valid(source, text=False), set(keep)
    _refuse_unknown(source, "utterance", keep - tables["utt2spk"].keys())
    if not keep:
        raise InputError(f"{source}: no utterance was chosen; {target} was not written")
    replace_tables(target, restrict(tables, keep))
    return len(keep)


def drop(path: str | Path, ids: Collection[str]) -> str:
    """Remove utterances; return a sentence that says where the original files are.

    The originals are kept in ``.backup/`` in the directory, see :func:`fix`.

    Raises:
        InputError: no utterance would be left; nothing is changed.
    """
    tables = read_valid(path, text=False)
    keep = tables["utt2spk"].keys() - set(ids)
    if not keep:
        raise InputError(f"{path}: no utterance would be left; nothing was changed")
    backup = _back_up(Path(path))
    write_tables(path, restrict(tables, keep))
    return f"{path}: {counted(len(keep), 'utterance')} left; originals in {backup}"


def check_target(source: str | Path, target: str | Path) -> None:
    """Raise InputError if a directory to write is also read, or cannot be written."""
    check_folder(target)
    if Path(source).resolve() == Path(target).resolve():
        raise InputError(f"{target}: also read from; name another directory to write")


def _refuse_unknown(where: str | Path, unit: str, ids: set[str]) -> None:
    if ids:
        count = counted(len(ids), "unknown id")
        raise InputError(f"{where}: no {unit} {min(ids)} ({count}); check the list")


def of_speakers(data: DataDir, speakers: Iterable[str]) -> list[str]:
    """Return the ids of the utterances of some speakers.

    Raises:
        InputError: a speaker is unknown.
    """
    speakers = set(speakers)
    columns = data.utterances
    _refuse_unknown(data.path, "speaker", speakers.difference(columns.speakers.names))
    return [n for n, s in zip(columns.ids, columns.speakers, strict=True) if s in speakers]


def first_of_each_speaker(data: DataDir, number: int) -> list[str]:
    """Return the ids of the first ``number`` utterances of each speaker, or of all if fewer."""
    utt2spk = dict(zip(data.utterances.ids, data.utterances.speakers, strict=True))
    return [name for names in grouped(utt2spk, utt2spk.get).values() for name in names[:number]]


def choose(data: DataDir, way: str, number: int, seed: int = 0) -> list[str]:
    """Return the sorted ids of a number of utterances.

    Args:
        data: the directory to choose from.
        way: first, last, shortest (needs durations) or random.
        number: the number of utterances.
        seed: seed of the random choice.

    Raises:
        InputError: there are fewer utterances, or their durations are not known.
    """
    ids, durations_s = data.utterances.ids, data.utterances.durations_s
    rows: Sequence[int] = range(len(ids))
    if not 1 <= number <= len(rows):
        raise InputError(f"{data.path}: {len(rows)} utterances, cannot choose {number}")
    if way == "random":
        rows = random.Random(seed).sample(rows, number)
    elif way == "shortest":
        if (unknown := np.isnan(durations_s)).any():
            name = ids[int(unknown.argmax())]
            raise InputError(
                f"{name}: its duration is not known; `asr features DIR` writes utt2dur"
            )
        rows = durations_s.argsort(kind="stable")[:number].tolist()
    else:
        rows = rows[:number] if way == "first" else rows[-number:]
    return sorted(ids[row] for row in rows)


def combine(target: str | Path, sources: Sequence[str | Path]) -> tuple[int, list[str]]:
    """Join directories.

    If only some of them have segments, the others get segments that cover whole recordings, for
    which they need utt2dur, as in Kaldi's combine_data.sh. If only some have utt2uniq, the
    utterances of the others are their own originals.

    Returns:
        The number of utterances, and the files left out because not every directory has them.

    Raises:
        InputError: two directories have the same key with different values.
    """
    for source in sources:
        check_target(source, target)
    every = [(source, read_valid(source, text=False)) for source in sources]
    if any("segments" in tables for _, tables in every):
        every = [(source, _with_segments(source, tables)) for source, tables in every]
    if any("utt2uniq" in tables for _, tables in every):
        every = [(source, _with_originals(tables)) for source, tables in every]
    common = set.intersection(*(set(tables) for _, tables in every))
    joined = {name: _join(name, every) for name in sorted(common)}
    _refuse_split_speakers(joined["utt2spk"])
    replace_tables(target, joined)
    return len(joined["utt2spk"]), sorted(set().union(*(t for _, t in every)) - common)


def _with_segments(source: str | Path, tables: Tables) -> Tables:
    """Return tables with segments; without segments, each recording becomes one."""
    if "segments" in tables:
        return tables
    durations = tables.get("utt2dur", {})
    if tables["utt2spk"].keys() - durations.keys():
        raise InputError(
            f"{source}: no segments, but another directory has segments; utt2dur is needed to "
            f"make whole recordings segments: run `asr features {source}` first"
        )
    segments = {name: f"{name} 0 {durations[name]}" for name in tables["utt2spk"]}
    return {**tables, "segments": segments, "reco2dur": tables.get("reco2dur", durations)}


def _with_originals(tables: Tables) -> Tables:
    """Return tables with utt2uniq; without one, each utterance is its own original."""
    return {"utt2uniq": {name: name for name in tables["utt2spk"]}, **tables}


def _join(name: str, every: Sequence[tuple[str | Path, Tables]]) -> dict[str, str]:
    joined: dict[str, str] = {}
    for source, tables in every:
        for key, value in tables[name].items():
            if joined.setdefault(key, value) != value:
                first = next(other for other, theirs in every if key in theirs[name])
                raise InputError(
                    f"{name}: {key} is {joined[key]!r} in {first} and {value!r} in {source}; give "
                    "one of them another id"
                )
    return joined


def _refuse_split_speakers(utt2spk: Mapping[str, str]) -> None:
    """Refuse joined speakers whose utterances interleave: those of a-b sort between those of a."""
    for before, name in split_speakers(utt2spk):
        raise InputError(
            f"joined, {name} of speaker {utt2spk[name]} would come after {before} of "
            f"{utt2spk[before]}, so utt2spk would not be sorted by speaker; rename a speaker"
        )


def split(path: str | Path, parts: int, *, by_utterance: bool = False) -> list[Path]:
    """Cut a directory into ``split<N>/<n>`` by speaker, or ``split<N>utt/<n>`` by utterance.

    Each part is a run of the sorted list, with about the same number of utterances.

    Raises:
        InputError: there are fewer speakers or utterances than parts.
    """
    path = Path(path)
    tables = read_valid(path, text=False)
    utt2spk = tables["utt2spk"]
    runs = grouped(sorted(utt2spk), str if by_utterance else utt2spk.__getitem__)
    groups = list(runs.values())
    if not 1 <= parts <= len(groups):
        kind = "utterances" if by_utterance else "speakers"
        raise InputError(f"{path}: {len(groups)} {kind}, cannot make {parts} parts of them")
    folder = path / f"split{parts}{'utt' if by_utterance else ''}"
    pieces = enumerate(_cut(groups, parts), 1)
    return [write_tables(folder / str(n), restrict(tables, piece)) for n, piece in pieces]


def _cut(groups: Sequence[Sequence[str]], parts: int) -> list[list[str]]:
    """Cut a list of groups into runs, not empty, with about the same number of names."""
    total = sum(map(len, groups))
    result: list[list[str]] = [[]]
    taken = 0
    for index, group in enumerate(groups):
        full = taken >= total * len(result) / parts
        scarce = len(groups) - index <= parts - len(result)  # each further run needs a group
        if result[-1] and (full or scarce) and len(result) < parts:
            result.append([])
        result[-1].extend(group)
        taken += len(group)
    return result
