"""What each character depends on, by occlusion (arXiv:1311.2901).

A part of the input is hidden from the model, and the recognised text is scored again (teacher
forcing). The relevance of this part for a character is how much the character's log-probability
falls:

    relevance = log p(y_i | y_<i, x) - log p(y_i | y'_<i, x'), where x' or y' has a part hidden

A stretch of audio is hidden by the average frame of the utterance. An earlier character is hidden
by other characters of the model, drawn at random with a fixed seed; the log-probabilities of the
drawings are averaged.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from asr.arrays import BoolArray, FloatArray
from asr.config import ExplainConfig
from asr.search.protocol import Encoded, Model

Tokens = Sequence[int]

BATCH_FRAMES = 20_000  # of copies of an utterance that are encoded together
BATCH_TEXTS = 64
DRAWINGS = 4  # of the characters that hide an earlier one, fewer for long texts
MOST_TEXTS = 1000
FIRST_CHARACTER = 2  # id; those before it are <blank> and <unk>


@dataclass(frozen=True)
class Relevance:
    """Relevance for a text of U characters and its end, in nats."""

    log_probs: FloatArray
    """Log-probability of each character with nothing hidden, (U + 1,)."""
    sound: FloatArray
    """Relevance of the audio: mean of the stretches that cover each frame, (U + 1, T)."""
    history: FloatArray
    """Relevance of each earlier character, (U + 1, U); 0 from the diagonal on."""
    without_sound: FloatArray
    """Log-probability of each character with all the audio hidden, (U + 1,)."""


class Occluder:
    """Scores the text of an utterance while something is hidden.

    Args:
        model: the network.
        features: normalised, (T, F).
        tokens: the U characters.
    """

    def __init__(self, model: Model, features: FloatArray, tokens: Tokens) -> None:
        self.model, self.features, self.tokens = model, features, tuple(tokens)
        self.average = features.mean(0)
        self.encoded = model.encode([features])
        self.log_probs = np.array(model.teacher_force(self.encoded, [self.tokens])[0].log_probs)

    def encoded_without(self, hidden: BoolArray) -> Iterator[Encoded]:
        """Yield batches of the encoded utterance with frames hidden, (N, T)."""
        size = max(1, BATCH_FRAMES // len(self.features))
        for first in range(0, len(hidden), size):
            yield self.model.encode(
                [
                    np.where(frames[:, None], self.average, self.features)
                    for frames in hidden[first : first + size]
                ]
            )

    def without(self, hidden: BoolArray) -> FloatArray:
        """Return the log-probabilities with frames hidden: (N, T) to (N, U + 1)."""
        found = [
            each.log_probs
            for encoded in self.encoded_without(hidden)
            for each in self.model.teacher_force(encoded, [self.tokens] * len(encoded.steps))
        ]
        return np.array(found).reshape(len(hidden), len(self.tokens) + 1)

    def rewritten(self, texts: Sequence[Tokens]) -> Iterator[FloatArray]:
        """Yield the log-probabilities of other texts of the same audio."""
        for first in range(0, len(texts), BATCH_TEXTS):
            batch = texts[first : first + BATCH_TEXTS]
            forced = self.model.teacher_force(self.encoded.select([0] * len(batch)), batch)
            yield from (np.array(each.log_probs) for each in forced)


def relevance(occluder: Occluder, config: ExplainConfig, shift_s: float) -> Relevance:
    """Return what each character of a text depends on.

    Args:
        occluder: the utterance.
        config: number and length of the stretches.
        shift_s: time between frames.
    """
    frames = len(occluder.features)
    hidden = stretches(frames, config.masks, config.stretch_s / shift_s)
    losses = occluder.log_probs - occluder.without(hidden)  # (M, U + 1)
    return Relevance(
        log_probs=occluder.log_probs,
        sound=(losses.T @ hidden / np.maximum(1, hidden.sum(0))).astype(np.float32),
        history=_history(occluder),
        without_sound=occluder.without(np.ones((1, frames), bool))[0],
    )


def stretches(frames: int, count: int, length: float) -> BoolArray:
    """Return overlapping stretches of the audio, at most one for each frame, (M, frames).

    They are longer than asked for where ``count`` of that length would not overlap.
    """
    count = min(count, frames)
    length = max(1.0, length, 2 * frames / count)
    middles = (np.arange(count) + 0.5) * frames / count
    return np.abs(np.arange(frames) + 0.5 - middles[:, None]) <= length / 2


def smoothed(attention: FloatArray, count: int, length: float) -> FloatArray:
    """Return attention with the smoothing of relevance, (U, T); see :func:`stretches`."""
    hidden = stretches(attention.shape[1], count, length)
    return (attention @ hidden.T) @ hidden / np.maximum(1, hidden.sum(0))


def _history(occluder: Occluder) -> FloatArray:
    """Return the relevance of each earlier character, (U + 1, U)."""
    tokens, drawn = occluder.tokens, _drawn(occluder)
    texts = [
        (*tokens[:j], int(other), *tokens[j + 1 :])
        for j in range(len(tokens))
        for other in drawn[:, j]
    ]
    scores = np.array(list(occluder.rewritten(texts)))  # (U x drawings, U + 1)
    scores = scores.reshape(len(tokens), len(drawn), len(tokens) + 1)
    return np.tril((occluder.log_probs - scores.mean(1)).T, -1)


def _drawn(occluder: Occluder) -> npt.NDArray[np.int64]:
    """Return characters that differ from those of the text, (drawings, U)."""
    tokens = np.array(occluder.tokens, np.int64)
    first, count = FIRST_CHARACTER, occluder.model.eos - FIRST_CHARACTER
    drawings = min(DRAWINGS, max(1, MOST_TEXTS // len(tokens)))
    steps = np.random.default_rng(0).integers(1, max(2, count), (drawings, len(tokens)))
    return first + (tokens - first + steps) % max(1, count)
