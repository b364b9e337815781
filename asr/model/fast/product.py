"""Large matrix products, by the fastest kernel that the machine has in plain float32.

On x86 torch multiplies float32 matrices with MKL, which leaves half of the speed unused on
processors that are not Intel's; oneDNN, which torch has too, does not (measured on a Zen 5
core: 95 against 215 GFLOP/s; ``asr bench train`` prints both). On Intel's MKL is the faster one,
by a fifth: it takes transposed matrices as they are (Xeon of the fourth generation, two cores: 370
against 300 GFLOP/s for the gradient of a weight).
"""

import functools
import platform
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# Numbers that products read and write; sums inside of them are float32 in any case.
_precision = torch.float32


def use_precision(precision: str) -> None:
    """float32, or bfloat16: products round what they read and write to 8 bits of mantissa.

    Weights, recurrences and everything between products stay float32.
    """
    global _precision
    _precision = {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]


def precision_in_use() -> str:
    """What :func:`use_precision` was given last; float32 at first."""
    return str(_precision).removeprefix("torch.")


def as_read(matrix: Tensor) -> Tensor:
    """A float32 matrix with its numbers as products read them."""
    return matrix.to(_precision)


def _made_by_intel() -> bool:
    try:
        return "GenuineIntel" in Path("/proc/cpuinfo").read_text()
    except OSError:  # Windows and macOS name the maker here, or have nothing but Intel's
        return "Intel" in platform.processor() or platform.system() == "Darwin"


def is_x86() -> bool:
    """Whether oneDNN has kernels of its own for this processor."""
    return platform.machine() in ("x86_64", "AMD64")


@functools.cache
def prefers_onednn() -> bool:
    """Whether oneDNN multiplies faster than torch's default, and can be had."""
    there = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    there = there and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return is_x86() and there and not _made_by_intel()


def _dense(matrix: Tensor) -> Tensor:
    """oneDNN takes dense matrices, transposed or not; for others its kernels are very slow."""
    dense = matrix.is_contiguous() or matrix.t().is_contiguous()
    return matrix if dense else matrix.contiguous()


def product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """a b + bias: (M, K) times (K, N), either of them possibly a transposed view; no gradient."""
    if _precision != a.dtype == torch.float32:
        result = (_dense(a).to(_precision) @ _dense(b).to(_precision)).float()
        return result if bias is None else result.add_(bias)
    if a.device.type == "cpu" and a.dtype == torch.float32 and prefers_onednn():
        result = torch.ops.mkldnn._linear_pointwise(_dense(a), _dense(b).t(), bias, "none", [], "")
        return result
    return a @ b if bias is None else torch.addmm(bias, a, b)


def part_product(a: Tensor, b: Tensor, first: int, end: int) -> Tensor:
    """a times the columns of b from first to end: (M, K) and (K, N) to (M, end - first).

    oneDNN multiplies the whole matrix: what is thrown away costs less than a copy of the rest.
    """
    if b.device.type == "cpu" and prefers_onednn():
        return product(a, b)[:, first:end]
    return product(a, b[:, first:end])


class _Affine(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, W: Tensor, b: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, W)
        ctx.biased = b is not None
        return product(x.flatten(0, -2), W, b).view(*x.shape[:-1], W.shape[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        x, W = ctx.saved_tensors
        rows = grad.flatten(0, -2)
        d_x = product(rows, W.t()).view(x.shape) if ctx.needs_input_grad[0] else None
        d_W = product(x.flatten(0, -2).t(), rows)
        return d_x, d_W, rows.sum(0) if ctx.biased else None


def affine(x: Tensor, W: Tensor, b: Tensor | None = None) -> Tensor:
    """x W + b with gradients: (..., K), (K, N) and (N,) to (..., N)."""
    result: Tensor = _Affine.apply(x, W, b)  # type: ignore[no-untyped-call]
    return result
