"""What search works with: hypotheses, and how long they may be."""

from dataclasses import dataclass

from torch import Tensor

BLANK = 0  # id of <blank>, which only CTC may say


@dataclass(frozen=True)
class Hypothesis:
    """What an utterance may have been."""

    tokens: tuple[int, ...]
    """Characters, without <sos/eos>."""
    score: float
    """What the search compares: the weighted sum of all scores and bonuses."""
    attention_score: float
    """Log-probability by the decoder, with that of the end."""
    ctc_score: float
    """Log-probability by CTC; 0 where CTC took no part."""
    lm_score: float
    """Log-probability by the language model, with that of the end; 0 without one."""
    weights: Tensor
    """Attention of every character and, if there is one, of the end, (U or U + 1, S)."""
    ended: bool
    """False: cut off at the length limit."""
    log_probs: tuple[float, ...] = ()
    """The decoder's of every character and, if there is one, of the end; they add up to
    ``attention_score``."""


def length_limit(steps: Tensor, max_ratio: float) -> Tensor:
    """Most characters for encoder steps (B,): their share, but never fewer than 4."""
    return (steps * max_ratio).long().clamp_min(4)
