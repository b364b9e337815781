"""Refine the times of words by the sound of the characters, as an HMM recogniser aligns.

A network that hears the whole utterance may write a character long before or after its sound. A
Gaussian that hears three frames cannot. It is estimated from the utterances themselves: a mean for
each character and for silence, and a covariance that they share, from the frames that the times
give to each; then the most likely path through the characters gives new times, and so on. With the
spliced frames x, a character's mean m and the covariance C, a path adds up

    m . C^-1 x - m . C^-1 m / 2 - (t - p)^2 / (2 R^2)

where p is the first time of the character. What all characters have in common is left out. A dozen
utterances suffice; with fewer the times hardly change.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from asr.arrays import FloatArray, IntArray
from asr.recognize.timing import PAUSE_S
from asr.recognize.transcript import Word
from asr.search.alignment import best_states
from asr.search.hypothesis import BLANK

SILENCE = BLANK
CONTEXT = 1  # frames on either side
ROUNDS = 3
REACH_S = 0.2  # R
RIDGE = 0.03  # of the mean variance, added to the variances
PRIOR = 5.0  # frames with the mean of all, added to those of a character


class Gaussians(NamedTuple):
    """Linear log-likelihoods of V characters."""

    slopes: FloatArray
    """C^-1 m, (F', V)."""
    offsets: FloatArray
    """- m . C^-1 m / 2, (V,)."""


@dataclass(frozen=True)
class Draft:
    """An utterance with the first times of its words."""

    words: tuple[Word, ...]
    frames: FloatArray
    """Spliced features, (T, F')."""
    symbols: IntArray
    """Each character of the words, (U,)."""
    times: FloatArray
    """Start and end of each character in frames, (U, 2)."""

    def labels(self) -> IntArray:
        """Return the character or silence of each frame by the first times, (T,)."""
        found = np.full(len(self.frames), SILENCE)
        for symbol, (start, end) in zip(self.symbols, np.rint(self.times).astype(int), strict=True):
            found[start:end] = symbol
        return found

    def path(self, gaussians: Gaussians, reach: float) -> IntArray:
        """Return the state of each frame, 2 u + 1 for character u, even for silence, (T,)."""
        states = np.full(2 * len(self.symbols) + 1, SILENCE)
        states[1::2] = self.symbols
        scores = self.frames @ gaussians.slopes[:, states] + gaussians.offsets[states]
        far = (np.arange(len(self.frames))[:, None] + 0.5 - self.times.mean(1)) / reach  # (T, U)
        scores[:, 1::2] -= far**2 / 2
        free = np.where(states == SILENCE, BLANK, np.arange(len(states)))  # any silence is skipped
        return best_states(scores, free)

    def refined(self, path: IntArray, shift_s: float) -> tuple[Word, ...]:
        """Return the words with the times of a path; without a pause they meet in the middle."""
        counts = np.array([len(word.characters) for word in self.words])
        ends = np.cumsum(counts)
        reached = np.searchsorted(path, 2 * np.arange(len(self.symbols)) + 1)  # first frames, (U,)
        left = np.searchsorted(path, 2 * np.arange(len(self.symbols)) + 2)
        edges = np.stack([reached[ends - counts], left[ends - 1]], 1) * shift_s  # (words, 2)
        for before, after in pairwise(edges):
            if after[0] - before[1] < PAUSE_S:
                before[1] = after[0] = (before[1] + after[0]) / 2
        found = []
        for word, (start, end), last in zip(self.words, edges.tolist(), ends.tolist(), strict=True):
            inner = reached[last - len(word.characters) + 1 : last] * shift_s
            cuts = [start, *inner.clip(start, end).tolist(), end]
            spelled = zip(word.characters, pairwise(cuts), strict=True)
            characters = tuple((c, float(a), float(b)) for (c, _, _), (a, b) in spelled)
            found.append(replace(word, start_s=start, end_s=end, characters=characters))
        return tuple(found)


def refine(
    utterances: Sequence[tuple[FloatArray, tuple[Word, ...]]], shift_s: float
) -> list[tuple[Word, ...]]:
    """Return the words of utterances with better times.

    Args:
        utterances: features (T, F) and words of each, with times from its beginning. Words whose
            characters are not known, or more characters than frames, keep their times.
        shift_s: time between frames.
    """
    spelled = {c for _, words in utterances for word in words for c, _, _ in word.characters}
    numbers = {c: number for number, c in enumerate(sorted(spelled), SILENCE + 1)}
    drafts = [_draft(features, words, numbers, shift_s) for features, words in utterances]
    known = [each for each in drafts if each is not None]
    labels, paths = [each.labels() for each in known], []
    for _ in range(ROUNDS if known else 0):
        gaussians = _estimate(known, labels, len(numbers) + 1)
        paths = [each.path(gaussians, REACH_S / shift_s) for each in known]
        labels = [
            np.where(path % 2, each.symbols[(path - 1) // 2], SILENCE)
            for each, path in zip(known, paths, strict=True)
        ]
    refined = (each.refined(path, shift_s) for each, path in zip(known, paths, strict=True))
    return [
        words if draft is None else next(refined)
        for draft, (_, words) in zip(drafts, utterances, strict=True)
    ]


def _draft(
    features: FloatArray, words: tuple[Word, ...], numbers: dict[str, int], shift_s: float
) -> Draft | None:
    """Return the first times of an utterance; None if its characters do not fit its frames."""
    characters = [each for word in words for each in word.characters]
    if not all(word.characters for word in words) or not 0 < len(characters) <= len(features):
        return None
    around = np.arange(len(features))[:, None] + np.arange(-CONTEXT, CONTEXT + 1)
    frames = features[around.clip(0, len(features) - 1)].reshape(len(features), -1)
    symbols = np.array([numbers[c] for c, _, _ in characters])
    times = np.array([(start, end) for _, start, end in characters]) / shift_s
    return Draft(words, frames, symbols, times)


def _estimate(drafts: Sequence[Draft], labels: Sequence[IntArray], count: int) -> Gaussians:
    """Return the Gaussians of the characters by the labels of the frames (T,)."""
    width = drafts[0].frames.shape[1]
    counts, sums = np.zeros(count), np.zeros((count, width))
    squares = np.zeros((width, width))
    for draft, label in zip(drafts, labels, strict=True):
        counts += np.bincount(label, minlength=count)
        np.add.at(sums, label, draft.frames)
        squares += draft.frames.T @ draft.frames
    mean = sums.sum(0) / counts.sum()
    means = (sums + PRIOR * mean) / (counts + PRIOR)[:, None]  # (V, F')
    within = squares - sums.T @ means - means.T @ sums + (means.T * counts) @ means
    covariance = within / counts.sum()
    covariance += RIDGE * np.trace(covariance) / width * np.eye(width) + 1e-6 * np.eye(width)
    slopes = np.linalg.solve(covariance, means.T)
    return Gaussians(slopes, -0.5 * (means * slopes.T).sum(1))
