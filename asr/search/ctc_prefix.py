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

from dataclasses import dataclass

import torch
from torch import Tensor

from asr.model.padding import padding_mask

NEVER = -1e10  # log 0 that survives subtraction


@dataclass(frozen=True)
class PrefixState:
    """Forward variables of the prefixes so far; time has S + 1 entries, 0 before the audio."""

    nonblank: Tensor
    """(N, S + 1)."""
    blank: Tensor
    """(N, S + 1)."""
    last: Tensor
    """Last character, (N,); <blank> before the first one, which nothing equals."""

    def select(self, rows: Tensor, steps: int | None = None) -> "PrefixState":
        """The given rows, picked or repeated; cut to so many steps, if that is given."""
        end = None if steps is None else steps + 1
        return PrefixState(self.nonblank[rows, :end], self.blank[rows, :end], self.last[rows])

    def total(self) -> Tensor:
        """Log-probabilities that the first t steps spell the prefix, (N, S + 1)."""
        return torch.logaddexp(self.nonblank, self.blank)


class CTCPrefixScorer:
    """CTC's opinion of hypotheses: N = B * K rows, those of an utterance side by side.

    Args:
        log_probs: of every step and character, (B, S, V).
        steps: real steps, (B,), in main memory.
        blank: id of <blank>.
        eos: id of <sos/eos>; its score is that of the whole transcript.
        width: hypotheses of each utterance (K).
    """

    def __init__(
        self, log_probs: Tensor, steps: Tensor, blank: int, eos: int, width: int = 1
    ) -> None:
        device = log_probs.device
        beyond = padding_mask(steps, log_probs.shape[1], device)  # (B, S)
        by_character = log_probs.double().transpose(1, 2).contiguous()  # (B, V, S)
        self.log_probs = by_character.masked_fill(beyond.unsqueeze(1), NEVER)
        self.probs = self.log_probs.exp()
        self.utterance = torch.arange(len(steps), device=device).repeat_interleave(width)
        self.ends = steps.to(device).repeat_interleave(width).unsqueeze(1)  # (N, 1)
        self.blank, self.eos, self.width = blank, eos, width

    def start(self) -> PrefixState:
        """The empty prefix: nothing but blanks so far."""
        last = torch.full_like(self.utterance, self.blank)
        blanks = self._of(last).cumsum(1)  # (N, S)
        blank = torch.nn.functional.pad(blanks, (1, 0), value=0.0)
        return PrefixState(torch.full_like(blank, NEVER), blank, last)

    def score(self, state: PrefixState) -> Tensor:
        """Log-probabilities of the prefixes followed by each character, (N, V)."""
        total = state.total()
        score = self._arrive(total[:, :-1])
        repeat = (state.blank[:, :-1] + self._of(state.last)).logsumexp(1, keepdim=True)
        score = score.scatter(1, state.last.unsqueeze(1), repeat)
        score[:, self.blank] = NEVER
        score[:, self.eos] = self._end(total)
        return score

    def _arrive(self, phi: Tensor) -> Tensor:
        """logsumexp over t of (phi[t-1] + p[t, c]) for all characters: (N, S) to (N, V)."""
        count, vocab, longest = self.log_probs.shape
        top = phi.amax(1, keepdim=True)
        weights = (phi - top).exp().view(count, self.width, longest)
        sums = torch.bmm(weights, self.probs.transpose(1, 2)).view(-1, vocab)  # (N, V)
        return (sums.log() + top).clamp_min(NEVER)

    def end(self, state: PrefixState) -> Tensor:
        """Log-probability that the prefix is the whole transcript, (N,)."""
        return self._end(state.total())

    def _end(self, total: Tensor) -> Tensor:
        return total.gather(1, self.ends).squeeze(1)

    def advance(self, state: PrefixState, tokens: Tensor) -> PrefixState:
        """The prefixes followed by one character each, tokens (N,)."""
        character = self._of(tokens)  # (N, S)
        repeat = (tokens == state.last).unsqueeze(1)
        phi = torch.where(repeat, state.blank, state.total())[:, :-1]
        nonblank = _accumulate(character, phi + character)
        silence = self._of(torch.full_like(tokens, self.blank))
        blank = _accumulate(silence, nonblank[:, :-1] + silence)
        return PrefixState(nonblank, blank, tokens)

    def _of(self, tokens: Tensor) -> Tensor:
        """Log-probabilities of one character a row over time, (N, S)."""
        return self.log_probs[self.utterance, tokens]

    def select(self, utterances: Tensor, steps: Tensor) -> "CTCPrefixScorer":
        """The scorer of some of the utterances, of so many steps, cut to the longest of them."""
        kept = self.log_probs[utterances, :, : int(steps.max())].transpose(1, 2)
        return CTCPrefixScorer(kept, steps, self.blank, self.eos, self.width)


def _accumulate(keep: Tensor, arrive: Tensor) -> Tensor:
    """x[t] = logaddexp(x[t-1] + keep[t], arrive[t]) with x[0] = log 0: (N, S) to (N, S + 1)."""
    total = keep.cumsum(1)
    x = total + (arrive - total).logcumsumexp(1)
    return torch.nn.functional.pad(x, (1, 0), value=NEVER)
