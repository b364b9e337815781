"""CTC prefix scores of every next character, vectorised over hypotheses, characters and time.

The score of a prefix is the log-probability of all transcripts that begin with it, summed
over all their paths (arXiv:1609.06773, algorithm 2). For a prefix g, nonblank[t] and blank[t]
are the log-probabilities that the first t steps spell g and end in g's last character, or in a
blank. For g followed by c, with p the log-probabilities of step t::

    phi[t-1]     = blank[t-1] if c repeats g's last character,
                   else logaddexp(nonblank[t-1], blank[t-1])
    score        = logsumexp over t of (phi[t-1] + p[t, c])
    nonblank'[t] = logaddexp(nonblank'[t-1], phi[t-1]) + p[t, c]
    blank'[t]    = logaddexp(nonblank'[t-1], blank'[t-1]) + p[t, <blank>]

The score needs no recursion. But for the last character phi is the same for all of them, so
all V are scored by one product of exp(phi - max phi) and exp(p), which the hypotheses of an
utterance share. The recursions are taken only for the characters that the search keeps, and
each is one cumulative sum: x[t] = logaddexp(x[t-1] + a[t], b[t]) has the solution
A + logcumsumexp(b - A), A = cumsum(a). The differences are large, hence float64.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from asr import arrays
from asr.arrays import Array

NEVER = -1e10  # log 0 that survives subtraction


class PrefixState(NamedTuple):
    """Forward variables of the prefixes so far; time has S + 1 entries, 0 before the audio."""

    nonblank: Array
    """(N, S + 1)."""
    blank: Array
    """(N, S + 1)."""
    total: Array
    """Log-probabilities that the first t steps spell the prefix, the sum of both, (N, S + 1)."""
    last: Array
    """Last character, (N,); <blank> before the first one, which nothing equals."""

    def select(self, rows: Array, steps: int | None = None) -> "PrefixState":
        """The given rows, picked or repeated; cut to so many steps, if that is given."""
        end = None if steps is None else steps + 1
        nonblank, blank, total = (each[rows][:, :end] for each in self[:3])
        return PrefixState(nonblank, blank, total, self.last[rows])


class CTCPrefixScorer:
    """CTC scores of hypotheses: N = B * K rows, those of an utterance side by side.

    Args:
        log_probs: of every step and character, (B, S, V).
        steps: real steps of each utterance (B).
        blank: id of <blank>.
        eos: id of <sos/eos>; its score is that of the whole transcript.
        width: hypotheses of each utterance (K).
    """

    def __init__(
        self, log_probs: Array, steps: Sequence[int], blank: int, eos: int, width: int = 1
    ) -> None:
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
        self.blank, self.eos, self.width = blank, eos, width
        self.blanks = self.log_probs[self.utterance, blank]  # (N, S)
        self.all_blank = self.blanks.cumsum(axis=1)

    def start(self) -> PrefixState:
        """The empty prefix: nothing but blanks so far."""
        blank = arrays.prepend(self.all_blank, 0.0)
        nonblank = arrays.full(tuple(blank.shape), NEVER, blank)
        last = arrays.full(len(self.rows), self.blank, self.rows)
        return PrefixState(nonblank, blank, blank, last)

    @np.errstate(divide="ignore")  # what is impossible has the log-probability -inf
    def score(self, state: PrefixState) -> Array:
        """Log-probabilities of the prefixes followed by each character, (N, V)."""
        score = self._arrive(state.total[:, :-1])
        repeat = state.blank[:, :-1] + self.log_probs[self.utterance, state.last]
        score[self.rows, state.last] = arrays.logsumexp(repeat)
        score[:, self.blank] = NEVER
        score[:, self.eos] = self.end(state)
        return score

    def _arrive(self, phi: Array) -> Array:
        """logsumexp over t of (phi[t-1] + p[t, c]) for all characters: (N, S) to (N, V)."""
        xp, (count, vocab, longest) = arrays.namespace(phi), self.log_probs.shape
        top = arrays.amax(phi, keepdims=True)
        weights = xp.exp(phi - top).reshape(count, self.width, longest)
        sums = weights @ self.probs.swapaxes(1, 2)  # (B, K, V)
        return (xp.log(sums.reshape(-1, vocab)) + top).clip(NEVER)

    def end(self, state: PrefixState) -> Array:
        """Log-probability that the prefix is the whole transcript, (N,)."""
        return state.total[self.rows, self.ends]

    def advance(self, state: PrefixState, tokens: Array) -> PrefixState:
        """The prefixes followed by one character each, tokens (N,)."""
        xp = arrays.namespace(tokens)
        character = self.log_probs[self.utterance, tokens]  # (N, S)
        repeat = (tokens == state.last)[:, None]
        phi = xp.where(repeat, state.blank, state.total)[:, :-1]
        nonblank = _accumulate(character.cumsum(axis=1), phi + character)
        blank = _accumulate(self.all_blank, nonblank[:, :-1] + self.blanks)
        return PrefixState(nonblank, blank, xp.logaddexp(nonblank, blank), tokens)

    def select(self, utterances: Array, steps: Sequence[int]) -> "CTCPrefixScorer":
        """The scorer of some of the utterances, of so many steps, cut to the longest of them."""
        kept = self.log_probs[utterances][:, :, : max(steps)].swapaxes(1, 2)
        return CTCPrefixScorer(kept, steps, self.blank, self.eos, self.width)


def _accumulate(total: Array, arrive: Array) -> Array:
    """x[t] = logaddexp(x[t-1] + a[t], arrive[t]) with x[0] = log 0: (N, S) to (N, S + 1).

    Args:
        total: cumsum(a), (N, S).
        arrive: (N, S).
    """
    return arrays.prepend(total + arrays.logcumsumexp(arrive - total), NEVER)
