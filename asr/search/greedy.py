"""Greedy search: the best character, one after another."""

import torch

from asr.model.attention import Memory
from asr.model.las import LAS
from asr.search.scorer import AttentionScorer, Hypothesis, length_limit


@torch.no_grad()
def greedy(model: LAS, memory: Memory, max_ratio: float = 1.0) -> list[Hypothesis]:
    """The most likely character at each step, by attention alone.

    Args:
        model: in evaluation mode.
        memory: encoder output of B utterances.
        max_ratio: most characters per encoder step.

    Returns:
        A hypothesis for each utterance.
    """
    count, _longest = memory.padding.shape
    limit = length_limit(memory.steps, max_ratio)
    rows = torch.arange(count, device=limit.device)  # utterances that are still going on
    tokens = torch.full_like(rows, model.eos)
    scores = memory.states.new_zeros(count)
    spelt: list[list[int]] = [[] for _ in range(count)]
    looks: list[list[torch.Tensor]] = [[] for _ in range(count)]
    ended = [False] * count
    active = memory
    state = AttentionScorer(model, memory).start()
    for length in range(int(limit.max()) + 1):
        log_probs, state = AttentionScorer(model, active).step(state, tokens)
        best, tokens = log_probs.max(-1)
        cut = (tokens != model.eos) & (length >= limit[rows])
        scores[rows] += best.masked_fill(cut, 0.0)
        done = (tokens == model.eos) | cut
        for place, row in enumerate(rows.tolist()):
            token = int(tokens[place])
            if token == model.eos or length < limit[row]:
                looks[row].append(state.weights[place, : int(memory.steps[row])])
            if token == model.eos:
                ended[row] = True
            elif length < limit[row]:
                spelt[row].append(token)
        left = (~done).nonzero().squeeze(1)
        if not len(left):
            break
        if len(left) < len(rows):  # finished utterances leave the batch
            rows, tokens = rows[left], tokens[left]
            active = active.select(left)
            state = state.select(left, active.states.shape[1])
    return [
        Hypothesis(tuple(ids), score, score, 0.0, torch.stack(look), end)
        for ids, score, look, end in zip(spelt, scores.tolist(), looks, ended, strict=True)
    ]
