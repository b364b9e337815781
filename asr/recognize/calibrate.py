"""Calibration: fit the confidence and the flags of a model to recordings with transcripts."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from asr.corpus.datadir import DataDir, Utterance
from asr.errors import InputError, first_line
from asr.recognize.confidence import (
    MIN_CONFIDENCE,
    MIN_TEXTS,
    cross_validate,
    fit,
    folds,
    text_predictors,
)
from asr.recognize.directory import read_batches
from asr.recognize.forced import estimate_gaussians
from asr.recognize.plausibility import USELESS, PlausibilityModel, Vocabulary, plausibility
from asr.recognize.segmentation import FIXED_S
from asr.recognize.transcript import Segment
from asr.recognize.utterances import UtteranceRecognizer
from asr.score.calibration import calibration_error, confidence_bins
from asr.store.model_file import copy_with_info
from asr.terminal import warn
from asr.text.characters import clean


@dataclass(frozen=True)
class ScoredUtterance:
    """A recognised utterance, compared with its transcript."""

    utterance: Utterance
    segment: Segment
    correct: bool
    """Whether the whole text is correct."""
    useless: bool
    """Whether more than half of the transcript's words are substituted, deleted or inserted."""
    words: tuple[bool, ...]
    """Whether each word of the segment is correct."""


@dataclass(frozen=True)
class Report:
    """Result of a calibration; errors and shares are cross-validated, see :func:`folds`."""

    utterances: int
    correct: int
    """Correct texts."""
    left_out: int
    """Utterances that could not be read or are longer than 30 s."""
    error: float
    """Expected calibration error of the texts."""
    low_correct: float
    """Share of the correct texts whose confidence is low."""
    low_wrong: float
    """Share of the wrong texts whose confidence is low."""
    words: int
    words_correct: int
    words_error: float
    """Expected calibration error of the words."""
    flagged_correct: float
    """Share of the correct texts that have a flag other than low confidence."""
    useless: int
    flagged_useless: float | None
    """Share of the useless texts that have such a flag; None without useless texts."""


@dataclass(frozen=True)
class CalibrationData:
    """Texts or words of a calibration."""

    predictors: np.ndarray
    """The two predictors of each text or word, (N, 2)."""
    correct: np.ndarray
    """1 if the text or word is correct, else 0, (N,)."""
    confidences: np.ndarray
    """Confidence of each by a fit to the other folds, (N,)."""

    @classmethod
    def of(cls, items: Iterable[tuple[Sequence[float], bool, str]]) -> "CalibrationData":
        """Return the data of items with their predictors, correctness and group."""
        predictors, correct, groups = zip(*items, strict=True)
        inputs, truth = np.array(predictors), np.array(correct, dtype=float)
        return cls(inputs, truth, cross_validate(inputs, truth, groups))

    @property
    def error(self) -> float:
        """Expected calibration error."""
        return calibration_error(confidence_bins(self.confidences, self.correct))


def calibrate(
    recognizer: UtteranceRecognizer, data: str | Path, target: str | Path
) -> tuple[Report, CalibrationData, CalibrationData]:
    """Fit the confidence of a model, estimate the Gaussians of its characters, and write a copy.

    Args:
        recognizer: the model, with the search settings it will be used with.
        data: data directory with transcripts.
        target: the model file to write; weights stay as they are stored.

    Returns:
        The report, the texts and the words.

    Raises:
        InputError: the data directory is not valid, too few texts are correct or wrong, or the
            search is without CTC.
    """
    if recognizer.config.ctc_weight == 0:
        raise InputError(
            "the search is without CTC (--ctc_weight 0, or a model trained with loss.ctc_weight "
            "0), but confidence needs its score; set --ctc_weight above 0"
        )
    utterances = DataDir.load(data).utterances
    vocabulary = _vocabulary(recognizer)
    scored = recognize_and_score(_uncalibrated(recognizer), data, utterances)
    _check_counts(scored, data)
    grouped = list(zip(scored, _groups(scored), strict=True))
    texts = CalibrationData.of((text_predictors(u.segment), u.correct, g) for u, g in grouped)
    found_words = [
        (word.predictors, correct, group)
        for u, group in grouped
        for word, correct in zip(u.segment.words, u.words, strict=True)
        if word.predictors is not None
    ]
    if len({group for *_, group in found_words}) < 2:
        raise InputError(f"{data}: CTC aligns too few of the recognised words; train for longer")
    words = CalibrationData.of(found_words)
    found = estimate_plausibility(scored, vocabulary)
    assert found is not None  # enough texts are correct
    flagged = cross_validate_flags(scored, vocabulary)
    report = _report(scored, texts, words, flagged, left_out=len(utterances) - len(scored))
    confidence = {
        **asdict(fit(texts.predictors, texts.correct)),
        "words": asdict(fit(words.predictors, words.correct)),
        "credit": found.to_info(),
        "fitted_on": asdict(report),
    }
    header, gaussians = recognizer.header, estimate_gaussians(recognizer, data, utterances)
    learnt = {"confidence": confidence, "sounds": gaussians and gaussians.to_info()}
    copy_with_info(header.path, target, {**header.info, **learnt})
    return report, texts, words


def _groups(scored: Sequence[ScoredUtterance]) -> list[str]:
    """Return the speaker of each utterance, or its id if there is only one speaker."""
    speakers = [u.utterance.speaker for u in scored]
    return speakers if len(set(speakers)) > 1 else [u.utterance.id for u in scored]


def _vocabulary(recognizer: UtteranceRecognizer) -> frozenset[str] | None:
    """Return the words of the training and of the search; None if the model lists none."""
    trained = recognizer.header.vocabulary
    listed = recognizer.scorers.words(recognizer.header.tokenizer)
    return None if trained is None else trained | listed


def estimate_plausibility(
    scored: Sequence[ScoredUtterance], words: frozenset[str] | None
) -> PlausibilityModel | None:
    """Return the plausibility model of utterances; None with too few correct texts.

    Args:
        scored: utterances recognised without a plausibility model.
        words: the known words; None if the model lists none.
    """
    vocabulary = Vocabulary.from_texts(words, (u.utterance.text or "" for u in scored))

    def values(segments: Iterable[Segment]) -> list[float]:
        return [plausibility(each, vocabulary.log_prob(each.text)) for each in segments]

    return PlausibilityModel.estimate(
        values(u.segment for u in scored if u.correct),
        values(u.segment for u in scored if u.useless),
        vocabulary,
    )


def cross_validate_flags(
    scored: Sequence[ScoredUtterance], words: frozenset[str] | None
) -> np.ndarray:
    """Return whether each text has a flag by the plausibility model of other folds, (N,).

    If those have too few correct texts, the rules for all models decide.
    """
    result = np.zeros(len(scored), bool)
    for inside, rest in folds(_groups(scored)):
        model = estimate_plausibility([scored[i] for i in np.flatnonzero(rest).tolist()], words)
        for i in np.flatnonzero(inside).tolist():
            found = scored[i].segment
            flags = model.apply(found.flags, found, found.text) if model else found.flags
            result[i] = bool(flags)
    return result


def _report(
    scored: Sequence[ScoredUtterance],
    texts: CalibrationData,
    words: CalibrationData,
    flagged: np.ndarray,
    left_out: int,
) -> Report:
    low, correct = texts.confidences < MIN_CONFIDENCE, texts.correct == 1
    useless = np.array([u.useless for u in scored])
    return Report(
        utterances=len(scored),
        correct=int(correct.sum()),
        left_out=left_out,
        error=texts.error,
        low_correct=float(low[correct].mean()),
        low_wrong=float(low[~correct].mean()),
        words=len(words.correct),
        words_correct=int(words.correct.sum()),
        words_error=words.error,
        flagged_correct=float(flagged[correct].mean()),
        useless=int(useless.sum()),
        flagged_useless=float(flagged[useless].mean()) if useless.any() else None,
    )


def _uncalibrated(recognizer: UtteranceRecognizer) -> UtteranceRecognizer:
    """Return the recogniser without its calibration."""
    info = {k: v for k, v in recognizer.header.info.items() if k not in ("confidence", "credit")}
    header = replace(recognizer.header, info=info)
    return UtteranceRecognizer(header, recognizer.model, recognizer.config, recognizer.scorers)


def recognize_and_score(
    recognizer: UtteranceRecognizer, data: str | Path, utterances: Sequence[Utterance]
) -> list[ScoredUtterance]:
    """Recognise utterances of a data directory and compare them with their transcripts.

    Utterances that cannot be read or are longer than 30 s are left out with a warning.
    """
    found: dict[str, ScoredUtterance] = {}
    for batch in read_batches(recognizer, data, utterances, _warn, longest_s=FIXED_S):
        segments = recognizer.recognize_each([chunk for _, chunk in batch])
        for (u, _), segment in zip(batch, segments, strict=True):
            if isinstance(segment, InputError):
                _warn(u, first_line(segment))
            else:
                found[u.id] = _score(u, segment)
    return [found[u.id] for u in utterances if u.id in found]


def _score(utterance: Utterance, segment: Segment) -> ScoredUtterance:
    from asr.score.wer import align

    reference = " ".join(clean(utterance.text or "").split())
    (pairs,) = align([reference], [segment.text])
    errors = sum(ref != hyp for ref, hyp in pairs)
    return ScoredUtterance(
        utterance,
        segment,
        correct=errors == 0,
        useless=errors > USELESS * len(reference.split()),
        words=tuple(ref == hyp for ref, hyp in pairs if hyp is not None),
    )


def _warn(utterance: Utterance, reason: str) -> None:
    warn(f"left out: {utterance.id}: {reason}")


def _check_counts(scored: Sequence[ScoredUtterance], data: str | Path) -> None:
    correct = sum(u.correct for u in scored)
    wrong = len(scored) - correct
    if min(correct, wrong) < MIN_TEXTS:
        raise InputError(
            f"{data}: {correct} texts are correct and {wrong} are wrong, expected at least "
            f"{MIN_TEXTS} of each; use more recordings, or recordings that are "
            f"{'easier' if correct < MIN_TEXTS else 'harder'} for this model"
        )
