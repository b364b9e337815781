"""Hypotheses, and their greatest length."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from asr.errors import InputError
from asr.search.protocol import FloatArray

BLANK = 0  # id of <blank>, which only CTC may say


@dataclass(frozen=True)
class Hypothesis:
    """A hypothesis of an utterance."""

    tokens: tuple[int, ...]
    """Characters, without <sos/eos>."""
    score: float
    """What the search compares: the weighted sum of all scores and bonuses."""
    scores: Mapping[str, float]
    """What each scorer that took part gave, the end included, before its weight: ``decoder``,
    ``ctc``, ``lm`` and the other names of :mod:`asr.search.scorers`."""
    weights: FloatArray
    """Attention of every character and, if there is one, of the end, (U or U + 1, S)."""
    ended: bool
    """False: cut off at the length limit."""
    log_probs: tuple[float, ...] = ()
    """The decoder's of every character and, if there is one, of the end; they add up to
    the score ``decoder``."""


def length_limits(steps: Sequence[int], max_ratio: float) -> list[int]:
    """Most characters for each count of encoder steps: a share of it, but never fewer than 4."""
    shares = np.asarray(steps, np.float32) * np.float32(max_ratio)
    return shares.astype(np.int64).clip(4).tolist()


def broken_scores(number: int, count: int, what: str) -> InputError:
    """Return the error that says what is wrong with the scores of an utterance of a batch."""
    return InputError(
        f"utterance {number + 1} of {count} that are searched together: {what}; the weights of the "
        "model are too large or damaged, as after a training that diverged; take the model of an "
        "earlier epoch, or train again with a lower learning rate"
    )
