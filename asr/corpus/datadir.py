"""Kaldi data directories as utterances, validated when they are read.

As in Kaldi, paths in wav.scp may be relative to the current directory; ``asr data import`` writes
absolute paths.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np

from asr.audio.clip import Clip
from asr.corpus.columns import Labels, Numbers, Strings
from asr.corpus.quick import read_columns
from asr.corpus.tables import Segment, Tables, read_table, read_tables, table_names
from asr.corpus.validate import FILES, fix_remedy, validate
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


class Utterances(Sequence[Utterance]):
    """Utterances in columns: an :class:`Utterance` is made when it is asked for.

    Args:
        ids: id of each utterance, N in all.
        speakers: speaker of each utterance.
        recordings: id of each recording.
        wavs: value of each recording in wav.scp.
        spans_s: begin and end in the recording, (2, N); an end of NaN is that of the recording;
            None: all utterances are whole recordings.
        texts: transcripts; None if the directory has no text.
        durations_s: duration of each utterance, (N,); NaN if it is not known.
    """

    def __init__(
        self,
        ids: Strings,
        speakers: Labels,
        recordings: Labels,
        wavs: Labels,
        spans_s: Numbers | None,
        texts: Strings | None,
        durations_s: Numbers,
    ) -> None:
        self.ids, self.speakers, self.recordings, self.wavs = ids, speakers, recordings, wavs
        self.spans_s, self.texts, self.durations_s = spans_s, texts, durations_s

    @classmethod
    def of(cls, utterances: Iterable[Utterance]) -> "Utterances":
        """Return utterances in columns; those that are already stay as they are."""
        if isinstance(utterances, Utterances):
            return utterances
        every = list(utterances)
        texts = None if all(u.text is None for u in every) else [u.text or "" for u in every]
        spans = [(u.start_s, np.nan if u.end_s is None else u.end_s) for u in every]
        return cls(
            Strings.of(u.id for u in every),
            Labels.of(u.speaker for u in every),
            Labels.of(u.recording for u in every),
            Labels.of(u.wav for u in every),
            np.array(spans, float).reshape(-1, 2).T,
            None if texts is None else Strings.of(texts),
            np.array([u.duration_s for u in every], float),  # None becomes NaN
        )

    @property
    def transcripts(self) -> Strings:
        """Transcripts; empty if the directory has no text."""
        return Strings.of([""] * len(self)) if self.texts is None else self.texts

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> Utterance: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Utterance, ...]: ...
    def __getitem__(self, index: int | slice) -> Utterance | tuple[Utterance, ...]:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        index = range(len(self))[index]
        start_s, end_s = (0.0, np.nan) if self.spans_s is None else self.spans_s[:, index].tolist()
        duration_s = float(self.durations_s[index])
        return Utterance(
            self.ids[index],
            self.speakers[index],
            self.recordings[index],
            self.wavs[index],
            start_s,
            None if np.isnan(end_s) else end_s,
            None if self.texts is None else self.texts[index],
            None if np.isnan(duration_s) else duration_s,
        )


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
        columns = read_columns(path, required, FILES)
        if columns is None:
            return cls(path, Utterances.of(_utterances(read_valid(path, text=text))))
        for name in set(table_names(path)).difference(FILES):
            read_table(path / name)  # raises an error if it cannot be read
        durations_s = columns.lengths_s
        if durations_s is None:
            durations_s = np.full(len(columns.ids), np.nan)
        audio = columns.recordings, columns.wavs, columns.spans
        return cls(
            path, Utterances(columns.ids, columns.speakers, *audio, columns.texts, durations_s)
        )


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
            recording, begin, end = Segment.parse(segments[name])
            length = end - begin
        if name in durations:
            length = float(durations[name])
        wav = tables["wav.scp"][recording]
        yield Utterance(name, speaker, recording, wav, begin, end, texts.get(name), length)
