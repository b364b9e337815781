"""Transcripts with times: NIST's STM for references and CTM for hypotheses (SCTK, infmts.htm).

An STM line is ``<file> <channel> <speaker> <start> <end> [<label>] <words...>``, a CTM line
``<file> <channel> <start> <duration> <word> [<confidence>]``; ``;;`` starts a comment. As in
sclite, a word of the CTM belongs to the first STM segment that ends after the middle of the word,
or to the last segment; a word between segments therefore counts as an insertion. Segments marked
``IGNORE_TIME_SEGMENT_IN_SCORING`` are left out together with their words.
"""

import bisect
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from asr.errors import InputError
from asr.grouping import grouped
from asr.terminal import warn
from asr.text.characters import compose
from asr.text.transcripts import ALTERNATIVES, is_trn_comment, read_lines

IGNORED = "IGNORE_TIME_SEGMENT_IN_SCORING"
LONGEST_S = 1e9  # the largest time, about 30 years


@dataclass(frozen=True)
class _OnTrack:
    file: str
    channel: str

    @property
    def track(self) -> tuple[str, str]:
        """File and channel."""
        return self.file, self.channel


@dataclass(frozen=True)
class StmSegment(_OnTrack):
    """A time span of a recording with its reference transcript."""

    speaker: str
    start_s: float
    end_s: float
    text: str

    @property
    def id(self) -> str:
        """File, channel and start in hundredths of a second."""
        return f"{self.file}-{self.channel}-{round(100 * self.start_s):07d}"

    @property
    def ignored(self) -> bool:
        """Whether the segment is not scored."""
        return self.text.upper() == IGNORED


@dataclass(frozen=True)
class CtmWord(_OnTrack):
    """A recognised word."""

    start_s: float
    duration_s: float
    word: str
    confidence: float | None

    @property
    def end_s(self) -> float:
        """End of the word."""
        return self.start_s + self.duration_s

    @property
    def middle_s(self) -> float:
        """Middle of the word, which determines its segment."""
        return self.start_s + self.duration_s / 2


def ctm_lines(words: Iterable[CtmWord]) -> str:
    """Return the lines of a CTM; a word without a confidence has five fields."""
    return "".join(
        f"{w.file} {w.channel} {w.start_s:.3f} {w.duration_s:.3f} {w.word}"
        + ("\n" if w.confidence is None else f" {w.confidence:.4f}\n")
        for w in words
    )


def _lines(lines: Sequence[str], path: Path, form: str) -> Iterator[tuple[str, list[str]]]:
    """Yield ``file:line`` and the five or more fields of every line that is not a comment."""
    for number, line in enumerate(lines, 1):
        if is_trn_comment(line):
            continue
        fields = compose(line).split()
        if len(fields) < 5:
            raise InputError(
                f'{path}:{number}: {len(fields)} fields, expected "{form}"; fix the line'
            )
        yield f"{path}:{number}", fields


def _number(value: str, name: str, where: str, span: tuple[float, float], expected: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not span[0] <= number <= span[1]:
        raise InputError(f'{where}: {name} "{value}", expected {expected}; fix the line')
    return number


def _seconds(value: str, name: str, where: str) -> float:
    return _number(value, name, where, (0, LONGEST_S), f"seconds, 0 to {LONGEST_S:g}")


def parse_stm(lines: Sequence[str], path: Path) -> list[StmSegment]:
    """Return the segments of an STM file.

    Raises:
        InputError: a line has another form, a segment ends before it starts, or a word has
            alternatives.
    """
    form = "<file> <channel> <speaker> <start> <end> [<label>] <words...>"
    segments = []
    for where, fields in _lines(lines, path, form):
        file, channel, speaker = fields[:3]
        start_s, end_s = _seconds(fields[3], "start", where), _seconds(fields[4], "end", where)
        if end_s < start_s:
            raise InputError(f"{where}: end {end_s:g} s before start {start_s:g} s; fix the times")
        words = fields[5:]
        if words and words[0].startswith("<") and words[0].endswith(">"):
            words = words[1:]  # the label, such as <o,f0,male>
        if ALTERNATIVES.search(" ".join(words)):
            raise InputError(f"{where}: alternatives {{ a / b }} are not scored; keep one of them")
        segments.append(StmSegment(file, channel, speaker, start_s, end_s, " ".join(words)))
    return segments


def parse_ctm(lines: Sequence[str], path: Path) -> list[CtmWord]:
    """Return the words of a CTM file; confidences that are not probabilities are left out.

    Raises:
        InputError: a line has another form, or a word has alternatives.
    """
    words = []
    form = "<file> <channel> <start> <duration> <word> [<confidence>]"
    for where, fields in _lines(lines, path, form):
        file, channel, start, duration, word = fields[:5]
        if word in ("<ALT_BEGIN>", "<ALT>", "<ALT_END>"):
            raise InputError(f"{where}: alternatives are not scored; keep one of them")
        times = _seconds(start, "start", where), _seconds(duration, "duration", where)
        confidence = None
        if fields[5:6] not in ([], ["NA"]):
            span = -LONGEST_S, LONGEST_S
            confidence = _number(fields[5], "confidence", where, span, "a number, or NA")
        words.append(CtmWord(file, channel, *times, word, confidence))
    if any(w.confidence is not None and not 0 <= w.confidence <= 1 for w in words):
        warn(f"{path}: its confidences are not from 0 to 1, so they are left out")
        words = [replace(word, confidence=None) for word in words]
    return words


def words_by_file(words: Sequence[CtmWord]) -> dict[str, list[CtmWord]]:
    """Return the words of each file in the order of time, for references without times."""
    return grouped(sorted(words, key=lambda w: w.start_s), lambda w: w.file)


def read_ctm(path: str | Path) -> dict[str, list[CtmWord]]:
    """Return the words of a CTM file by utterance or recording, in the order of time."""
    return words_by_file(parse_ctm(read_lines(path), Path(path)))


def reference_texts(segments: Sequence[StmSegment], path: Path) -> dict[str, str]:
    """Return the texts of the scored segments by :attr:`StmSegment.id`.

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
                f"{segment.start_s:g} s or less than 10 ms apart; expected one, because words are "
                "assigned by their time; join the two, or correct the times"
            )
        texts[segment.id] = segment.text
    return texts


def words_in_segments(
    segments: Sequence[StmSegment],
    words: Sequence[CtmWord],
    same: Mapping[tuple[str, str], tuple[str, str]],
) -> dict[str, list[CtmWord]]:
    """Return the words of each scored segment, assigned by their middles.

    Args:
        segments: of the references.
        words: of the hypotheses.
        same: file and channel of the hypotheses to those of the references; words of other files
            and channels are left out.
    """
    tracks = grouped(sorted(segments, key=lambda s: s.end_s), lambda s: s.track)
    found: dict[str, list[CtmWord]] = {s.id: [] for s in segments if not s.ignored}
    for word in sorted(words, key=lambda w: w.middle_s):
        if word.track in same:
            track = tracks[same[word.track]]
            index = bisect.bisect_left(track, word.middle_s, key=lambda s: s.end_s)
            segment = track[min(index, len(track) - 1)]
            if not segment.ignored:
                found[segment.id].append(word)
    return found
