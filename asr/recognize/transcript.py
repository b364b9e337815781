"""The transcript of a piece of audio."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from asr.arrays import FloatArray
from asr.recognize.metrics import AlignmentStatistics, mean_statistics


@dataclass(frozen=True)
class Word:
    """A word with its times and its confidence."""

    text: str
    start_s: float
    """From the beginning of the audio."""
    end_s: float
    confidence: float | None = None
    """Probability that the word is correct; None if the model was not calibrated."""
    characters: tuple[tuple[str, float, float], ...] = ()
    """Each character with its start and end in seconds."""
    predictors: tuple[float, float] | None = None
    """Predictors of its confidence, see :func:`asr.recognize.confidence.word_predictors`."""


@dataclass(frozen=True)
class Candidate:
    """An entry of an n-best list."""

    text: str
    """In the model's spelling, with all spaces."""
    score: float
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Segment:
    """The recognised text of a stretch of audio."""

    start_s: float
    end_s: float
    text: str
    score: float
    """The score that the search compared."""
    scores: Mapping[str, float]
    """By the decoder and the other scorers of the search, see
    :class:`asr.search.hypothesis.Hypothesis`."""
    flags: tuple[str, ...]
    """``low-confidence``, ``doubtful``, or those of :func:`asr.recognize.flags.flags`."""
    tokens: tuple[int, ...]
    nbest: tuple[Candidate, ...] = ()
    """Best first."""
    attention: FloatArray | None = None
    """Weights of every character and of the end, (U + 1, S), if requested."""
    alignment: AlignmentStatistics | None = None
    """Statistics of the attention."""
    confidence: float | None = None
    """Probability that the whole text is correct; None if the model was not calibrated."""
    words: tuple[Word, ...] = ()
    """The words of the text, with their times."""


@dataclass(frozen=True)
class Transcript:
    """All segments of a piece of audio."""

    duration_s: float
    segments: tuple[Segment, ...] = ()

    @property
    def text(self) -> str:
        """The text of all segments, joined by spaces."""
        return " ".join(s.text for s in self.segments if s.text)

    @property
    def why_empty(self) -> str:
        """The reason for an empty text: without speech there are no segments."""
        return "the model wrote nothing" if self.segments else "no speech found"

    @property
    def words(self) -> tuple[Word, ...]:
        """The words of all segments."""
        return tuple(word for s in self.segments for word in s.words)

    @property
    def flags(self) -> tuple[str, ...]:
        """The flags of all segments."""
        return tuple(sorted({flag for s in self.segments for flag in s.flags}))

    @property
    def confidence(self) -> float | None:
        """The lowest confidence of the segments; None if the model was not calibrated."""
        return min((s.confidence for s in self.segments if s.confidence is not None), default=None)

    @property
    def alignment(self) -> AlignmentStatistics | None:
        """The means of the statistics of the segments; None without segments."""
        return mean_statistics(s.alignment for s in self.segments if s.alignment is not None)

    def to_dict(self, name: str = "", audio: str = "") -> dict[str, Any]:
        """Return the transcript for JSON, with whisper's keys, flags and confidence.

        Whisper's keys without a counterpart here are None.

        Args:
            name: of the utterance or recording; "" leaves it and ``file`` out.
            audio: path of the audio.
        """
        segments = [
            {
                "id": number,
                "seek": round(100 * s.start_s),
                "start": round(s.start_s, 3),
                "end": round(s.end_s, 3),
                "text": s.text,
                "tokens": list(s.tokens),
                "temperature": 0.0,
                "compression_ratio": _compression_ratio(s.text),
                "no_speech_prob": None,
                "avg_logprob": round(s.scores["decoder"] / (len(s.tokens) + 1), 4),
                **_scores(s),
                "confidence": rounded(s.confidence),
                "flags": list(s.flags),
                "nbest": [{"text": each.text, **_scores(each)} for each in s.nbest],
                "words": [_word(word) for word in s.words],
            }
            for number, s in enumerate(self.segments)
        ]
        alignment = self.alignment
        named = {"id": name, "file": audio} if name else {}
        return {
            **named,
            "duration": round(self.duration_s, 3),
            "text": self.text,
            "language": None,
            "confidence": rounded(self.confidence),
            "flags": list(self.flags),
            "alignment": None if alignment is None else alignment.to_dict(),
            "segments": segments,
        }


def _scores(scored: Candidate | Segment) -> dict[str, Any]:
    scores = {name: round(score, 4) for name, score in scored.scores.items()}
    return {"score": round(scored.score, 4), "scores": scores}


def _compression_ratio(text: str) -> float:
    """Return the bytes of a text over those of its compressed form; high if it repeats itself."""
    data = text.encode()
    return round(len(data) / len(zlib.compress(data)), 4)


def _word(word: Word) -> dict[str, Any]:
    return {
        "word": word.text,
        "start": round(word.start_s, 3),
        "end": round(word.end_s, 3),
        "probability": rounded(word.confidence),
        "characters": [[c, round(a, 3), round(b, 3)] for c, a, b in word.characters],
    }


def rounded(value: float | None) -> float | None:
    """Return a number for JSON."""
    return None if value is None else round(value, 4)
