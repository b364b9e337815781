"""Grid search for the weights of a search on the n-best lists of a dev set.

The lists hold the scores of the decoder, CTC and the language model apart, so each point of the
grid needs one sum instead of one decoding.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from asr.tune.nbest import Array, NBestLists

CTC_WEIGHTS = np.arange(0, 21) / 20
LM_WEIGHTS = np.array([0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0])
BONUSES = np.arange(0, 21) / 5
SETTINGS = ("ctc_weight", "lm_weight", "length_bonus")


@dataclass(frozen=True)
class GridSearch:
    """Word error rates over a grid."""

    ctc_weights: Array
    lm_weights: Array
    bonuses: Array
    rates: Array
    """(CTC weights, LM weights, bonuses)."""
    best: tuple[int, int, int]
    """Indices of the best point."""

    def settings(self, point: tuple[int, int, int] | None = None) -> dict[str, float]:
        """Return the settings of a point, by default the best one, as DecodeConfig names them."""
        axes = (self.ctc_weights, self.lm_weights, self.bonuses)
        values = (float(axis[i]) for axis, i in zip(axes, point or self.best, strict=True))
        return dict(zip(SETTINGS, values, strict=True))

    def without_lm(self) -> tuple[int, int, int]:
        """Return the best point without the language model, whose first weight is 0."""
        return best_point(self.rates[:, :1])

    def edges(self) -> list[str]:
        """Return the settings of the best point that are the highest of their range."""
        highest = {"length_bonus": self.bonuses[-1]}
        if len(self.lm_weights) > 1:
            highest["lm_weight"] = self.lm_weights[-1]
        chosen = self.settings()
        return [f"{k} = {chosen[k]:g}" for k, value in highest.items() if chosen[k] == value]

    def table(self, lists: NBestLists) -> dict[str, Any]:
        """Return the whole grid for JSON."""
        return {
            "first": lists.first,
            "oracle": lists.oracle,
            "best": {**self.settings(), "wer": float(self.rates[self.best])},
            "ctc_weights": self.ctc_weights.tolist(),
            "lm_weights": self.lm_weights.tolist(),
            "length_bonuses": self.bonuses.tolist(),
            "wer": self.rates.round(5).tolist(),
        }


def search_grid(lists: NBestLists, lm: bool = True) -> GridSearch:
    """Compute the word error rate at every point; axes without scores have one point.

    Args:
        lists: with their scores.
        lm: whether the language model takes part.
    """
    has_ctc, has_lm = ((np.isfinite(x) & (x != 0)).any() for x in (lists.ctc, lists.lm))
    ctc_weights = CTC_WEIGHTS if has_ctc else np.zeros(1)
    lm_weights = LM_WEIGHTS if lm and has_lm else np.zeros(1)
    rates = np.empty((len(ctc_weights), len(lm_weights), len(BONUSES)))
    for c, share in enumerate(ctc_weights):
        base = _weighted(lists.decoder, 1 - share) + _weighted(lists.ctc, share)  # (N, K)
        for w, weight in enumerate(lm_weights):
            scores = base + _weighted(lists.lm, weight)
            with_bonus = scores[..., None] + lists.lengths[..., None] * BONUSES  # (N, K, bonuses)
            chosen = with_bonus.argmax(1)  # (N, bonuses)
            wrong = np.take_along_axis(lists.errors, chosen, axis=1).sum(0)
            rates[c, w] = wrong / lists.words
    return GridSearch(ctc_weights, lm_weights, BONUSES, rates, best_point(rates))


def _weighted(scores: Array, weight: float) -> Array:
    """Return weighted scores; -inf stays so with a weight of 0, which would make it NaN."""
    return np.where(np.isinf(scores), -np.inf, weight * np.where(np.isinf(scores), 0.0, scores))


def best_point(rates: Array) -> tuple[int, int, int]:
    """Return the point with the lowest mean rate over itself and its neighbours.

    Of several, the one with the lowest rate wins. The mean is used because a lone low point is
    chance on a small dev set, while a low region is not.
    """
    from scipy.ndimage import uniform_filter

    total, count = (uniform_filter(x, 3, mode="constant") for x in (rates, np.ones_like(rates)))
    means = (total / count).round(12)  # rounding errors must not decide between equal ones
    best = np.lexsort((rates.ravel(), means.ravel()))[0]
    c, w, b = np.unravel_index(best, rates.shape)
    return int(c), int(w), int(b)
