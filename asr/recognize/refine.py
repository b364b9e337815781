"""Refine the times of words by Gaussians of the characters, as an HMM recogniser aligns.

A network that reads the whole utterance may write a character long before or after it is spoken. A
Gaussian that reads three frames cannot. It is estimated from utterances with first times: a mean
for each character and for silence, and a covariance that they share, from the frames that the times
give to each; then the most likely path through the characters gives new times, and so on. With the
spliced frames x, a character's mean m and the covariance C, a path adds up

    (m - n) . C^-1 (x - (m + n) / 2) - (t - p)^2 / (2 R^2)

where n is the mean of all frames, t the time of the frame, and p the middle of the character's
initial times. Terms that are equal for all characters are left out. ``asr train`` estimates the
Gaussians from the dev set, ``asr calibrate`` from any data directory, and the model file keeps
them. A hundred utterances suffice; with a dozen the times hardly change.
"""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from asr.arrays import FloatArray, IntArray
from asr.errors import InputError
from asr.recognize.timing import PAUSE_S
from asr.recognize.transcript import Word

SILENCE, OTHER = 0, 1  # columns of the Gaussians before those of the characters
CONTEXT = 1  # frames on either side
ROUNDS = 3
TIME_STD_S = 0.2  # R: standard deviation of the time around the middle of a character
RIDGE = 0.03  # of the mean variance, added to the variances
PRIOR = 5.0  # frames with the mean of all, added to those of a character

TimedWords = tuple[FloatArray, Sequence[Word]]
"""Features (T, F) of an utterance, and its words with times from its beginning."""


@dataclass(frozen=True)
class InitialAlignment:
    """An utterance with the first times of its words."""

    words: Sequence[Word]
    frames: FloatArray
    """Spliced features, (T, F')."""
    symbols: IntArray
    """Column of each character of the words, (U,)."""
    times: FloatArray
    """Start and end of each character in frames, (U, 2)."""

    def labels(self, edges: FloatArray) -> IntArray:
        """Return the column of each frame, (T,), by the edges of the characters, (U, 2)."""
        found = np.full(len(self.frames), SILENCE)
        for symbol, (start, end) in zip(self.symbols, np.rint(edges).astype(int), strict=True):
            found[start:end] = symbol
        return found

    def refined(self, edges: IntArray, shift_s: float, start_s: float) -> tuple[Word, ...]:
        """Return the words with other edges of the characters; without a pause they meet."""
        ends = np.cumsum([len(word.characters) for word in self.words])
        firsts = np.concatenate([[0], ends[:-1]])
        times = edges * shift_s + start_s
        outer = np.stack([times[firsts, 0], times[ends - 1, 1]], 1)  # (words, 2)
        for before, after in pairwise(outer):
            if after[0] - before[1] < PAUSE_S:
                before[1] = after[0] = (before[1] + after[0]) / 2
        found = []
        for word, (start, end), first in zip(
            self.words, outer.tolist(), firsts.tolist(), strict=True
        ):
            inner = times[first + 1 : first + len(word.characters), 0]
            cuts = [start, *inner.clip(start, end).tolist(), end]
            spelled = zip(word.characters, pairwise(cuts), strict=True)
            characters = tuple((c, a, b) for (c, _, _), (a, b) in spelled)
            found.append(replace(word, start_s=start, end_s=end, characters=characters))
        return tuple(found)


@dataclass(frozen=True)
class CharacterGaussians:
    """Gaussians of V characters, as linear log-likelihoods."""

    characters: str
    """Each has a column, after those of silence and of all other characters."""
    weights: FloatArray
    """C^-1 (m - n) and, in the last row, - (m - n) . C^-1 (m + n) / 2, (F' + 1, V + 2)."""

    @classmethod
    def estimate(
        cls, utterances: Sequence[TimedWords], shift_s: float
    ) -> "CharacterGaussians | None":
        """Return the Gaussians of some utterances; None if no utterance can be aligned.

        Args:
            utterances: with their first times.
            shift_s: time between frames.
        """
        spelled = {c for _, words in utterances for word in words for c, _, _ in word.characters}
        found = cls("".join(sorted(spelled)), np.zeros((0, 0)))
        alignments = [each for timed in utterances if (each := found._initial(*timed, shift_s))]
        edges = [each.times for each in alignments]
        for round_ in range(ROUNDS if alignments else 0):
            labels = [each.labels(edge) for each, edge in zip(alignments, edges, strict=True)]
            found = replace(found, weights=_weights(alignments, labels, len(spelled) + 2))
            if round_ < ROUNDS - 1:
                edges = [found._edges(each, shift_s).astype(float) for each in alignments]
        return found if alignments else None

    def refine(
        self, features: FloatArray, words: Sequence[Word], shift_s: float, start_s: float = 0.0
    ) -> tuple[Word, ...]:
        """Return the words of an utterance with better times.

        All words keep their times if a word has no times of its characters, or if there are more
        characters than frames.

        Args:
            features: (T, F).
            words: with their first times.
            shift_s: time between frames.
            start_s: time of the first frame.
        """
        initial = self._initial(features, words, shift_s, start_s)
        if initial is None:
            return tuple(words)
        return initial.refined(self._edges(initial, shift_s), shift_s, start_s)

    def _initial(
        self, features: FloatArray, words: Sequence[Word], shift_s: float, start_s: float = 0.0
    ) -> InitialAlignment | None:
        """Return the first times of an utterance; None if its characters do not fit its frames."""
        characters = [each for word in words for each in word.characters]
        if not all(word.characters for word in words) or not 0 < len(characters) <= len(features):
            return None
        padded = np.pad(features, ((CONTEXT, CONTEXT), (0, 0)), "edge")
        width = 2 * CONTEXT + 1
        frames = np.hstack([padded[k : k + len(features)] for k in range(width)])
        columns = {c: column for column, c in enumerate(self.characters, OTHER + 1)}
        symbols = np.array([columns.get(c, OTHER) for c, _, _ in characters])
        times = (np.array([(start, end) for _, start, end in characters]) - start_s) / shift_s
        return InitialAlignment(words, frames, symbols, times)

    def _edges(self, initial: InitialAlignment, shift_s: float) -> IntArray:
        """Return the edges of each character on the most likely path, in frames, (U, 2)."""
        columns, of = np.unique([SILENCE, *initial.symbols], return_inverse=True)
        weights = self.weights[:, columns].astype(np.float32)
        scores = initial.frames @ weights[:-1] + weights[-1]  # (T, columns)
        gains = (scores[:, of[1:]] - scores[:, :1]).T  # (U, T)
        far = np.arange(len(scores)) + 0.5 - initial.times.mean(1, keepdims=True)  # (U, T)
        return best_edges(gains - 0.5 * (far * (shift_s / TIME_STD_S)) ** 2)

    def to_info(self) -> dict[str, str]:
        """Return the Gaussians for a model's info; see :meth:`from_info`."""
        blob = self.weights.astype("<f4").tobytes()
        return {"characters": self.characters, "weights": base64.b64encode(blob).decode()}

    @classmethod
    def from_info(
        cls, info: Mapping[str, Any], dim: int, where: str | Path
    ) -> "CharacterGaussians | None":
        """Read the Gaussians from a model's info; None if it has none.

        Args:
            info: of the model.
            dim: width of the features (F).
            where: its file, for messages.

        Raises:
            InputError: they are damaged.
        """
        if (values := info.get("sounds")) is None:
            return None
        try:
            characters = str(values["characters"])
            blob = np.frombuffer(base64.b64decode(values["weights"]), "<f4")
            weights = blob.reshape((2 * CONTEXT + 1) * dim + 1, len(characters) + OTHER + 1)
        except (KeyError, TypeError, ValueError):
            weights = np.full((1, 1), math.nan, np.float32)
        if not np.isfinite(weights).all():
            raise InputError(
                f"{where}: the Gaussians of its characters are damaged; run `asr calibrate` again"
            )
        return cls(characters, weights)


def best_edges(gains: FloatArray) -> IntArray:
    """Return the first frame of each character and the one after its last, (U, 2).

    Among all sequences of the characters, each of one frame or more, with silence before, between
    and after them, the sum of the gains is the largest.

    Args:
        gains: score of each character at each frame, minus that of silence, (U, T); U <= T.
    """
    U, T = gains.shape
    total = np.zeros((U, T + 1))
    np.cumsum(gains, 1, out=total[:, 1:])
    begun, ended = np.zeros((U, T + 1)), np.full((U, T + 1), -np.inf)
    before = np.zeros(T + 1)  # best sum of all earlier characters that end by each frame
    for u in range(U):
        begun[u] = before - total[u]  # character u begins at each frame
        ended[u, 1:] = np.maximum.accumulate(begun[u, :-1]) + total[u, 1:]
        before = np.maximum.accumulate(ended[u])
    edges, end = np.zeros((U, 2), np.int64), T
    for u in reversed(range(U)):
        end = int(ended[u, : end + 1].argmax())
        start = int(begun[u, :end].argmax())
        edges[u], end = (start, end), start
    return edges


def _weights(
    alignments: Sequence[InitialAlignment], labels: Sequence[IntArray], count: int
) -> FloatArray:
    """Return the weights of ``count`` Gaussians by the columns of the frames (T,)."""
    width = alignments[0].frames.shape[1]
    counts, sums = np.zeros(count), np.zeros((count, width))
    squares = np.zeros((width, width))
    for initial, label in zip(alignments, labels, strict=True):
        counts += np.bincount(label, minlength=count)
        np.add.at(sums, label, initial.frames)
        squares += initial.frames.T @ initial.frames
    mean = sums.sum(0) / counts.sum()
    means = (sums + PRIOR * mean) / (counts + PRIOR)[:, None]  # (V, F')
    within = squares - sums.T @ means - means.T @ sums + (means.T * counts) @ means
    covariance = within / counts.sum()
    covariance += RIDGE * np.trace(covariance) / width * np.eye(width) + 1e-6 * np.eye(width)
    slopes = np.linalg.solve(covariance, (means - mean).T)
    return np.vstack([slopes, -0.5 * ((means + mean) * slopes.T).sum(1)])
