"""Dropout (Srivastava et al., 2014) at the speed of memory.

torch draws its random numbers on one thread, which takes a tenth of a training step, and keeps
a mask. Here a hash of seed and position decides, so that backward decides again.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from asr.config.field import require
from asr.config.settings import DROPOUT
from asr.model.fast import native


class _Native(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, seed: int, per_mille: int) -> Tensor:
        ctx.seed, ctx.per_mille = seed, per_mille
        return _drop(x, seed, per_mille)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        return _drop(grad, ctx.seed, ctx.per_mille), None, None


def _drop(x: Tensor, seed: int, per_mille: int) -> Tensor:
    x = x.contiguous()
    out = torch.empty_like(x)
    native.call("dropout", x, out, x.numel(), seed, per_mille)
    return out


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
        if not native.usable(x):
            return nn.functional.dropout(x, self.share)
        seed = int(torch.randint(2**31, ()))
        result: Tensor = _Native.apply(  # type: ignore[no-untyped-call]
            x, seed, round(1000 * self.share)
        )
        return result
