"""Writers of transcripts in all formats, and the names of their files.

    txt       a line for each segment               ctm       words for NIST's and Kaldi's tools
    json      everything, with whisper's keys       stm       segments for NIST's tools
    srt, vtt  subtitles                             trn       one line for sclite
    tsv       segments, times in milliseconds       textgrid  words and segments for Praat
    audacity  a label track of words

All formats round times to milliseconds, so that they agree with the JSON.
"""

import html
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from asr.errors import InputError
from asr.files import fitting_name, longest_name
from asr.recognize.inputs import Input
from asr.recognize.transcript import Segment, Transcript, Word
from asr.text.timed import CtmWord, ctm_lines

LINE_WIDTH = 42  # characters of a line of subtitles
CUE_LINES = 2  # lines of subtitles on the screen


class Span(NamedTuple):
    """A stretch of text with its times."""

    start_ms: int
    end_ms: int
    text: str
    confidence: float | None = None


def _milliseconds(seconds: float) -> int:
    return round(1000 * seconds)


def _spans(items: Sequence[Word | Segment]) -> list[Span]:
    """Return the spans of the items that have text."""
    return [
        Span(_milliseconds(i.start_s), _milliseconds(i.end_s), i.text, i.confidence)
        for i in items
        if i.text
    ]


def _cues(transcript: Transcript) -> Iterator[Span]:
    """Yield subtitles: segments, cut so that two lines hold each."""
    for segment in transcript.segments:
        lines = _lines(_spans([part for word in segment.words for part in _parts(word)]))
        groups = [lines[i : i + CUE_LINES] for i in range(0, len(lines), CUE_LINES)]
        cuts = [group[0][0].start_ms for group in groups[1:]]
        edges = [_milliseconds(segment.start_s), *cuts, _milliseconds(segment.end_s)]
        for start, end, group in zip(edges, edges[1:], groups, strict=False):
            text = "\n".join(" ".join(word.text for word in line) for line in group)
            yield Span(start, max(end, start + 1), text)


def _parts(word: Word) -> list[Word]:
    """Cut a word that is longer than a line, as all of a text without spaces is."""
    starts = range(0, len(word.characters), LINE_WIDTH)
    parts = [word.characters[start : start + LINE_WIDTH] for start in starts]
    if len(parts) < 2:
        return [word]
    return [Word("".join(c for c, _, _ in part), part[0][1], part[-1][2]) for part in parts]


def _lines(words: Sequence[Span]) -> list[list[Span]]:
    """Break words into lines of at most 42 characters."""
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
    """Format milliseconds as HH:MM:SS,mmm; without ``hours``, as MM:SS,mmm below one hour."""
    seconds, ms = divmod(time_ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    h, minutes = divmod(minutes, 60)
    head = f"{h:02d}:" if hours or h else ""
    return f"{head}{minutes:02d}:{seconds:02d}{decimal}{ms:03d}"


def _txt(transcript: Transcript, name: str) -> str:
    return "".join(segment.text + "\n" for segment in transcript.segments)


def _json(transcript: Transcript, name: str, audio: str = "") -> str:
    return json.dumps(transcript.to_dict(name, audio), ensure_ascii=False, indent=2) + "\n"


def _srt(transcript: Transcript, name: str) -> str:
    return "\n".join(
        f"{number}\n{clock(start, ',')} --> {clock(end, ',')}\n{text.replace('-->', '->')}\n"
        for number, (start, end, text, _) in enumerate(_cues(transcript), 1)
    )


def _vtt(transcript: Transcript, name: str) -> str:
    """WebVTT requires cue text to be escaped as in HTML."""
    cues = [
        f"{clock(start, '.', hours=False)} --> {clock(end, '.', hours=False)}\n"
        f"{html.escape(text.replace('-->', '->'), quote=False)}\n"
        for start, end, text, _ in _cues(transcript)
    ]
    return "\n".join(["WEBVTT\n", *cues])


def _tsv(transcript: Transcript, name: str) -> str:
    rows = [f"{a}\t{b}\t{_one_line(text)}\n" for a, b, text, _ in _spans(transcript.segments)]
    return "".join(["start\tend\ttext\n", *rows])


def _track(name: str, channel: int) -> tuple[str, str]:
    """Return the recording and its channel, which may be the end of its name: ``talk.ch2``."""
    return one_word(name.removesuffix(f".ch{channel}")), str(channel or 1)


def _ctm(transcript: Transcript, name: str, channel: int = 0) -> str:
    """Lines of a recording: name, channel, start, DURATION, word, confidence."""
    track, words = _track(name, channel), sorted(_spans(transcript.words), key=lambda w: w.start_ms)
    return ctm_lines(
        CtmWord(*track, start / 1000, (end - start) / 1000, one_word(text), confidence)
        for start, end, text, confidence in words
    )


def _stm(transcript: Transcript, name: str, channel: int = 0) -> str:
    """Lines of a recording: name, channel, unknown speaker, start, end, text."""
    track = " ".join(_track(name, channel))
    return "".join(
        f"{track} unknown {start / 1000:.3f} {end / 1000:.3f} {_one_line(text)}\n"
        for start, end, text, _ in _spans(transcript.segments)
    )


def _trn(transcript: Transcript, name: str) -> str:
    return f"{_one_line(transcript.text)} ({one_word(name)})\n".lstrip()


def _audacity(transcript: Transcript, name: str) -> str:
    return "".join(
        f"{start / 1000:.6f}\t{end / 1000:.6f}\t{_one_line(text)}\n"
        for start, end, text, _ in _spans(transcript.words)
    )


def _textgrid(transcript: Transcript, name: str) -> str:
    """Praat's long text format; its intervals cover all of the time, silence with empty text."""
    spans = {"words": _spans(transcript.words), "segments": _spans(transcript.segments)}
    tiers = {title: _contiguous(tier) for title, tier in spans.items()}
    ends = [tier[-1].end_ms for tier in tiers.values() if tier]
    duration = max([_milliseconds(transcript.duration_s), 1, *ends])
    lines = [
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
        lines += [
            f"    item [{number}]:",
            '        class = "IntervalTier"',
            f'        name = "{title}"',
            *_times(0, duration, " " * 8),
            f"        intervals: size = {len(intervals)}",
        ]
        for index, (start, end, text, _) in enumerate(intervals, 1):
            quoted = _one_line(text).replace('"', '""')
            lines += [f"        intervals [{index}]:", *_times(start, end, " " * 12)]
            lines.append(f'            text = "{quoted}"')
    return "\n".join(lines) + "\n"


def _times(start_ms: int, end_ms: int, indent: str) -> list[str]:
    return [f"{indent}xmin = {start_ms / 1000:.3f}", f"{indent}xmax = {end_ms / 1000:.3f}"]


def _contiguous(spans: Sequence[Span]) -> list[Span]:
    """Return spans of at least 1 ms without overlaps, and with empty spans in the gaps."""
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


def one_word(text: str) -> str:
    """Return a text as one word, with underscores in place of spaces."""
    return "_".join(text.split()) or "_"


FORMATS: dict[str, tuple[str, Callable[..., str]]] = {
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
"""File ending and writer of each format."""
WHOLE_FILES = ("srt", "vtt", "tsv", "textgrid", "audacity")
"""Formats of which two results cannot follow each other in a file: no line names its recording."""


def formats_from(names: str, known: Collection[str] = FORMATS) -> tuple[str, ...]:
    """Return the formats that are named: ``all`` that are known, or names separated by commas.

    Raises:
        InputError: there is no such format.
    """
    if names == "all":
        return tuple(known)
    chosen = tuple(dict.fromkeys(name.strip().lower() for name in names.split(",")))
    for name in chosen:
        if name not in known:
            raise InputError(
                f"-f {names}: no format {name!r}, expected all or some of {', '.join(known)}, "
                "separated by commas"
            )
    return chosen


def outputs(
    inputs: Sequence[Input], folder: Path, formats: Sequence[str]
) -> dict[Path, list[Path]]:
    """Return the result files by :attr:`Input.file`; names too long for the folder are cut.

    Files of subfolders get subfolders of the same names.

    Raises:
        InputError: two inputs would write the same file.
    """
    taken: dict[Path, str] = {}
    plan: dict[Path, list[Path]] = {}
    longest = longest_name(folder)
    for item in inputs:
        file, name = item.file, f"{item.data}: {item.label}" if item.data else item.label
        names = (fitting_name(file.stem, FORMATS[kind][0], longest) for kind in formats)
        plan[file] = [folder / item.below / each for each in names]
        for target in plan[file]:
            if taken.get(target) == name:
                raise InputError(f"{name}: named twice; name it once")
            if target in taken:
                raise InputError(
                    f"{taken[target]} and {name} would both write {target}; nothing was done. "
                    "Transcribe them in two calls with different -o, or rename one"
                )
            taken[target] = name
    return plan


def render(
    transcript: Transcript, kind: str, name: str = "audio", audio: str = "", channel: int = 0
) -> str:
    """Return a transcript in one of the :data:`FORMATS`.

    Args:
        transcript: with the times of its words.
        kind: a key of :data:`FORMATS`.
        name: of the recording, for the formats that contain one.
        audio: path of the recording, for JSON.
        channel: the channel that was transcribed alone, or 0; for CTM and STM.
    """
    more = {"json": (audio,), "ctm": (channel,), "stm": (channel,)}.get(kind, ())
    return FORMATS[kind][1](transcript, name, *more)
