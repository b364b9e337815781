"""Rank of a process in a distributed training; alone for now."""

from dataclasses import dataclass

import torch

from asr.model.las import LAS


@dataclass(frozen=True)
class Rank:
    """A process that trains alone: it is 0 of 1, and every method is the identity."""

    device: torch.device
    index: int = 0
    count: int = 1

    def total(self, *values: float) -> tuple[float, ...]:
        """Sums over all processes."""
        return values

    def wrap(self, model: LAS) -> LAS:
        """The model with gradients that are those of all processes."""
        return model
