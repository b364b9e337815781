"""Flags of suspicious hypotheses, from attention, CTC and log-probabilities."""

from collections.abc import Iterable

from asr.arrays import FloatArray
from asr.recognize.metrics import mean_positions, stalled
from asr.recognize.plausibility import DOUBTFUL, STALL
from asr.search.alignment import CTCAlignment
from asr.search.hypothesis import BLANK, Hypothesis

LOOP_REPEATS = 3  # repetitions of a stretch of characters that make a loop
LOOP_LENGTH = 4  # shortest such stretch, in characters
LOOP_STEPS = 4.0  # fewest encoder steps in which a person can repeat it twice
UNATTENDED_SHARE = 0.3  # of the audio, at its end
SHORTEST_STEPS = 10  # audio with fewer encoder steps is not checked for its end
SKIPPED_LENGTH = 3  # characters in a row on which CTC is confident and the text has none
MIN_LOG_PROB = -1.0  # mean log-probability below which a text is doubtful


def loops(tokens: tuple[int, ...], weights: FloatArray) -> bool:
    """Return whether a stretch of characters comes three times in a row in one place.

    Attention moves on if "SEVEN SEVEN SEVEN" was spoken; in a loop it stands still.

    Args:
        tokens: the U characters.
        weights: attention of each of them, (U, S) or more rows.
    """
    attended = mean_positions(weights)
    for length in range(LOOP_LENGTH, len(tokens) // LOOP_REPEATS + 1):
        run = 0
        for i in range(length, len(tokens)):
            run = run + 1 if tokens[i] == tokens[i - length] else 0
            if run >= (LOOP_REPEATS - 1) * length:
                first = attended[i + 1 - LOOP_REPEATS * length :][:length].mean()
                last = attended[i + 1 - length : i + 1].mean()
                if last - first < LOOP_STEPS:
                    return True
    return False


def stalls(weights: FloatArray) -> bool:
    """Return whether attention (U, S) stands still while many characters are written."""
    return stalled(mean_positions(weights)) > 0


def skips(alignment: CTCAlignment) -> bool:
    """Return whether CTC is confident of several characters where the text has none."""
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
    """Return whether the last 30 % of the audio get no attention although they hold speech.

    Args:
        weights: attention, (U + 1, S).
        alignment: by CTC, which tells speech from silence; without it silence counts as speech.
    """
    steps = weights.shape[1]
    first = int((1 - UNATTENDED_SHARE) * steps)
    if steps < SHORTEST_STEPS or float(weights[:, first:].sum()) >= 0.1:
        return False
    if alignment is None:
        return True
    skipped = (alignment.confident != BLANK) & (alignment.path == BLANK)
    return bool(skipped[first:].any())


def mean_log_prob(hypothesis: Hypothesis, alignment: CTCAlignment | None = None) -> float:
    """Return the log-probability of a text per character, by decoder and CTC; at most 0.

    The sum of the decoder's mean log-probability and of the gap between CTC's log-probability of
    the text and that of its best path. It shows fluent mistakes of half-trained models, which
    attention does not show.
    """
    decoder = sum(hypothesis.log_probs) / max(1, len(hypothesis.log_probs))
    gap = 0.0 if alignment is None else alignment.score_gap
    return decoder + gap / (len(hypothesis.tokens) + 1)


def flags(hypothesis: Hypothesis, alignment: CTCAlignment | None = None) -> tuple[str, ...]:
    """Return the flags of a hypothesis.

    Args:
        hypothesis: the text with its attention.
        alignment: by CTC, if the model has it.

    Returns:
        Any of ``no-end`` (the length limit ended the text), ``loop`` (see :func:`loops`), ``stall``
        (:func:`stalls`), ``cut-off`` (:func:`cut_off`), ``skipped`` (:func:`skips`) and
        ``doubtful`` (a low :func:`mean_log_prob`).
    """
    tokens, weights = hypothesis.tokens, hypothesis.attention
    found = [] if hypothesis.ended else ["no-end"]
    if loops(tokens, weights):
        found.append("loop")
    if stalls(weights[: len(tokens)]):
        found.append(STALL)
    if tokens and cut_off(weights, alignment):
        found.append("cut-off")
    if alignment is not None and skips(alignment):
        found.append("skipped")
    silent = not tokens and alignment is not None and not alignment.confident.any()
    if not silent and mean_log_prob(hypothesis, alignment) < MIN_LOG_PROB:
        found.append(DOUBTFUL)
    return tuple(found)


def failures(found: Iterable[str]) -> list[str]:
    """Return the flags that another search may remove: all but ``doubtful``."""
    return [flag for flag in found if flag != DOUBTFUL]
