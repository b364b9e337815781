"""Dropout (Srivastava et al., 2014).

torch draws its random numbers on one thread and stores a mask. On processors native.cpp hashes a
seed and the position of a number instead, and hashes again in backward.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from asr.config.field import require
from asr.config.settings import DROPOUT
from asr.model.fast import native

MOST = 2**31  # numbers, which native.cpp cannot count


class Dropout(nn.Module):
    """Dropout that is active in training only.

    Args:
        probability: with which a number is set to zero, from 0 to below 0.9995, in thousandths.

    Raises:
        InputError: the probability is out of range.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        require("dropout", probability, DROPOUT)
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """Return an input of any shape with some of its numbers set to zero, the rest scaled."""
        if not self.training or self.probability == 0:
            return x
        if not native.usable(x) or x.numel() >= MOST:
            return nn.functional.dropout(x, self.probability)
        seed = int(torch.randint(2**31, ()))
        return _Native.apply(x, seed, round(1000 * self.probability))  # type: ignore[no-untyped-call]


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
    native.call("dropout", x=x, out=out, n=x.numel(), seed=seed, per_mille=per_mille)
    return out
