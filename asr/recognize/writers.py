"""Writers of transcripts in all formats, and the names of their files.

    txt       a line for each segment               ctm       words for NIST's and Kaldi's tools
    json      all there is, with whisper's keys     stm       segments for NIST's tools
    srt, vtt  subtitles                             trn       one line for sclite
    tsv       segments, times in milliseconds       textgrid  words and segments for Praat
    audacity  a label track of words

Times are rounded to milliseconds in all of them, so that they are those of the json.
"""

import html
import json
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from asr.errors import InputError
from asr.files import fitting_name, longest_name

if TYPE_CHECKING:
    from asr.recognize.transcript import Segment, Transcript

LINE_WIDTH = 42  # characters of a line of subtitles, of which two are shown at a time
CUE_LINES = 2


class Span(NamedTuple):
    """A stretch of text in time."""

    start_ms: int
    end_ms: int
    text: str
    confidence: float | None = None


def milliseconds(seconds: float) -> int:
    """The nearest whole millisecond."""
    return round(1000 * seconds)


def segment_spans(transcript: "Transcript") -> list[Span]:
    """The segments that have words."""
    return [
        Span(milliseconds(s.start_s), milliseconds(s.end_s), s.text, s.confidence)
        for s in transcript.segments
        if s.text
    ]


def word_spans(segment: "Segment") -> list[Span]:
    """The words of a segment; where it has no times, spread over it by their letters."""
    if segment.words:
        return [
            Span(milliseconds(w.start_s), milliseconds(w.end_s), w.text, w.confidence)
            for w in segment.words
        ]
    words = segment.text.split()
    ends = [0]
    for word in words:
        ends.append(ends[-1] + len(word))
    length_s = (segment.end_s - segment.start_s) / max(1, ends[-1])
    edges = [milliseconds(segment.start_s + length_s * end) for end in ends]
    return [Span(a, b, word) for (a, b), word in zip(pairwise(edges), words, strict=True)]


def _all_words(transcript: "Transcript") -> list[Span]:
    return [word for segment in transcript.segments for word in word_spans(segment)]


def cues(transcript: "Transcript") -> Iterator[Span]:
    """Subtitles: segments, the long ones cut between words so that two lines hold each."""
    for segment in transcript.segments:
        lines = _lines(word_spans(segment))
        groups = [lines[i : i + CUE_LINES] for i in range(0, len(lines), CUE_LINES)]
        for number, group in enumerate(groups):
            start = group[0][0].start_ms if number else milliseconds(segment.start_s)
            last = number == len(groups) - 1
            end = milliseconds(segment.end_s) if last else groups[number + 1][0][0].start_ms
            text = "\n".join(" ".join(word.text for word in line) for line in group)
            yield Span(start, max(end, start + 1), text)


def _lines(words: Sequence[Span]) -> list[list[Span]]:
    """Words to lines of at most 42 characters; a longer word has one for itself."""
    lines: list[list[Span]] = []
    width = LINE_WIDTH + 1
    for word in words:
        if width + 1 + len(word.text) > LINE_WIDTH:
            lines.append([])
            width = -1
        lines[-1].append(word)
        width += 1 + len(word.text)
    return lines


def clock(time_ms: int, decimal: str, *, hours: bool = True) -> str:
    """Milliseconds as HH:MM:SS,mmm; without ``hours``, these only where there are some."""
    seconds, ms = divmod(time_ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    h, minutes = divmod(minutes, 60)
    head = f"{h:02d}:" if hours or h else ""
    return f"{head}{minutes:02d}:{seconds:02d}{decimal}{ms:03d}"


def _txt(transcript: "Transcript", name: str) -> str:
    return "".join(segment.text + "\n" for segment in transcript.segments)


def _json(transcript: "Transcript", name: str, audio: str = "") -> str:
    return json.dumps(transcript.to_dict(name, audio), ensure_ascii=False, indent=2) + "\n"


def _srt(transcript: "Transcript", name: str) -> str:
    return "\n".join(
        f"{number}\n{clock(start, ',')} --> {clock(end, ',')}\n{text.replace('-->', '->')}\n"
        for number, (start, end, text, _) in enumerate(cues(transcript), 1)
    )


def _vtt(transcript: "Transcript", name: str) -> str:
    """Cue text is escaped as in HTML, by the format's rules."""
    blocks = [
        f"{clock(start, '.', hours=False)} --> {clock(end, '.', hours=False)}\n"
        f"{html.escape(text.replace('-->', '->'), quote=False)}\n"
        for start, end, text, _ in cues(transcript)
    ]
    return "\n".join(["WEBVTT\n", *blocks])


def _tsv(transcript: "Transcript", name: str) -> str:
    rows = [f"{a}\t{b}\t{_one_line(text)}\n" for a, b, text, _ in segment_spans(transcript)]
    return "".join(["start\tend\ttext\n", *rows])


def _ctm(transcript: "Transcript", name: str) -> str:
    """A line for each word: recording, channel, start, DURATION, word, confidence."""
    lines = []
    for start, end, text, confidence in sorted(_all_words(transcript), key=lambda w: w.start_ms):
        sure = "" if confidence is None else f" {confidence:.4f}"
        times = f"{start / 1000:.3f} {(end - start) / 1000:.3f}"
        lines.append(f"{_one_word(name)} 1 {times} {_one_word(text)}{sure}\n")
    return "".join(lines)


def _stm(transcript: "Transcript", name: str) -> str:
    """A line per segment: recording, channel, unknown speaker, start, end, text."""
    return "".join(
        f"{_one_word(name)} 1 unknown {start / 1000:.3f} {end / 1000:.3f} {_one_line(text)}\n"
        for start, end, text, _ in segment_spans(transcript)
    )


def _trn(transcript: "Transcript", name: str) -> str:
    return f"{_one_line(transcript.text)} ({_one_word(name)})\n".lstrip()


def _audacity(transcript: "Transcript", name: str) -> str:
    return "".join(
        f"{start / 1000:.6f}\t{end / 1000:.6f}\t{_one_line(text)}\n"
        for start, end, text, _ in _all_words(transcript)
    )


def _textgrid(transcript: "Transcript", name: str) -> str:
    """Praat's long text format; intervals fill all of the time, empty where nobody speaks."""
    spans = {"words": _all_words(transcript), "segments": segment_spans(transcript)}
    tiers = {title: _in_a_row(tier) for title, tier in spans.items()}
    ends = [tier[-1].end_ms for tier in tiers.values() if tier]
    duration = max([milliseconds(transcript.duration_s), 1, *ends])
    head = [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        *_times(0, duration, ""),
        "tiers? <exists>",
        f"size = {len(tiers)}",
        "item []:",
    ]
    for number, (title, tier) in enumerate(tiers.items(), 1):
        now = tier[-1].end_ms if tier else 0
        intervals = [*tier, Span(now, duration, "")] if now < duration else tier
        head += [
            f"    item [{number}]:",
            '        class = "IntervalTier"',
            f'        name = "{title}"',
            *_times(0, duration, " " * 8),
            f"        intervals: size = {len(intervals)}",
        ]
        for place, (start, end, text, _) in enumerate(intervals, 1):
            quoted = _one_line(text).replace('"', '""')
            head += [f"        intervals [{place}]:", *_times(start, end, " " * 12)]
            head.append(f'            text = "{quoted}"')
    return "\n".join(head) + "\n"


def _times(start_ms: int, end_ms: int, indent: str) -> list[str]:
    return [f"{indent}xmin = {start_ms / 1000:.3f}", f"{indent}xmax = {end_ms / 1000:.3f}"]


def _in_a_row(spans: Sequence[Span]) -> list[Span]:
    """Spans without gaps, which become empty ones, and without overlaps; each has a length."""
    row: list[Span] = []
    now = 0
    for start, end, text, _ in spans:
        start = max(start, now)
        if start > now:
            row.append(Span(now, start, ""))
        now = max(end, start + 1)
        row.append(Span(start, now, text))
    return row


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _one_word(text: str) -> str:
    return "_".join(text.split()) or "_"


FORMATS: dict[str, tuple[str, Callable[["Transcript", str], str]]] = {
    "txt": (".txt", _txt),
    "json": (".json", _json),
    "srt": (".srt", _srt),
    "vtt": (".vtt", _vtt),
    "tsv": (".tsv", _tsv),
    "ctm": (".ctm", _ctm),
    "stm": (".stm", _stm),
    "trn": (".trn", _trn),
    "textgrid": (".TextGrid", _textgrid),
    "audacity": (".labels.txt", _audacity),
}
"""Name of each format, with the end of its files' names and what writes it."""


def formats_from(names: str) -> tuple[str, ...]:
    """``all``, or names with commas between them.

    Raises:
        InputError: there is no such format.
    """
    if names == "all":
        return tuple(FORMATS)
    chosen = tuple(dict.fromkeys(name.strip().lower() for name in names.split(",")))
    for name in chosen:
        if name not in FORMATS:
            raise InputError(
                f"-f {names}: no format {name!r}, expected all or some of {', '.join(FORMATS)}, "
                "with commas between them"
            )
    return chosen


def outputs(files: Sequence[Path], folder: Path, formats: Sequence[str]) -> dict[Path, list[Path]]:
    """Where the results of each file go; names that are too long for the folder are cut.

    Raises:
        InputError: two inputs would write the same file.
    """
    taken: dict[Path, Path] = {}
    plan: dict[Path, list[Path]] = {}
    longest = longest_name(folder)
    for file in files:
        ends = (FORMATS[kind][0] for kind in formats)
        plan[file] = [folder / fitting_name(file.stem, end, longest) for end in ends]
        for target in plan[file]:
            if target in taken:
                raise InputError(
                    f"{taken[target]} and {file} would both write {target}; nothing was done. "
                    "Transcribe them in two calls with different -o, or rename one"
                )
            taken[target] = file
    return plan


def render(transcript: "Transcript", kind: str, name: str = "audio", audio: str = "") -> str:
    """A transcript in one of the :data:`FORMATS`.

    Args:
        transcript: with or without words.
        kind: a key of :data:`FORMATS`.
        name: of the recording, for the formats that want one.
        audio: where it comes from, for json.
    """
    if kind == "json":
        return _json(transcript, name, audio)
    return FORMATS[kind][1](transcript, name)
