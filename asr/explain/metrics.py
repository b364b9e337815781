"""Quality of alignments."""

import numpy as np

from asr.arrays import FloatArray
from asr.recognize.flags import mean_positions


def alignment_quality(weights: FloatArray) -> float:
    """Return how straight attention (U, S) moves along the audio, from 0 to 1.

    The correlation of the attended positions with the order of the characters, at least 0: 1 for
    a straight path, about 0 before an alignment has formed.
    """
    attended, order = mean_positions(weights), np.arange(len(weights), dtype=weights.dtype)
    attended, order = attended - attended.mean(), order - order.mean()
    norm = np.linalg.norm(attended) * np.linalg.norm(order)
    return max(0.0, float(attended @ order / max(norm, 1e-6)))
