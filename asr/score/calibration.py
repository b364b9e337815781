"""Calibration of confidences: their bins, and the expected calibration error."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BINS = 10


@dataclass(frozen=True)
class ConfidenceBin:
    """The words, or texts, whose confidence lies in one range."""

    low: float
    high: float
    count: int
    right: int
    mean: float
    """Mean confidence; equal to the share of correct ones if the confidences are calibrated."""

    @property
    def share(self) -> float:
        """The share of correct ones."""
        return self.right / self.count


def confidence_bins(confidences: np.ndarray, right: np.ndarray) -> list[ConfidenceBin]:
    """Return the bins that are not empty, from low to high.

    Args:
        confidences: values from 0 to 1, (N,).
        right: whether each word or text is correct, (N,).
    """
    numbers = np.minimum((confidences * BINS).astype(int), BINS - 1)  # (N,)
    return [
        ConfidenceBin(
            number / BINS,
            (number + 1) / BINS,
            int(inside.sum()),
            int(right[inside].sum()),
            float(confidences[inside].mean()),
        )
        for number in range(BINS)
        if (inside := numbers == number).any()
    ]


def calibration_error(bins: Sequence[ConfidenceBin]) -> float:
    """Return the expected calibration error, mean |confidence - accuracy| (arXiv:1706.04599)."""
    total = sum(b.count for b in bins)
    return sum(abs(b.mean * b.count - b.right) for b in bins) / max(1, total)
