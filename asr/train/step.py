"""Training step: loss, gradient, update."""

import math
from dataclasses import replace
from typing import NamedTuple

import torch

from asr.config import LossConfig, TrainConfig
from asr.model.batch import Batch, Count
from asr.model.las import LAS
from asr.model.machine import seeded
from asr.train.rank import Rank
from asr.train.schedule import Optimizer


class StepResult(NamedTuple):
    """Losses of a step, see :class:`asr.model.loss.Loss`, and the norm of the gradient."""

    loss: float
    attention: float
    ctc: float
    accuracy: float
    grad_norm: float

    @property
    def finite(self) -> bool:
        """Whether all are finite, so that the weights were updated."""
        return all(map(math.isfinite, self))


def weights_at(config: LossConfig, epoch: int) -> LossConfig:
    """Return the loss weights of an epoch (from 0), with scheduled sampling and guide."""
    return replace(
        config,
        scheduled_sampling=config.scheduled_sampling * (epoch >= config.sampling_start_epoch),
        guide=config.guide * max(0.0, 1 - epoch / max(1, config.guide_epochs)),
    )


class TrainStep:
    """Updates a model batch by batch.

    Args:
        model: the network, on the device of ``rank``.
        optimizer: the optimiser of its parameters.
        config: configuration of the training.
        rank: this process.
    """

    def __init__(self, model: LAS, optimizer: Optimizer, config: TrainConfig, rank: Rank) -> None:
        self.model, self.optimizer, self.config, self.rank = model, optimizer, config, rank
        self._network = rank.wrap(model)

    def __call__(self, batch: Batch, weights: LossConfig, rate: float, seed: int) -> StepResult:
        """Update the weights, unless the loss or the gradient is not finite.

        Args:
            batch: a batch of at least one utterance.
            weights: weights of the parts of the loss, see :func:`weights_at`.
            rate: learning rate.
            seed: seed of dropout and scheduled sampling.
        """
        result = self.gradient(batch, weights, seed)
        if result.finite:
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.optimizer.step()
        self.optimizer.zero_grad()
        return result

    def gradient(self, batch: Batch, weights: LossConfig, seed: int) -> StepResult:
        """Compute the gradient of a batch and clip it."""
        count = Count(*self.rank.total(*batch.count))
        self.model.train()
        with seeded(seed):
            loss = self._network(batch.to(self.rank.device), weights, count)
            loss.total.backward()
        parameters = self.model.parameters()
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.config.optim.clip_norm)
        parts = (loss.total, loss.attention, loss.ctc, loss.accuracy, norm)
        return StepResult(*torch.stack([v.detach() for v in parts]).tolist())  # one wait for a GPU
