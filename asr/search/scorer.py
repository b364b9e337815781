"""What search works with: hypotheses, and scorers whose state is a value.

A scorer scores the next character of N rows at once and hands back its state; the search
reorders rows with ``select``. Rows are the hypotheses of all utterances of a batch.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from asr.model.attention import Memory
from asr.model.decoder import DecoderState
from asr.model.las import LAS

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
    weights: Tensor
    """Attention of every character and, if there is one, of the end, (U or U + 1, S)."""
    ended: bool
    """False: cut off at the length limit."""


class AttentionScorer:
    """The decoder's opinion.

    Args:
        model: in evaluation mode.
        memory: encoder output of B utterances.
        width: hypotheses of each utterance; rows are those of the first one, then the next.
    """

    def __init__(self, model: LAS, memory: Memory, width: int = 1) -> None:
        self.decoder, self.memory, self.width = model.decoder, memory, width

    def start(self) -> DecoderState:
        """The state before the first character."""
        return self.decoder.start(self.memory, self.width)

    def step(self, state: DecoderState, tokens: Tensor) -> tuple[Tensor, DecoderState]:
        """Last characters (N,) to log-probabilities of the next (N, V), and the new state."""
        log_probs, state = self.decoder.step(tokens, self.memory, state)
        log_probs[:, BLANK] = -torch.inf
        return log_probs, state


def length_limit(steps: Tensor, max_ratio: float) -> Tensor:
    """Most characters for encoder steps (B,): their share, but never fewer than 4."""
    return (steps * max_ratio).long().clamp_min(4)
