"""Hypotheses and their length limits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from asr.arrays import FloatArray
from asr.errors import InputError

BLANK = 0  # id of <blank>, which CTC alone may use


@dataclass(frozen=True)
class Hypothesis:
    """A hypothesis of an utterance: U characters, and the end unless it was cut off."""

    tokens: tuple[int, ...]
    """Characters, without <sos/eos>, (U,)."""
    score: float
    """Weighted sum of all scores."""
    scores: Mapping[str, float]
    """Score by each scorer before its weight, including the end: ``decoder``, ``ctc``, ``lm`` and
    the other names of :mod:`asr.search.scorers`."""
    attention: FloatArray
    """Attention of every character and of the end, (U + 1, S), or (U, S) if it was cut off."""
    ended: bool
    """False if it was cut off at the length limit."""
    log_probs: tuple[float, ...] = ()
    """Decoder log-probability of every character and of the end; the sum is the score
    ``decoder``."""


def length_limits(steps: Sequence[int], max_ratio: float) -> list[int]:
    """Return the most characters of utterances: ``max_ratio`` times their steps, at least 4."""
    rounding = 1e-6  # 100 * 0.29 is 28.999999999999996
    return [max(4, int(count * max_ratio + rounding)) for count in steps]


def broken_scores(number: int, count: int, what: str) -> InputError:
    """Return the error for an utterance of a batch whose scores are not finite."""
    return InputError(
        f"utterance {number + 1} of {count} that are decoded together: {what}; the weights of the "
        "model are too large or damaged, for example because its training diverged; use the model "
        "of an earlier epoch, or train again with a lower learning rate"
    )
