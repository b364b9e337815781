"""How plausible a transcript is under its model, and the threshold below which it is flagged.

Models also write useless texts, and fluent ones. The log-probabilities of decoder and CTC, per
character, tell them best from right ones, but the threshold depends on the model: CTC heads that
were trained with other weights differ by more than right and useless texts do. So the plausibility
of right texts is measured on held-out recordings with transcripts: ``asr train`` does it on the dev
set, ``asr calibrate`` on any. Over nine half-trained models, three of AN4 and six of data/mini, the
area under the ROC curve of right texts and those with more than half of their words wrong is 0.96
and 0.98; by the rule that is the same for all models (:func:`asr.recognize.flags.mean_log_prob`) it
is 0.87 and 0.96. Agreement with decodings at other speeds, in other voices or under dropout, words'
minima and medians, the entropy of CTC, the distance from CTC's own text and from what the decoder
says to other audio add nothing.

A model that spells invents words, too. Six in ten useless texts of data/mini have a word that the
training's transcripts have not, none of its right ones. How much that proves depends on the
speech: such a word is as probable as the dev set's transcripts have words like it, and its
log-probability counts with that of decoder and CTC. Over fifteen models of data/mini this raises
the area from 0.990 to 0.997; AN4's models, which know some hundred short words and write little
else, gain nothing.

Where right and useless dev texts do not overlap, the threshold lies between them. Over 33 models of
data/mini and voices that they never met, it flags 93 % of the useless texts and 1.5 % of the right
ones; the bound of the right ones alone 97 and 5.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from asr.errors import InputError
from asr.store.model_file import Header

DOUBTFUL = "doubtful"  # the flag of an implausible text
STALL = "stall"  # the flag of one that was written while attention stood still
HEAD_START = 4  # characters of which nothing is doubtful: a text of two proves little
RARE = 0.05  # the share of right texts that may be flagged, and of useless ones that may not
FEWEST = 5  # texts of which a standard deviation or a quantile means something
ANGLES = 100_001  # of the sum over Student's distribution
USELESS = 0.5  # share of wrong words above which a text is of no use


class Scored(Protocol):
    """A text with its scores: a hypothesis, or a segment of a transcript."""

    @property
    def tokens(self) -> tuple[int, ...]:
        """Its characters."""

    @property
    def scores(self) -> Mapping[str, float]:
        """Log-probabilities with the end: ``decoder``, and ``ctc`` where it took part."""


def plausibility(text: Scored, unknown: float = 0.0) -> float:
    """Return the log-probability of a text per character, the end and a head start counted.

    Args:
        text: with its scores.
        unknown: log-probability of its unknown words, :meth:`Vocabulary.log_prob`.
    """
    total = text.scores["decoder"] + text.scores.get("ctc", 0.0) + unknown
    return total / (len(text.tokens) + 1 + HEAD_START)


Plausibilities = Sequence[float] | np.ndarray


def plausibility_threshold(right: Plausibilities, useless: Plausibilities = ()) -> float | None:
    """Return the threshold, from the plausibility of right texts, (N,), and of useless ones, (M,).

    One more right text falls below Student's bound for a normal distribution of which N are known
    with a chance of 5 %: few texts leave mean and deviation in doubt, and put it lower. Useless
    texts are of many kinds; 95 % of them are below their quantile. Where that is lower, the
    threshold lies between both, the nearer to one the more texts tell of it; where right and
    useless texts overlap, it is the bound of the right ones. None where there are fewer than
    five right texts.
    """
    count, others = len(right), len(useless)
    if count < FEWEST:
        return None
    reach = student_quantile(1 - RARE, count - 1) * math.sqrt(1 + 1 / count)
    bound = float(np.mean(right) - reach * np.std(right, ddof=1))
    if others < FEWEST:
        return bound
    below = min(bound, float(np.quantile(useless, 1 - RARE)))
    return (count * bound + others * below) / (count + others)


def student_quantile(share: float, freedom: int) -> float:
    """The quantile of Student's t-distribution for a share above one half.

    With t = sqrt(f) tan(a), the angle a has the density cos(a)^(f - 1), which is added up here.
    """
    angles = np.linspace(0.0, math.pi / 2, ANGLES)
    density = np.cos(angles) ** (freedom - 1)
    mass = np.cumsum(density[1:] + density[:-1])
    angle = np.interp((2 * share - 1) * mass[-1], mass, angles[1:])
    return math.sqrt(freedom) * math.tan(angle)


@dataclass(frozen=True)
class Vocabulary:
    """The words that a model has learnt, and how often speech has others."""

    words: frozenset[str] | None
    """None where the model's file does not tell: no word counts as unknown."""
    oov_rate: float
    """The chance that a word is none of them. Above one half such a word proves nothing, as in
    text without spaces, whose words are sentences."""

    @classmethod
    def measured(cls, words: frozenset[str] | None, texts: Iterable[str]) -> "Vocabulary":
        """With the rate of other words in some texts, one more of each kind counted (Laplace)."""
        known = [words is None or word in words for text in texts for word in text.split()]
        return cls(words, (known.count(False) + 1) / (len(known) + 2))

    def to_info(self) -> list[str] | None:
        """As JSON holds the words in a model's info; None where they prove nothing."""
        return None if self.words is None or self.oov_rate > 0.5 else sorted(self.words)

    def log_prob(self, text: str) -> float:
        """Log-probability of the words of a text that are none of these; 0 where all are, or
        where that proves nothing."""
        if self.words is None or self.oov_rate > 0.5:
            return 0.0
        unknown = sum(word not in self.words for word in text.split())
        return unknown * math.log(self.oov_rate)


@dataclass(frozen=True)
class PlausibilityModel:
    """Plausibility of correct held-out transcripts: the threshold for all others."""

    threshold: float
    """Right texts hardly ever have a lower plausibility, see :func:`plausibility_threshold`."""
    vocabulary: Vocabulary

    @classmethod
    def measured(
        cls, right: Plausibilities, useless: Plausibilities, vocabulary: Vocabulary
    ) -> "PlausibilityModel | None":
        """From the plausibility of right and of useless texts; None where too few are right."""
        threshold = plausibility_threshold(right, useless)
        return None if threshold is None else cls(threshold, vocabulary)

    def to_info(self) -> dict[str, float]:
        """As JSON holds it in a model's info, beside the words; see :func:`plausibility_from`."""
        return {"least": self.threshold, "oov_rate": self.vocabulary.oov_rate}

    def knowing(self, more: frozenset[str]) -> "PlausibilityModel":
        """The same where more words are known."""
        words = self.vocabulary.words
        known = replace(self.vocabulary, words=None if words is None else words | more)
        return replace(self, vocabulary=known)

    def apply(self, flags: tuple[str, ...], scored: Scored, text: str) -> tuple[str, ...]:
        """Return the flags of a text in the light of its own model.

        A text as plausible as right ones is not doubtful, and attention that stood still is only
        blurred. A less plausible one with unknown words is doubtful.

        Args:
            flags: by the rules for all models.
            scored: the text's characters and scores.
            text: the same as words.
        """
        unknown = self.vocabulary.log_prob(text)
        if plausibility(scored, unknown) >= self.threshold:
            return tuple(flag for flag in flags if flag not in (DOUBTFUL, STALL))
        return flags if unknown == 0 or DOUBTFUL in flags else (*flags, DOUBTFUL)


def plausibility_from(header: Header) -> PlausibilityModel | None:
    """What ``asr calibrate``, or else ``asr train``, has left in a model's file, if anything.

    Raises:
        InputError: it is not of the form that they write.
    """
    calibrated = header.info.get("confidence")
    values = calibrated.get("credit") if isinstance(calibrated, dict) else None
    values = header.info.get("credit") if values is None else values
    if values is None:
        return None
    try:
        threshold, rate = float(values["least"]), float(values["oov_rate"])
    except (KeyError, TypeError, ValueError, OverflowError):
        threshold = rate = math.nan
    if not (math.isfinite(threshold) and 0 < rate < 1):
        raise InputError(
            f"{header.path}: its credit has no usable least and oov_rate; run `asr calibrate` again"
        )
    return PlausibilityModel(threshold, Vocabulary(header.vocabulary, rate))
