"""Greedy search: the best character, one after another."""

import torch

from asr.model.las import LAS
from asr.model.memory import Memory
from asr.search.scorer import BLANK, Hypothesis, length_limit


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
    steps, limits = memory.steps.tolist(), length_limit(memory.steps, max_ratio).tolist()
    spelt: list[list[int]] = [[] for _ in steps]
    looks: list[list[torch.Tensor]] = [[] for _ in steps]
    said: list[list[float]] = [[] for _ in steps]
    ended = [False] * len(steps)
    rows = list(range(len(steps)))  # utterances that are still going on
    device = memory.states.device
    tokens = torch.full((len(steps),), model.eos, dtype=torch.int32, device=device)
    order = torch.arange(len(steps), dtype=torch.int32, device=device)
    session = model.decoder.session(memory)
    state = session.start()
    for length in range(max(limits) + 1):
        log_probs, alignment, state = session.step(tokens, state, order[: len(rows)])
        weights = alignment.over(session.memory.states.shape[1])
        log_probs[:, BLANK] = -torch.inf
        best, choice = log_probs.max(-1)
        tokens = choice.int()
        left = []
        for place, (token, score) in enumerate(zip(tokens.tolist(), best.tolist(), strict=True)):
            row = rows[place]
            if token != model.eos and length >= limits[row]:
                continue
            said[row].append(score)
            looks[row].append(weights[place, : steps[row]])
            if token == model.eos:
                ended[row] = True
            else:
                spelt[row].append(token)
                left.append(place)
        if not left:
            break
        if len(left) < len(rows):  # finished utterances leave the batch
            rows, tokens = [rows[place] for place in left], tokens[left]
            session.bind(session.memory.select(left))
            places = torch.tensor(left, device=device)
            state = state.select(places, session.memory.states.shape[1])
    return [
        Hypothesis(
            tuple(ids), sum(each), {"decoder": sum(each)}, torch.stack(look), end, tuple(each)
        )
        for ids, each, look, end in zip(spelt, said, looks, ended, strict=True)
    ]
