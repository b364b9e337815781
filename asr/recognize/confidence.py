"""Confidence: the probability that a text, or a word, is entirely correct.

It is a logistic function of two predictors (Platt, 1999), which ``asr calibrate`` fits on
recordings with transcripts and stores in the model file. The decoder's log-probability of the whole
text falls with every uncertain character. CTC's log-probability per character tells whether the
audio sounds like the text at all: a decoder that was trained on a few hundred words writes them
fluently over any speech, and CTC, which knows no words, contradicts it. The predictors of a word
are the decoder's log-probability of the word and CTC's of its least probable character.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asr.errors import InputError
from asr.recognize.transcript import Segment
from asr.search.alignment import CTCAlignment
from asr.search.hypothesis import Hypothesis

MIN_CONFIDENCE = 0.5  # below it a text is more likely wrong than right
LOW_CONFIDENCE = "low-confidence"  # the flag of such a segment
MIN_TEXTS = 5  # of a kind, such as correct ones, that a fit or a threshold needs
PRIOR = 1.0  # weight of the L2 penalty on the slopes, in utterances
STEPS, RATE = 4000, 0.5  # of gradient descent


@dataclass(frozen=True)
class Calibration:
    """Coefficients of the logistic function; neither slope is negative."""

    bias: float
    attention: float
    """Slope of the decoder's log-probability."""
    ctc: float
    """Slope of CTC's log-probability."""

    @classmethod
    def from_info(
        cls, info: Mapping[str, Any], where: str | Path, part: str | None = None
    ) -> "Calibration | None":
        """Read the fit from a model's info; None if the model was not calibrated.

        Args:
            info: of the model.
            where: its file, for messages.
            part: ``words``; by default whole texts.

        Raises:
            InputError: the fit is damaged.
        """
        values = info.get("confidence")
        if part is not None and isinstance(values, dict):
            values = values.get(part)
        if values is None:
            return None
        return cls(*read_numbers(values, ("bias", "attention", "ctc"), where))

    def __call__(self, predictors: Sequence[float]) -> float:
        """Return the confidence for two predictors."""
        attention, ctc = predictors
        return float(_sigmoid(np.array(self.bias + self.attention * attention + self.ctc * ctc)))


def read_numbers(info: Any, keys: Sequence[str], where: str | Path) -> list[float]:
    """Return the values of some keys of a model's info.

    Raises:
        InputError: a key is missing, or its value is not a finite number.
    """
    try:
        found = [float(info[key]) for key in keys]
    except (KeyError, TypeError, ValueError, OverflowError):
        found = [math.nan]
    if not all(map(math.isfinite, found)):
        raise InputError(
            f"{where}: expected finite numbers {', '.join(keys)}, found {info!r:.60}; "
            "run `asr calibrate` again"
        )
    return found


def text_predictors(text: Hypothesis | Segment) -> tuple[float, float]:
    """Return the decoder's log-probability of a text, and CTC's per character and end."""
    return text.scores["decoder"], text.scores.get("ctc", 0.0) / (len(text.tokens) + 1)


def word_predictors(
    hypothesis: Hypothesis, alignment: CTCAlignment, spans: Sequence[tuple[int, int]]
) -> list[tuple[float, float]]:
    """Return the predictors of each word of a text.

    They are the decoder's log-probability of the word with the space or end after it, and CTC's of
    the least probable character.
    """
    return [
        (sum(hypothesis.log_probs[a : b + 1]), float(alignment.log_probs[a:b].min()))
        for a, b in spans
    ]


def fit(predictors: np.ndarray, correct: np.ndarray) -> Calibration:
    """Fit a logistic regression to standardised predictors, by projected gradient descent.

    Slopes stay at 0 or above, so that a more probable text never has a lower confidence, however
    far it lies from the recordings of the fit.

    Args:
        predictors: of each utterance, (N, 2).
        correct: whether its text is correct, (N,), 0 or 1.
    """
    mean, scale = predictors.mean(0), predictors.std(0) + 1e-9
    inputs, count = (predictors - mean) / scale, len(correct)
    slopes, bias = np.zeros(inputs.shape[1]), 0.0
    for _ in range(STEPS):
        error = _sigmoid(inputs @ slopes + bias) - correct
        gradient = (inputs.T @ error + PRIOR * slopes) / count
        slopes = np.maximum(slopes - RATE * gradient, 0.0)
        bias -= RATE * error.mean()
    slopes /= scale
    return Calibration(float(bias - slopes @ mean), *map(float, slopes))


def folds(groups: Sequence[str], most: int = 5) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the masks (N,) of held-out groups and of all others.

    Args:
        groups: the group of each item; there are at least two.
        most: number of folds, if there are as many groups.
    """
    order = {group: rank for rank, group in enumerate(sorted(set(groups)))}
    count = min(most, len(order))
    fold = np.array([order[group] % count for group in groups])
    for number in range(count):
        inside = fold == number
        yield inside, ~inside


def cross_validate(
    predictors: np.ndarray, correct: np.ndarray, groups: Sequence[str]
) -> np.ndarray:
    """Return the confidence of each text or word by a fit to other folds, (N,)."""
    result = np.zeros(len(correct))
    for inside, rest in folds(groups):
        calibration = fit(predictors[rest], correct[rest])
        result[inside] = [calibration(each) for each in predictors[inside]]
    return result


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1.0 + np.tanh(0.5 * x))
