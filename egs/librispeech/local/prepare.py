"""Make a Kaldi data directory of one LibriSpeech set.

usage: prepare.py LIBRISPEECH/SET DATA_DIR

As in Kaldi, a speaker is a reader in a chapter (``<reader>-<chapter>``), because recordings
of different chapters differ in their channel. Audio is read from where it is.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "utils"))

from recipe import refuse, run

from asr.corpus.tables import Tables, write_tables
from asr.errors import EXIT_USAGE, InputError
from asr.text.transcripts import read_lines

SUFFIXES = (".flac", ".opus", ".wav")


def read_genders(path: Path) -> dict[str, str]:
    """Return ``m`` or ``f`` by reader, from SPEAKERS.TXT: ``<reader> | <F or M> | <set> | ...``."""
    genders = {}
    for number, line in enumerate(read_lines(path), 1):
        if line.startswith(";") or not line.strip():
            continue
        fields = [field.strip() for field in line.split("|")]
        if len(fields) < 2 or fields[1] not in ("F", "M"):
            raise InputError(f'{path}:{number}: {line!r}, expected "<reader> | <F or M> | ..."')
        genders[fields[0]] = fields[1].lower()
    return genders


def read_transcripts(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yield line number, utterance and words of a ``.trans.txt`` file."""
    for number, line in enumerate(read_lines(path), 1):
        name, _, words = line.strip().partition(" ")
        yield number, name, " ".join(words.split())


def find_audio(chapter: Path) -> dict[str, Path]:
    """Return the audio file of each utterance."""
    return {p.stem: p.resolve() for p in sorted(chapter.iterdir()) if p.suffix in SUFFIXES}


def add_chapter(chapter: Path, tables: Tables, problems: list[str]) -> None:
    """Add the utterances of ``<set>/<reader>/<chapter>`` to the tables."""
    speaker = f"{chapter.parent.name}-{chapter.name}"
    listing = chapter / f"{speaker}.trans.txt"
    audio = find_audio(chapter)
    if not listing.is_file():
        problems.append(f"{listing}: no such file, expected the transcripts of {len(audio)} files")
        return
    for number, name, words in read_transcripts(listing):
        where = f"{listing}:{number}"
        path = audio.pop(name, None)
        if not name.startswith(f"{speaker}-"):
            problems.append(f'{where}: {name!r}, expected "{speaker}-<number> <words>"')
        elif name in tables["text"]:
            problems.append(f"{where}: {name} occurs twice; remove one of the lines")
        elif path is None:
            problems.append(f"{where}: no audio file {name}{'|'.join(SUFFIXES)}; copy it again")
        elif not words:
            problems.append(f"{where}: {name} has no words; remove the line and the audio file")
        else:
            tables["text"][name] = words
            tables["wav.scp"][name] = str(path)
            tables["utt2spk"][name] = speaker
    problems += [
        f"{path}: no line in {listing.name}; add it or remove the file" for path in audio.values()
    ]


def chapters(folder: Path) -> list[Path]:
    """Return every ``<reader>/<chapter>`` folder of a set."""
    return sorted(p for p in folder.glob("*/*") if p.is_dir() and not p.name.startswith("."))


def gather(folder: Path) -> Tables:
    """Return the tables of one set.

    Raises:
        InputError: files or lines are missing or malformed; the first ones are listed.
    """
    found = chapters(folder)
    if not found:
        raise InputError(f"{folder}: no <reader>/<chapter> folders; expected a set of LibriSpeech")
    tables: Tables = {"text": {}, "wav.scp": {}, "utt2spk": {}}
    problems: list[str] = []
    for chapter in found:
        add_chapter(chapter, tables, problems)
    refuse(problems, folder)
    return tables


def add_genders(tables: Tables, path: Path) -> None:
    """Add spk2gender if SPEAKERS.TXT lists every reader, otherwise say what is missing."""
    if not path.is_file():
        print(f"{path}: no such file; no spk2gender is written", file=sys.stderr)
        return
    genders = read_genders(path)
    speakers = set(tables["utt2spk"].values())
    unknown = sorted({s.partition("-")[0] for s in speakers} - genders.keys())
    if unknown:
        print(
            f"{path}: no line for {', '.join(unknown)}; no spk2gender is written", file=sys.stderr
        )
        return
    tables["spk2gender"] = {s: genders[s.partition("-")[0]] for s in speakers}


def main(argv: list[str]) -> int:
    """``prepare.py LIBRISPEECH/SET DATA_DIR``."""
    if len(argv) != 2:
        print(__doc__, file=sys.stderr)
        return EXIT_USAGE
    folder, out = map(Path, argv)
    tables = gather(folder)
    add_genders(tables, folder.parent / "SPEAKERS.TXT")
    write_tables(out, tables)
    return 0


if __name__ == "__main__":
    run(main)
