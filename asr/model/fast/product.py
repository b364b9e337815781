"""Large matrix products, by the fastest float32 kernel of the machine.

torch multiplies float32 matrices with MKL on x86. MKL is the fastest on Intel's processors; on
others oneDNN, which torch contains, is twice as fast (``asr bench train`` prints both speeds).
"""

import functools
import platform
from typing import Any

import torch
from torch import Tensor

from asr.model.machine import proc

ROWS = 64
# Type of the numbers that products read and write; they sum in float32.
_precision = torch.float32


def use_precision(precision: str, device: str = "auto") -> None:
    """Set the type of numbers that products read and write: float32, bfloat16 or auto.

    auto is bfloat16 where :func:`bfloat16_unit` finds fast products of it on the device, else
    float32. Weights, recurrences and everything between products stay float32.
    """
    global _precision
    if precision == "auto":
        precision = "bfloat16" if bfloat16_unit(device) else "float32"
    _precision = {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]


def bfloat16_unit(device: str = "auto") -> str:
    """Return what makes bfloat16 faster than float32 on a device; "" if nothing does."""
    if device != "cpu" and torch.cuda.is_available():
        return "the GPU" if torch.cuda.is_bf16_supported(including_emulation=False) else ""
    flags = proc("cpuinfo", r"^flags\s*:(.*)$").split()
    return next((name for name in ("amx_bf16", "avx512_bf16") if name in flags), "")


def precision_in_use() -> str:
    """Return the precision that :func:`use_precision` set; float32 at first."""
    return str(_precision).removeprefix("torch.")


def rounded(matrix: Tensor) -> Tensor:
    """Return a float32 matrix rounded to the precision in use; others as they are."""
    return matrix.to(_precision) if matrix.dtype == torch.float32 else matrix


def rounded_rows(matrix: Tensor) -> Tensor:
    """Return a :func:`rounded` matrix; in bfloat16 with rows of 0 up to a multiple of ROWS.

    On processors oneDNN compiles a kernel for each number of rows, which takes time.
    """
    missing = 0 if _precision == torch.float32 or matrix.is_cuda else -len(matrix) % ROWS
    matrix = rounded(matrix)
    return torch.nn.functional.pad(matrix, (0, 0, 0, missing)) if missing else matrix


def is_x86() -> bool:
    """Whether the processor is one of x86, for which oneDNN has kernels."""
    return platform.machine() in ("x86_64", "AMD64")


@functools.cache
def prefers_onednn() -> bool:
    """Whether oneDNN is available and faster than torch's default."""
    available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    available = available and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    vendor = proc("cpuinfo", r"^vendor_id\s*:(.*)") or platform.processor()
    intel = "Intel" in vendor or platform.system() == "Darwin"
    return is_x86() and available and not intel


def _dense(matrix: Tensor) -> Tensor:
    """Return the matrix, or a copy if it is not dense, for which oneDNN is very slow."""
    dense = matrix.is_contiguous() or matrix.t().is_contiguous()
    return matrix if dense else matrix.contiguous()


def product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return a b + bias, (M, K) times (K, N), without gradients; transposed views are fast.

    Matrices that several products read may be :func:`rounded` before.
    """
    if _precision == torch.bfloat16 and a.dtype != torch.float64:
        result = (rounded(_dense(a)) @ rounded(_dense(b))).float()
        return result if bias is None else result.add_(bias)
    if a.device.type == "cpu" and a.dtype == torch.float32 and prefers_onednn():
        return torch.ops.mkldnn._linear_pointwise(_dense(a), _dense(b).t(), bias, "none", [], "")
    return a @ b if bias is None else torch.addmm(bias, a, b)


class _Affine(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, W: Tensor, b: Tensor | None) -> Tensor:
        rows = rounded_rows(x.flatten(0, -2))
        ctx.save_for_backward(rows, W)
        ctx.shape, ctx.biased = x.shape, b is not None
        result = product(rows, W, b)[: x.numel() // x.shape[-1]]
        return result.view(*x.shape[:-1], W.shape[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        rows, W = ctx.saved_tensors
        own = grad.flatten(0, -2)
        d_rows = rounded_rows(own)
        d_W, d_b = product(rows.t(), d_rows), own.sum(0) if ctx.biased else None
        if not ctx.needs_input_grad[0]:
            return None, d_W, d_b
        return product(d_rows, W.t())[: len(own)].view(ctx.shape), d_W, d_b


def affine(x: Tensor, W: Tensor, b: Tensor | None = None) -> Tensor:
    """Return x W + b with gradients: (..., K), (K, N) and (N,) to (..., N)."""
    result: Tensor = _Affine.apply(x, W, b)  # type: ignore[no-untyped-call]
    return result
