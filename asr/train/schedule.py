"""Optimisers and the learning rate over a training."""

import math
from collections.abc import Iterable

import torch
from torch import nn

from asr.config import OptimConfig


def make_optimizer(parameters: Iterable[nn.Parameter], config: OptimConfig) -> torch.optim.Optimizer:
    """The optimiser of the configuration; its learning rate is set before every step."""
    rate, decay = config.learning_rate, config.weight_decay
    if config.kind == "adadelta":
        return torch.optim.Adadelta(parameters, lr=rate, rho=0.95, eps=1e-8, weight_decay=decay)
    if config.kind == "adam":
        return torch.optim.Adam(parameters, lr=rate, weight_decay=decay)
    return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)


def learning_rate(step: int, total_steps: int, config: OptimConfig) -> float:
    """Learning rate of a step: a linear rise, a plateau, a cosine fall.

    Args:
        step: from 0.
        total_steps: of the whole training.
        config: peak, warm-up and decay.
    """
    peak = config.learning_rate
    if step < config.warmup_steps:
        return peak * (step + 1) / config.warmup_steps
    start = config.decay_start * total_steps
    if config.decay == "none" or step < start:
        return peak
    progress = min(1.0, (step - start) / max(1.0, total_steps - start))
    floor = config.final_ratio
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress)))
