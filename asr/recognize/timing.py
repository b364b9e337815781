"""Times of the words and characters of a text.

A border between two words lies where CTC writes the space, one encoder step earlier: CTC writes a
character once it has heard it. In a pause the space may stand anywhere, so there the first word
ends with the sound and the second one begins with it; so do the first and the last word of a
segment, whose characters CTC likes to write into the silence around them.

What the choices bring, as the median error of starts and ends on ``data/mini`` (dev-mini), against
the synthesiser's own times: 28 ms; without the delay 42; from the first and last characters of
the words instead of the spaces 63; by attention
(:func:`asr.search.alignment.attention_positions`), which has no delay, 37.
"""

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from asr.arrays import FloatArray
from asr.config import FeatureConfig
from asr.recognize.transcript import Word

BoolArray = npt.NDArray[np.bool_]

CTC_DELAY, ATTENTION_DELAY = 1.0, 0.0  # encoder steps from a sound to its character
PAUSE_S = 0.15  # shortest pause between words; closures of plosives are shorter
LEAD_S, TAIL_S = 0.1, 0.2  # farthest from the first and last character to the sound's edges
SOUND = 0.15  # of the range from soft to loud: frames above it sound
SOFT, LOUD = 5, 95  # percentiles that make up the range


def sounding(features: npt.NDArray[np.floating], config: FeatureConfig) -> BoolArray:
    """Frames that are louder than the background, (T, F) to (T,)."""
    level = features[:, : config.mel_bins].mean(1) if config.kind == "fbank" else features[:, 0]
    soft, loud = np.percentile(level, [SOFT, LOUD])
    return np.asarray(level > soft + SOUND * (loud - soft))


def word_spans(text: str) -> list[tuple[int, int]]:
    """First character of each word and the one after its last."""
    inside = np.array([False, *(not c.isspace() for c in text), False])
    edges = np.flatnonzero(inside[1:] != inside[:-1]).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


def time_words(
    text: str,
    places: FloatArray,
    step_s: float,
    sound: BoolArray,
    shift_s: float,
) -> tuple[Word, ...]:
    """Words with their times, in seconds from the beginning of the segment.

    Args:
        text: U characters.
        places: encoder step that each character belongs to, delays taken off, never falling, (U,).
        step_s: time between encoder steps.
        sound: whether there is sound in each frame, (T,).
        shift_s: time between frames; no word is shorter.
    """
    spans = word_spans(text)
    if not spans:
        return ()
    spikes = (places + 0.5) * step_s
    edges = [_onset(spikes[spans[0][0]], sound, shift_s)]
    for (_, end), (start, _) in pairwise(spans):
        border = float(spikes[end:start].mean())
        edges += _pause(spikes[end - 1], spikes[start], sound, shift_s) or (border, border)
    edges.append(_offset(spikes[spans[-1][1] - 1], sound, shift_s))
    least = np.tile([0.0, shift_s], len(spans))
    times = _in_order(np.array(edges), least, len(sound) * shift_s).tolist()
    return tuple(
        Word(text[a:b], start, end, characters=_characters(text[a:b], spikes[a:b], start, end))
        for (a, b), start, end in zip(spans, times[::2], times[1::2], strict=True)
    )


def _onset(spike: float, sound: BoolArray, shift_s: float) -> float:
    """When the first word begins: with the sound, not long before its first character."""
    return max(float(sound.argmax()) * shift_s, spike - LEAD_S)


def _offset(spike: float, sound: BoolArray, shift_s: float) -> float:
    """When the last word ends: with the sound, not long after its last character."""
    return min((len(sound) - float(sound[::-1].argmax())) * shift_s, spike + TAIL_S)


def _pause(begin: float, end: float, sound: BoolArray, shift_s: float) -> tuple[float, ...]:
    """Beginning and end of the longest pause between two times; nothing where there is none."""
    first, beyond = round(max(0.0, begin) / shift_s), round(max(0.0, end) / shift_s)
    quiet = np.concatenate([[False], ~sound[first:beyond], [False]])
    edges = np.flatnonzero(quiet[1:] != quiet[:-1])
    lengths = edges[1::2] - edges[::2]
    if not len(lengths) or lengths.max() * shift_s < PAUSE_S:
        return ()
    start = first + int(edges[::2][lengths.argmax()])
    return start * shift_s, (start + int(lengths.max())) * shift_s


def _in_order(times: FloatArray, least: FloatArray, total_s: float) -> FloatArray:
    """Times from 0 to the total, each later than the one before by ``least`` or more."""
    after = np.cumsum(least)
    times = np.maximum.accumulate(np.maximum(times, 0.0) - after) + after
    return np.minimum(times, total_s - (after[-1] - after)).clip(min=0.0)


def _characters(
    text: str, spikes: FloatArray, start_s: float, end_s: float
) -> tuple[tuple[str, float, float], ...]:
    """Characters of a word: one ends and the next begins halfway between their spikes."""
    borders = ((spikes[1:] + spikes[:-1]) / 2).clip(start_s, end_s).tolist()
    return tuple(zip(text, [start_s, *borders], [*borders, end_s], strict=True))
