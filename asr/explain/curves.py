"""How fast a text is lost when audio is removed, and how little audio keeps it.

Two curves of arXiv:1806.07421. The deletion curve removes the most important audio first; the
better an order of importance, the faster the words are lost and the smaller the area below the
curve. The insertion curve adds the most important audio first; here a large area is better.
Removed audio is hidden as in :mod:`asr.explain.relevance`, and the rest is recognised. The share of
the words that are still found is the height of the curves.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from asr.arrays import BoolArray, FloatArray
from asr.explain.relevance import Occluder
from asr.score.wer import count_words
from asr.search.protocol import Encoded

SHARES = np.linspace(0.0, 1.0, 11)  # of the audio
CHANCE = "chance"
DRAWINGS = 4  # of a random order
KEPT = 0.5  # share of the words that counts as the text

Recognize = Callable[[Encoded], Sequence[str]]
"""Returns the text of each utterance of a batch."""


@dataclass(frozen=True)
class Curve:
    """Share of the words of a text that survive, by the share of the audio, (len(SHARES),)."""

    deletion: FloatArray
    """With the most important share of the audio removed."""
    kept: FloatArray
    """With nothing but the most important share of the audio."""

    @property
    def deletion_area(self) -> float:
        """Area below the deletion curve, from 0 to 1; the smaller, the better the order."""
        return float(np.trapezoid(self.deletion, SHARES))

    @property
    def kept_area(self) -> float:
        """Area below the insertion curve, from 0 to 1; the larger, the better the order."""
        return float(np.trapezoid(self.kept, SHARES))

    @property
    def size(self) -> float:
        """Smallest share of the audio that keeps half of the words found in all the audio."""
        enough = self.kept >= KEPT * max(1e-6, self.kept[-1])
        return float(SHARES[enough.argmax()]) if enough.any() else 1.0

    def to_dict(self) -> dict[str, Any]:
        """Return the curves, their areas and the size for JSON."""
        return {
            "deletion": self.deletion.round(4).tolist(),
            "deletion_area": round(self.deletion_area, 4),
            "kept": self.kept.round(4).tolist(),
            "kept_area": round(self.kept_area, 4),
            "size": round(self.size, 4),
        }


def curves(
    occluder: Occluder,
    recognize: Recognize,
    text: str,
    importance: Mapping[str, FloatArray],
    block: int,
) -> dict[str, Curve]:
    """Return the curves of some orders of importance, and of chance.

    Args:
        occluder: the utterance, with T frames.
        recognize: the search.
        text: what it finds with all the audio; it has words.
        importance: of each frame, (T,), by name.
        block: frames that are removed together.
    """
    blocks = np.arange(len(occluder.features)) // block
    count = int(blocks[-1]) + 1
    generator = np.random.default_rng(0)
    ranks = [
        _ranks(np.bincount(blocks, each) / np.bincount(blocks)) for each in importance.values()
    ]
    chance = [generator.permutation(count) for _ in range(DRAWINGS)]
    orders = np.stack([*ranks, *(count - 1 - each for each in ranks), *chance])  # (N, count)
    hidden = orders[:, None, blocks] < np.rint(SHARES * count)[:, None]  # (N, shares, T)
    survivors = _survivors(occluder, recognize, text, hidden)
    found = {
        name: Curve(survivors[i], survivors[i + len(ranks)][::-1])
        for i, name in enumerate(importance)
    }
    random = survivors[2 * len(ranks) :].mean(0)
    return {**found, CHANCE: Curve(random, random[::-1])}


def _ranks(importance: FloatArray) -> np.ndarray:
    """Return the place of each block in the order of importance, 0 for the most important."""
    return np.argsort(np.argsort(-importance, kind="stable"))


def _survivors(
    occluder: Occluder, recognize: Recognize, text: str, hidden: BoolArray
) -> FloatArray:
    """Return the share of the words that survive: (N, shares, T) to (N, shares)."""
    found: list[str] = []
    for encoded in occluder.encoded_without(hidden.reshape(-1, hidden.shape[-1])):
        found += recognize(encoded)
    correct = count_words([text] * len(found), found)[:, 0]
    return correct.reshape(hidden.shape[:2]) / len(text.split())


def mean_curves(found: Sequence[Mapping[str, Curve]]) -> dict[str, Curve]:
    """Return the mean curves of several utterances, each with the same weight."""
    return {
        name: Curve(
            np.mean([each[name].deletion for each in found], 0),
            np.mean([each[name].kept for each in found], 0),
        )
        for name in (found[0] if found else ())
    }
