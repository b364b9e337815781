"""Base of the monotonic kinds: each character moves forward and stops with a probability.

e_{i,t} = g (w / |w|) . tanh(V h_t + b + W s_{i-1}) + r         energy of stopping at t
p_{i,t} = sigmoid(e_{i,t})                                      its probability

Character i starts at the step where character i - 1 stopped. Training uses alpha_{i,t}, the
probability of stopping at t, summed over all paths. Gaussian noise on the energies makes training
prefer energies of large magnitude, so that p is near 0 or 1. A search uses the hard form: a
character stops at the first step t by which the soft form has stopped with probability 0.6 or more,
and computes the energies only up to there:

prod_{k=start..t} (1 - p_{i,k}) <= 0.4                          the stop of the hard form

The papers stop at the first t with p >= 1/2. The two rules agree if every p is near 0 or 1.
Otherwise the papers' rule passes steps that the soft form gives weight to, and lags further behind
it with every character. The stop should be near the mean position of the soft form. The
probability of not having stopped by then is 1/e if p is constant and 1/2 for a symmetric peak; 0.4
lies between.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, pad

from asr.config import AttentionConfig
from asr.model.attention import Alignment, Keys, State, Table, owners
from asr.model.attention.additive import Additive
from asr.model.attention.energy import EnergyKeys, at_first_step

BLOCK = 16  # steps that the hard form looks at at a time
LOG_LEFT = math.log(0.4)


@dataclass(frozen=True)
class MonotonicKeys(EnergyKeys):
    """The encoder's part of the energies."""

    hard: bool
    """Whether single steps are chosen."""


@dataclass(frozen=True)
class Expected(Table):
    """The expected position of the last character."""

    alpha: Tensor
    """Probability that it stopped at each step, (N, S)."""
    over_steps = ("alpha",)


@dataclass(frozen=True)
class Position(Table):
    """Where the last character stopped."""

    step: Tensor
    """t, (N,); the number of steps if it did not stop."""
    left: Tensor
    """Log-probability of not stopping at any step so far, if it did not stop; else 0, (N,)."""


class Monotonic(Additive):
    """Base class of kinds that define :meth:`expected`, :meth:`seek` and the weights at a stop."""

    sums_to_one: bool = False
    has_hard_form: bool = True

    def __init__(self, query: int, memory: int, config: AttentionConfig) -> None:
        super().__init__(query, memory, config)
        self.g = nn.Parameter(torch.tensor(1 / math.sqrt(config.units)))
        self.r = nn.Parameter(torch.tensor(config.bias))
        self.noise = config.noise

    def expected(self, stop: Tensor, go: Tensor, alpha: Tensor, steps: Tensor) -> Tensor:
        """Return the probability that this character stops at each step.

        Args:
            stop: p, 0 on padding, (N, S).
            go: 1 - p, (N, S).
            alpha: probability that the last character stops at each step, (N, S).
            steps: real steps, (N,).

        Returns:
            alpha, (N, S).
        """
        raise NotImplementedError

    def seek(self, query: Tensor, keys: MonotonicKeys, last: Position) -> Position:
        """Return where this character stops in the hard form, N rows."""
        raise NotImplementedError

    def soft_weights(self, query: Tensor, keys: MonotonicKeys, alpha: Tensor) -> Tensor:
        """Return the weights (N, S) for stopping probabilities (N, S) and queries (B, K, H)."""
        return alpha

    def hard_alignment(self, query: Tensor, keys: MonotonicKeys, step: Tensor) -> Alignment:
        """Return the weights for the steps of the stops (N,) and queries (N, H)."""
        return Alignment(query.new_ones(len(step), 1, 1), step)

    def precompute(self, memory: Tensor, steps: Tensor, *, hard: bool = False) -> MonotonicKeys:
        """See :meth:`Attention.precompute`."""
        found = super().precompute(memory, steps)
        return MonotonicKeys(found.keys, found.padding, found.steps, hard)

    def energies(self, query: Tensor, keys: Tensor, state: State = None) -> Tensor:
        """Return the energies of stopping: (B, K, H) and (B, S, A) to (B, K, S)."""
        energies = super().energies(query, keys, state)
        return self.g / self.w.weight.norm() * energies + self.r

    def start(self, keys: Keys, rows: int) -> State:
        """See :meth:`Attention.start`; at the first step."""
        if keys.hard:
            first = torch.zeros(rows, dtype=torch.int64, device=keys.keys.device)
            return Position(first, keys.keys.new_zeros(rows))
        return Expected(at_first_step(keys.keys, rows))

    def step(self, query: Tensor, keys: Keys, state: State) -> tuple[Alignment, State]:
        """See :meth:`Attention.step`."""
        steps = keys.steps[owners(len(query), keys.keys)]  # (N,)
        return (self._hard_step if keys.hard else self._soft_step)(query, keys, state, steps)

    def _hard_step(
        self, query: Tensor, keys: MonotonicKeys, state: Position, steps: Tensor
    ) -> tuple[Alignment, Position]:
        position = self.seek(query, keys, state)
        alignment = self.hard_alignment(query, keys, torch.minimum(position.step, steps - 1))
        nowhere = position.step == steps
        weights = alignment.weights.masked_fill(nowhere.view(-1, 1, 1), 0.0)
        left = position.left.masked_fill(~nowhere, 0.0)
        return Alignment(weights, alignment.first), Position(position.step, left)

    def _soft_step(
        self, query: Tensor, keys: MonotonicKeys, state: Expected, steps: Tensor
    ) -> tuple[Alignment, Expected]:
        queries = query.view(len(keys.keys), -1, query.shape[1])  # (B, K, H)
        energies = self.energies(queries, keys.keys).flatten(0, 1)  # (N, S)
        if self.training and self.noise > 0:
            energies = energies + self.noise * torch.randn_like(energies)
        padding = torch.arange(energies.shape[1], device=steps.device) >= steps.unsqueeze(1)
        stop = energies.sigmoid().masked_fill(padding, 0.0)
        alpha = self.expected(stop, (-energies).sigmoid(), state.alpha, steps)
        return Alignment(self.soft_weights(queries, keys, alpha).unsqueeze(1)), Expected(alpha)

    def steps_passed(
        self,
        query: Tensor,
        keys: MonotonicKeys,
        rows: Tensor,
        step: Tensor,
        left: Tensor,
        width: int,
    ) -> tuple[Tensor, Tensor]:
        """Return how many steps some rows pass before they stop, (n,), from 0 to width.

        Args:
            query: of all rows, (N, H).
            keys: of all utterances.
            rows: indices of these rows, (n,).
            step: their first step, (n,).
            left: log-probability that they have not stopped before it, (n,).
            width: the largest number of steps.

        Returns:
            the number, and the log-probability of not stopping at any of the steps, (n,).
        """
        owner = owners(len(query), keys.keys)[rows].unsqueeze(1)
        columns = step.unsqueeze(1) + torch.arange(width, device=step.device)  # (n, width)
        near = keys.keys[owner, columns.clamp(max=keys.keys.shape[1] - 1)]  # (n, width, A)
        energies = self.energies(query[rows].unsqueeze(1), near).squeeze(1)
        beyond = columns >= self.end(keys)[owner]
        energies = energies.masked_fill(beyond, -torch.inf)
        going = left.unsqueeze(1) + logsigmoid(-energies).cumsum(1)
        # NaN stops, so that it shows
        stop = ~(going > LOG_LEFT) | beyond
        return torch.where(stop.any(1), stop.int().argmax(1), width), going[:, -1]

    def end(self, keys: MonotonicKeys) -> Tensor:
        """Return the step at which every character stops, (B,): one after the last."""
        return keys.steps


def scan(factor: Tensor, added: Tensor) -> Tensor:
    """Return x_t = factor_t x_{t-1} + added_t along the last axis, with x_{-1} = 0.

    It takes log2(S) rounds, which double the distance between steps (Hillis and Steele, 1986). It
    divides nothing, so that it is as exact as the loop.
    """
    far = 1
    while far < added.shape[-1]:
        added = added + factor * pad(added[..., :-far], (far, 0))
        factor = factor * pad(factor[..., :-far], (far, 0))
        far *= 2
    return added
