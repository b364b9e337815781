"""Dropout (Srivastava et al., 2014) at the speed of memory.

torch draws its random numbers on one thread, which takes a tenth of a training step, and keeps
a mask. Here a hash of seed and position decides, so that backward decides again.
"""

from torch import Tensor, nn

from asr.config.field import require
from asr.config.settings import DROPOUT
from asr.model.fast import lookup


class Dropout(nn.Module):
    """Set a share of the numbers to zero, in training only, and scale the rest.

    Args:
        share: from 0 to below 1, in thousandths.

    Raises:
        InputError: the share is not in that range.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        require("dropout", share, DROPOUT)
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same."""
        if not self.training or self.share == 0:
            return x
        return (lookup.dropout(x) or nn.functional.dropout)(x, self.share)
