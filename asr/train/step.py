"""Training step: loss, gradient, update."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from asr.config import LossConfig, TrainConfig
from asr.errors import InputError, counted, first_line, listed
from asr.model.batch import Batch, Count
from asr.model.las import LAS
from asr.model.loss import Loss
from asr.model.machine import is_no_memory, seeded
from asr.train.adamw import AdamW
from asr.train.rank import Rank
from asr.train.utterances import seed_of

NAMED = 8  # utterances in a message


class StepResult(NamedTuple):
    """Losses of a step, see :class:`asr.model.loss.Loss`, and the norm of the gradient."""

    loss: float
    attention: float
    ctc: float
    consistency: float
    accuracy: float
    grad_norm: float

    @property
    def finite(self) -> bool:
        """Whether all are finite, so that the weights were updated."""
        return all(map(math.isfinite, self))


class OutOfMemory(InputError):
    """The memory does not suffice for the utterances of a batch, which the message names.

    Args:
        place: place of the batch among those of the step.
        batch: the batch.
        error: what torch or Python raised.
    """

    def __init__(self, place: int, batch: Batch, error: Exception) -> None:
        self.place = place
        longest = batch.frames.argsort(descending=True).tolist()
        names = dict.fromkeys(
            f"{batch.ids[i]} ({batch.frames[i]} frames, {batch.lengths[i]} characters)"
            for i in longest
        )
        count = len(set(batch.ids))
        remedy = "lower batch.seconds, raise batch.accumulate, or set batch.halve"
        if count == 1:
            remedy = "leave longer utterances out, or make the model smaller"
        super().__init__(
            f"{counted(count, 'utterance')}, {batch.audio_s:.0f} s, more than memory holds: "
            f"{listed(names, NAMED)}: {first_line(error) or 'out of memory'}; {remedy}"
        )


def weights_at(config: LossConfig, epoch: int) -> LossConfig:
    """Return the loss weights of an epoch (from 0); ``guide`` falls to 0 by ``guide_epochs``."""
    return replace(config, guide=config.guide * max(0.0, 1 - epoch / config.guide_epochs))


class TrainStep:
    """Updates a model batch by batch.

    Args:
        model: the network, on the device of ``rank``.
        optimizer: the optimiser of its parameters.
        config: configuration of the training.
        rank: this process.
        say: called with a message when memory runs out and the batch is halved.
    """

    def __init__(
        self,
        model: LAS,
        optimizer: AdamW,
        config: TrainConfig,
        rank: Rank,
        say: Callable[[str], None],
    ) -> None:
        self.model, self.optimizer, self.config, self.rank = model, optimizer, config, rank
        self.say = say

    def __call__(
        self,
        micro_batches: Sequence[Batch],
        count: Count,
        weights: LossConfig,
        rate: float,
        seed: int,
    ) -> StepResult:
        """Update the weights, unless the loss or the gradient is not finite.

        Args:
            micro_batches: those of this process in the batch; some, or all, may be empty.
            count: characters and utterances of the batch, over all processes.
            weights: weights of the parts of the loss, see :func:`weights_at`.
            rate: learning rate.
            seed: seed of dropout.
        """
        result = self.gradient(micro_batches, count, weights, seed)
        if result.finite:
            self.optimizer.lr = rate
            self.optimizer.step()
        self.optimizer.zero_grad()
        return result

    def gradient(
        self, micro_batches: Sequence[Batch], count: Count, weights: LossConfig, seed: int
    ) -> StepResult:
        """Compute the gradient of a batch and clip it."""
        losses = self.local_gradient(micro_batches, count, weights, seed)
        parameters = list(self.model.parameters())
        self.rank.sum_gradients(parameters)
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.config.optim.clip_norm)
        *local, length = torch.stack([*losses, norm]).tolist()  # one wait for a GPU
        loss, attention, ctc, consistency, accuracy = self.rank.total(*local)
        return StepResult(loss, attention, ctc, consistency, accuracy, length)

    def local_gradient(
        self, micro_batches: Sequence[Batch], count: Count, weights: LossConfig, seed: int
    ) -> list[Tensor]:
        """Add the gradients of the micro-batches of this process; return the losses of a step.

        Raises:
            OutOfMemory: the memory does not suffice, also in halves if ``batch.halve`` is set.
        """
        first = self.rank.index * len(micro_batches)
        seeds = [seed_of(seed, first + i) if first + i else seed for i in range(len(micro_batches))]
        parts = [part for part in zip(micro_batches, seeds, strict=True) if part[0].ids]
        while True:
            try:
                return self._backward(parts, count, weights)
            except OutOfMemory as error:
                place, message = error.place, str(error)
                if not self.config.batch.halve or len(set(parts[place][0].ids)) == 1:
                    raise
            # what the failed step held is free only here, after the exception
            self.optimizer.zero_grad()
            torch.cuda.empty_cache()  # so that blocks of other sizes fit
            self.say(f"note: computed in two halves: {message}")
            batch, own = parts[place]
            halves = batch.halves(self.config.loss.copies)
            parts[place : place + 1] = [(half, seed_of(own, n, 1)) for n, half in enumerate(halves)]

    def _backward(
        self, parts: Sequence[tuple[Batch, int]], count: Count, weights: LossConfig
    ) -> list[Tensor]:
        """Add the gradients of batches, each with its seed; return the sums of the losses."""
        sums = [torch.zeros((), device=self.rank.device)] * 5
        for place, (batch, seed) in enumerate(parts):
            try:
                with seeded(seed):
                    loss: Loss = self.model.train()(batch.to(self.rank.device), weights, count)
                    loss.total.backward()  # type: ignore[no-untyped-call]
            except (RuntimeError, MemoryError) as error:
                if is_no_memory(error):
                    raise OutOfMemory(place, batch, error) from error
                raise
            values = (loss.total, loss.attention, loss.ctc, loss.consistency, loss.accuracy)
            sums = [s + value.detach() for s, value in zip(sums, values, strict=True)]
        return sums
