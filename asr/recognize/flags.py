"""What is suspicious about a hypothesis, from attention, CTC and their probabilities."""

from collections.abc import Iterable

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from asr.arrays import FloatArray
from asr.recognize.plausibility import DOUBTFUL, STALL
from asr.search.alignment import CTCAlignment
from asr.search.hypothesis import BLANK, Hypothesis

LOOP_REPEATS = 3  # the same stretch of characters so many times in a row
LOOP_LENGTH = 4  # shortest stretch that counts
LOOP_STEPS = 4.0  # encoder steps that saying it twice more takes at the very least
STALL_LENGTH = 12  # characters that nobody says within STALL_STEPS encoder steps
STALL_STEPS = 4.0
UNSEEN_SHARE = 0.3  # of the audio, at its end, that was never looked at
SHORTEST_STEPS = 10  # audio of fewer encoder steps has no end worth the name
SKIPPED_LENGTH = 3  # characters in a row that CTC is sure of and the text has not
LEAST_LOG_PROB = -1.0  # a character, below which a text is doubtful


def positions(weights: FloatArray) -> FloatArray:
    """The mean encoder step that each character looked at: weights (U, S) to (U,)."""
    return weights @ np.arange(weights.shape[1], dtype=weights.dtype)


def loops(tokens: tuple[int, ...], weights: FloatArray) -> bool:
    """Whether a stretch of characters comes three times in a row while attention stands still.

    "SEVEN SEVEN SEVEN" that was said three times moves attention on; a loop does not.

    Args:
        tokens: the U characters.
        weights: attention of each of them, (U, S) or more rows.
    """
    looked = positions(weights)
    for length in range(LOOP_LENGTH, len(tokens) // LOOP_REPEATS + 1):
        run = 0
        for i in range(length, len(tokens)):
            run = run + 1 if tokens[i] == tokens[i - length] else 0
            if run >= (LOOP_REPEATS - 1) * length:
                first = looked[i + 1 - LOOP_REPEATS * length :][:length].mean()
                last = looked[i + 1 - length : i + 1].mean()
                if last - first < LOOP_STEPS:
                    return True
    return False


def stalls(weights: FloatArray) -> bool:
    """Whether attention, (U, S), stands still while many characters are written."""
    looked = positions(weights)
    if len(looked) < STALL_LENGTH:
        return False
    windows = sliding_window_view(looked, STALL_LENGTH)
    return bool((windows.max(1) - windows.min(1) < STALL_STEPS).any())


def skips(alignment: CTCAlignment) -> bool:
    """Whether CTC is sure of several characters where the text has none."""
    run = 0
    for symbol, confident, before in zip(
        alignment.path, alignment.confident, [BLANK, *alignment.confident], strict=False
    ):
        if symbol != BLANK:
            run = 0
        elif confident not in (BLANK, before):
            run += 1
        if run >= SKIPPED_LENGTH:
            return True
    return False


def cut_off(weights: FloatArray, alignment: CTCAlignment | None = None) -> bool:
    """Whether the last 30 % of the audio get no attention, though there is speech.

    Args:
        weights: attention, (U + 1, S).
        alignment: with CTC, which tells speech from silence; without it silence counts as speech.
    """
    steps = weights.shape[1]
    first = int((1 - UNSEEN_SHARE) * steps)
    if steps < SHORTEST_STEPS or float(weights[:, first:].sum()) >= 0.1:
        return False
    if alignment is None:
        return True
    lacking = (alignment.confident != BLANK) & (alignment.path == BLANK)
    return bool(lacking[first:].any())


def mean_log_prob(hypothesis: Hypothesis, alignment: CTCAlignment | None = None) -> float:
    """Log-probability of a text per character, by decoder and CTC: 0 at best.

    The mean log-probability by the decoder, and how far CTC's log-probability lies behind that
    of the text that CTC would write. Half-trained models make mistakes that attention does not
    show: they write fluently what was not said. This shows most of them, over six models of
    data/mini (dev WER 98 to 3 %) 99 % of the texts with more than half of their words wrong and
    2.7 % of the right ones, over 18 models of AN4 (76 to 17 %), where many texts are one to five
    letters, 69 and 3.7 %; of five trained models it flags one of 420 right texts. The rule was
    chosen on these texts. Minima and sums over characters do better on one corpus and fail on
    the other.
    """
    decoder = sum(hypothesis.log_probs) / max(1, len(hypothesis.log_probs))
    gap = 0.0 if alignment is None else alignment.score_gap
    return decoder + gap / (len(hypothesis.tokens) + 1)


def flags(hypothesis: Hypothesis, alignment: CTCAlignment | None = None) -> tuple[str, ...]:
    """What is suspicious about a hypothesis.

    Args:
        hypothesis: the text with its attention.
        alignment: with CTC, where there is one.

    Returns:
        Any of ``no-end`` (the length limit cut it off), ``loop`` (see :func:`loops`), ``stall``
        (:func:`stalls`), ``cut-off`` (:func:`cut_off`), ``skipped`` (:func:`skips`) and
        ``doubtful`` (a low :func:`mean_log_prob`).
    """
    tokens, weights = hypothesis.tokens, hypothesis.weights
    found = [] if hypothesis.ended else ["no-end"]
    if loops(tokens, weights):
        found.append("loop")
    if stalls(weights[: len(tokens)]):
        found.append(STALL)
    if tokens and cut_off(weights, alignment):
        found.append("cut-off")
    if alignment is not None and skips(alignment):
        found.append("skipped")
    if (
        _says_something(hypothesis, alignment)
        and mean_log_prob(hypothesis, alignment) < LEAST_LOG_PROB
    ):
        found.append(DOUBTFUL)
    return tuple(found)


def _says_something(hypothesis: Hypothesis, alignment: CTCAlignment | None) -> bool:
    """No text is right where CTC hears nothing either."""
    heard = alignment is None or alignment.confident.any()
    return bool(hypothesis.tokens or heard)


def failures(found: Iterable[str]) -> list[str]:
    """The flags that another search may remove: all but ``doubtful``."""
    return [flag for flag in found if flag != DOUBTFUL]
