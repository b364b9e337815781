"""Where the characters of a text are in the audio: by CTC, or by attention.

CTC's log-probabilities give the most likely path through a text (Viterbi; forced alignment):
each character takes one step or more, with any number of blanks between them.

Attention gives another path: the one along which its weights are largest and that never turns
back. It needs no CTC, but what the decoder looks at for a character may lie beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from asr.search.hypothesis import BLANK

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
SURE = 0.5  # probability from which CTC is sure of a symbol
_LEAST = 1e-8  # of an attention weight: a step that was not looked at can still be passed


@dataclass(frozen=True)
class CTCAlignment:
    """The most likely path of a text of U characters through S encoder steps, by CTC."""

    path: IntArray
    """The symbol of every step: a character's id or <blank>, (S,)."""
    positions: FloatArray
    """The middle of the steps that each character takes, (U,)."""
    log_probs: FloatArray
    """Each character's log-probability where it is most likely on its steps, (U,)."""
    score_gap: float
    """Log-probability of the path, less that of CTC's best path of any text; 0 at most."""
    confident: IntArray
    """The symbol of every step that CTC is sure of, (S,); <blank> where it is sure of none."""


def ctc_align(log_probs: npt.NDArray[np.floating], tokens: Sequence[int]) -> CTCAlignment | None:
    """Align a text with the audio.

    Args:
        log_probs: CTC's, (S, V).
        tokens: the U characters.

    Returns:
        None where there are too few steps: each character takes one, and two equal neighbours
        need a blank between them.
    """
    doubles = sum(a == b for a, b in pairwise(tokens))
    if len(log_probs) < max(1, len(tokens) + doubles):
        return None
    symbols = np.full(2 * len(tokens) + 1, BLANK)
    symbols[1::2] = tokens
    states = _best_states(log_probs[:, symbols].astype(np.float64), symbols)
    path, steps = symbols[states], np.arange(len(log_probs))
    chosen = log_probs[steps, path]
    spelling = states % 2 == 1
    positions, best = np.zeros(len(tokens)), np.full(len(tokens), -np.inf)
    number = states[spelling] // 2
    np.add.at(positions, number, steps[spelling])
    np.maximum.at(best, number, chosen[spelling])
    positions /= np.bincount(number, minlength=len(tokens)).clip(min=1)
    confident = np.where(log_probs.max(1) > np.log(SURE), log_probs.argmax(1), BLANK)
    score_gap = float(chosen.sum() - log_probs.max(1).sum())
    return CTCAlignment(path, positions, best, score_gap, confident)


def _best_states(scores: FloatArray, symbols: IntArray) -> IntArray:
    """The most likely way through blanks and characters, (S, N) to the state of each step, (S,).

    From one step to the next a state stays, or the next one comes, or, from one character to
    a different one, the blank between them is left out.
    """
    count, width = scores.shape
    leap = np.zeros(width, bool)
    leap[2:] = (symbols[2:] != BLANK) & (symbols[2:] != symbols[:-2])
    moves = np.zeros((count, width), np.int8)
    ways = np.full((3, width), -np.inf)
    best = np.where(np.arange(width) < 2, scores[0], -np.inf)
    for step in range(1, count):
        ways[0], ways[1, 1:] = best, best[:-1]
        ways[2, 2:] = np.where(leap[2:], best[:-2], -np.inf)
        moves[step] = ways.argmax(0)
        best = ways.max(0) + scores[step]
    state = width - 1 if width == 1 or best[-1] >= best[-2] else width - 2
    states = [state]
    for step in range(count - 1, 0, -1):
        state -= int(moves[step, state])
        states.append(state)
    return np.array(states[::-1])


def attention_positions(weights: npt.NDArray[np.floating]) -> FloatArray:
    """The encoder step of each character: attention (U, S) to (U,), never falling.

    The product of the weights at these steps is as large as it can be.
    """
    logs = np.log(weights.astype(np.float64) + _LEAST)
    totals = logs[:1]
    for row in logs[1:]:
        totals = np.vstack([totals, np.maximum.accumulate(totals[-1]) + row])
    positions, last = np.zeros(len(logs)), logs.shape[1]
    for i in range(len(logs) - 1, -1, -1):
        last = int(totals[i, :last].argmax()) + 1
        positions[i] = last - 1
    return positions
