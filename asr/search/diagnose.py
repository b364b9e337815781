"""What attention tells about a hypothesis: does it run along the audio, loop, or stop early?"""

from dataclasses import dataclass

import torch
from torch import Tensor

from asr.search.scorer import Hypothesis

BACKWARD_SLACK = 1.0  # encoder steps that attention may step back between two characters
LOOP_REPEATS = 3  # the same stretch of characters so many times in a row
LOOP_LENGTH = 4  # shortest stretch that counts; "NO NO NO" is speech
UNSEEN_SHARE = 0.3  # of the audio at its end, never looked at


@dataclass(frozen=True)
class AttentionMetrics:
    """An alignment in numbers."""

    monotonicity: float
    """Share of characters at which the expected position does not move backwards."""
    coverage: float
    """Share of the audio between the first and the last place looked at."""
    entropy: float
    """Mean entropy of the weights, in nats; 0 is a single step."""


def measure(weights: Tensor) -> AttentionMetrics:
    """Describe an alignment, weights (U, S)."""
    characters, steps = weights.shape
    places = weights @ torch.arange(steps, dtype=weights.dtype, device=weights.device)  # (U,)
    forward = (places[1:] - places[:-1]) >= -BACKWARD_SLACK
    monotonicity = float(forward.float().mean()) if characters > 1 else 1.0
    span = float(places.max() - places.min() + 1) / steps
    entropy = -(weights * weights.clamp_min(1e-10).log()).sum(-1).mean()
    return AttentionMetrics(monotonicity, min(1.0, span), float(entropy))


def alignment_quality(weights: Tensor) -> float:
    """Does attention run along the audio? Weights (U, S) to a number from 0 to 1.

    The correlation of the places looked at with the order of the characters, 0 where it is
    negative: 1 for a straight path, about 0 before an alignment has formed.
    """
    places = weights @ torch.arange(weights.shape[1], dtype=weights.dtype, device=weights.device)
    places = places - places.mean()
    order = torch.arange(len(places), dtype=weights.dtype, device=weights.device)
    order = order - order.mean()
    return max(0.0, float(places @ order / (places.norm() * order.norm()).clamp_min(1e-6)))


def repeats(tokens: tuple[int, ...]) -> bool:
    """Whether a stretch of characters comes three times in a row or more."""
    for length in range(LOOP_LENGTH, len(tokens) // LOOP_REPEATS + 1):
        run = 0
        for i in range(length, len(tokens)):
            run = run + 1 if tokens[i] == tokens[i - length] else 0
            if run >= (LOOP_REPEATS - 1) * length:
                return True
    return False


def flags(hypothesis: Hypothesis) -> tuple[str, ...]:
    """What is suspicious about a hypothesis.

    Returns:
        Any of ``no-end`` (the length limit cut it off), ``loop`` (a stretch of characters
        comes three times in a row), ``jump`` (attention moves backwards at more than a
        fifth of the characters), ``cut-off`` (the last 30 % of the audio were never looked at).
    """
    found = [] if hypothesis.ended else ["no-end"]
    if repeats(hypothesis.tokens):
        found.append("loop")
    weights = hypothesis.weights
    if len(hypothesis.tokens) >= 5 and measure(weights).monotonicity < 0.8:
        found.append("jump")
    seen = weights.sum(0)[int((1 - UNSEEN_SHARE) * weights.shape[1]) :].sum()
    if hypothesis.tokens and weights.shape[1] >= 10 and float(seen) < 0.1:
        found.append("cut-off")
    return tuple(found)
