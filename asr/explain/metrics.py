"""Quality measures of alignments."""

import numpy as np

from asr.arrays import FloatArray
from asr.recognize.flags import positions


def alignment_quality(weights: FloatArray) -> float:
    """Does attention run along the audio? Weights (U, S) to a number from 0 to 1.

    The correlation of the positions looked at with the order of the characters, 0 where it is
    negative: 1 for a straight path, about 0 before an alignment has formed.
    """
    looked, order = positions(weights), np.arange(len(weights), dtype=weights.dtype)
    looked, order = looked - looked.mean(), order - order.mean()
    norm = np.linalg.norm(looked) * np.linalg.norm(order)
    return max(0.0, float(looked @ order / max(norm, 1e-6)))
