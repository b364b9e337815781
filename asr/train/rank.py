"""Rank of a process in a distributed training; only one process is supported so far."""

from dataclasses import dataclass

import torch

from asr.model.las import LAS


@dataclass(frozen=True)
class Rank:
    """A process that trains alone: rank 0 of 1; every method is the identity."""

    device: torch.device
    index: int = 0
    count: int = 1

    def total(self, *values: float) -> tuple[float, ...]:
        """Return the sums over all processes."""
        return values

    def wrap(self, model: LAS) -> LAS:
        """Return the model with gradients summed over all processes."""
        return model
