"""Rank of a process in a training: alone by default, see :mod:`asr.train.group` for several."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class Interrupted(KeyboardInterrupt):
    """The training was stopped; its state is saved."""


class Rank:
    """A process that trains alone: rank 0 of 1.

    The methods exchange values with the other processes; here they return their arguments. With
    several processes every process has to call the same methods in the same order.

    Args:
        device: device of this process.
    """

    index, count = 0, 1

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stopped = False  # whether this process has been asked to stop

    def total(self, *values: float) -> tuple[float, ...]:
        """Return the sums over all processes."""
        return values

    def sum_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Replace the gradients by their sums over all processes."""

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes: what JSON can hold."""
        return [value]

    def broadcast(self, value: Any) -> Any:
        """Return the value of rank 0: tensors and plain values."""
        return value

    def check_stop(self) -> None:
        """Raise Interrupted in every process if one was asked to stop."""
        if any(self.total(self.stopped)):
            raise Interrupted

    def times(self) -> dict[str, float]:
        """Return the seconds of waiting and of exchange since the last call, for the log."""
        return {}

    def report(self, activity: str) -> None:
        """Note what this process does, for the others' messages if it fails."""
