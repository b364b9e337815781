"""An explanation without a model, and a browser to look at its page."""

import numpy as np
import pytest
from explain import browser as chromium

from asr.explain.curves import SHARES, Curve
from asr.explain.explanation import (
    Alternative,
    Explanation,
    Overlap,
    SegmentExplanation,
    WordEvidence,
)
from asr.explain.relevance import Relevance
from asr.recognize.transcript import Segment, Transcript, Word

RATE, SECONDS = 8000, 4.0


@pytest.fixture
def explained():
    """Make the explanation of three words of a second each, from 0.5 s on."""

    def make(words=("TURN", "ON", "LIGHT"), name="a.wav", flags=("low-confidence",)):
        text, spans, place = " ".join(words), [], 0
        for word in words:
            spans.append((place, place + len(word)))
            place += len(word) + 1
        timed = [
            Word(word, 0.5 + i, 1.5 + i, 0.99 - 0.3 * i, tuple(spread(word, 0.5 + i)))
            for i, word in enumerate(words)
        ]
        frames, count = round(100 * SECONDS), len(text)
        diagonal = np.exp(
            -((np.arange(frames) / frames - np.linspace(0.1, 0.9, count + 1)[:, None]) ** 2) * 400
        )
        relevance = Relevance(
            log_probs=np.full(count + 1, -0.1),
            sound=diagonal,
            history=np.tril(np.ones((count + 1, count)), -1),
            without_sound=np.full(count + 1, -2.0),
        )
        falls = Curve(1 - SHARES, SHARES)
        evidence = [
            WordEvidence(word, *span, 0.9, 0.2, 0.03, (Alternative("THE <b>", 0.01),))
            for word, span in zip(timed, spans, strict=True)
        ]
        segment = Segment(0.0, SECONDS, text, -1.0, {}, flags, (), confidence=0.4)
        found = SegmentExplanation(
            segment=segment,
            text=text,
            shift_s=0.01,
            attention=diagonal / diagonal.sum(1, keepdims=True),
            relevance=relevance,
            curves=dict.fromkeys(("attention", "relevance", "chance"), falls),
            overlap=Overlap(0.8, 0.2),
            words=tuple(evidence),
        )
        waveform = np.sin(np.arange(round(SECONDS * RATE)) / 5).astype(np.float32) / 2
        return Explanation(waveform, RATE, Transcript(SECONDS, (segment,)), (found,), name)

    return make


def spread(word, start_s):
    """Yield the characters of a word with their times in one second."""
    for i, character in enumerate(word):
        yield character, start_s + i / len(word), start_s + (i + 1) / len(word)


@pytest.fixture
def browser(tmp_path):
    if chromium.BROWSER is None:
        pytest.skip("no Chromium: apt-get install chromium")
    opened = chromium.Browser(tmp_path / "profile")
    yield opened
    opened.close()
