"""Optimisers and the learning rate over a training."""

import math
from collections.abc import Iterable

import torch
from torch import nn

from asr.config import OptimConfig
from asr.train.adamw import AdamW

Optimizer = AdamW | torch.optim.Optimizer


def make_optimizer(parameters: Iterable[nn.Parameter], config: OptimConfig) -> Optimizer:
    """The optimiser of the configuration; its learning rate is set before every step."""
    rate, decay = config.learning_rate, config.weight_decay
    if config.kind == "adadelta":
        return torch.optim.Adadelta(parameters, lr=rate, rho=0.95, eps=1e-8, weight_decay=decay)
    if config.kind == "adam":
        return torch.optim.Adam(parameters, lr=rate, weight_decay=decay, fused=True)
    return AdamW(parameters, rate, decay)


def learning_rate(step: int, share: float, config: OptimConfig) -> float:
    """Learning rate of a step: a linear rise, a plateau, a cosine fall.

    Args:
        step: from 0; the rise is counted in steps.
        share: of the training that is done, from 0 to 1; the fall is counted in it.
        config: peak, warm-up and decay.
    """
    rise = min(1.0, (step + 1) / max(1, config.warmup_steps))
    if config.decay == "none" or share <= config.decay_start:
        return config.learning_rate * rise
    fall = (share - config.decay_start) / (1 - config.decay_start)
    low = config.final_ratio
    return config.learning_rate * rise * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * fall)))
