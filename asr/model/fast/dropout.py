"""Dropout by native.cpp, whose mask is a hash of seed and position; backward hashes again.

torch draws random numbers on one thread and stores a mask, which is slower.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from asr.model.fast import native


def dropout(x: Tensor, share: float) -> Tensor:
    """Set a share of the numbers, rounded to thousandths, to zero and scale the rest."""
    seed = int(torch.randint(2**31, ()))
    return _Dropout.apply(x, seed, round(1000 * share))  # type: ignore[no-untyped-call]


class _Dropout(torch.autograd.Function):
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
