"""How plausible a transcript is under its model, and the threshold at which it loses flags.

Models also write useless texts, and write them fluently. The log-probability by decoder and CTC per
character separates them best from correct texts, but the threshold differs between models. It is
therefore measured on held-out recordings with transcripts: by ``asr train`` on the dev set, by
``asr calibrate`` on any data directory.

A model that spells also invents words. A word that the training transcripts lack adds the
log-probability of such words in held-out transcripts.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from asr.errors import InputError
from asr.recognize.confidence import MIN_TEXTS, read_numbers
from asr.recognize.transcript import Segment
from asr.search.hypothesis import Hypothesis
from asr.store.model_file import Header
from asr.text.characters import clean

DOUBTFUL = "doubtful"  # the flag of an implausible text
STALL = "stall"  # the flag of a text during which attention stood still
EXTRA_LENGTH = 4  # added to the length of a text, because a short text is weak evidence
RARE = 0.05  # share of correct texts below the threshold, and of useless ones above it
USELESS = 0.5  # a text with a larger share of wrong words is useless


def plausibility(text: Hypothesis | Segment, unknown: float = 0.0) -> float:
    """Return the log-probability of a text per character, over a slightly greater length.

    Args:
        text: with its scores ``decoder`` and, if CTC took part, ``ctc``.
        unknown: log-probability of its unknown words, :meth:`Vocabulary.log_prob`.
    """
    total = text.scores["decoder"] + text.scores.get("ctc", 0.0) + unknown
    return total / (len(text.tokens) + 1 + EXTRA_LENGTH)


Plausibilities = Sequence[float] | np.ndarray


def plausibility_threshold(correct: Plausibilities, useless: Plausibilities = ()) -> float | None:
    """Return the threshold; None with fewer than five correct texts.

    Texts at or above it lose the flags ``doubtful`` and ``stall``, see
    :meth:`PlausibilityModel.apply`. The threshold is the lower bound of Student's prediction
    interval: one more correct text lies below it with a probability of 5 %. If the 95 % quantile
    of five or more useless texts is lower than this bound, the threshold is the mean of both,
    weighted by the numbers of texts.

    Args:
        correct: plausibilities of correct texts, (N,).
        useless: plausibilities of useless texts, (M,).
    """
    count, others = len(correct), len(useless)
    if count < MIN_TEXTS:
        return None
    from scipy.special import stdtrit  # quantile of Student's t-distribution

    width = float(stdtrit(count - 1, 1 - RARE)) * math.sqrt(1 + 1 / count)
    bound = float(np.mean(correct) - width * np.std(correct, ddof=1))
    if others < MIN_TEXTS:
        return bound
    below = min(bound, float(np.quantile(useless, 1 - RARE)))
    return (count * bound + others * below) / (count + others)


@dataclass(frozen=True)
class Vocabulary:
    """The words of the training transcripts, and the rate of other words in speech."""

    words: frozenset[str] | None
    """None if the model file does not list them; then every word counts as known."""
    oov_rate: float
    """Probability that a word is out of the vocabulary. Above one half, unknown words count for
    nothing, as in text without spaces, whose words are sentences."""

    @classmethod
    def from_texts(cls, words: frozenset[str] | None, texts: Iterable[str]) -> "Vocabulary":
        """Return a vocabulary with its out-of-vocabulary rate in some texts (Laplace-smoothed)."""
        known = [words is None or word in words for text in texts for word in clean(text).split()]
        return cls(words, (known.count(False) + 1) / (len(known) + 2))

    def to_info(self) -> list[str] | None:
        """Return the words for a model's info; None if they count for nothing."""
        return None if self.words is None or self.oov_rate > 0.5 else sorted(self.words)

    def log_prob(self, text: str) -> float:
        """Return the log-probability of the unknown words of a text; 0 without any."""
        if self.words is None or self.oov_rate > 0.5:
            return 0.0
        unknown = sum(word not in self.words for word in text.split())
        return unknown * math.log(self.oov_rate)


@dataclass(frozen=True)
class PlausibilityModel:
    """The threshold at or above which texts lose the flags ``doubtful`` and ``stall``."""

    threshold: float
    """See :func:`plausibility_threshold`."""
    vocabulary: Vocabulary

    @classmethod
    def estimate(
        cls, correct: Plausibilities, useless: Plausibilities, vocabulary: Vocabulary
    ) -> "PlausibilityModel | None":
        """Return the model for plausibilities of texts; None with fewer than five correct texts."""
        threshold = plausibility_threshold(correct, useless)
        return None if threshold is None else cls(threshold, vocabulary)

    def to_info(self) -> dict[str, float]:
        """Return the threshold and the rate for a model's info; see :func:`plausibility_from`."""
        return {"least": self.threshold, "oov_rate": self.vocabulary.oov_rate}

    def with_words(self, more: frozenset[str]) -> "PlausibilityModel":
        """Return the same model with a larger vocabulary."""
        words = self.vocabulary.words
        known = replace(self.vocabulary, words=None if words is None else words | more)
        return replace(self, vocabulary=known)

    def apply(
        self, flags: tuple[str, ...], found: Hypothesis | Segment, text: str
    ) -> tuple[str, ...]:
        """Return the flags of a text, corrected by its plausibility.

        A plausible text is not doubtful, and attention that stood still is only blurred. An
        implausible text with unknown words is doubtful.

        Args:
            flags: by the rules for all models.
            found: characters and scores of the text.
            text: the same in words.
        """
        unknown = self.vocabulary.log_prob(text)
        if plausibility(found, unknown) >= self.threshold:
            return tuple(flag for flag in flags if flag not in (DOUBTFUL, STALL))
        return flags if unknown == 0 or DOUBTFUL in flags else (*flags, DOUBTFUL)


def plausibility_from(header: Header) -> PlausibilityModel | None:
    """Read the model that ``asr calibrate``, or else ``asr train``, has written into a model file.

    Returns:
        The model, or None if neither command wrote one.

    Raises:
        InputError: it is damaged.
    """
    calibrated = header.info.get("confidence")
    values = calibrated.get("credit") if isinstance(calibrated, dict) else None
    values = header.info.get("credit") if values is None else values
    if values is None:
        return None
    threshold, rate = read_numbers(values, ("least", "oov_rate"), header.path)
    if not 0 < rate < 1:
        raise InputError(
            f"{header.path}: oov_rate {rate:g}, expected between 0 and 1; run `asr calibrate` again"
        )
    return PlausibilityModel(threshold, Vocabulary(header.vocabulary, rate))
