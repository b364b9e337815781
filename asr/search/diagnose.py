"""What attention tells about a hypothesis: does it run along the audio, loop, or stop early?"""

import torch
from torch import Tensor

from asr.search.scorer import Hypothesis

LOOP_REPEATS = 3  # the same stretch of characters so many times in a row
LOOP_LENGTH = 4  # shortest stretch that counts
LOOP_STEPS = 4.0  # encoder steps that saying it twice more takes at the very least
UNSEEN_SHARE = 0.3  # of the audio, at its end, that was never looked at
SHORTEST_STEPS = 10  # audio of fewer encoder steps has no end worth the name


def places(weights: Tensor) -> Tensor:
    """The mean encoder step that each character looked at: weights (U, S) to (U,)."""
    steps = torch.arange(weights.shape[1], dtype=weights.dtype, device=weights.device)
    return weights @ steps


def alignment_quality(weights: Tensor) -> float:
    """Does attention run along the audio? Weights (U, S) to a number from 0 to 1.

    The correlation of the places looked at with the order of the characters, 0 where it is
    negative: 1 for a straight path, about 0 before an alignment has formed.
    """
    looked = places(weights)
    looked = looked - looked.mean()
    order = torch.arange(len(looked), dtype=weights.dtype, device=weights.device)
    order = order - order.mean()
    return max(0.0, float(looked @ order / (looked.norm() * order.norm()).clamp_min(1e-6)))


def loops(tokens: tuple[int, ...], weights: Tensor) -> bool:
    """Whether a stretch of characters comes three times in a row while attention stands still.

    "SEVEN SEVEN SEVEN" that was said three times moves attention on; a loop does not.

    Args:
        tokens: the U characters.
        weights: attention of each of them, (U, S) or more rows.
    """
    looked = places(weights)
    for length in range(LOOP_LENGTH, len(tokens) // LOOP_REPEATS + 1):
        run = 0
        for i in range(length, len(tokens)):
            run = run + 1 if tokens[i] == tokens[i - length] else 0
            if run >= (LOOP_REPEATS - 1) * length:
                first = looked[i + 1 - LOOP_REPEATS * length :][:length].mean()
                last = looked[i + 1 - length : i + 1].mean()
                if last - first < LOOP_STEPS:
                    return True
    return False


def flags(hypothesis: Hypothesis) -> tuple[str, ...]:
    """What is suspicious about a hypothesis.

    Returns:
        Any of ``no-end`` (the length limit cut it off), ``loop`` (see :func:`loops`) and
        ``cut-off`` (the last 30 % of the audio were never looked at).
    """
    tokens, weights = hypothesis.tokens, hypothesis.weights
    found = [] if hypothesis.ended else ["no-end"]
    if loops(tokens, weights):
        found.append("loop")
    steps = weights.shape[1]
    seen = weights[:, int((1 - UNSEEN_SHARE) * steps) :].sum()
    if tokens and steps >= SHORTEST_STEPS and float(seen) < 0.1:
        found.append("cut-off")
    return tuple(found)
