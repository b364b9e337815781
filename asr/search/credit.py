"""How much speaks for a text, and how little is too little, by the measure of its own model.

A model writes texts of no use, too, and fluent ones. What tells best is what the decoder and CTC
say for a text, per character, but what is little of it depends on the model: CTC heads that were
trained with other weights differ by more than right and useless texts do. So what right texts
have is measured on recordings with transcripts that the model has not learnt: ``asr train`` does
it on the dev set, ``asr calibrate`` on any. Over nine half-trained models, three of AN4 and six of
data/mini, the area under the ROC curve of right texts and those with more than half of their
words wrong is 0.96 and 0.98; by the rule that is the same for all models
(:func:`asr.search.diagnose.credit`) it is 0.87 and 0.96. Agreement with decodings at other speeds,
in other voices or under dropout, words' minima and medians, the entropy of CTC, the distance from
CTC's own text and from what the decoder says to other audio add nothing.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from asr.errors import InputError

DOUBTFUL = "doubtful"  # the flag of a text that little speaks for
HEAD_START = 4  # characters of which nothing is doubtful: a text of two proves little
RARE = 0.05  # the share of right texts that may be doubted
FEWEST = 5  # right texts of which a standard deviation means something


class Scored(Protocol):
    """A text with its scores: a hypothesis, or a segment of a transcript."""

    @property
    def tokens(self) -> tuple[int, ...]:
        """Its characters."""

    @property
    def attention_score(self) -> float:
        """Log-probability by the decoder, with that of the end."""

    @property
    def ctc_score(self) -> float:
        """Log-probability by CTC."""


def own_credit(text: Scored) -> float:
    """What decoder and CTC say for a text, per character, the end and a head start counted."""
    return (text.attention_score + text.ctc_score) / (len(text.tokens) + 1 + HEAD_START)


def in_its_own_light(flags: tuple[str, ...], text: Scored, least: float | None) -> tuple[str, ...]:
    """The flags of a text without ``doubtful``, where its model says as much for right ones.

    Args:
        flags: by the rules for all models.
        text: the same with its scores.
        least: of :func:`least_credit`; None where the model does not tell.
    """
    if least is None or own_credit(text) < least:
        return flags
    return tuple(flag for flag in flags if flag != DOUBTFUL)


def least_credit(credits: Sequence[float] | np.ndarray) -> float | None:
    """From the credits of right texts, (N,), to what 5 % of others fall below.

    Student's bound for one more of a normal distribution of which N are known: few texts leave
    mean and deviation in doubt, and put it lower. None where there are fewer than five.
    """
    count = len(credits)
    if count < FEWEST:
        return None
    from scipy import stats

    reach = stats.t.ppf(1 - RARE, count - 1) * math.sqrt(1 + 1 / count)
    return float(np.mean(credits) - reach * np.std(credits, ddof=1))


def least_credit_from(info: Mapping[str, Any], where: str | Path) -> float | None:
    """What ``asr calibrate``, or else ``asr train``, has left of it in a model's info.

    Args:
        info: of the model.
        where: its file, for messages.

    Returns:
        None where neither could tell.

    Raises:
        InputError: it is not a number.
    """
    calibrated = info.get("confidence")
    value = calibrated.get("least_credit") if isinstance(calibrated, dict) else None
    value = info.get("least_credit") if value is None else value
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise InputError(f"{where}: its least_credit is no number; run `asr calibrate` again")
    return float(value)
