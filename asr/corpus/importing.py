"""Make a data directory from a table, from a folder of wav+txt pairs, or from another one.

Paths in the result are absolute, so that it works from any folder. Ids are made of the given
ones: what cannot stand in an id becomes ``_``, and the speaker is put in front, joined by
``-``, so that the directory is sorted by speaker too. Two sources that would get one id are
refused. Nothing that is imported becomes a command; those in another directory's wav.scp stay.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from asr.audio.clip import command_of, info
from asr.audio.folders import search
from asr.audio.formats import READABLE
from asr.corpus.table_formats import Row
from asr.corpus.tables import Tables, keyed_by, read_table, read_tables, write_tables
from asr.corpus.validate import ROUNDING_S, RULES, is_number, reserved_symbols
from asr.errors import InputError, counted
from asr.text.characters import changed_characters, clean, compose
from asr.text.transcripts import decode

NEEDED = ("wav.scp", "text", "utt2spk")

_UNSAFE = re.compile(r"[\s/\\\x00-\x1f\x7f-\x9f]+")
_UNFIT_PATH = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b\ufeff\ud800-\udfff]|[|\s]$")
_SPREADSHEET_ERRORS = ("#NAME?", "#VALUE!", "#REF!", "#DIV/0!", "#NUM!", "#N/A", "#NULL!")
_SORTS_UP_TO_DASH = re.compile(r"[!-\-]")

Normalize = Callable[[str], str]


@dataclass(frozen=True)
class Imported:
    """Result of an import."""

    utterances: int
    speakers: int
    notes: tuple[str, ...] = ()
    """Notes for the user, a sentence each."""


# -- Names -----------------------------------------------------------------------------------


def safe(name: str) -> str:
    """A name fit for an id: clean characters; white space and slashes become ``_``."""
    return _UNSAFE.sub("_", clean(name).strip())


def plain(name: str) -> str:
    """A safe name without characters that sort before ``-`` or equal it."""
    return _SORTS_UP_TO_DASH.sub("_", safe(name))


def make_ids(names: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Ids of utterances and speakers such that sorting by one sorts by the other.

    ``<speaker>-`` is put before names that do not begin with it. This is enough unless one
    speaker continues another with a character up to ``-``: the utterances of ``anna-maria``
    sort amid those of ``anna``. Only then ``_`` takes the place of such characters.

    Args:
        names: utterance and speaker; an empty speaker makes the utterance its own.
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


def _doubles(named: Iterable[tuple[str, str]]) -> Iterator[str]:
    """A problem for every place whose id an earlier place has; ``named`` gives id and place."""
    first: dict[str, str] = {}
    for name, place in named:
        if name in first:
            yield f"{place}: gets the id {name}, as {first[name]} does; rename one of the two"
        first.setdefault(name, place)


def _one_speaker(speakers: Iterable[str], rows: Iterable[Row]) -> Iterator[str]:
    """A problem for every name of a speaker whose id another name has."""
    known: dict[str, tuple[str, str]] = {}
    for speaker, row in zip(speakers, rows, strict=True):
        name = " ".join(clean(row.speaker).split())
        first, where = known.setdefault(speaker, (name, row.where))
        if name != first:
            yield (
                f'{row.where}: speaker "{name}" gets the id {speaker}, as "{first}" in {where} '
                "does; give both one name, or names that differ in letters"
            )


@lru_cache(maxsize=4096)
def _folder(path: Path) -> Path:
    return path.resolve()


def absolute(path: str | Path) -> str:
    """An absolute path; links among the folders are followed, a link to a file is kept."""
    path = Path(path)
    return str(_folder(path.parent) / path.name)


def _clean(text: str, normalize: Normalize) -> str:
    """A transcript without what cannot stand in a line of ``text``."""
    return " ".join(clean(normalize(clean(text))).split())


def _changed_characters(texts: Mapping[str, str]) -> list[str]:
    """A note on the characters that were changed in transcripts by their places."""
    changed = [place for place, text in texts.items() if clean(text) != text]
    note = changed_characters(map(texts.__getitem__, changed))
    return [f"transcripts: {note}; the first in {changed[0]}"] if note else []


# -- Rows from folders -----------------------------------------------------------------------


def pair_rows(
    folder: str | Path,
    *,
    speaker_from_folder: bool,
    tell: Callable[[str], None] = lambda note: None,
) -> Iterator[Row]:
    """Audio files with a text file of the same name beside them, in a folder and below.

    Args:
        folder: where to look; links are followed, hidden files are left out.
        speaker_from_folder: the folder that an audio file lies in is its speaker. Otherwise
            every utterance is its own speaker, and its id names the folders too.
        tell: receives a sentence about the files that are left out, if there are any.

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
    left_out = found.left_out(len(others))
    if left_out:
        tell(f"{folder}: left out: {left_out}")
    if not found.audio:
        raise InputError(f"{folder}: no audio in it, {READABLE}")
    for audio, transcript in pairs.items():
        name = "-".join(audio.relative_to(folder).with_suffix("").parts)
        speaker = _folder(audio.parent).name if speaker_from_folder else ""
        text, error = _read_transcript(transcript)
        name = audio.stem if speaker else name
        both = shared[transcript] > 1 and transcript.is_file()
        where = str(audio if both else transcript)
        yield Row(where, str(audio), text, name, speaker, error=error)


def _pair(path: Path) -> str:
    """The name that a recording and its transcript share, in composed letters."""
    return compose(str(path.with_suffix("")))


def _transcript(audio: Path, texts: Mapping[str, Path]) -> Path:
    """The transcript of a recording: a.txt, or a.wav.txt."""
    named = texts.get(compose(str(audio)), audio.with_suffix(".txt"))
    return texts.get(_pair(audio), named)


def _read_transcript(path: Path) -> tuple[str, str]:
    """The words in a file, and what is wrong with it."""
    try:
        return decode(path.read_bytes(), path), ""
    except OSError as error:
        return "", f"cannot read ({error.strerror}); write the words of the audio into it"
    except InputError as error:
        return "", str(error).removeprefix(f"{path}:").partition(": ")[2]


# -- Rows to a directory ---------------------------------------------------------------------


def import_rows(rows: Iterable[Row], target: str | Path, normalize: Normalize) -> Imported:
    """Write rows as a data directory.

    Raises:
        InputError: rows are bad; the message lists them all, and nothing is written.
    """
    rows = _stretches(list(rows))
    texts = [_clean(row.text, normalize) for row in rows]
    ids = make_ids([(row.id, row.speaker) for row in rows])
    names, speakers = [name for name, _ in ids], [speaker for _, speaker in ids]
    _refuse(list(_problems(rows, texts, names, speakers)))
    if not rows:
        raise InputError(f"nothing to import; {target} was not written")
    genders, notes = _genders(speakers, rows)
    text = dict(zip(names, texts, strict=True))
    tables = {"utt2spk": dict(ids), "text": text, **_recordings(names, rows), **genders}
    write_tables(target, tables)
    notes = (*_changed_characters({row.where: row.text for row in rows}), *notes)
    return Imported(len(ids), len(set(speakers)), notes)


def _problems(
    rows: Sequence[Row], texts: Sequence[str], names: Sequence[str], speakers: Sequence[str]
) -> Iterator[str]:
    """What is wrong with rows; ``texts`` are normalised, ``names`` and ``speakers`` ids."""
    for row, text in zip(rows, texts, strict=True):
        if wrong := _wrong(row, text):
            yield f"{row.where}: {wrong}"
    yield from _doubles(
        (name, row.where) for name, row in zip(names, rows, strict=True) if safe(row.id)
    )
    yield from _one_speaker(speakers, rows)
    yield from _mixed(rows)


def _stretches(rows: list[Row]) -> list[Row]:
    """Let rows with a duration alone begin at 0 where other rows have a start.

    They are also stretches where a recording is longer than its duration says.
    """
    known = [row for row in rows if row.duration and not (row.start or row.end or row.error)]
    if not known or not (any(row.start for row in rows) or any(map(_is_longer, known))):
        return rows
    lone = set(map(id, known))
    return [replace(r, start="0", end=r.duration) if id(r) in lone else r for r in rows]


def _is_longer(row: Row) -> bool:
    """Whether a recording is longer than the duration of its row."""
    try:
        return info(row.audio).duration_s > float(row.duration) + ROUNDING_S
    except (InputError, ValueError):  # said elsewhere
        return False


def _wrong(row: Row, text: str) -> str:
    """What is wrong with a row; empty: nothing."""
    if row.error:
        return row.error
    if not safe(row.id):
        return "no audio and no id; fill them in"
    return _wrong_audio(row.audio) or _wrong_text(row.text, text) or _wrong_times(row)


def _wrong_audio(audio: str) -> str:
    if not audio:
        return "no audio file is named; add it"
    if not os.path.isfile(audio):  # noqa: PTH113  # false, not an error, for any path
        return f"{audio}: no such audio file; fix the path"
    if _UNFIT_PATH.search(absolute(audio)):
        return f"{audio!r}: in wav.scp this would be a command or another path; rename the file"
    return ""


def _wrong_text(original: str, text: str) -> str:
    if not text:
        left = f" after normalising {original!r}" if original.strip() else ""
        return f"an empty transcript{left}; add the words or remove the row"
    if original.strip() in _SPREADSHEET_ERRORS:
        return f"{original.strip()} is an error of a spreadsheet; write the words"
    return reserved_symbols(original)  # before a normalizer makes the letter S of <s>


def _wrong_times(row: Row) -> str:
    if not row.start and not row.end:
        return ""
    if is_number(row.start) and is_number(row.end) and 0 <= float(row.start) < float(row.end):
        return ""
    return f"start {row.start!r} and end {row.end!r}, expected seconds, 0 <= start < end; fix them"


def _mixed(rows: Sequence[Row]) -> list[str]:
    """Either all rows are segments or none is."""
    whole = [row.where for row in rows if not row.start and not row.error]
    if whole and any(row.start for row in rows):
        return [f"{where}: no start and end, but other rows have them; add them" for where in whole]
    return []


def _recordings(names: Sequence[str], rows: Sequence[Row]) -> Tables:
    """wav.scp, and segments where rows have times; a recording is called after its path."""
    wavs = [absolute(row.audio) for row in rows]
    if not any(row.start for row in rows):
        return {"wav.scp": dict(zip(names, wavs, strict=True))}
    called = {wav: plain(wav.strip("/")) for wav in wavs}
    _refuse(list(_doubles((name, wav) for wav, name in called.items())))
    segments = {
        name: f"{called[wav]} {row.start} {row.end}"
        for name, wav, row in zip(names, wavs, rows, strict=True)
    }
    return {"wav.scp": {called[wav]: wav for wav in called}, "segments": segments}


def _genders(speakers: Sequence[str], rows: Sequence[Row]) -> tuple[Tables, tuple[str, ...]]:
    """spk2gender, if the rows say male or female of every speaker; else a note says why not."""
    table: dict[str, str] = {}
    for speaker, row in zip(speakers, rows, strict=True):
        gender = row.gender[:1].lower()
        if gender in ("m", "f") and table.setdefault(speaker, gender) != gender:
            raise InputError(f"{row.where}: {speaker} is m and f; fix the rows of this speaker")
    if not table:
        return {}, ()
    unknown = sorted(set(speakers) - table.keys())
    if unknown:
        note = f"no spk2gender: {len(unknown)} speakers are neither m nor f, {unknown[0]} the first"
        return {}, (note,)
    return {"spk2gender": table}, ()


def _refuse(problems: Sequence[str]) -> None:
    if problems:
        listed = "\n".join(f"  {problem}" for problem in problems)
        count = counted(len(problems), "problem")
        raise InputError(f"cannot import:\n{listed}\n{count}; nothing was written")


# -- Another directory -----------------------------------------------------------------------


def import_kaldi(
    source: str | Path, target: str | Path, root: str | Path, normalize: Normalize
) -> Imported:
    """Copy a Kaldi-like directory: tabs, any order, relative paths, ids without the speaker.

    Tables that are keyed by utterance, recording or speaker come along under the new ids;
    feature and statistics archives stay behind, since they point to files with the old ones.
    Lists that differ are copied as they are: ``asr data fix`` fixes them in the copy.

    Args:
        source: with wav.scp, text and utt2spk at least.
        target: the directory to write.
        root: what relative paths in wav.scp are relative to.
        normalize: applied to transcripts.

    Raises:
        InputError: a file is missing, ids collide, or audio is missing; the message lists all.
    """
    source = Path(source)
    tables = _copied(source)
    texts = tables["text"]
    notes = _changed_characters({f"{source}/text: {key}": value for key, value in texts.items()})
    problems = [
        f"{name}: {key}: {wrong}"
        for name, rule in (("utt2spk", RULES["utt2spk"]), ("text", reserved_symbols))
        for key, value in tables[name].items()
        if (wrong := rule(value))
    ]
    tables["text"] = {key: _clean(value, normalize) for key, value in texts.items()}
    names = _Names.of(tables)
    tables["wav.scp"], lacking = _rooted(tables["wav.scp"], Path(root))
    problems = [*lacking, *problems, *names.collisions()]
    _refuse([f"{source}/{problem}" for problem in problems])
    renamed = {name: names.rename(name, table) for name, table in tables.items()}
    write_tables(target, renamed)
    commands = sum(command_of(value) is not None for value in tables["wav.scp"].values())
    if commands:
        notes.append(f"{source}/wav.scp: {commands} commands are copied as they stand; check them")
    speakers = len(set(renamed["utt2spk"].values()))
    return Imported(len(renamed["utt2spk"]), speakers, tuple(notes))


def _copied(source: Path) -> Tables:
    """The tables that come along: all but those that point into archives with the old ids."""
    for need in NEEDED:
        read_table(source / need)  # a clear error where one is missing
    tables = read_tables(source)
    return {n: t for n, t in tables.items() if n == "wav.scp" or not n.endswith(".scp")}


def _rooted(wavs: Mapping[str, str], root: Path) -> tuple[dict[str, str], list[str]]:
    """wav.scp with absolute paths, and what is wrong with them; commands stay."""
    result, problems = dict(wavs), []
    for key, value in wavs.items():
        path = root / value
        if command_of(value) is not None:
            continue
        if value and os.path.isfile(path):  # noqa: PTH113  # false, not an error, for any path
            result[key] = absolute(path)
        else:
            problems.append(f"wav.scp: {key}: {path}: no such audio file; see --root")
    return result, problems


@dataclass(frozen=True)
class _Names:
    """Old names to new ones, by what they name."""

    utterances: dict[str, str]
    speakers: dict[str, str]
    recordings: dict[str, str]
    segmented: bool

    @classmethod
    def of(cls, tables: Tables) -> "_Names":
        utt2spk = tables["utt2spk"]
        made = make_ids(list(utt2spk.items()))
        utterances = {old: new for old, (new, _) in zip(utt2spk, made, strict=True)}
        speakers = {old: new for old, (_, new) in zip(utt2spk.values(), made, strict=True)}
        recordings = utterances
        if "segments" in tables:
            recordings = {name: safe(name) for name in tables["wav.scp"]}
        return cls(utterances, speakers, recordings, "segments" in tables)

    def collisions(self) -> Iterator[str]:
        """Two old names that get one new one."""
        for file, names in (
            ("utt2spk", self.utterances),
            ("utt2spk", self.speakers),
            ("wav.scp", self.recordings if self.segmented else {}),
        ):
            yield from _doubles((new, f"{file}: {old}") for old, new in names.items())

    def rename(self, file: str, table: Mapping[str, str]) -> dict[str, str]:
        """A table under the new names."""
        if file == "utt2spk":
            return {self.utterances[k]: self.speakers[v] for k, v in table.items()}
        if file == "segments":
            return {self.utterances.get(k, k): self._segment(v) for k, v in table.items()}
        unit = keyed_by(file)
        names = {"recording": self.recordings, "speaker": self.speakers}.get(
            unit or "", self.utterances
        )
        return {names.get(key, key): value for key, value in table.items()}

    def _segment(self, value: str) -> str:
        recording, _, times = value.partition(" ")
        return f"{self.recordings.get(recording, recording)} {times}"
