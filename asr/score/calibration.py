"""Calibration of confidences: bins with their accuracy, and the expected calibration error."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BINS = 10


@dataclass(frozen=True)
class ConfidenceBin:
    """Words, or texts, of about one confidence."""

    low: float
    high: float
    count: int
    right: int
    mean: float
    """Of their confidences; equal to the share of right ones if these are calibrated."""

    @property
    def share(self) -> float:
        """The share of right ones."""
        return self.right / self.count


def confidence_bins(confidences: np.ndarray, right: np.ndarray) -> list[ConfidenceBin]:
    """The bins that are not empty, from low to high.

    Args:
        confidences: from 0 to 1, (N,).
        right: whether each was right, (N,).
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
    """Expected calibration error: mean distance of confidence and share (arXiv:1706.04599)."""
    total = sum(b.count for b in bins)
    return sum(abs(b.mean * b.count - b.right) for b in bins) / max(1, total)
