"""Greedy search: the best character at each step, as a beam of 1 finds it, in less time."""

from collections.abc import Sequence

import numpy as np

from asr import arrays
from asr.arrays import Array
from asr.search.hypothesis import BLANK, Hypothesis, broken_scores, length_limits
from asr.search.protocol import Encoded, Model

_Character = tuple[int, float, Array]
"""A character or the end, its log-probability and its attention, (S,)."""


def greedy(model: Model, encoded: Encoded, max_ratio: float = 1.0) -> list[Hypothesis]:
    """Take the decoder's most likely character at each step.

    Args:
        model: the recogniser's network.
        encoded: B utterances.
        max_ratio: most characters per encoder step.

    Returns:
        A hypothesis for each utterance.

    Raises:
        InputError: a score is NaN or infinite.
    """
    steps, limits = encoded.steps, length_limits(encoded.steps, max_ratio)
    found: list[list[_Character]] = [[] for _ in steps]
    active, tokens = list(range(len(steps))), np.full(len(steps), model.eos)
    session = model.decode(encoded, 1)
    state = session.start()
    while active:
        rows = encoded.array(np.arange(len(active)))
        log_probs, alignment, state = session.step(encoded.array(tokens), state, rows)
        log_probs[:, BLANK] = -np.inf
        best, tokens = arrays.all_to_numpy(arrays.amax(log_probs), log_probs.argmax(axis=1))
        kept = []
        for i, (u, token, score) in enumerate(
            zip(active, map(int, tokens), best.tolist(), strict=True)
        ):
            if not np.isfinite(score):
                raise broken_scores(u, len(steps), f"the score of decoder is {score}")
            if token == model.eos or len(found[u]) < limits[u]:
                found[u].append((token, score, alignment.of_row(i, steps[u])))
                if token != model.eos:
                    kept.append(i)
        if kept and len(kept) < len(active):  # finished utterances leave the batch
            encoded, tokens = encoded.select(kept), tokens[kept]
            state = session.select(state, encoded.array(np.array(kept)), encoded)
        active = [active[i] for i in kept]
    return [_hypothesis(characters, model.eos) for characters in found]


def _hypothesis(characters: Sequence[_Character], eos: int) -> Hypothesis:
    """Return the hypothesis of some characters and, unless it was cut off, the end."""
    tokens, log_probs, attention = zip(*characters, strict=True)
    score, ended = sum(log_probs), tokens[-1] == eos
    weights = arrays.to_numpy(arrays.namespace(attention[0]).stack(attention))
    tokens = tokens[:-1] if ended else tokens
    return Hypothesis(tokens, score, {"decoder": score}, weights, ended, log_probs)
