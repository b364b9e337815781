"""Make a data directory from a table, from a folder of wav+txt pairs, or from another one.

Paths in the result are absolute, so that it works from any folder. Characters that an id must not
contain become ``_``, and the speaker is put in front, joined by ``-``, so that the directory is
sorted by speaker, too. Two sources that would get the same id are refused. An imported path never
becomes a command, but commands in the wav.scp of another directory are kept.
"""

import math
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from asr.audio.clip import MAX_OVERSHOOT_S, command_of, info
from asr.audio.folders import is_file, search
from asr.corpus.edit import replace_tables
from asr.corpus.table_formats import Row, find_audio
from asr.corpus.tables import (
    Tables,
    Unit,
    is_number,
    keyed_by,
    read_table,
    read_tables,
    split_speakers,
)
from asr.corpus.validate import ROUNDING_S, RULES, reserved_symbols
from asr.errors import InputError, counted
from asr.formats import READABLE
from asr.terminal import warn
from asr.text.characters import changed_characters, clean, compose
from asr.text.normalize import librispeech
from asr.text.transcripts import decode

NEEDED = ("wav.scp", "text", "utt2spk")

_UNSAFE = re.compile(r"[\s/\\\x00-\x1f\x7f-\x9f]+")
_UNFIT_PATH = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b\ufeff\ud800-\udfff]|[|\s]$")
_SPREADSHEET_ERRORS = ("#NAME?", "#VALUE!", "#REF!", "#DIV/0!", "#NUM!", "#N/A", "#NULL!")
GENDERS = dict.fromkeys(("m", "male", "male_masculine"), "m") | dict.fromkeys(
    ("f", "female", "female_feminine"), "f"
)
_SORTS_UP_TO_DASH = re.compile(r"[!-\-]")

# What the normaliser librispeech does not turn into the words that are spoken: pattern and remedy.
_UNSPOKEN = {
    "digits": (r"\d", "write the words that are spoken"),
    "symbols": ("[%&€$£@+]", "they are dropped: write the words that are spoken"),
    "text in brackets": (
        r"\([^)]+\)|\[[^]]+\]|<[^>]+>",
        "it becomes words: delete it if nobody speaks it",
    ),
}

Normalize = Callable[[str], str]


@dataclass(frozen=True)
class Imported:
    """The result of an import."""

    utterances: int
    speakers: int
    notes: tuple[str, ...] = ()
    """Notes for the user, a sentence each."""


def safe(name: str) -> str:
    """Return a name that is valid as an id: white space and slashes become ``_``."""
    return _UNSAFE.sub("_", clean(name).strip())


def plain(name: str) -> str:
    """Return a valid id without ``-`` and the characters that sort before it."""
    return _SORTS_UP_TO_DASH.sub("_", safe(name))


def make_ids(names: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return ids of utterances and speakers such that sorting by one sorts by the other.

    ``<speaker>-`` is put in front of names that do not start with it. This suffices unless one
    speaker continues another with a character up to ``-``: the utterances of ``anna-maria``
    sort between those of ``anna``. Only then are such characters replaced with ``_``.

    Args:
        names: utterance and speaker; an utterance with an empty speaker is its own speaker.
    """
    made = [_prefixed(name, speaker, safe) for name, speaker in names]
    speakers = [speaker for _, speaker in sorted(made)]
    if speakers == sorted(speakers):
        return made
    return [_prefixed(name, speaker, plain) for name, speaker in names]


def _prefixed(name: str, speaker: str, clean: Callable[[str], str]) -> tuple[str, str]:
    name, speaker = safe(name), safe(speaker)
    if speaker in ("", name):
        return clean(name), clean(name)
    return f"{clean(speaker)}-{name.removeprefix(f'{speaker}-')}", clean(speaker)


def _duplicates(named: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield a problem for each repeated id; ``named`` has ids and their places in the source."""
    first: dict[str, str] = {}
    for name, place in named:
        if name in first:
            yield f"{place}: gets the id {name}, as {first[name]} does; rename one of the two"
        first.setdefault(name, place)


def _one_speaker(speakers: Iterable[str], rows: Iterable[Row]) -> Iterator[str]:
    """Yield a problem for each speaker whose id belongs to another speaker."""
    known: dict[str, tuple[str, str]] = {}
    for speaker, row in zip(speakers, rows, strict=True):
        name = " ".join(clean(row.speaker).split())
        first, where = known.setdefault(speaker, (name, row.where))
        if name != first:
            yield (
                f'{row.where}: speaker "{name}" gets the id {speaker}, as "{first}" in {where} '
                "does; use one name for both, or names that differ in letters"
            )


@lru_cache(maxsize=4096)
def _folder(path: Path) -> Path:
    return path.resolve()


def absolute(path: str | Path) -> str:
    """Return an absolute path; links to folders are followed, a link to a file is kept."""
    path = Path(path)
    return str(_folder(path.parent) / path.name)


def _clean(text: str, normalize: Normalize) -> str:
    """Return a normalised transcript that is valid in a line of ``text``."""
    return " ".join(clean(normalize(clean(text))).split())


def _changed_characters(texts: Mapping[str, str]) -> list[str]:
    """Return a note on the characters changed in transcripts, which are keyed by their places."""
    changed = [place for place, text in texts.items() if clean(text) != text]
    note = changed_characters(map(texts.__getitem__, changed))
    return [f"transcripts: {note}; the first in {changed[0]}"] if note else []


def _warn_of_unspoken(texts: Mapping[str, str], normalize: Normalize) -> None:
    """Warn of what is not spoken in transcripts to normalise, which are keyed by their places."""
    for kind, (pattern, remedy) in _UNSPOKEN.items() if normalize is librispeech else ():
        found = [(m[0], place) for place, text in texts.items() if (m := re.search(pattern, text))]
        if found:
            count, (first, place) = counted(len(found), "transcript"), found[0]
            warn(f'{count} with {kind}, the first ("{first}") in {place}; {remedy}')


def pair_rows(
    folder: str | Path,
    *,
    speaker_from_folder: bool,
    tell: Callable[[str], None] = lambda note: None,
) -> Iterator[Row]:
    """Yield a row for each audio file in a folder and its subfolders, with the text beside it.

    Args:
        folder: the folder to search; links are followed, hidden files are left out.
        speaker_from_folder: whether the folder of an audio file is its speaker. If not, each
            utterance is its own speaker, and its id contains the names of the subfolders.
        tell: receives a sentence about the files that are left out, if any.

    Raises:
        InputError: there is no audio.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; check the path")
    found = search(folder)
    texts = {_pair(path): path for path in found.files if path.suffix.lower() == ".txt"}
    pairs = {audio: _transcript(audio, texts) for audio in found.audio}
    others = {*found.files} - {*pairs} - {*pairs.values()}
    shared = Counter(pairs.values())
    if left_out := found.left_out(len(others)):
        tell(f"{folder}: left out: {left_out}")
    if not found.audio:
        raise InputError(f"{folder}: no audio in it, {READABLE}")
    for audio, transcript in pairs.items():
        path = "-".join(audio.relative_to(folder).with_suffix("").parts)
        speaker = _folder(audio.parent).name if speaker_from_folder else ""
        name = audio.stem if speaker else path
        text, error = _read_transcript(transcript)
        several = shared[transcript] > 1 and transcript.is_file()
        where = str(audio if several else transcript)
        yield Row(where, str(audio), text, name, speaker, error=error)


def _pair(path: Path) -> str:
    """Return the path that a recording and its transcript share, in composed letters."""
    return compose(str(path.with_suffix("")))


def _transcript(audio: Path, texts: Mapping[str, Path]) -> Path:
    """Return the path of the transcript of ``a.wav``: ``a.txt`` or ``a.wav.txt``."""
    named = texts.get(compose(str(audio)), audio.with_suffix(".txt"))
    return texts.get(_pair(audio), named)


def _read_transcript(path: Path) -> tuple[str, str]:
    """Return the words of a file, and an error if it cannot be read."""
    try:
        return decode(path.read_bytes(), path), ""
    except OSError as error:
        return "", f"cannot read ({error.strerror}); write the words of the audio into it"
    except InputError as error:
        return "", str(error).removeprefix(f"{path}:").partition(": ")[2]


def import_rows(rows: Iterable[Row], target: str | Path, normalize: Normalize) -> Imported:
    """Write rows as a data directory.

    Raises:
        InputError: a row is bad; the message lists all problems, and nothing is written.
    """
    _length_s.cache_clear()
    rows, notes = _as_segments(list(rows))
    texts = [_clean(row.text, normalize) for row in rows]
    ids = make_ids([(row.id, row.speaker) for row in rows])
    _refuse(_problems(rows, texts, ids))
    if not rows:
        raise InputError(f"nothing to import; {target} was not written")
    utt2spk, text = dict(ids), {name: text for (name, _), text in zip(ids, texts, strict=True)}
    originals = {row.where: row.text for row in rows}
    _warn_of_unspoken(originals, normalize)
    genders, unclear = _genders(utt2spk.values(), rows)
    replace_tables(target, {"utt2spk": utt2spk, "text": text, **_recordings(text, rows), **genders})
    notes = (*_changed_characters(originals), *notes, *unclear, *_without_speakers(rows))
    return Imported(len(ids), len(set(utt2spk.values())), notes)


def _without_speakers(rows: Sequence[Row]) -> Iterator[str]:
    """Yield a note about rows without a speaker."""
    if nobody := [row.where for row in rows if not row.speaker.strip()]:
        yield (
            f"{counted(len(nobody), 'utterance')} without a speaker, the first in {nobody[0]}: "
            "each is a speaker of its own, so that training and dev set may share people"
        )


def _problems(
    rows: Sequence[Row], texts: Sequence[str], ids: Sequence[tuple[str, str]]
) -> Iterator[str]:
    """Yield the problems of rows with normalised texts and the ids of utterance and speaker."""
    for row, text in zip(rows, texts, strict=True):
        if wrong := _wrong(row, text):
            yield f"{row.where}: {wrong}"
    named = [(name, row) for (name, _), row in zip(ids, rows, strict=True) if safe(row.id)]
    yield from _duplicates((name, row.where) for name, row in named)
    yield from _one_speaker((speaker for _, speaker in ids), rows)
    if any(row.start for row in rows):
        for row in rows:
            if not row.start and not row.error:
                yield f"{row.where}: no start and end, but other rows have them; add them"


def _as_segments(rows: list[Row]) -> tuple[list[Row], tuple[str, ...]]:
    """Let rows that have only a duration start at 0 if other rows have a start.

    They become segments, too, if a recording is longer than its duration in the table; a note
    says so.
    """
    known = [row for row in rows if row.duration and not (row.start or row.end or row.error)]
    longer = [row for row in known if _is_longer(row)]
    if not longer and not (known and any(row.start for row in rows)):
        return rows, ()
    whole = set(map(id, known))
    notes = [
        f"{counted(len(longer), 'recording')} longer than the duration in the table, the first in "
        f"{row.where} ({row.duration} of {_length_s(row.audio):g} s); only this much is used. If "
        "the durations say nothing about that, add --duration-column none"
        for row in longer[:1]
    ]
    return [replace(r, start="0", end=r.duration) if id(r) in whole else r for r in rows], (*notes,)


def _is_longer(row: Row) -> bool:
    return is_number(row.duration) and _length_s(row.audio) > float(row.duration) + ROUNDING_S


@lru_cache(maxsize=4096)
def _length_s(audio: str) -> float:
    """Return the seconds of a recording, or NaN if it cannot be read."""
    try:
        return info(audio).duration_s
    except InputError:
        return math.nan


def _wrong(row: Row, text: str) -> str:
    if row.error:
        return row.error
    if not safe(row.id):
        return "no audio and no id; fill them in"
    return _wrong_audio(row.audio) or _wrong_text(row.text, text) or _wrong_times(row)


def _wrong_audio(audio: str) -> str:
    if not audio:
        return "no audio file is named; add it"
    if not is_file(audio):
        folder = os.path.isdir(audio)  # noqa: PTH112  # false, not an error, for any path
        found = "a folder, expected an audio file" if folder else "no such audio file"
        return f"{audio}: {found}; fix the path"
    if _UNFIT_PATH.search(absolute(audio)):
        return f"{audio!r}: would be a command or another path in wav.scp; rename the file"
    return ""


def _wrong_text(original: str, text: str) -> str:
    if not text:
        left = f" after normalising {original!r}" if original.strip() else ""
        return f"an empty transcript{left}; add the words or remove the row"
    if original.strip() in _SPREADSHEET_ERRORS:
        return f"{original.strip()} is an error value of a spreadsheet; write the words"
    return reserved_symbols(original)  # because a normalizer may turn <s> into the letter S


def _wrong_times(row: Row) -> str:
    if not row.start and not row.end:
        return ""
    if is_number(row.start) and is_number(row.end) and 0 <= float(row.start) < float(row.end):
        length_s = _length_s(row.audio)
        if float(row.end) > length_s + MAX_OVERSHOOT_S or float(row.start) >= length_s:
            times = f"{row.start} to {row.end} s"
            return f"{times}, but the audio lasts {length_s:g} s; fix the times"
        return ""
    return f"start {row.start!r} and end {row.end!r}, expected seconds, 0 <= start < end; fix them"


def _recordings(names: Iterable[str], rows: Sequence[Row]) -> Tables:
    """Return wav.scp, and segments if rows have times; the path of a recording gives its id."""
    wavs = [absolute(row.audio) for row in rows]
    if not any(row.start for row in rows):
        return {"wav.scp": dict(zip(names, wavs, strict=True))}
    ids = {wav: plain(wav.strip("/")) for wav in wavs}
    _refuse(_duplicates((name, wav) for wav, name in ids.items()))
    segments = {
        name: f"{ids[wav]} {row.start} {row.end}"
        for name, wav, row in zip(names, wavs, rows, strict=True)
    }
    return {"wav.scp": {name: wav for wav, name in ids.items()}, "segments": segments}


def _genders(speakers: Collection[str], rows: Sequence[Row]) -> tuple[Tables, tuple[str, ...]]:
    """Return spk2gender, or a note if the gender of some, but not all, speakers is known."""
    named = (GENDERS.get(row.gender.strip().lower(), "") for row in rows)
    found = set(zip(speakers, named, strict=True))
    table = {speaker: gender for speaker, gender in found if gender}
    if not table:
        return {}, ()
    known = Counter(speaker for speaker, gender in found if gender)
    unclear = sorted(speaker for speaker in speakers if known[speaker] != 1)
    if unclear:
        count = counted(len(set(unclear)), "speaker")
        note = f"no spk2gender: {count} not known as either m or f, the first {unclear[0]}"
        return {}, (note,)
    return {"spk2gender": table}, ()


def _refuse(problems: Iterable[str]) -> None:
    lines = [f"  {problem}" for problem in problems]
    if lines:
        count = counted(len(lines), "problem")
        raise InputError("\n".join(["cannot import:", *lines, f"{count}; nothing was written"]))


def import_kaldi(
    source: str | Path, target: str | Path, root: str | Path, normalize: Normalize
) -> Imported:
    """Copy a Kaldi-like directory: tabs, any order, relative paths, ids without the speaker.

    Ids are kept if all begin with their speakers and are sorted by them; otherwise see
    :func:`make_ids`.

    All tables that are keyed by utterance, recording or speaker are copied under the new ids, but
    not feature and statistics archives, which contain the old ids. Tables that list different
    utterances are copied as they are: ``asr data fix`` fixes them in the copy.

    Args:
        source: a directory with wav.scp, text and utt2spk at least.
        target: the directory to write.
        root: the folder that relative paths in wav.scp are relative to.
        normalize: applied to transcripts.

    Raises:
        InputError: a file is missing, ids collide, or audio is missing; the message lists all
            problems, and nothing is written.
    """
    source = Path(source)
    tables = _copied(source)
    texts = tables["text"]
    originals = {f"{source}/text: {key}": value for key, value in texts.items()}
    notes = _changed_characters(originals)
    problems = [
        f"{name}: {key}: {wrong}"
        for name, rule in (("utt2spk", RULES["utt2spk"]), ("text", reserved_symbols))
        for key, value in tables[name].items()
        if (wrong := rule(value))
    ]
    tables["text"] = {key: _clean(value, normalize) for key, value in texts.items()}
    ids = _new_ids(tables)
    tables["wav.scp"], missing = _rooted(tables["wav.scp"], Path(root))
    problems = [*missing, *problems, *_collisions(tables, ids)]
    _refuse(f"{source}/{problem}" for problem in problems)
    _warn_of_unspoken(originals, normalize)
    renamed = {name: _renamed(name, table, ids) for name, table in tables.items()}
    replace_tables(target, renamed)
    commands = sum(command_of(value) is not None for value in tables["wav.scp"].values())
    if commands:
        count = counted(commands, "command")
        notes.append(f"{source}/wav.scp: {count} copied unchanged; check the result")
    speakers = len(set(renamed["utt2spk"].values()))
    return Imported(len(renamed["utt2spk"]), speakers, tuple(notes))


def _copied(source: Path) -> Tables:
    """Read the tables to copy: all except those that point into archives with the old ids."""
    for need in NEEDED:
        read_table(source / need)  # raises a clear error if it is missing
    tables = read_tables(source)
    return {n: t for n, t in tables.items() if n == "wav.scp" or not n.endswith(".scp")}


def _rooted(wavs: Mapping[str, str], root: Path) -> tuple[dict[str, str], list[str]]:
    """Return wav.scp with absolute paths, and the problems of the paths; commands are kept."""
    result, problems = dict(wavs), []
    for key, value in wavs.items():
        if command_of(value) is not None:
            continue
        path = find_audio(root, value)
        if value and is_file(path):
            result[key] = absolute(path)
        else:
            problems.append(f"wav.scp: {key}: {path}: no such audio file; see --root")
    return result, problems


def _new_ids(tables: Tables) -> dict[Unit, dict[str, str]]:
    """Return the new id of each utterance, speaker and recording by its old one."""
    utt2spk = tables["utt2spk"]
    made = list(utt2spk.items())
    valid = all(name == safe(name) and name.startswith(safe(speaker)) for name, speaker in made)
    if not valid or list(split_speakers(utt2spk)):
        made = make_ids(made)
    utterances = {old: new for old, (new, _) in zip(utt2spk, made, strict=True)}
    speakers = {old: new for old, (_, new) in zip(utt2spk.values(), made, strict=True)}
    recordings = utterances
    if "segments" in tables:
        recordings = {name: safe(name) for name in tables["wav.scp"]}
    return {"utterance": utterances, "speaker": speakers, "recording": recordings}


def _collisions(tables: Tables, ids: Mapping[Unit, Mapping[str, str]]) -> Iterator[str]:
    """Yield a problem for each utterance, recording or speaker with the new id of another one."""
    places: dict[Unit, dict[str, str]] = {"utterance": {}, "recording": {}, "speaker": {}}
    for name in ("utt2spk", *sorted(tables)):  # the first that has a name is reported
        unit = keyed_by(name) or "utterance"
        if unit == "recording" and "segments" not in tables:
            unit = "utterance"
        for old in tables[name]:
            places[unit].setdefault(old, f"{name}: {old}")
    places["speaker"] |= {old: f"utt2spk: {old}" for old in ids["speaker"]}
    for unit, found in places.items():
        yield from _duplicates((ids[unit].get(old, old), place) for old, place in found.items())


def _renamed(
    file: str, table: Mapping[str, str], ids: Mapping[Unit, Mapping[str, str]]
) -> dict[str, str]:
    keys = ids[keyed_by(file) or "utterance"]
    if file == "utt2spk":
        table = {key: ids["speaker"][value] for key, value in table.items()}
    elif file == "segments":
        parts = {key: value.partition(" ") for key, value in table.items()}
        table = {
            key: f"{ids['recording'].get(r, r)} {times}" for key, (r, _, times) in parts.items()
        }
    return {keys.get(key, key): value for key, value in table.items()}
