"""Kaldi data directories as utterances, validated when they are read.

As in Kaldi, paths in wav.scp may be relative to the current directory; ``asr data import`` writes
absolute paths.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from asr.audio.clip import Clip
from asr.corpus.tables import Segment, Tables, read_tables
from asr.corpus.validate import validate
from asr.errors import InputError, counted


@dataclass(frozen=True)
class Utterance:
    """One utterance of a data directory."""

    id: str
    speaker: str
    recording: str
    wav: str
    """Value of its recording in wav.scp: a path, or a command that ends in ``|``."""
    start_s: float
    """Start in the recording."""
    end_s: float | None
    """End in the recording; None means the end of the recording."""
    text: str | None
    """Transcript; None if the directory has no text."""
    duration_s: float | None
    """Duration from utt2dur or segments; None if both files are missing."""

    @property
    def clip(self) -> Clip:
        """The audio of the utterance."""
        return Clip.of_entry(self.wav, self.start_s, self.end_s)


@dataclass(frozen=True)
class DataDir:
    """A valid data directory."""

    path: Path
    utterances: tuple[Utterance, ...]
    """The utterances, sorted by id."""

    @classmethod
    def load(cls, path: str | Path, *, text: bool = True) -> "DataDir":
        """Validate and read a directory.

        Args:
            path: the directory.
            text: whether transcripts are required.

        Raises:
            InputError: the directory is not valid; the message lists the first problems.
        """
        return cls(Path(path), tuple(_utterances(read_valid(path, text=text))))


def read_valid(path: str | Path, *, text: bool) -> Tables:
    """Validate a directory and read its tables; reading an invalid one would lose lines.

    Raises:
        InputError: the directory is not valid; the message lists the first problems.
    """
    if not Path(path).is_dir():
        raise InputError(f"{path}: no such folder, expected a Kaldi data directory")
    problems = validate(path, text=text)
    if problems:
        shown = "\n".join(f"  {problem}" for problem in problems[:5])
        raise InputError(
            f"{path}: {counted(len(problems), 'problem')} in this data directory:\n{shown}\n"
            f"`asr data validate {path}` lists all, `asr data fix {path}` fixes most"
        )
    return read_tables(path)


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
