"""Kaldi data directories as utterances, checked when they are read.

Relative paths in wav.scp are relative to the current directory, as in Kaldi;
``asr data import`` writes absolute ones.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from asr.audio.clip import Clip
from asr.corpus.tables import Segment, Tables, read_tables
from asr.corpus.validate import validate
from asr.errors import InputError


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

    @property
    def clip(self) -> Clip:
        """Its audio."""
        return Clip.of_entry(self.wav, self.start_s, self.end_s)


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
        path = Path(path)
        require_valid(path, text=text)
        return cls(path, tuple(_utterances(read_tables(path))))


def require_valid(path: str | Path, *, text: bool) -> None:
    """Stop where a directory is not valid.

    Raises:
        InputError: with the first problems, and how to see and fix them all.
    """
    if not Path(path).is_dir():
        raise InputError(f"{path}: no such folder, expected a Kaldi data directory")
    problems = validate(path, text=text)
    if problems:
        shown = "\n".join(f"  {problem}" for problem in problems[:5])
        raise InputError(
            f"{path}: {len(problems)} problems in this data directory:\n{shown}\n"
            f"`asr data validate {path}` lists all, `asr data fix {path}` fixes most"
        )


def _utterances(tables: Tables) -> Iterator[Utterance]:
    segments, texts = tables.get("segments"), tables.get("text", {})
    durations = tables.get("utt2dur", {})
    for name, speaker in sorted(tables["utt2spk"].items()):
        recording, begin, end, length = name, 0.0, None, None
        if segments is not None:
            recording, begin, end = Segment.parse(segments[name])
            length = end - begin
        if name in durations:
            length = float(durations[name])
        wav = tables["wav.scp"][recording]
        yield Utterance(name, speaker, recording, wav, begin, end, texts.get(name), length)
