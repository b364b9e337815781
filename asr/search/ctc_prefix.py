"""CTC prefix scores of every next character, vectorised over hypotheses, characters and time.

The score of a prefix is the log-probability of all transcripts that begin with it, summed over
all their paths (arXiv:1609.06773, algorithm 2). For a prefix g, nonblank[t] and blank[t] are the
log-probabilities that the first t steps spell g and end in g's last character or in a blank. For
g followed by c, with p[t] the log-probabilities of step t::

    phi[t-1]     = blank[t-1] if c repeats g's last character,
                   else logaddexp(nonblank[t-1], blank[t-1])
    score        = logsumexp over t of (phi[t-1] + p[t, c])
    nonblank'[t] = logaddexp(nonblank'[t-1], phi[t-1]) + p[t, c]
    blank'[t]    = logaddexp(nonblank'[t-1], blank'[t-1]) + p[t, <blank>]

The score needs no recursion. phi is the same for all c but g's last character, so one matrix
product of exp(phi - max phi) and exp(p) scores all V characters; the hypotheses of an utterance
share exp(p). Only the characters that the search keeps need the recursions, each of which is a
cumulative sum: x[t] = logaddexp(x[t-1] + a[t], b[t]) has the solution A + logcumsumexp(b - A) with
A = cumsum(a). The differences are large, hence float64.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from asr import arrays
from asr.arrays import Array
from asr.search.hypothesis import BLANK

NEVER = -1e10  # log 0, but finite: the difference of two is not NaN


class PrefixState(NamedTuple):
    """Forward variables of the prefixes at times 0 (before the audio) to S."""

    nonblank: Array
    """(N, S + 1)."""
    blank: Array
    """(N, S + 1)."""
    total: Array
    """logaddexp of both: the first t steps spell the prefix, (N, S + 1)."""
    last: Array
    """Last character, (N,); <blank> before the first one."""

    def select(self, rows: Array, steps: int | None = None) -> "PrefixState":
        """Return the given rows, cut to a number of steps if one is given."""
        end = None if steps is None else steps + 1
        nonblank, blank, total = (each[rows][:, :end] for each in self[:3])
        return PrefixState(nonblank, blank, total, self.last[rows])


class CTCPrefixScorer:
    """CTC scores of hypotheses: N = B * K rows, those of an utterance side by side.

    Args:
        log_probs: of every step and character, (B, S, V).
        steps: steps of each utterance without padding, (B,).
        eos: id of <sos/eos>; its score is that of the whole transcript.
        width: hypotheses of each utterance (K).
    """

    def __init__(self, log_probs: Array, steps: Sequence[int], eos: int, width: int = 1) -> None:
        B, S, V = log_probs.shape
        self.log_probs = arrays.full((B, V, S), NEVER, log_probs, "float64")
        ends = arrays.full(B, 0, log_probs, "int64")
        for i, count in enumerate(steps):
            self.log_probs[i, :, :count] = log_probs[i, :count].T
            ends[i] = count
        self.probs = arrays.namespace(log_probs).exp(self.log_probs)
        self.utterance = arrays.repeat(arrays.arange(B, log_probs), width)  # (N,)
        self.rows = arrays.arange(B * width, log_probs)
        self.ends = arrays.repeat(ends, width)  # (N,)
        self.eos, self.width = eos, width
        self.blanks = self.log_probs[self.utterance, BLANK]  # (N, S)
        self.all_blank = self.blanks.cumsum(axis=1)

    def start(self) -> PrefixState:
        """Return the empty prefix of each row, which only blanks spell."""
        blank = arrays.prepend(self.all_blank, 0.0)
        nonblank = arrays.full(tuple(blank.shape), NEVER, blank)
        last = arrays.full(len(self.rows), BLANK, self.rows)
        return PrefixState(nonblank, blank, blank, last)

    @np.errstate(divide="ignore")  # log 0 is -inf
    def score(self, state: PrefixState) -> Array:
        """Return the log-probabilities of the prefixes followed by each character, (N, V)."""
        xp, (count, vocab, longest) = arrays.namespace(state.total), self.log_probs.shape
        phi = state.total[:, :-1]
        top = arrays.amax(phi, keepdims=True)
        weights = xp.exp(phi - top).reshape(count, self.width, longest)
        sums = weights @ self.probs.swapaxes(1, 2)  # (B, K, V)
        score = (xp.log(sums.reshape(-1, vocab)) + top).clip(NEVER)
        repeat = state.blank[:, :-1] + self.log_probs[self.utterance, state.last]
        score[self.rows, state.last] = arrays.logsumexp(repeat)
        score[:, BLANK] = NEVER
        score[:, self.eos] = state.total[self.rows, self.ends]  # the prefix is the transcript
        return score

    def advance(self, state: PrefixState, tokens: Array) -> PrefixState:
        """Return the prefixes followed by one character each, tokens (N,)."""
        xp = arrays.namespace(tokens)
        character = self.log_probs[self.utterance, tokens]  # (N, S)
        repeat = (tokens == state.last)[:, None]
        phi = xp.where(repeat, state.blank, state.total)[:, :-1]
        nonblank = _accumulate(character.cumsum(axis=1), phi + character)
        blank = _accumulate(self.all_blank, nonblank[:, :-1] + self.blanks)
        return PrefixState(nonblank, blank, xp.logaddexp(nonblank, blank), tokens)

    def select(self, utterances: Array, steps: Sequence[int]) -> "CTCPrefixScorer":
        """Return the scorer of some utterances with their steps, cut to the longest of them."""
        kept = self.log_probs[utterances][:, :, : max(steps)].swapaxes(1, 2)
        return CTCPrefixScorer(kept, steps, self.eos, self.width)


def _accumulate(total: Array, arrive: Array) -> Array:
    """Solve x[t] = logaddexp(x[t-1] + a[t], arrive[t]) with x[0] = log 0: (N, S) to (N, S + 1).

    Args:
        total: cumsum(a), (N, S).
        arrive: (N, S).
    """
    return arrays.prepend(total + arrays.logcumsumexp(arrive - total), NEVER)
