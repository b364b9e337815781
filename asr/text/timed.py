"""Transcripts with times: NIST's STM for references and CTM for hypotheses (SCTK, infmts.htm).

An STM line is ``<file> <channel> <speaker> <start> <end> [<label>] <words...>``, a CTM line
``<file> <channel> <start> <duration> <word> [<confidence>]``; ``;;`` starts a comment. As in
sclite, a word of the CTM belongs to the first STM segment that has not ended when its middle
comes, or to the last one: what was heard between segments counts as inserted. Segments to be
ignored (``IGNORE_TIME_SEGMENT_IN_SCORING``) are left out together with the words in them.
"""

import bisect
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from asr.errors import InputError
from asr.text.characters import compose
from asr.text.transcripts import is_trn_comment

IGNORED = "IGNORE_TIME_SEGMENT_IN_SCORING"


@dataclass(frozen=True)
class StmSegment:
    """A stretch of speech and what is said in it."""

    file: str
    channel: str
    speaker: str
    start_s: float
    end_s: float
    text: str

    @property
    def id(self) -> str:
        """A name for it: file, channel and start in hundredths of a second."""
        return f"{self.file}-{self.channel}-{round(100 * self.start_s):07d}"

    @property
    def track(self) -> tuple[str, str]:
        """File and channel."""
        return self.file, self.channel

    @property
    def ignored(self) -> bool:
        """Whether what is said here does not count."""
        return self.text.upper() == IGNORED


@dataclass(frozen=True)
class CtmWord:
    """A recognised word."""

    file: str
    channel: str
    start_s: float
    duration_s: float
    word: str
    confidence: float | None

    @property
    def track(self) -> tuple[str, str]:
        """File and channel."""
        return self.file, self.channel

    @property
    def middle_s(self) -> float:
        """Middle of the word, which decides to which segment it belongs."""
        return self.start_s + self.duration_s / 2


def _lines(
    lines: Sequence[str], path: Path, least: int, form: str
) -> Iterator[tuple[str, list[str]]]:
    """Yield ``file:line`` and the fields of every line but comments."""
    for number, line in enumerate(lines, 1):
        if is_trn_comment(line):
            continue
        fields = compose(line).split()
        if len(fields) < least:
            raise InputError(
                f'{path}:{number}: {len(fields)} fields, expected "{form}"; fix the line'
            )
        yield f"{path}:{number}", fields


def _seconds(value: str, name: str, where: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise InputError(f'{where}: {name} "{value}", expected seconds, 0 or more; fix the line')
    return seconds


def parse_stm(lines: Sequence[str], path: Path) -> list[StmSegment]:
    """The segments of an STM file.

    Raises:
        InputError: a line has another form, a segment ends before it starts, or a word has
            alternatives.
    """
    form = "<file> <channel> <speaker> <start> <end> [<label>] <words...>"
    segments = []
    for where, fields in _lines(lines, path, 5, form):
        file, channel, speaker = fields[:3]
        start_s, end_s = (_seconds(fields[i], n, where) for i, n in ((3, "start"), (4, "end")))
        if end_s < start_s:
            raise InputError(f"{where}: it ends at {end_s:g} s, before its start at {start_s:g} s")
        words = fields[5:]
        if words and words[0].startswith("<") and words[0].endswith(">"):
            words = words[1:]  # the label, such as <o,f0,male>
        if "{" in words:
            raise InputError(f"{where}: alternatives {{ a / b }} are not scored; keep one of them")
        segments.append(StmSegment(file, channel, speaker, start_s, end_s, " ".join(words)))
    return segments


def parse_ctm(lines: Sequence[str], path: Path) -> list[CtmWord]:
    """The words of a CTM file.

    Raises:
        InputError: a line has another form, or a word has alternatives.
    """
    words = []
    form = "<file> <channel> <start> <duration> <word> [<confidence>]"
    for where, fields in _lines(lines, path, 5, form):
        if fields[4] in ("<ALT_BEGIN>", "<ALT>", "<ALT_END>") or fields[2] == "*":
            raise InputError(f"{where}: alternatives are not scored; keep one of them")
        times = (_seconds(fields[i], n, where) for i, n in ((2, "start"), (3, "duration")))
        start_s, duration_s = times
        sure = _confidence(fields[5:6], where)
        words.append(CtmWord(fields[0], fields[1], start_s, duration_s, fields[4], sure))
    return words


def _confidence(field: list[str], where: str) -> float | None:
    if not field or field[0] == "NA":
        return None
    try:
        value = float(field[0])
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise InputError(f'{where}: confidence "{field[0]}", expected a number from 0 to 1, or NA')
    return value


def words_by_file(words: Sequence[CtmWord]) -> dict[str, list[CtmWord]]:
    """The words of each file in the order of time: for references without times."""
    found: dict[str, list[CtmWord]] = defaultdict(list)
    for word in sorted(words, key=lambda w: w.start_s):
        found[word.file].append(word)
    return dict(found)


def reference_texts(segments: Sequence[StmSegment], path: Path) -> dict[str, str]:
    """The text of each segment that counts, by :attr:`StmSegment.id`.

    Raises:
        InputError: two segments begin at the same time.
    """
    texts: dict[str, str] = {}
    for segment in segments:
        if segment.ignored:
            continue
        if segment.id in texts:
            raise InputError(
                f"{path}: two segments of {segment.file}, channel {segment.channel}, begin at "
                f"{segment.start_s:g} s; expected one, for words are assigned by their time"
            )
        texts[segment.id] = segment.text
    return texts


def words_in_segments(
    segments: Sequence[StmSegment],
    words: Sequence[CtmWord],
    same: Mapping[tuple[str, str], tuple[str, str]],
) -> dict[str, list[CtmWord]]:
    """The words of each segment that counts, assigned by their middles.

    Args:
        segments: of the references.
        words: of the hypotheses.
        same: file and channel in the references by those of the words; other words are left out.
    """
    tracks: dict[tuple[str, str], list[StmSegment]] = defaultdict(list)
    for segment in sorted(segments, key=lambda s: s.end_s):
        tracks[segment.track].append(segment)
    found: dict[str, list[CtmWord]] = {s.id: [] for s in segments if not s.ignored}
    for word in sorted(words, key=lambda w: w.middle_s):
        if word.track in same:
            track = tracks[same[word.track]]
            index = bisect.bisect_left(track, word.middle_s, key=lambda s: s.end_s)
            segment = track[min(index, len(track) - 1)]
            if not segment.ignored:
                found[segment.id].append(word)
    return found
