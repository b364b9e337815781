"""Explanations as one self-contained HTML page that works offline.

The page makes no request: audio (FLAC), pictures and numbers are inside. A content security policy
allows its own script and style alone, by their hashes, and every text is escaped, because a
transcript or the name of a file may hold anything.
"""

import base64
import hashlib
import html
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from asr.arrays import FloatArray
from asr.errors import counted
from asr.explain.curves import CHANCE, SHARES, Curve, mean_curves
from asr.explain.explanation import (
    Explanation,
    Overlap,
    SegmentExplanation,
    WordEvidence,
    mean_overlap,
)
from asr.files import write_atomically

COLUMNS = 600  # most columns of a picture
TONES_HZ = 5000.0  # highest frequency of the spectrogram
WINDOW_S, HOP_S = 0.025, 0.01  # of the spectrogram
WAVE_COLUMNS = 800
SHOWN = 0.02  # probability above which another reading stands below a word
ROOT = 0.7  # exponent of the colours, as in page.js
GRADES = ((0.9, "sure"), (0.7, "fair"), (0.5, "unsure"), (0.0, "wrong"))
"""Lowest confidence of each class of colour."""
REASONS = {
    "low-confidence": "the text is more likely wrong than right",
    "no-end": "the model did not find an end and was stopped",
    "loop": "the text repeats itself while the attention stands still",
    "stall": "the attention stands still while letters are written",
    "cut-off": "there is speech at the end that the attention did not reach",
    "skipped": "there is speech in the middle that the text lacks",
    "doubtful": "the model finds its own text improbable",
}
ORDERS = {
    "attention": "most attended first",
    "relevance": "most relevant first",
    CHANCE: "in random order",
}

SOURCES = """<footer class="soft">Sources: occlusion arXiv:1311.2901, removal of sound in an order
of importance arXiv:1806.07421, attention and explanation arXiv:1902.10186.</footer>"""
MEASURE = """<p class="claim"><b>Attention is evidence of the alignment, not proof of what caused a
letter.</b> It shows where the model looked. Relevance is measured: each short stretch of sound is
replaced by average sound, and the relevance of the stretch is what the logarithm of a letter's
probability loses.</p>"""


def write_page(
    path: str | Path, explanations: Sequence[Explanation], rendered: Iterable[str] | None = None
) -> Path:
    """Write the page of one or more explanations.

    Args:
        path: file to write.
        explanations: of all recordings; without arrays if they are rendered.
        rendered: the part of each recording, by :func:`render`; by default rendered now.

    Raises:
        InputError: the file cannot be written.
    """
    if rendered is None:
        rendered = (render(each, number) for number, each in enumerate(explanations))
    style, script = (_source(name) for name in ("page.css", "page.js"))
    policy = (
        f"default-src 'none'; media-src data:; img-src data:; style-src '{_hash(style)}'; "
        f"script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'"
    )
    before = [
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<link rel="icon" href="data:,">',
        "<title>What the recogniser heard, and why</title>",
        f"<style>{style}</style></head><body>",
        *_head(explanations),
    ]
    parts = chain(before, rendered, [SOURCES, f"<script>{script}</script></body></html>"])
    return write_atomically(path, lambda file: file.writelines(f"{p}\n".encode() for p in parts))


def _source(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _text(value: object) -> str:
    return html.escape(str(value))


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def _head(explanations: Sequence[Explanation]) -> Iterator[str]:
    segments = [segment for each in explanations for segment in each.segments]
    yield "<h1>What the recogniser heard, and why</h1>"
    yield (
        '<p class="soft">Click a word, or a place in a picture, to hear it. Green words are '
        "certain, yellow and red ones are not.</p>"
    )
    if len(explanations) > 1:
        yield "<nav><ol>"
        for number, each in enumerate(explanations):
            text = _text(each.transcript.text or each.transcript.why_empty)
            yield f'<li><a href="#r{number}">{_text(each.name)}</a>: {text}</li>'
        yield "</ol></nav>"
    if segments:
        yield MEASURE
    if len(segments) > 1:
        yield f"<h2>The whole page: {counted(len(segments), 'segment')}</h2>"
        yield _claim(mean_overlap(segments))
        yield from _charts(mean_curves([segment.curves for segment in segments]))


def _claim(overlap: Overlap) -> str:
    return (
        f'<p class="claim"><b>{_percent(overlap.share)}</b> of the relevance lies in the sound that'
        f" got 90 % of the attention. By chance it would be {_percent(overlap.chance)}, because "
        "that sound is so much of the recording.</p>"
    )


def render(explanation: Explanation, number: int) -> str:
    """Return the part of a recording, without the head and the end of the page.

    Args:
        explanation: of the recording.
        number: its place on the page, from 0.
    """
    return "\n".join(_recording(explanation, number))


def _recording(explanation: Explanation, number: int) -> Iterator[str]:
    yield f'<section class="recording" id="r{number}"><header>'
    seconds = f"{explanation.transcript.duration_s:.1f} s"
    yield f'<h2>{_text(explanation.name or "recording")}</h2><span class="soft">{seconds}</span>'
    sound = _sound(explanation.waveform, explanation.rate)
    yield f'<audio controls preload="auto" src="{sound}"></audio></header>'
    if not explanation.segments:
        yield f"<p>Nothing to explain: {_text(explanation.transcript.why_empty)}.</p>"
    for place, segment in enumerate(explanation.segments):
        yield from _segment(segment, explanation, f"show{number}.{place}")
    yield "</section>"


def _segment(segment: SegmentExplanation, explanation: Explanation, name: str) -> Iterator[str]:
    found, several = segment.segment, len(explanation.segments) > 1
    yield '<div class="segment">'
    if several:
        yield f"<h3>From {found.start_s:.1f} to {found.end_s:.1f} s</h3>"
    for flag in found.flags:
        yield f'<div class="flag"><b>{_text(flag)}:</b> {_text(REASONS.get(flag, ""))}</div>'
    if found.confidence is not None:
        sure = _percent(found.confidence)
        yield f'<p class="soft">The whole text is right with a probability of {sure}.</p>'
    yield f'<p class="soft">Below each word: {_measure_of_words(segment)}.</p><div class="words">'
    for word in segment.words:
        yield (
            f'<button class="word {_grade(word)}">{_text(word.word.text)}'
            f"<small>{_percent(_sure(word))}</small>{_second(word)}</button>"
        )
    yield "</div>"
    yield PICTURE.format(name=name)
    yield _claim(segment.overlap)
    yield from _charts(segment.curves, "" if several else "open")
    yield f'<script type="application/json">{_json(_data(segment, explanation))}</script></div>'


PICTURE = """<div class="split"><div>
<p class="caption">Each row below the words is a letter, from the first at the top to the last at
the bottom. <span class="a">Blue: where the model looked when it wrote the letter
(attention).</span> <span class="r">Orange: the sound that the letter needed
(relevance).</span> Where the colours mix, both agree. The letters stand where they are heard.</p>
<fieldset class="show"><label><input type="radio" name="{name}" value="both" checked> both</label>
<label><input type="radio" name="{name}" value="attention"> attention alone</label>
<label><input type="radio" name="{name}" value="relevance"> relevance alone</label></fieldset>
<p class="hint soft" hidden>The picture is wider than the window: scroll it sideways.</p>
<div class="scroll" tabindex="0" role="group" aria-label="Pictures of the sound, scrollable">
<div class="picture"></div></div></div><div class="detail" aria-live="polite"></div></div>"""


def _sure(word: WordEvidence) -> float:
    return word.probability if word.word.confidence is None else word.word.confidence


def _second(word: WordEvidence) -> str:
    """Return the best other reading of a word, if it is worth a mention."""
    text, share = next(iter(word.alternatives), ("", 0.0))
    if share < SHOWN:
        return ""
    return f"<small>or {_text(text) or 'nothing'} {_percent(share)}</small>"


def _measure_of_words(segment: SegmentExplanation) -> str:
    if any(word.word.confidence is not None for word in segment.words):
        return "the probability that it is right"
    return "how probable the decoder finds its letters (the model is not calibrated)"


def _grade(word: WordEvidence) -> str:
    return next(name for lowest, name in GRADES if _sure(word) >= lowest or lowest == 0)


def _json(value: Any) -> str:
    """Return JSON that cannot end the script element that holds it."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def _data(segment: SegmentExplanation, explanation: Explanation) -> dict[str, Any]:
    """Return what the script of the page draws."""
    start_s, end_s, count = segment.segment.start_s, segment.segment.end_s, len(segment.text)
    rate = explanation.rate
    waveform = explanation.waveform[round(start_s * rate) : round(end_s * rate)]
    tones = spectrogram(waveform, rate)
    found = segment.relevance
    return {
        "start": start_s,
        "end": end_s,
        "text": list(segment.text),
        "words": [_word(word) for word in segment.words],
        "attention": _map(_columns(segment.attention[:count])),
        "relevance": _map(_columns(found.sound[:count])),
        "history": _map(found.history[:count]),
        "tones": _bytes(tones),
        "tone_rows": len(tones),
        "wave": _bytes(_envelope(waveform)),
    }


def _word(each: WordEvidence) -> dict[str, Any]:
    word = each.word
    return {
        "text": word.text,
        "start": round(word.start_s, 3),
        "end": round(word.end_s, 3),
        "sure": round(_sure(each), 4),
        "grade": _grade(each),
        "first": each.first,
        "end_letter": each.end,
        "letters": [[c, round(a, 3), round(b, 3)] for c, a, b in word.characters],
        "uniform": round(each.uniform, 4),
        "language": round(each.without_sound, 4),
        "probability": round(each.probability, 4),
        "sound": round(each.sound_share, 4),
        "others": [[text, round(share, 5)] for text, share in each.alternatives[:5]],
    }


def _bytes(values: np.ndarray) -> str:
    return base64.b64encode(values.astype(np.uint8).tobytes()).decode()


def _map(values: FloatArray) -> str:
    """Return a root of positive weights, which shows faint ones, too, as bytes."""
    largest = max(1e-9, float(np.quantile(values, 0.999))) if values.size else 1.0
    return _bytes(255 * (values.clip(0.0, largest) / largest) ** ROOT)


def _columns(values: FloatArray) -> FloatArray:
    """Return the mean of neighbouring frames, so that few columns are left, (U, T)."""
    width = -(-values.shape[1] // COLUMNS)
    starts = np.arange(0, values.shape[1], width)
    return np.add.reduceat(values, starts, 1) / np.diff([*starts, values.shape[1]])


def spectrogram(waveform: FloatArray, rate: int) -> FloatArray:
    """Return the log-power up to 5 kHz, scaled to 0 to 255: (N,) to (frequencies, columns).

    The highest frequency is in the first row; there are at most 600 columns.
    """
    length, hop = max(2, round(WINDOW_S * rate)), max(1, round(HOP_S * rate))
    padded = np.pad(waveform, (0, max(0, length - len(waveform))))
    windows = np.lib.stride_tricks.sliding_window_view(padded, length)[::hop] * np.hanning(length)
    power = np.abs(np.fft.rfft(windows))[:, : max(2, round(TONES_HZ / rate * length))]
    level = np.log(power + 1e-5).T[::-1]
    low, high = np.quantile(level, (0.3, 0.995))
    return _columns(255 * ((level - low) / max(1e-6, high - low)).clip(0, 1))


def _envelope(waveform: FloatArray) -> FloatArray:
    """Return the lowest and the highest sample of each column, 0 to 255."""
    scaled = 127 * waveform / max(1e-6, float(np.abs(waveform).max(initial=0.0))) + 128
    parts = np.array_split(scaled, min(WAVE_COLUMNS, max(1, len(scaled))))
    return np.array([(part.min(initial=128.0), part.max(initial=128.0)) for part in parts])


def _sound(waveform: FloatArray, rate: int) -> str:
    """Return the audio as a data URL with 16-bit FLAC."""
    file = io.BytesIO()
    soundfile.write(file, waveform.clip(-1.0, 1.0), rate, format="FLAC", subtype="PCM_16")
    return f"data:audio/flac;base64,{base64.b64encode(file.getvalue()).decode()}"


def _charts(curves: Mapping[str, Curve], state: str = "open") -> Iterator[str]:
    """Yield the deletion and the insertion curves; ``state`` is open, or empty for closed."""
    yield f"<details {state}><summary>Does the text really depend on that sound?</summary>"
    yield '<div class="charts"><figure><figcaption>Words that survive when sound is removed. '
    yield "The faster a line falls and the lower its mean height, the better its order names what "
    yield "matters.</figcaption>"
    yield _chart(curves, "deletion", "sound removed")
    yield "</figure><figure><figcaption>Words that are found when only the first part of the "
    yield "audio, in each order, is kept. The faster a line rises and the higher its mean height, "
    yield "the less sound is enough.</figcaption>"
    yield f"{_chart(curves, 'kept', 'sound kept')}</figure></div></details>"


def _chart(curves: Mapping[str, Curve], kind: str, label: str) -> str:
    """Return an SVG of the curves of a kind over the share of the sound."""
    parts = [f'<svg viewBox="0 0 460 210" role="img" aria-label="Words that survive, by {label}">']
    for value in (0.0, 0.5, 1.0):
        y, x = 170 - 150 * value, 44 + 230 * value
        parts.append(f'<path class="axis" d="M44 {y}H274"/>')
        parts.append(f'<text x="38" y="{y + 4}" text-anchor="end">{_percent(value)}</text>')
        parts.append(f'<text x="{x}" y="187" text-anchor="middle">{_percent(value)}</text>')
    parts.append(f'<text x="159" y="206" text-anchor="middle">{label}</text>')
    for place, (name, curve) in enumerate(curves.items()):
        points = " ".join(
            f"{44 + 230 * x:.1f},{170 - 150 * y:.1f}"
            for x, y in zip(SHARES, getattr(curve, kind), strict=True)
        )
        y = 28 + 50 * place
        facts = [ORDERS[name], f"mean height {getattr(curve, f'{kind}_area'):.2f}"]
        if kind == "kept":
            facts.append(f"{_percent(curve.size)} for half the words")
        parts.append(
            f'<path class="{name}" d="M{points}"/><path class="{name}" d="M282 {y - 4}H296"/>'
        )
        parts += [
            f'<text class="{name}" x="301" y="{y + 15 * line}">{fact}</text>'
            for line, fact in enumerate(facts)
        ]
    return "".join(parts) + "</svg>"
