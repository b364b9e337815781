"""Teach a model how sure it may be, on recordings with transcripts."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from asr.corpus.datadir import DataDir, Utterance
from asr.errors import InputError
from asr.recognize.confidence import (
    FEWEST,
    LOW,
    evidence,
    fit,
    folds,
    held_out,
)
from asr.recognize.directory import read_batches, speaker_stats
from asr.recognize.plausibility import USELESS, PlausibilityModel, Vocabulary, plausibility
from asr.recognize.segmentation import FIXED_S
from asr.recognize.transcript import Segment
from asr.recognize.utterances import LoadedModel, UtteranceRecognizer
from asr.score.calibration import calibration_error, confidence_bins
from asr.store.model_file import copy_with_info


@dataclass(frozen=True)
class Recognised:
    """An utterance, as recognised."""

    utterance: Utterance
    segment: Segment
    right: bool
    """Whether all of the text is."""
    useless: bool
    """Whether more than half of the transcript's words are substituted, deleted or inserted."""
    words: tuple[bool, ...]
    """Whether each word of the segment is right."""


@dataclass(frozen=True)
class Report:
    """Result of a calibration."""

    utterances: int
    right: int
    left_out: int
    """Utterances that could not be read or are too long for one go."""
    error: float
    """Expected calibration error, for speakers that the fit has not seen."""
    low_right: float
    """Share of the right texts whose confidence is low, likewise."""
    low_wrong: float
    """Share of the wrong ones."""
    words: int
    words_right: int
    words_error: float
    """Expected calibration error of the words, likewise."""
    flagged_right: float
    """Share of the right texts that carry a flag, whatever their confidence, likewise."""
    useless: int
    """Texts of which more than half is wrong."""
    flagged_useless: float | None
    """Share of them that carry a flag, likewise; None where there are none."""


def calibrate(
    recognizer: UtteranceRecognizer, data: str | Path, target: str | Path
) -> tuple[Report, "Evidence", "Evidence"]:
    """Fit the confidence of a model and write it into a copy.

    Args:
        recognizer: the model, with the search settings it will be used with.
        data: data directory with transcripts.
        target: the model file to write; weights stay as they are stored.

    Returns:
        the report, and the evidence of the texts and of the words.

    Raises:
        InputError: the data directory is not valid, too few texts are right or wrong, or the
            search is without CTC.
    """
    if recognizer.config.ctc_weight == 0:
        raise InputError(
            "a search without CTC (--ctc_weight 0, or a model trained with loss.ctc_weight 0): "
            "confidence needs its score, expected more than 0"
        )
    utterances = DataDir.load(data).utterances
    known = known_words(recognizer)
    recognised = recognise(_as_if_new(recognizer), data, utterances)
    texts = _texts(recognised)
    _check_counts(texts.right, data)
    words = _words(recognised)
    found = plausibility_for(recognised, known)
    assert found is not None  # enough are right
    flagged = flagged_held_out(recognised, known)
    report = _report(recognised, texts, words, flagged, left_out=len(utterances) - len(recognised))
    confidence = {
        **asdict(fit(texts.evidences, texts.right)),
        "words": asdict(fit(words.evidences, words.right)),
        "credit": found.to_info(),
        "fitted_on": asdict(report),
    }
    header = recognizer.header
    copy_with_info(header.path, target, {**header.info, "confidence": confidence})
    return report, texts, words


@dataclass(frozen=True)
class Evidence:
    """Texts or words of a calibration."""

    evidences: np.ndarray
    """(N, 2)."""
    right: np.ndarray
    """(N,), 0 or 1."""
    confidences: np.ndarray
    """Of fits that have not seen the speaker, (N,)."""

    @property
    def error(self) -> float:
        """Expected calibration error."""
        return calibration_error(confidence_bins(self.confidences, self.right))


def _evidence(
    evidences: Sequence[Sequence[float]], right: Sequence[bool], speakers: Sequence[str]
) -> Evidence:
    inputs, truth = np.array(evidences).reshape(-1, 2), np.array(right, dtype=float)
    return Evidence(inputs, truth, held_out(inputs, truth, speakers))


def _texts(recognised: Sequence[Recognised]) -> Evidence:
    return _evidence(
        [evidence(u.segment) for u in recognised],
        [u.right for u in recognised],
        [u.utterance.speaker for u in recognised],
    )


def _words(recognised: Sequence[Recognised]) -> Evidence:
    """Words of all texts; those without an alignment by CTC say nothing."""
    found = [
        (word.evidence, right, u.utterance.speaker)
        for u in recognised
        for word, right in zip(u.segment.words, u.words, strict=True)
        if word.evidence is not None
    ]
    return _evidence(*([each[k] for each in found] for k in range(3)))  # type: ignore[arg-type]


def known_words(recognizer: UtteranceRecognizer) -> frozenset[str] | None:
    """Words of the training and of the search's lists; None where the model does not tell."""
    learnt = recognizer.header.vocabulary
    listed = recognizer.scorers.words(recognizer.header.tokenizer)
    return None if learnt is None else learnt | listed


def plausibility_for(
    recognised: Sequence[Recognised], known: frozenset[str] | None
) -> PlausibilityModel | None:
    """The plausibility of texts that are right; None where too few are.

    Args:
        recognised: utterances, recognised without such a model.
        known: of :func:`known_words`.
    """
    vocabulary = Vocabulary.measured(known, (u.utterance.text or "" for u in recognised))

    def values(segments: Iterable[Segment]) -> list[float]:
        return [plausibility(each, vocabulary.log_prob(each.text)) for each in segments]

    return PlausibilityModel.measured(
        values(u.segment for u in recognised if u.right),
        values(u.segment for u in recognised if u.useless),
        vocabulary,
    )


def flagged_held_out(recognised: Sequence[Recognised], known: frozenset[str] | None) -> np.ndarray:
    """Whether texts carry a flag, by the plausibility of other speakers' texts, (N,).

    Where too few of those are right, the rules for all models decide.
    """
    result = np.zeros(len(recognised), bool)
    for inside, rest in folds([u.utterance.speaker for u in recognised]):
        others = plausibility_for(
            [u for u, other in zip(recognised, rest, strict=True) if other], known
        )
        for i in map(int, np.flatnonzero(inside)):
            found = recognised[i].segment
            flags = found.flags
            if others is not None:
                flags = others.apply(flags, found, found.text)
            result[i] = bool(flags)
    return result


def _report(
    recognised: Sequence[Recognised],
    texts: Evidence,
    words: Evidence,
    flagged: np.ndarray,
    left_out: int,
) -> Report:
    low, right = texts.confidences < LOW, texts.right == 1
    useless = np.array([u.useless for u in recognised])
    return Report(
        utterances=len(recognised),
        right=int(right.sum()),
        left_out=left_out,
        error=texts.error,
        low_right=float(low[right].mean()),
        low_wrong=float(low[~right].mean()),
        words=len(words.right),
        words_right=int(words.right.sum()),
        words_error=words.error,
        flagged_right=float(flagged[right].mean()),
        useless=int(useless.sum()),
        flagged_useless=float(flagged[useless].mean()) if useless.any() else None,
    )


def _as_if_new(recognizer: UtteranceRecognizer) -> UtteranceRecognizer:
    """The recogniser of a model that was never calibrated."""
    known = ("confidence", "credit")
    info = {k: v for k, v in recognizer.header.info.items() if k not in known}
    loaded = LoadedModel(replace(recognizer.header, info=info), recognizer.model)
    return UtteranceRecognizer(loaded, recognizer.config, recognizer.scorers)


def recognise(
    recognizer: UtteranceRecognizer, data: str | Path, utterances: Sequence[Utterance]
) -> list[Recognised]:
    """Recognise utterances of a data directory and compare them with their transcripts.

    Those that cannot be read or are too long for one go are left out with a warning.
    """
    found: dict[str, Recognised] = {}
    speakers = speaker_stats(data, utterances, recognizer.header.config.features)
    for batch in read_batches(recognizer, utterances, speakers, _leave_out):
        for u, chunk in (each for each in batch if each[1].end_s > FIXED_S):
            _leave_out(u, f"{chunk.end_s:.0f} s are too long for one go")
        batch = [each for each in batch if each[1].end_s <= FIXED_S]
        segments = recognizer.recognize([chunk for _, chunk in batch]) if batch else []
        for (u, _), segment in zip(batch, segments, strict=True):
            found[u.id] = _compare(u, segment)
    return [found[u.id] for u in utterances if u.id in found]


def _compare(utterance: Utterance, segment: Segment) -> Recognised:
    from asr.score.wer import align

    reference = " ".join((utterance.text or "").split())
    (pairs,) = align([reference], [segment.text])
    errors = sum(ref != hyp for ref, hyp in pairs)
    return Recognised(
        utterance,
        segment,
        right=errors == 0,
        useless=errors > USELESS * len(reference.split()),
        words=tuple(ref == hyp for ref, hyp in pairs if hyp is not None),
    )


def _leave_out(utterance: Utterance, reason: str) -> None:
    print(f"warning: left out: {utterance.id}: {reason}", file=sys.stderr)


def _check_counts(right: np.ndarray, data: str | Path) -> None:
    count = int(right.sum())
    if min(count, len(right) - count) < FEWEST:
        raise InputError(
            f"{data}: {count} texts are right and {len(right) - count} are wrong, expected at "
            f"least {FEWEST} of each; take more recordings, or such as are "
            f"{'easier' if count < FEWEST else 'harder'} for this model"
        )
