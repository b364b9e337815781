"""Times of the words and characters of a text.

A boundary between two words lies one encoder step before the space in CTC's path, because CTC
writes a character after its sound. In a pause the space may stand anywhere, so the words end and
begin with the sound there. The same holds for the first and the last word of a segment, whose
characters CTC often writes into the silence around them.
"""

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from asr.arrays import BoolArray, FloatArray
from asr.config import FeatureConfig
from asr.recognize.transcript import Word

CTC_DELAY = 1.0  # encoder steps from a sound to its character; attention has no delay
PAUSE_S = 0.15  # shortest pause between words; closures of plosives are shorter
LEAD_S, TAIL_S = 0.1, 0.2  # longest sound before the first and after the last character
LOUD = 0.15  # loudness threshold, as a share of the range between two percentiles
PERCENTILES = 5, 95


def loud_frames(features: npt.NDArray[np.floating], config: FeatureConfig) -> BoolArray:
    """Return which frames are louder than the background, (T, F) to (T,)."""
    level = features[:, : config.mel_bins].mean(1) if config.kind == "fbank" else features[:, 0]
    low, high = np.percentile(level, PERCENTILES)
    return np.asarray(level > low + LOUD * (high - low))


def word_spans(text: str) -> list[tuple[int, int]]:
    """Return the first character of each word and the one after its last."""
    return _runs([not c.isspace() for c in text])


def _runs(mask: npt.ArrayLike) -> list[tuple[int, int]]:
    """Return the start and the end of each run of true values."""
    edges = np.flatnonzero(np.diff(mask, prepend=False, append=False)).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


def time_words(
    text: str,
    positions: FloatArray,
    step_s: float,
    loud: BoolArray,
    shift_s: float,
    start_s: float = 0.0,
) -> tuple[Word, ...]:
    """Return the words of a segment with their times.

    Args:
        text: U characters.
        positions: encoder step of each character without the delay, non-decreasing, (U,).
        step_s: time between encoder steps.
        loud: whether each frame is louder than the background, (T,).
        shift_s: time between frames; no word is shorter, unless there are more words than frames.
        start_s: start of the segment, from which the times count.
    """
    spans = word_spans(text)
    if not spans:
        return ()
    spikes = (positions + 0.5) * step_s
    onset_s, offset_s = loud.argmax() * shift_s, (len(loud) - loud[::-1].argmax()) * shift_s
    edges = [max(onset_s, spikes[spans[0][0]] - LEAD_S)]
    for (_, end), (start, _) in pairwise(spans):
        boundary = float(spikes[end:start].mean())
        edges += _pause(spikes[end - 1], spikes[start], loud, shift_s) or (boundary, boundary)
    edges.append(min(offset_s, spikes[spans[-1][1] - 1] + TAIL_S))
    gaps = np.tile([0.0, shift_s], len(spans))
    times = (_in_order(np.array(edges), gaps, len(loud) * shift_s) + start_s).tolist()
    spikes += start_s
    words = []
    for (a, b), start, end in zip(spans, times[::2], times[1::2], strict=True):
        # characters meet halfway between their spikes
        middles = ((spikes[a + 1 : b] + spikes[a : b - 1]) / 2).clip(start, end).tolist()
        characters = zip(text[a:b], [start, *middles], [*middles, end], strict=True)
        words.append(Word(text[a:b], start, end, characters=tuple(characters)))
    return tuple(words)


def _pause(begin: float, end: float, loud: BoolArray, shift_s: float) -> tuple[float, ...]:
    """Return the start and the end of the longest pause between two times, or an empty tuple."""
    first, beyond = round(max(0.0, begin) / shift_s), round(max(0.0, end) / shift_s)
    pauses = _runs(~loud[first:beyond])
    start, end = max(pauses, key=lambda run: run[1] - run[0], default=(0, 0))
    if (end - start) * shift_s < PAUSE_S:
        return ()
    return (first + start) * shift_s, (first + end) * shift_s


def _in_order(times: FloatArray, gaps: FloatArray, total_s: float) -> FloatArray:
    """Return times from 0 to the total, each at least a gap after the one before."""
    after = np.cumsum(gaps)
    times = np.maximum.accumulate(np.maximum(times, 0.0) - after) + after
    return np.minimum(times, total_s - (after[-1] - after)).clip(min=0.0)
