"""Kaldi data directories as utterances, validated when they are read.

As in Kaldi, paths in wav.scp may be relative to the current directory; ``asr data import`` writes
absolute paths.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from asr.corpus.columns import Utterance, Utterances
from asr.corpus.quick import read_columns
from asr.corpus.tables import Segment, Tables, read_table, read_tables, table_names
from asr.corpus.validate import FILES, fix_remedy, validate
from asr.errors import InputError, counted

__all__ = ["DataDir", "Utterance", "Utterances", "read_valid"]


@dataclass(frozen=True)
class DataDir:
    """A valid data directory."""

    path: Path
    utterances: Utterances
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
        path = Path(path)
        required = ("utt2spk", "spk2utt", "wav.scp", *(["text"] if text else []))
        utterances = read_columns(path, required, FILES)
        if utterances is None:
            return cls(path, Utterances.of(_utterances(read_valid(path, text=text))))
        for name in set(table_names(path)).difference(FILES):
            read_table(path / name)  # raises an error if it cannot be read
        return cls(path, utterances)


def read_valid(path: str | Path, *, text: bool) -> Tables:
    """Validate a directory and read its tables; reading an invalid one would lose lines.

    Raises:
        InputError: it is not a valid directory; the message lists the first problems.
    """
    problems = validate(path, text=text)
    if problems:
        shown = "\n".join(f"  {problem}" for problem in problems[:5])
        raise InputError(
            f"{path}: {counted(len(problems), 'problem')} in this data directory:\n{shown}\n"
            f"`asr data validate {path}` lists all{fix_remedy(path, problems)}"
        )
    return read_tables(path)


def _utterances(tables: Tables) -> Iterator[Utterance]:
    segments, texts = tables.get("segments"), tables.get("text", {})
    durations = tables.get("utt2dur", {})
    for name, speaker in sorted(tables["utt2spk"].items()):
        recording, begin, end, length = name, 0.0, None, None
        if segments is not None:
            recording, begin, end_s = Segment.parse(segments[name])
            end, length = (None, None) if math.isnan(end_s) else (end_s, end_s - begin)
        if name in durations:
            length = float(durations[name])
        wav = tables["wav.scp"][recording]
        yield Utterance(name, speaker, recording, wav, begin, end, texts.get(name), length)
