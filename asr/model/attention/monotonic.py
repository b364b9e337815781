"""What monotonic kinds share: for each character, go on step by step and stop with a probability.

e_{i,t} = g (w / |w|) . tanh(V h_t + b + W s_{i-1}) + r         energy of stopping at t
p_{i,t} = sigmoid(e_{i,t})                                      its probability

Character i begins where character i - 1 stopped. Training computes with alpha_{i,t}, the
probability that it stops at t, summed over all ways there; noise of a standard deviation is added
to the energies, so that they learn to be large, and then probabilities are near 0 or 1. A search
takes the hard form: it stops at the first t with p >= 1/2, and looks at the steps on its way alone.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from asr.config import AttentionConfig
from asr.model.attention import Alignment, Attention, State, Table, owners
from asr.model.attention.energy import EnergyKeys, at_first_step
from asr.model.fast.product import affine
from asr.model.padding import padding_mask

BLOCK = 16  # steps that the hard form looks at in one go


@dataclass(frozen=True)
class MonotonicKeys(EnergyKeys):
    """The encoder's part of the energies."""

    hard: bool
    """Whether single steps are taken."""


@dataclass(frozen=True)
class Expected(Table):
    """Where the last character stopped, as far as one can expect."""

    alpha: Tensor
    """(N, S)."""
    over_steps = ("alpha",)


@dataclass(frozen=True)
class Position(Table):
    """Where the last character stopped."""

    step: Tensor
    """t, (N,); the number of steps where it did not."""


class Monotonic(Attention):
    """A kind is its recursion, soft and hard, and what it looks at around the stop."""

    sums_to_one: ClassVar[bool] = False
    has_hard_form: ClassVar[bool] = True

    def __init__(self, query: int, memory: int, config: AttentionConfig) -> None:
        super().__init__(query, memory, config)
        self.V = nn.Linear(memory, config.units)
        self.W = nn.Linear(query, config.units, bias=False)
        self.w = nn.Linear(config.units, 1, bias=False)
        self.g = nn.Parameter(torch.tensor(1 / math.sqrt(config.units)))
        self.r = nn.Parameter(torch.tensor(config.bias))
        self.noise = config.noise

    def expected(self, stop: Tensor, go: Tensor, alpha: Tensor, steps: Tensor) -> Tensor:
        """Where this character stops.

        Args:
            stop: p, 0 on padding, (N, S).
            go: 1 - p, (N, S).
            alpha: where the last one stopped, (N, S).
            steps: real steps, (N,).

        Returns:
            alpha, (N, S).
        """
        raise NotImplementedError

    def seek(self, query: Tensor, keys: MonotonicKeys, position: Tensor) -> Tensor:
        """Where this character stops in the hard form; positions (N,) to the same."""
        raise NotImplementedError

    def look(self, query: Tensor, keys: MonotonicKeys, alpha: Tensor) -> Tensor:
        """The weights (N, S) of where one expects to stop (N, S); queries (B, K, H)."""
        return alpha

    def look_hard(self, query: Tensor, keys: MonotonicKeys, step: Tensor) -> Alignment:
        """The weights of real steps (N,) where one stopped; queries (N, H)."""
        return Alignment(query.new_ones(len(step), 1, 1), step)

    def precompute(self, memory: Tensor, steps: Tensor, *, hard: bool = False) -> MonotonicKeys:
        """See :meth:`Attention.precompute`."""
        padding = padding_mask(steps, memory.shape[1], memory.device)
        on_device = steps.to(memory.device, non_blocking=True)
        return MonotonicKeys(self.project(memory), padding, on_device, hard)

    def project(self, memory: Tensor) -> Tensor:
        """V h + b: (B, S, D) to (B, S, A)."""
        return affine(memory, self.V.weight.t(), self.V.bias)

    def energies(self, query: Tensor, keys: Tensor) -> Tensor:
        """Energies of stopping: (B, K, H) and (B, S, A) to (B, K, S)."""
        mix = keys.unsqueeze(1) + self.W(query).unsqueeze(2)  # (B, K, S, A)
        return self.g / self.w.weight.norm() * self.w(mix.tanh()).squeeze(-1) + self.r

    def start(self, keys: MonotonicKeys, rows: int) -> State:
        """See :meth:`Attention.start`; at the first step."""
        if keys.hard:
            return Position(torch.zeros(rows, dtype=torch.int64, device=keys.keys.device))
        return Expected(at_first_step(keys.keys, rows))

    def step(self, query: Tensor, keys: MonotonicKeys, state: State) -> tuple[Alignment, State]:
        """See :meth:`Attention.step`."""
        steps = keys.steps[owners(len(query), keys.keys)]  # (N,)
        return (self._hard_step if keys.hard else self._soft_step)(query, keys, state, steps)

    def _hard_step(
        self, query: Tensor, keys: MonotonicKeys, state: Position, steps: Tensor
    ) -> tuple[Alignment, Position]:
        position = self.seek(query, keys, state.step)
        alignment = self.look_hard(query, keys, torch.minimum(position, steps - 1))
        nowhere = (position == steps).view(-1, 1, 1)
        weights = alignment.weights.masked_fill(nowhere, 0.0)
        return Alignment(weights, alignment.first), Position(position)

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
        return Alignment(self.look(queries, keys, alpha).unsqueeze(1)), Expected(alpha)

    def passed(
        self, query: Tensor, keys: MonotonicKeys, rows: Tensor, step: Tensor, width: int
    ) -> Tensor:
        """How many of the next steps some rows (n,) pass: (n,), from 0 to width.

        Args:
            query: of all rows, (N, H).
            keys: of all utterances.
            rows: that look.
            step: from which they look, (n,).
            width: how far.
        """
        owner = owners(len(query), keys.keys)[rows].unsqueeze(1)
        columns = step.unsqueeze(1) + torch.arange(width, device=step.device)  # (n, width)
        near = keys.keys[owner, columns.clamp(max=keys.keys.shape[1] - 1)]  # (n, width, A)
        energies = self.energies(query[rows].unsqueeze(1), near).squeeze(1)
        # NaN stops, so that it shows
        stop = ~(energies < 0) | (columns >= self.end(keys)[owner])
        return torch.where(stop.any(1), stop.int().argmax(1), width)

    def end(self, keys: MonotonicKeys) -> Tensor:
        """The step at which everybody stops, (B,): behind the last one, where nothing is."""
        return keys.steps


def scan(factor: Tensor, added: Tensor) -> Tensor:
    """The recurrence x_t = factor_t x_{t-1} + added_t along the last axis, x_{-1} = 0.

    In log2(S) rounds, after each of which the steps are twice as far apart (Hillis and Steele,
    1986). Nothing is divided, so that it is as exact as the loop.
    """
    far = 1
    while far < added.shape[-1]:
        added = added + factor * pad(added[..., :-far], (far, 0))
        factor = factor * pad(factor[..., :-far], (far, 0))
        far *= 2
    return added
