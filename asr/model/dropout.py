"""Dropout (Srivastava et al., 2014), by :mod:`asr.model.fast.dropout` on processors."""

from torch import Tensor, nn

from asr.config.field import require
from asr.config.settings import DROPOUT
from asr.model.fast import lookup


class Dropout(nn.Module):
    """Dropout that is active in training only.

    Args:
        share: probability that a number is set to zero, from 0 to below 1.

    Raises:
        InputError: the share is out of range.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        require("dropout", share, DROPOUT)
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """Return an input of any shape with a share of its numbers set to zero, the rest scaled."""
        if not self.training or self.share == 0:
            return x
        return (lookup.dropout(x) or nn.functional.dropout)(x, self.share)
