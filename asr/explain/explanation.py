"""Why a recogniser wrote a text: attention, relevance, alternatives, and how far they agree.

Attention tells where the decoder looked. It is evidence of the alignment and no proof of what
caused a character (arXiv:1902.10186), so relevance stands beside it, and :class:`Overlap` tells how
much of the relevance attention explains.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from asr.arrays import FloatArray
from asr.explain.curves import SHARES, Curve, mean_curves
from asr.explain.relevance import Relevance
from asr.files import write_atomically
from asr.recognize.transcript import Segment, Transcript, Word, rounded
from asr.score.wer import align

_OF_SOUND = ("probability", "without_sound", "sound_share")
ATTENDED = 0.9  # share of the attention that marks the attended frames


MEASURES = {
    "relevance": "what the log-probability of a character loses when a stretch of sound is "
    "replaced by the average frame (occlusion, arXiv:1311.2901)",
    "attention_explains": "share of the positive relevance in the frames that hold 90 % of the "
    "attention; by_chance: these frames as a share of the audio",
    "deletion": "share of the words that the search still finds when the most important audio, in "
    "the order of a curve, is removed; by the share of the audio removed (arXiv:1806.07421)",
    "kept": "share of the words that the search finds when only the most important audio is kept; "
    "size: smallest share of the audio with half of the words that all the audio gives",
    "probability": "geometric mean over the characters of a word, by the decoder",
    "without_sound": "the same with all the sound replaced: what the earlier characters tell",
    "sound_share": "share of the sound in the rise of the log-probability above a uniform guess",
}


class Alternative(NamedTuple):
    """Another reading of a word in the n-best list."""

    text: str
    """Empty if the word is missing there."""
    share: float
    """Of the probability of the list."""


@dataclass(frozen=True)
class WordEvidence:
    """What a word depends on. Probabilities are geometric means over its characters."""

    word: Word
    first: int
    """Its first character in the text."""
    end: int
    """The character after its last."""
    probability: float
    """Of its characters, by the decoder."""
    without_sound: float
    """The same with all the audio hidden, so that the earlier characters alone tell it."""
    uniform: float
    """Probability of a character by a uniform guess: 1 / V."""
    alternatives: tuple[Alternative, ...]
    """Other readings, the most probable first."""

    @property
    def sound_share(self) -> float:
        """Share of the rise of the log-probability that comes from the sound, from 0 to 1.

        The earlier characters raise the logarithm from ``uniform`` to ``without_sound``, and the
        sound from there to ``probability``. What lowers it counts as 0.
        """
        language = max(0.0, float(np.log(self.without_sound / self.uniform)))
        sound = max(0.0, float(np.log(self.probability / self.without_sound)))
        return sound / (sound + language) if sound + language > 0 else 0.0


class Overlap(NamedTuple):
    """How much of the relevance of the audio lies where attention lies."""

    share: float
    """Share of the positive relevance in the frames that hold 90 % of a character's attention."""
    chance: float
    """The same for frames at random: the share of the audio that these frames are."""


@dataclass(frozen=True)
class SegmentExplanation:
    """The explanation of a segment with U characters and T frames."""

    segment: Segment
    text: str
    """In the model's spelling, a character for each token, (U,)."""
    shift_s: float
    """Time between frames."""
    attention: FloatArray
    """Weights of each character and of the end over the frames, (U + 1, T)."""
    relevance: Relevance
    curves: Mapping[str, Curve]
    """By ``attention``, ``relevance`` and ``chance``."""
    overlap: Overlap
    words: tuple[WordEvidence, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the large arrays for JSON."""
        return {
            "start": round(self.segment.start_s, 3),
            "end": round(self.segment.end_s, 3),
            "text": self.segment.text,
            "confidence": rounded(self.segment.confidence),
            "flags": list(self.segment.flags),
            "attention_explains": rounded(self.overlap.share),
            "by_chance": rounded(self.overlap.chance),
            "curves": {name: curve.to_dict() for name, curve in self.curves.items()},
            "words": [_word(each) for each in self.words],
        }


@dataclass(frozen=True)
class Explanation:
    """The explanation of a recording."""

    waveform: FloatArray
    """Mono, (N,)."""
    rate: int
    """Samples per second."""
    transcript: Transcript
    segments: tuple[SegmentExplanation, ...]
    """Those with text."""
    name: str = ""

    def without_arrays(self) -> "Explanation":
        """Return the same without what depends on the length of the audio."""
        none = np.zeros((1, 0), np.float32)
        empty = Relevance(*[none] * 4)
        segments = [replace(each, attention=none, relevance=empty) for each in self.segments]
        return replace(self, waveform=none[0], segments=tuple(segments))

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the large arrays for JSON."""
        return {
            "file": self.name,
            "duration": round(self.transcript.duration_s, 3),
            "text": self.transcript.text,
            "segments": [segment.to_dict() for segment in self.segments],
        }


def overlap(attention: FloatArray, relevance: FloatArray) -> Overlap:
    """Return how much of the relevance attention explains.

    Args:
        attention: of each character, smoothed as the relevance is, (U, T).
        relevance: of each character, (U, T).
    """
    order = np.argsort(-attention, axis=1, kind="stable")
    totals = np.cumsum(np.take_along_axis(attention, order, 1), 1)  # (U, T)
    attended = totals - np.take_along_axis(attention, order, 1) < ATTENDED * totals[:, -1:]
    positive = np.take_along_axis(np.maximum(relevance, 0.0), order, 1)
    each = positive.sum(1)  # (U,)
    total = max(1e-12, float(each.sum()))
    return Overlap(
        float((positive * attended).sum()) / total, float(each @ attended.mean(1)) / total
    )


def mean_overlap(segments: Sequence[SegmentExplanation]) -> Overlap:
    """Return the mean of the overlaps of one or more segments, each with the same weight."""
    return Overlap(*np.mean([segment.overlap for segment in segments], 0).tolist())


def alternatives(segment: Segment) -> list[tuple[Alternative, ...]]:
    """Return the other readings of each word of a segment, from its n-best list."""
    texts = [" ".join(each.text.split()) for each in segment.nbest]
    scores = np.array([each.score for each in segment.nbest])
    shares = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
    words = segment.text.split()
    found: list[dict[str, float]] = [{} for _ in words]
    for share, pairs in zip(
        shares.tolist(), align([segment.text] * len(texts), texts), strict=True
    ):
        for other, reading in zip(found, _readings(pairs, len(words)), strict=True):
            other[reading] = other.get(reading, 0.0) + share
    return [
        tuple(
            Alternative(text, share)
            for text, share in sorted(readings.items(), key=lambda item: -item[1])
            if text != word
        )
        for word, readings in zip(words, found, strict=True)
    ]


def _readings(pairs: Sequence[tuple[str | None, str | None]], count: int) -> list[str]:
    """Return what stands for each word in another text; inserted words join the word before."""
    readings: list[list[str]] = [[] for _ in range(count)]
    place = -1
    for word, other in pairs:
        place += word is not None
        if other is not None:
            readings[max(0, place)].append(other)
    return [" ".join(each) for each in readings]


def summary(explanations: Sequence[Explanation]) -> dict[str, Any]:
    """Return the means of all segments and words, and each recording, for JSON."""
    segments = [segment for each in explanations for segment in each.segments]
    mean = mean_overlap(segments) if segments else None
    sound = [word.sound_share for segment in segments for word in segment.words]
    return {
        "measures": MEASURES,
        "segments": len(segments),
        "attention_explains": rounded(mean and mean.share),
        "by_chance": rounded(mean and mean.chance),
        "sound_share": rounded(sum(sound) / len(sound) if sound else None),
        "shares": SHARES.round(4).tolist(),
        "curves": {
            name: curve.to_dict()
            for name, curve in mean_curves([segment.curves for segment in segments]).items()
        },
        "files": [each.to_dict() for each in explanations],
    }


def write_arrays(path: str | Path, explanation: Explanation) -> Path:
    """Write the arrays of an explanation as ``.npz``, without pickle.

    ``waveform`` (N,) and ``rate``, and for segment K from 0 on: ``K.characters`` (U,),
    ``K.start_s``, ``K.shift_s``, ``K.attention`` and ``K.relevance`` (U + 1, T), ``K.history``
    (U + 1, U), ``K.log_probs`` and ``K.without_sound`` (U + 1,). Row U is the end.
    """
    arrays: dict[str, Any] = {"waveform": explanation.waveform, "rate": explanation.rate}
    for number, segment in enumerate(explanation.segments):
        arrays |= {f"{number}.{name}": array for name, array in _arrays(segment)}
    return write_atomically(path, lambda file: np.savez_compressed(file, **arrays))


def _arrays(segment: SegmentExplanation) -> Iterator[tuple[str, Any]]:
    yield "characters", np.array(list(segment.text), dtype="U1")
    yield "start_s", segment.segment.start_s
    yield "shift_s", segment.shift_s
    yield "attention", segment.attention.astype(np.float32)
    yield "relevance", segment.relevance.sound.astype(np.float32)
    for name in ("history", "log_probs", "without_sound"):
        yield name, getattr(segment.relevance, name).astype(np.float32)


def _word(each: WordEvidence) -> dict[str, Any]:
    return {
        "word": each.word.text,
        "start": round(each.word.start_s, 3),
        "end": round(each.word.end_s, 3),
        "confidence": rounded(each.word.confidence),
        **{name: rounded(getattr(each, name)) for name in _OF_SOUND},
        "alternatives": [[text, round(share, 4)] for text, share in each.alternatives],
    }
