"""All directions of a GRU layer, with their backward pass.

:func:`native_layer` calls native.cpp on processors and :func:`kernel_layer` kernels.py on GPUs;
:func:`cudnn_layer` runs on GPUs what kernels.py cannot. All compute what the plain loop of
:class:`asr.model.encoder.gru.GRU` does, which runs all other layers;
:mod:`asr.model.cells.gru` has the equations.
"""

from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from asr.model.cells.gru import Reset
from asr.model.fast import native
from asr.model.fast.kinds import CELLS, Form
from asr.model.fast.product import product, rounded, rounded_rows
from asr.model.padding import pack, unpack


class GRUWeights(Protocol):
    """A layer of D directions: W (D, I, 3N), U (D, N, 3N), b (D, 3N) and c (D, N)."""

    W: nn.Parameter
    U: nn.Parameter
    b: nn.Parameter
    c: nn.Parameter
    reset: Reset
    training: bool


def native_layer(layer: GRUWeights, x: Tensor, counts: Tensor) -> Tensor:
    """Run a layer on a processor.

    Args:
        layer: its weights.
        x: input, (B, S, I).
        counts: number of steps of each utterance, (B,), in main memory.

    Returns:
        states (B, S, D N), 0 on padding.
    """
    return _Native.apply(  # type: ignore[no-untyped-call]
        x.contiguous(), native.int32(counts), layer.W, layer.U, layer.b, layer.c, layer.reset,
        torch.is_grad_enabled(),
    )  # fmt: skip


def kernel_layer(layer: GRUWeights, x: Tensor, counts: Tensor) -> Tensor:
    """Run a layer of two directions, whose reset gate stands after the product, on a GPU."""
    return _Kernel.apply(  # type: ignore[no-untyped-call]
        x.contiguous(), counts, layer.W, layer.U, layer.b, layer.c
    )


def cudnn_layer(layer: GRUWeights, x: Tensor, counts: Tensor) -> Tensor:
    """Run a layer whose reset gate stands after the product by torch's kernel: cuDNN on a GPU."""
    packed = nn.utils.rnn.pack_padded_sequence(x, counts, batch_first=True, enforce_sorted=False)
    D, N, _ = layer.U.shape
    second = nn.functional.pad(layer.c, (2 * N, 0))  # torch's second bias
    matrices = [m[d].t() for d in range(D) for m in (layer.W, layer.U)]
    parts = [*matrices, *(b[d] for d in range(D) for b in (layer.b, second))]
    # cuDNN reads weights from one piece of memory, matrices first
    flat = torch.cat([part.flatten() for part in parts])
    pieces = torch.split(flat, [part.numel() for part in parts])
    views = [piece.view(part.shape) for piece, part in zip(pieces, parts, strict=True)]
    weights = [views[i] for d in range(D) for i in (2 * d, 2 * d + 1, 2 * (D + d), 2 * (D + d) + 1)]
    data, _ = torch._VF.gru(
        packed.data, packed.batch_sizes, x.new_zeros(D, len(x), N), weights, True, 1, 0.0,
        layer.training, D == 2,
    )  # fmt: skip
    return nn.utils.rnn.pad_packed_sequence(
        packed._replace(data=data), batch_first=True, total_length=x.shape[1]
    )[0]


def recurrent_gradients(before: Tensor, d_gates: Tensor, kept: Tensor, form: Form) -> Tensor:
    """Return the gradient of U, (N, G), by products over all R steps.

    Args:
        before: h of the step before, (R, N).
        d_gates: gradients of the gates' pre-activations, (R, G).
        kept: for form "after", the gradient of h U_n + c; for "before", r * h; (R, N).
        form: the form of the cell.
    """
    N, d_U = before.shape[1], before.new_empty(before.shape[1], d_gates.shape[1])
    before, d_gates, kept = (rounded_rows(each) for each in (before, d_gates, kept))
    if form == "lstm":
        return product(before.t(), d_gates)
    d_U[:, : 2 * N] = product(before.t(), d_gates[:, : 2 * N])
    if form == "after":
        d_U[:, 2 * N :] = product(before.t(), kept)
    else:
        d_U[:, 2 * N :] = product(kept.t(), d_gates[:, 2 * N :])
    return d_U


def consume(ctx: Any) -> None:
    """Mark the saved tensors of a backward pass as overwritten.

    Raises:
        RuntimeError: they have been overwritten before.
    """
    if ctx.consumed:
        raise RuntimeError("backward() can run only once: it overwrites its saved tensors")
    ctx.consumed = True


class _Native(torch.autograd.Function):
    """A layer by native.cpp.

    The input's part of all gates is one product before the recurrence, and the gradient of each
    weight is one product after it, both without padding. One buffer holds the pre-activations of
    the gates, then the gates, then the gradients of the pre-activations.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, counts: Tensor, W: Tensor, U: Tensor, b: Tensor, c: Tensor,
        reset: Reset, grad: bool,
    ) -> Tensor:  # fmt: skip
        """Input (B, S, I) to states (B, S, D N); ``grad``: autograd is on."""
        (batch, steps, _), (D, N, _) = x.shape, U.shape
        rows = rounded_rows(pack(x, counts.tolist()))  # (R, I)
        gates = [product(rows, W[d], b[d]) for d in range(D)]  # (R, 3N)
        keep = grad and any(ctx.needs_input_grad)
        inner = x.new_empty(D, int(counts.sum()), N) if keep else None
        out = x.new_empty(batch, steps, D * N)
        native.call(
            "layer_forward", gates_forward=gates[0], gates_back=gates[-1], U=U, c=c, counts=counts,
            kept=inner, out=out, cell=CELLS[reset], D=D, B=batch, S=steps, N=N,
        )  # fmt: skip
        if keep:
            ctx.reset, ctx.consumed = reset, False
            ctx.save_for_backward(rows, counts, W, U, *gates, inner, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        """Gradients of x, W, U, b and c from that of the states."""
        consume(ctx)
        rows, counts, W, U, *gates, inner, out = ctx.saved_tensors
        (batch, steps, _), (D, N, _), d_out = grad.shape, U.shape, grad.contiguous()
        olds, d_b, d_c = torch.empty_like(inner), U.new_zeros(D, 3 * N), U.new_zeros(D, N)
        native.call(
            "layer_backward", gates_forward=gates[0], gates_back=gates[-1], U=U, counts=counts,
            kept=inner, out=out, d_out=d_out, olds=olds, d_b=d_b,
            d_c=d_c if ctx.reset == "after" else None, cell=CELLS[ctx.reset], D=D, B=batch,
            S=steps, N=N,
        )  # fmt: skip
        gates = [rounded(each) for each in gates]
        d_U = [recurrent_gradients(olds[d], gates[d], inner[d], ctx.reset) for d in range(D)]
        d_W = [product(rows.t(), gates[d]) for d in range(D)]
        d_x = None
        if ctx.needs_input_grad[0]:
            d_rows = product(gates[0], W[0].t())
            if D == 2:
                d_rows.add_(product(gates[1], W[1].t()))
            d_x = unpack(d_rows[: inner.shape[1]], counts.tolist(), steps)
        return d_x, None, torch.stack(d_W), torch.stack(d_U), d_b, d_c, None, None


class _Kernel(torch.autograd.Function):
    """A layer by kernels.py; products include padding, where gates have no gradient."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, counts: Tensor, W: Tensor, U: Tensor, b: Tensor, c: Tensor
    ) -> Tensor:
        """Input (B, S, I) to states (B, S, 2N)."""
        both = W.transpose(0, 1).flatten(1)  # (I, 6N)
        gates = product(x.flatten(0, 1), both, b.flatten()).view(*x.shape[:2], -1)
        on_device = counts.to(x.device, torch.int32, non_blocking=True)
        out, inner = native.launch("bigru_forward", gates, U, c, on_device)
        if any(ctx.needs_input_grad):
            ctx.consumed = False
            ctx.save_for_backward(x, on_device, both, U, gates, inner, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        """Gradients of x, W, U, b and c from that of the states."""
        consume(ctx)
        x, counts, both, U, gates, inner, out = ctx.saved_tensors
        N = U.shape[1]
        native.launch("bigru_backward", grad.contiguous(), out, gates, inner, U, counts)
        padding = torch.arange(x.shape[1], device=x.device) >= counts.unsqueeze(1)
        gates.masked_fill_(padding.unsqueeze(-1), 0.0)
        olds = (
            nn.functional.pad(out[:, :-1, :N], (0, 0, 1, 0)),  # (B, S, N)
            nn.functional.pad(out[:, 1:, N:], (0, 0, 0, 1)),  # padding and first states are 0
        )
        rows, d_gates = inner.flatten(0, 1), gates.flatten(0, 1)
        d_U = [
            recurrent_gradients(
                olds[d].flatten(0, 1), d_gates[:, 3 * N * d : 3 * N * (d + 1)],
                rows[:, N * d : N * (d + 1)], "after",
            )
            for d in range(2)
        ]  # fmt: skip
        d_W = product(x.flatten(0, 1).t(), d_gates).view(-1, 2, 3 * N).transpose(0, 1)
        d_x = None
        if ctx.needs_input_grad[0]:
            d_x = product(d_gates, both.t()).view(x.shape)
        d_b, d_c = d_gates.sum(0).view(2, 3 * N), rows.sum(0).view(2, N)
        return d_x, None, d_W, torch.stack(d_U), d_b, d_c
