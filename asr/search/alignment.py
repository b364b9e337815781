"""Align a known text with the audio, by CTC or by attention.

CTC aligns along the most likely path through the text (Viterbi; forced alignment): each character
takes one encoder step or more, with any number of blanks between the characters.

Attention aligns along the monotonic path with the largest product of attention weights. This path
needs no CTC head, but a decoder may attend to steps beside the character that it writes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from asr.arrays import FloatArray, IntArray
from asr.search.hypothesis import BLANK
from asr.text.tokenizer import ctc_steps

_CONFIDENT = 0.5  # probability above which CTC is confident of a symbol
_FLOOR = 1e-8  # added to attention weights: a path may pass a step without attention


@dataclass(frozen=True)
class CTCAlignment:
    """CTC's most likely path of a text of U characters through S encoder steps."""

    path: IntArray
    """Symbol of every step: the id of a character or <blank>, (S,)."""
    positions: FloatArray
    """Middle of the steps that each character takes, (U,)."""
    log_probs: FloatArray
    """Largest log-probability of each character on its steps, (U,)."""
    score_gap: float
    """Log-probability of the path minus that of CTC's best path of any text; at most 0."""
    confident: IntArray
    """Symbol of every step where CTC is confident of one, else <blank>, (S,)."""


def ctc_align(log_probs: FloatArray, tokens: Sequence[int]) -> CTCAlignment | None:
    """Align a text with the audio.

    Args:
        log_probs: CTC's, (S, V).
        tokens: the U characters.

    Returns:
        None if there are fewer steps than :func:`ctc_steps`.
    """
    if len(log_probs) < max(1, ctc_steps(tokens)):
        return None
    symbols = np.full(2 * len(tokens) + 1, BLANK)
    symbols[1::2] = tokens
    states = best_states(log_probs[:, symbols].astype(np.float64), symbols)
    path, steps = symbols[states], np.arange(len(log_probs))
    chosen = log_probs[steps, path]
    spelling = states % 2 == 1
    character = states[spelling] // 2
    counts = np.bincount(character, minlength=len(tokens)).clip(1)  # 0 if CTC excludes the text
    positions = np.bincount(character, steps[spelling], len(tokens)) / counts
    best = np.full(len(tokens), -np.inf)
    np.maximum.at(best, character, chosen[spelling])
    confident = np.where(log_probs.max(1) > np.log(_CONFIDENT), log_probs.argmax(1), BLANK)
    score_gap = float(chosen.sum() - log_probs.max(1).sum())
    return CTCAlignment(path, positions, best, score_gap, confident)


def best_states(scores: FloatArray, symbols: IntArray) -> IntArray:
    """Return the most likely path through blanks and characters: (S, N) to the states, (S,).

    From one step to the next the state stays or goes up by one. It goes up by two from one
    character to a different one, which skips the blank between them.
    """
    count, width = scores.shape
    skips = np.zeros(width, bool)
    skips[2:] = (symbols[2:] != BLANK) & (symbols[2:] != symbols[:-2])
    moves = np.zeros((count, width), np.int8)
    paths = np.full((3, width), -np.inf)
    best = np.where(np.arange(width) < 2, scores[0], -np.inf)
    for step in range(1, count):
        paths[0], paths[1, 1:] = best, best[:-1]
        paths[2, 2:] = np.where(skips[2:], best[:-2], -np.inf)
        moves[step] = paths.argmax(0)
        best = paths.max(0) + scores[step]
    state = width - 1 if width == 1 or best[-1] >= best[-2] else width - 2
    states = [state]
    for step in range(count - 1, 0, -1):
        state -= int(moves[step, state])
        states.append(state)
    return np.array(states[::-1])


def attention_positions(weights: FloatArray) -> FloatArray:
    """Return the encoder step of each character, which never falls: weights (U, S) to (U,).

    No other steps have a larger product of the weights.
    """
    totals = np.log(weights.astype(np.float64) + _FLOOR)
    for i in range(1, len(totals)):
        totals[i] += np.maximum.accumulate(totals[i - 1])
    positions, end = np.zeros(len(totals)), totals.shape[1]
    for i in reversed(range(len(totals))):
        positions[i] = totals[i, :end].argmax()
        end = int(positions[i]) + 1
    return positions
