"""Greedy search: the best character, one after another."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from asr.model.las import LAS
from asr.model.memory import Memory
from asr.search.hypothesis import BLANK, Hypothesis, length_limit


@dataclass
class _Utterance:
    """The search of one utterance."""

    steps: int
    """Encoder steps."""
    limit: int
    """Most characters."""
    tokens: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    weights: list[Tensor] = field(default_factory=list)
    ended: bool = False

    def goes_on(self, token: int, score: float, weights: Tensor, end: bool) -> bool:
        """Add a character, if the limit allows one, or the end; return whether more may follow."""
        if not end and len(self.tokens) >= self.limit:
            return False
        self.scores.append(score)
        self.weights.append(weights)
        if end:
            self.ended = True
        else:
            self.tokens.append(token)
        return not end

    def hypothesis(self) -> Hypothesis:
        """What was found."""
        score, weights = sum(self.scores), torch.stack(self.weights)
        scores = {"decoder": score}
        return Hypothesis(
            tuple(self.tokens), score, scores, weights, self.ended, tuple(self.scores)
        )


@torch.no_grad()
def greedy(model: LAS, memory: Memory, max_ratio: float = 1.0) -> list[Hypothesis]:
    """Take the most likely character at each step, by the decoder alone.

    Args:
        model: in evaluation mode.
        memory: encoder output of B utterances.
        max_ratio: most characters per encoder step.

    Returns:
        A hypothesis for each utterance.
    """
    limits = length_limit(memory.steps, max_ratio).tolist()
    utterances = list(map(_Utterance, memory.steps.tolist(), limits))
    active, device = utterances, memory.states.device
    tokens = torch.full((len(active),), model.eos, dtype=torch.int32, device=device)
    order = torch.arange(len(active), dtype=torch.int32, device=device)
    session = model.decoder.session(memory)
    state = session.start()
    while active:
        log_probs, alignment, state = session.step(tokens, state, order[: len(active)])
        weights = alignment.over(session.memory.states.shape[1])
        log_probs[:, BLANK] = -torch.inf
        best, choice = log_probs.max(-1)
        tokens = choice.int()
        chosen = zip(active, tokens.tolist(), best.tolist(), strict=True)
        left = [
            i
            for i, (u, token, score) in enumerate(chosen)
            if u.goes_on(token, score, weights[i, : u.steps], token == model.eos)
        ]
        if left and len(left) < len(active):  # finished utterances leave the batch
            tokens = tokens[left]
            session.bind(session.memory.select(left))
            rows = torch.tensor(left, device=device)
            state = state.select(rows, session.memory.states.shape[1])
        active = [active[i] for i in left]
    return [u.hypothesis() for u in utterances]
