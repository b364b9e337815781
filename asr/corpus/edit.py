"""Mend, cut and join data directories."""

import random
import shutil
from collections.abc import Sequence
from pathlib import Path

from asr.corpus.datadir import (
    BY_RECORDING,
    BY_SPEAKER,
    BY_UTTERANCE,
    DataDir,
    Tables,
    read_tables,
    restrict,
    split_line,
    write_tables,
)
from asr.corpus.validate import validate
from asr.errors import InputError

BACKUP = ".backup"


def fix(path: str | Path) -> list[str]:
    """Sort, drop broken lines and doubles, keep the utterances that every file has.

    The files as they were go to ``.backup/`` in the directory.

    Returns:
        What was done, a sentence each; nothing where nothing was wrong.

    Raises:
        InputError: no utterance is left, or a needed file is missing; nothing is changed.
    """
    path = Path(path)
    if not validate(path, text=(path / "text").is_file()):
        return []
    names = [n for n in (*BY_UTTERANCE, *BY_RECORDING, *BY_SPEAKER) if (path / n).is_file()]
    for name in ("utt2spk", "wav.scp"):
        if name not in names:
            raise InputError(f"{path / name}: no such file; it cannot be made from the others")
    done: list[str] = []
    tables = {name: _read_leniently(path / name, done) for name in names}
    keep = _common(tables)
    if not keep:
        raise InputError(
            f"{path}: no utterance is in all of {', '.join(names)}; nothing was changed"
        )
    fixed = restrict(tables, keep)
    for name, table in tables.items():
        lost = len(table) - len(fixed[name])
        if lost:
            done.append(f"{path / name}: {lost} lines without a partner in the other files removed")
    backup = path / BACKUP
    backup.mkdir(exist_ok=True)
    for name in [*names, "spk2utt"]:
        if (path / name).is_file():
            shutil.copy2(path / name, backup / name)
    write_tables(path, fixed)
    return [*done, f"{path}: sorted; spk2utt derived from utt2spk; originals in {backup}"]


def _read_leniently(path: Path, done: list[str]) -> dict[str, str]:
    """The usable lines of a table; what was dropped is added to ``done``."""
    table: dict[str, str] = {}
    lines = path.read_bytes().decode("utf-8-sig", errors="replace").replace("\r", "").split("\n")
    for number, line in enumerate(lines, 1):
        key, value = split_line("".join(c if c.isprintable() else " " for c in line))
        if not key:
            continue
        wrong = ""
        if key in table:
            wrong = f"{key} was there already"
        elif not value:
            wrong = f"{key} has no value"
        elif path.name == "utt2spk" and len(value.split()) != 1:
            wrong = f"{key} has more than one speaker"
        elif path.name == "segments" and len(value.split()) != 3:
            wrong = f"{key} is not a segment"
        if wrong:
            done.append(f"{path}:{number}: {wrong}; line removed")
        else:
            table[key] = value
    return table


def _common(tables: Tables) -> set[str]:
    """Utterances that every table has a line for."""
    keep = set(tables["utt2spk"])
    for name in BY_UTTERANCE:
        if name in tables and name != "utt2uniq":
            keep &= set(tables[name])
    if "segments" in tables:
        recordings = set(tables["wav.scp"])
        return {u for u in keep if tables["segments"][u].split()[0] in recordings}
    return keep & set(tables["wav.scp"])


def subset(source: str | Path, target: str | Path, keep: Sequence[str]) -> int:
    """Write a directory with some of the utterances; returns how many.

    Raises:
        InputError: an id is unknown, or none is left.
    """
    tables = read_tables(Path(source))
    unknown = set(keep) - set(tables["utt2spk"])
    if unknown:
        raise InputError(f"{source}: no utterance {min(unknown)} ({len(unknown)} unknown ids)")
    if not keep:
        raise InputError(f"{source}: nothing is left; {target} was not written")
    write_tables(target, restrict(tables, set(keep)))
    return len(set(keep))


def choose(
    source: str | Path,
    *,
    utterances: Sequence[str] = (),
    speakers: Sequence[str] = (),
    first: int = 0,
    last: int = 0,
    shortest: int = 0,
    drawn: int = 0,
    per_speaker: int = 0,
    seed: int = 0,
) -> list[str]:
    """Ids of the utterances that one of the ways of choosing gives.

    Args:
        source: a valid data directory.
        utterances: these.
        speakers: all of theirs.
        first: the first so many; ``last`` and ``shortest`` (needs utt2dur) likewise.
        drawn: so many at random.
        per_speaker: the first so many of every speaker.
        seed: of the draw.
    """
    data = DataDir.load(source, text=False).utterances
    ids = [u.id for u in data]
    if utterances:
        return list(utterances)
    if speakers:
        unknown = set(speakers) - {u.speaker for u in data}
        if unknown:
            raise InputError(f"{source}: no speaker {min(unknown)} ({len(unknown)} unknown)")
        return [u.id for u in data if u.speaker in set(speakers)]
    if shortest:
        if any(u.duration_s is None for u in data):
            raise InputError(f"{source}: no utt2dur; run `asr features {source}` first")
        return [u.id for u in sorted(data, key=lambda u: u.duration_s or 0.0)[:shortest]]
    if drawn:
        return random.Random(seed).sample(ids, min(drawn, len(ids)))
    if per_speaker:
        count: dict[str, int] = {}
        chosen = []
        for u in data:
            count[u.speaker] = count.get(u.speaker, 0) + 1
            if count[u.speaker] <= per_speaker:
                chosen.append(u.id)
        return chosen
    return ids[:first] if first else ids[-last:] if last else ids


def combine(target: str | Path, sources: Sequence[str | Path]) -> int:
    """Join directories; files that only some of them have are left out. Returns the utterances.

    Raises:
        InputError: two directories have the same key with different values.
    """
    every = [(source, read_tables(Path(source))) for source in sources]
    names = set.intersection(*(set(tables) for _, tables in every))
    if any("segments" in tables for _, tables in every) and "segments" not in names:
        raise InputError(
            "some of these directories have segments and some have not; give the others segments "
            "that cover whole recordings first"
        )
    joined: Tables = {name: {} for name in names}
    origin: dict[tuple[str, str], str | Path] = {}
    for source, tables in every:
        for name in names:
            for key, value in tables[name].items():
                known = joined[name].setdefault(key, value)
                first = origin.setdefault((name, key), source)
                if known != value:
                    raise InputError(
                        f"{name}: {key} is {known!r} in {first} and {value!r} in {source}; "
                        "give one of them another id"
                    )
    write_tables(target, joined)
    return len(joined["utt2spk"])


def split(path: str | Path, parts: int, *, by_utterance: bool = False) -> list[Path]:
    """Cut a directory into ``split<N>/<n>`` by speaker, or ``split<N>utt/<n>`` by utterance.

    Parts are runs of the sorted list with about the same number of utterances.

    Raises:
        InputError: there are fewer speakers or utterances than parts.
    """
    path = Path(path)
    tables = read_tables(path)
    units: dict[str, list[str]] = {}
    for name in sorted(tables["utt2spk"]):
        units.setdefault(name if by_utterance else tables["utt2spk"][name], []).append(name)
    kind = "utterances" if by_utterance else "speakers"
    if not 1 <= parts <= len(units):
        raise InputError(f"{path}: {len(units)} {kind}, cannot make {parts} parts")
    total, folder = len(tables["utt2spk"]), path / f"split{parts}{'utt' if by_utterance else ''}"
    groups: list[set[str]] = [set() for _ in range(parts)]
    taken, part, left = 0, 0, len(units)
    for names in units.values():
        full = taken >= total * (part + 1) / parts or left <= parts - part - 1
        if groups[part] and full and part < parts - 1:
            part += 1
        groups[part].update(names)
        taken, left = taken + len(names), left - 1
    return [write_tables(folder / str(n), restrict(tables, g)) for n, g in enumerate(groups, 1)]
