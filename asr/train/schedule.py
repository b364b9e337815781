"""Optimisers and the learning rate schedule."""

import math
from collections.abc import Iterable

import torch
from torch import nn

from asr.config import OptimConfig
from asr.train.adamw import AdamW

LONGEST_WARMUP = 1 / 3  # of the training

Optimizer = AdamW | torch.optim.Optimizer


def make_optimizer(parameters: Iterable[nn.Parameter], config: OptimConfig) -> Optimizer:
    """Return the optimiser of a configuration; its learning rate is set before every step."""
    rate, decay = config.learning_rate, config.weight_decay
    if config.kind == "adadelta":
        return torch.optim.Adadelta(parameters, lr=rate, rho=0.95, eps=1e-8, weight_decay=decay)
    if config.kind == "adam":
        return torch.optim.Adam(parameters, lr=rate, weight_decay=decay, fused=True)
    return AdamW(parameters, rate, decay)


def learning_rate(step: int, done: float, config: OptimConfig) -> float:
    """Return the learning rate of a step: linear warm-up, plateau, cosine decay.

    The warm-up takes at most a third of the training, so that a short one reaches the peak, too.

    Args:
        step: number of the step, from 0.
        done: fraction of the training that is done, from 0 to 1.
        config: peak, warm-up in steps, and decay as a fraction of the training.
    """
    warm_up = min(1.0, max((step + 1) / max(1, config.warmup_steps), done / LONGEST_WARMUP))
    if config.decay == "none" or done <= config.decay_start:
        return config.learning_rate * warm_up
    decayed = (done - config.decay_start) / (1 - config.decay_start)
    cosine = 0.5 * (1 + math.cos(math.pi * decayed))
    return config.learning_rate * warm_up * (config.final_ratio + (1 - config.final_ratio) * cosine)
