"""Statistics that describe an alignment: the attention of U characters to S encoder steps."""

from collections.abc import Iterable
from dataclasses import asdict, astuple, dataclass

import numpy as np

from asr.arrays import BoolArray, FloatArray

STALL_LENGTH = 12  # characters that nobody says within STALL_STEPS encoder steps
STALL_STEPS = 4.0
COVERED = 0.1  # attention, summed over the characters, from which an encoder step is covered
BACK_STEPS = 1.0  # encoder steps by which the mean of soft attention may fall back
JUMP_S = 1.0  # a longer way from one character to the next is a jump
SKIPPED_S = 0.5  # more sound than this between two characters was skipped


def mean_positions(weights: FloatArray) -> FloatArray:
    """Return the mean attended encoder step of each character: weights (U, S) to (U,)."""
    totals = np.maximum(weights.sum(1), 1e-6)  # less than 1 for some kinds of attention
    return weights @ np.arange(weights.shape[1], dtype=weights.dtype) / totals


def alignment_quality(weights: FloatArray) -> float:
    """Return how straight attention (U, S) moves along the audio, from 0 to 1.

    The correlation of the attended positions with the order of the characters, at least 0: 1 for
    a straight path, about 0 before an alignment has formed.
    """
    attended, order = mean_positions(weights), np.arange(len(weights), dtype=weights.dtype)
    attended, order = attended - attended.mean(), order - order.mean()
    norm = np.linalg.norm(attended) * np.linalg.norm(order)
    return max(0.0, float(attended @ order / max(norm, 1e-6)))


def sharpness(weights: FloatArray) -> float:
    """Return the mean over the characters of the largest weight, from 0 to 1."""
    return float(weights.max(1).mean()) if len(weights) else 0.0


def coverage(weights: FloatArray, sound: BoolArray) -> float:
    """Return the share of the steps with sound whose summed attention is 0.1 or more."""
    covered = weights.sum(0) >= COVERED
    return float(covered[sound].mean()) if sound.any() else 1.0


def monotonicity(positions: FloatArray) -> float:
    """Return the share of the characters that lie at most one step before the previous one."""
    return float((np.diff(positions) >= -BACK_STEPS).mean()) if len(positions) > 1 else 1.0


def jumps(positions: FloatArray, step_s: float) -> int:
    """Return how many characters lie more than a second from the previous one, on either side."""
    return int((np.abs(np.diff(positions)) * step_s > JUMP_S).sum())


def stalled(positions: FloatArray) -> int:
    """Return how many characters belong to 12 in a row that lie within four encoder steps."""
    inside = np.zeros(len(positions), bool)
    for first in range(len(positions) - STALL_LENGTH + 1):
        window = positions[first : first + STALL_LENGTH]
        if window.max() - window.min() < STALL_STEPS:
            inside[first : first + STALL_LENGTH] = True
    return int(inside.sum())


def skipped_s(positions: FloatArray, sound: BoolArray, step_s: float) -> float:
    """Return the seconds of sound in gaps between characters that hold over 0.5 s of sound.

    The time before the first character and the time after the last one are gaps, too. Of
    characters that go back only the farthest position so far counts.
    """
    before = np.concatenate([[0], np.cumsum(sound)])  # steps with sound before each step
    farthest = np.maximum.accumulate(np.rint(positions).astype(int))
    gaps = np.diff(before[np.concatenate([[0], farthest, [len(sound)]])]) * step_s
    return float(gaps[gaps > SKIPPED_S].sum())


@dataclass(frozen=True)
class AlignmentStatistics:
    """The statistics of an utterance, or their means over a set."""

    sharpness: float
    """See :func:`sharpness`."""
    coverage: float
    """See :func:`coverage`."""
    monotonicity: float
    """See :func:`monotonicity`."""
    jumps: float
    """Characters, see :func:`jumps`."""
    stalled: float
    """Characters, see :func:`stalled`."""
    skipped_s: float
    """Seconds, see :func:`skipped_s`."""

    def to_dict(self) -> dict[str, float]:
        """Return the statistics by their names, rounded for files."""
        return {name: round(value, 4) for name, value in asdict(self).items()}

    def __str__(self) -> str:
        """Return the statistics for people."""
        return (
            f"sharpness {self.sharpness:.2f}, coverage {100 * self.coverage:.0f} %, monotonicity "
            f"{100 * self.monotonicity:.1f} %; per utterance {self.jumps:.2f} jumps, "
            f"{self.stalled:.2f} stalled characters, {self.skipped_s:.2f} s skipped"
        )


def alignment_statistics(
    weights: FloatArray, loud: BoolArray, step_s: float
) -> AlignmentStatistics:
    """Return the statistics of an utterance.

    Args:
        weights: attention of the U characters, without the end, (U, S).
        loud: whether each frame is louder than the background, (T,).
        step_s: seconds of an encoder step.
    """
    steps = weights.shape[1]
    middles = (np.arange(steps) + 0.5) * (len(loud) / steps)
    sound = loud[middles.astype(int)]  # (S,)
    positions = mean_positions(weights[weights.any(1)])  # a hard search may find no step
    return AlignmentStatistics(
        sharpness(weights),
        coverage(weights, sound),
        monotonicity(positions),
        jumps(positions, step_s),
        stalled(positions),
        skipped_s(positions, sound, step_s),
    )


def mean_statistics(statistics: Iterable[AlignmentStatistics]) -> AlignmentStatistics | None:
    """Return the mean of each statistic; None without utterances."""
    rows = [astuple(each) for each in statistics]
    return AlignmentStatistics(*np.mean(rows, axis=0).tolist()) if rows else None
