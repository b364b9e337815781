"""Greedy search: the best character, one after another, as a beam of 1 finds it in more time."""

from dataclasses import dataclass, field

import numpy as np

from asr import arrays
from asr.arrays import Array
from asr.search.hypothesis import BLANK, Hypothesis, broken_scores, length_limits
from asr.search.protocol import Encoded, Model


@dataclass
class _Utterance:
    """The search of one utterance."""

    number: int
    """Position in the batch."""
    steps: int
    """Encoder steps."""
    limit: int
    """Most characters."""
    tokens: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    attention: list[Array] = field(default_factory=list)

    def goes_on(self, token: int, log_prob: float, attention: Array, end: bool) -> bool:
        """Add a character, if the limit allows one, or the end; return whether more may follow."""
        if not end and len(self.tokens) >= self.limit:
            return False
        self.log_probs.append(log_prob)
        self.attention.append(attention)
        if not end:
            self.tokens.append(token)
        return not end

    def hypothesis(self) -> Hypothesis:
        """What was found."""
        score, ended = sum(self.log_probs), len(self.log_probs) > len(self.tokens)
        attention = arrays.to_numpy(arrays.namespace(self.attention[0]).stack(self.attention))
        return Hypothesis(
            tuple(self.tokens), score, {"decoder": score}, attention, ended, tuple(self.log_probs)
        )


def greedy(model: Model, encoded: Encoded, max_ratio: float = 1.0) -> list[Hypothesis]:
    """Take the most likely character at each step, by the decoder alone.

    Args:
        model: the recogniser's network.
        encoded: B utterances.
        max_ratio: most characters per encoder step.

    Returns:
        A hypothesis for each utterance.

    Raises:
        InputError: a score is NaN or infinite.
    """
    steps = encoded.steps
    limits = length_limits(steps, max_ratio)
    utterances = list(map(_Utterance, range(len(steps)), steps, limits))
    active, tokens = utterances, np.full(len(utterances), model.eos)
    session = model.decode(encoded, 1)
    state = session.start()
    while active:
        rows = encoded.array(np.arange(len(active)))
        log_probs, alignment, state = session.step(encoded.array(tokens), state, rows)
        log_probs[:, BLANK] = -np.inf
        best, tokens = arrays.hand_over(arrays.amax(log_probs), log_probs.argmax(axis=1))
        left = []
        for i, (u, token, score) in enumerate(
            zip(active, tokens.tolist(), best.tolist(), strict=True)
        ):
            if not np.isfinite(score):
                raise broken_scores(u.number, len(utterances), f"the score of decoder is {score}")
            attention = alignment.of_row(i, u.steps)
            if u.goes_on(int(token), score, attention, token == model.eos):
                left.append(i)
        if left and len(left) < len(active):  # finished utterances leave the batch
            encoded, tokens = encoded.select(left), tokens[left]
            state = session.select(state, encoded.array(np.array(left)), encoded)
        active = [active[i] for i in left]
    return [u.hypothesis() for u in utterances]
