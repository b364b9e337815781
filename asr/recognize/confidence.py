"""How sure the recogniser is: the chance that all of a text is right, from 0 to 1.

Two numbers of a hypothesis tell most of it. The decoder's log-probability of the whole text
falls with every doubtful character, and so does the chance that all of them are right. CTC's
log-probability, per character, says whether the audio sounds like the text at all: a decoder
that was trained on a few hundred words writes such words fluently over any speech, and CTC,
which knows no words, contradicts it. A logistic function turns both into a probability
(Platt, 1999). Its coefficients are fitted on recordings with transcripts by ``asr calibrate``
and live in the model's file.

The margin to the second best hypothesis, the usual third number, would need a longer search.
On AN4's dev set it adds 0.01 to the area under the ROC curve of right and wrong texts (0.88),
and it lets more speech of other domains pass as right: 1 to 3 % instead of none.

Words have a confidence of their own, from the same kind of numbers: the decoder's log-probability
of the word, and CTC's of its least probable character.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from asr.errors import InputError

if TYPE_CHECKING:
    from asr.recognize.transcript import Segment
    from asr.search.alignment import CTCAlignment
    from asr.search.hypothesis import Hypothesis

LOW = 0.5  # below it a text is more likely wrong than right
LOW_CONFIDENCE = "low-confidence"  # the flag of such a segment
FEWEST = 5  # right and wrong texts that a fit takes at the least
PRIOR = 1.0  # strength of the pull towards 0, in utterances
STEPS, RATE = 4000, 0.5  # of gradient descent


@dataclass(frozen=True)
class Calibration:
    """The coefficients of the logistic function; neither slope is negative."""

    bias: float
    attention: float
    """Of the decoder's log-probability of the text."""
    ctc: float
    """Of CTC's log-probability per character."""

    @classmethod
    def from_info(
        cls, info: Mapping[str, Any], where: str | Path, part: str | None = None
    ) -> "Calibration | None":
        """Read the fit of ``asr calibrate`` from a model's info; None if it was not run.

        Args:
            info: of the model.
            where: its file, for messages.
            part: ``words``; by default whole texts.

        Raises:
            InputError: it is not of the form that it writes.
        """
        values = info.get("confidence")
        if part is not None and isinstance(values, dict):
            values = values.get(part)
        if values is None:
            return None
        try:
            found = cls(*(float(values[key]) for key in ("bias", "attention", "ctc")))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(
                f"{where}: its confidence has no usable bias, attention and ctc; "
                "run `asr calibrate` again"
            ) from error
        if not np.isfinite(list(asdict(found).values())).all():
            raise InputError(f"{where}: its confidence is not finite; run `asr calibrate` again")
        return found

    def __call__(self, evidence: Sequence[float]) -> float:
        """From :func:`evidence` to the chance that all is right."""
        attention, ctc = evidence
        return float(_sigmoid(np.array(self.bias + self.attention * attention + self.ctc * ctc)))


def evidence(segment: "Segment") -> tuple[float, float]:
    """The decoder's log-probability of the text, and CTC's per character, the end counted."""
    scores = segment.scores
    return scores["decoder"], scores.get("ctc", 0.0) / (len(segment.tokens) + 1)


def word_evidence(
    hypothesis: "Hypothesis", alignment: "CTCAlignment", spans: Sequence[tuple[int, int]]
) -> list[tuple[float, float]]:
    """Return the two log-probabilities of each word of a text.

    The decoder's log-probability of each word with the space or end after it, and CTC's of its
    least probable character.
    """
    return [
        (sum(hypothesis.log_probs[a : b + 1]), float(alignment.log_probs[a:b].min()))
        for a, b in spans
    ]


def fit(evidences: np.ndarray, right: np.ndarray) -> Calibration:
    """Logistic regression on standardised numbers, by gradient descent.

    Slopes are kept from falling below 0: a more probable text is never trusted less, however
    far from the recordings of the fit it lies.

    Args:
        evidences: of each utterance, (N, 2).
        right: whether its text was right, (N,), 0 or 1.
    """
    mean, scale = evidences.mean(0), evidences.std(0) + 1e-9
    inputs, count = (evidences - mean) / scale, len(right)
    slopes, bias = np.zeros(inputs.shape[1]), 0.0
    for _ in range(STEPS):
        error = _sigmoid(inputs @ slopes + bias) - right
        gradient = (inputs.T @ error + PRIOR * slopes) / count
        slopes = np.maximum(slopes - RATE * gradient, 0.0)
        bias -= RATE * error.mean()
    slopes /= scale
    return Calibration(float(bias - slopes @ mean), *map(float, slopes))


def folds(speakers: Sequence[str], most: int = 5) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield held-out utterances and those of other speakers for the fit, as masks (N,) each.

    One speaker alone is in both: there nothing can be held out.
    """
    order = {speaker: rank for rank, speaker in enumerate(sorted(set(speakers)))}
    count = min(most, len(order))
    fold = np.array([order[speaker] % count for speaker in speakers])
    for number in range(count):
        inside = fold == number
        yield inside, ~inside if count > 1 else inside


def held_out(evidences: np.ndarray, right: np.ndarray, speakers: Sequence[str]) -> np.ndarray:
    """Confidences of utterances by fits that have not seen their speakers, (N,)."""
    result = np.zeros(len(right))
    for inside, rest in folds(speakers):
        calibration = fit(evidences[rest], right[rest])
        result[inside] = [calibration(e) for e in evidences[inside]]
    return result


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1.0 + np.tanh(0.5 * x))
