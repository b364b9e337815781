"""Attention whose weights are the softmax of an energy for each encoder step."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, pad

from asr.model.attention import Alignment, Attention, State, Table
from asr.model.fast.product import affine
from asr.model.padding import padding_mask


@dataclass(frozen=True)
class EnergyKeys(Table):
    """The encoder's part of the energies."""

    keys: Tensor
    """(B, S, A)."""
    padding: Tensor
    """True where there is no step, (B, S)."""
    steps: Tensor
    """Real steps of each utterance, (B,)."""
    over_steps: ClassVar[tuple[str, ...]] = ("keys", "padding")


@dataclass(frozen=True)
class NoState(Table):
    """The state of a kind without memory."""


class Energy(Attention):
    """Base class of kinds that define :meth:`energies`, and V or :meth:`project`."""

    V: nn.Linear
    """Projection of the encoder's output, for kinds with the projection below."""

    def project(self, memory: Tensor) -> Tensor:
        """Return the keys of the encoder's output, V h + b: (B, S, D) to (B, S, A)."""
        return affine(memory, self.V.weight.t(), self.V.bias)

    def energies(self, query: Tensor, keys: Tensor, state: State) -> Tensor:
        """Return the energies of all encoder steps, (B, K, S).

        Args:
            query: decoder states, (B, K, H).
            keys: (B, S, A).
            state: of N = B K rows.
        """
        raise NotImplementedError

    def after(self, weights: Tensor, state: State) -> State:
        """Return the state after a step with these weights, (N, S)."""
        return state

    def precompute(self, memory: Tensor, steps: Tensor, *, hard: bool = False) -> EnergyKeys:
        """See :meth:`Attention.precompute`."""
        padding = padding_mask(steps, memory.shape[1], memory.device)
        on_device = steps.to(memory.device, non_blocking=True)
        return EnergyKeys(self.project(memory), padding, on_device)

    def start(self, keys: EnergyKeys, rows: int) -> State:
        """See :meth:`Attention.start`."""
        return NoState()

    def step(self, query: Tensor, keys: EnergyKeys, state: State) -> tuple[Alignment, State]:
        """See :meth:`Attention.step`; weights are a softmax over the real steps."""
        queries = query.view(len(keys.padding), -1, query.shape[-1])  # (B, K, H)
        energies = self.energies(queries, keys.keys, state)  # (B, K, S)
        energies = energies.masked_fill(keys.padding.unsqueeze(1), -torch.inf)
        weights = energies.softmax(-1).flatten(0, 1)  # (N, S)
        return Alignment(weights.unsqueeze(1)), self.after(weights, state)


def uniform(keys: EnergyKeys) -> Tensor:
    """Return the same weight for every real step, (B, S)."""
    real = (~keys.padding).to(keys.keys.dtype)
    return real / real.sum(1, keepdim=True)


def at_first_step(keys: Tensor, rows: int) -> Tensor:
    """Return weights of 1 at the first step of keys (B, S, A) and 0 elsewhere, (N, S)."""
    weights = keys.new_zeros(rows, keys.shape[1])
    weights[:, 0] = 1.0
    return weights


def shift_forward(weights: Tensor, taps: Tensor) -> Tensor:
    """Return weights (N, S) moved forward by 0 to K steps: sum_k taps_k weights_{t-k}, (N, S)."""
    taps = taps[: weights.shape[1]]
    moved = conv1d(pad(weights, (len(taps) - 1, 0)).unsqueeze(1), taps.flip(0).view(1, 1, -1))
    return moved.squeeze(1)


def log_or_minus_inf(x: Tensor) -> Tensor:
    """Return the logarithm of x >= 0: -inf without a gradient where x is 0."""
    zero = x == 0
    return x.masked_fill(zero, 1.0).log().masked_fill(zero, -torch.inf)
