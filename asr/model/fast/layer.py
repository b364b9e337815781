"""All directions of a GRU layer in one call, with its backward pass.

:func:`native_layer` takes native.cpp on processors and :func:`kernel_layer` kernels.py on GPUs;
where these cannot be had, :func:`cudnn_layer` and :func:`looped_layer` take torch. Each computes
what the plain loop of :class:`asr.model.encoder.gru.GRU` does; see :mod:`asr.model.cells.gru`.
"""

from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from asr.model.cells.gru import Reset
from asr.model.fast import native
from asr.model.fast.kinds import CELLS, Form
from asr.model.fast.product import part_product, product
from asr.model.padding import pack, padding_mask, unpack

# A padded step must leave the state alone, which is z = 1. The sigmoid of this number plus
# any activation that a network reaches is exactly 1, and its derivative exactly 0.
HOLD = 1e4


class GRUWeights(Protocol):
    """The layer: W (D, I, 3N), U (D, N, 3N), b (D, 3N) and c (D, N) of D directions."""

    W: Tensor
    U: Tensor
    b: Tensor
    c: Tensor
    reset: Reset
    training: bool


def native_layer(layer: GRUWeights, x: Tensor, counts: Tensor) -> Tensor:
    """Input (B, S, I) and real steps (B,) in main memory to states (B, S, D N), 0 on padding."""
    return _Native.apply(  # type: ignore[no-untyped-call]
        x.contiguous(), native.int32(counts), layer.W, layer.U, layer.b, layer.c, layer.reset
    )


def kernel_layer(layer: GRUWeights, x: Tensor, counts: Tensor) -> Tensor:
    """The same on a GPU; two directions and reset after only."""
    return _Kernel.apply(  # type: ignore[no-untyped-call]
        x.contiguous(), counts, layer.W, layer.U, layer.b, layer.c
    )


def cudnn_layer(layer: GRUWeights, x: Tensor, counts: Tensor) -> Tensor:
    """The same by torch's own kernel, which is cuDNN's on a GPU; reset after only."""
    packed = nn.utils.rnn.pack_padded_sequence(x, counts, batch_first=True, enforce_sorted=False)
    D, N, _ = layer.U.shape
    # cuDNN wants all weights in one piece of memory, matrices first; else it copies them
    second = nn.functional.pad(layer.c, (2 * N, 0))
    matrices = [m[d].t() for d in range(D) for m in (layer.W, layer.U)]
    biases = [b[d] for d in range(D) for b in (layer.b, second)]
    parts = [*matrices, *biases]
    flat = torch.cat([part.flatten() for part in parts])
    pieces = torch.split(flat, [part.numel() for part in parts])
    views = [piece.view(part.shape) for piece, part in zip(pieces, parts, strict=True)]
    order = (0, 1, 4, 5, 2, 3, 6, 7) if D == 2 else range(4)  # as torch has them
    start = x.new_zeros(D, len(x), N)
    data, _ = torch._VF.gru(
        packed.data,
        packed.batch_sizes,
        start,
        [views[i] for i in order],
        True,
        1,
        0.0,
        layer.training,
        D == 2,
    )
    result = nn.utils.rnn.PackedSequence(
        data, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices
    )
    return nn.utils.rnn.pad_packed_sequence(result, True, total_length=x.shape[1])[0]


def looped_layer(layer: GRUWeights, x: Tensor, counts: Tensor) -> Tensor:
    """The same step by step in torch, on any device and in any precision."""
    padding = padding_mask(counts, x.shape[1], x.device)
    x = x.transpose(0, 1).contiguous()  # (S, B, I): steps first, as the loop reads them
    states = _Looped.apply(  # type: ignore[no-untyped-call]
        x, padding.t(), layer.W, layer.U, layer.b, layer.c, layer.reset
    )  # (S, D, B, N)
    back = [each.flip(0) for each in states[:, 1:].unbind(1)]
    both = torch.cat([states[:, 0], *back], dim=-1)  # (S, B, D N)
    return both.transpose(0, 1).masked_fill(padding.unsqueeze(-1), 0.0)


def recurrent_gradients(before: Tensor, d_gates: Tensor, kept: Tensor, form: Form) -> Tensor:
    """Gradient of U, (N, G), by products over all R steps.

    Args:
        before: h of the step before, (R, N).
        d_gates: gradients of the gates' activations, (R, G).
        kept: reset after: gradient of h U_n + c; before: r * h; (R, N).
        form: of the cell.
    """
    if form == "lstm":
        return product(before.t(), d_gates)
    N = before.shape[-1]
    d_U = before.new_empty(N, 3 * N)
    d_U[:, : 2 * N] = part_product(before.t(), d_gates, 0, 2 * N)
    if form == "after":
        d_U[:, 2 * N :] = product(before.t(), kept)
    else:
        d_U[:, 2 * N :] = part_product(kept.t(), d_gates, 2 * N, 3 * N)
    return d_U


def consume(ctx: Any) -> None:
    """Note that a backward pass has begun that overwrites its saved tensors.

    Raises:
        RuntimeError: it is not the first one.
    """
    if ctx.consumed:
        raise RuntimeError("backward() can run only once: it overwrites its saved tensors")
    ctx.consumed = True


class _Native(torch.autograd.Function):
    """A layer by native.cpp, which walks through the steps.

    The input's part of all gates is one product before, and every weight's gradient one
    product after, both of the real steps alone. Buffers take over: the gates' activations become
    gates, then gradients.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, counts: Tensor, W: Tensor, U: Tensor, b: Tensor, c: Tensor,
        reset: Reset,
    ) -> Tensor:  # fmt: skip
        """Input (B, S, I) to states (B, S, D N)."""
        (batch, steps, _), (D, N, _) = x.shape, U.shape
        rows = pack(x, counts.tolist())  # (R, I)
        gates = [product(rows, W[d], b[d]) for d in range(D)]  # (R, 3N)
        keep = any(ctx.needs_input_grad)
        inner = x.new_empty(D, len(rows), N) if keep else None
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
        d_U = [recurrent_gradients(olds[d], gates[d], inner[d], ctx.reset) for d in range(D)]
        d_W = [product(rows.t(), gates[d]) for d in range(D)]
        d_x = None
        if ctx.needs_input_grad[0]:
            d_rows = product(gates[0], W[0].t())
            if D == 2:
                d_rows.add_(product(gates[1], W[1].t()))
            d_x = unpack(d_rows, counts.tolist(), steps)
        return d_x, None, torch.stack(d_W), torch.stack(d_U), d_b, d_c, None


class _Kernel(torch.autograd.Function):
    """The same on a GPU, by kernels.py; on padding too, where gates have no gradient."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, counts: Tensor, W: Tensor, U: Tensor, b: Tensor, c: Tensor
    ) -> Tensor:
        """Input (B, S, I) to states (B, S, 2N)."""
        both = W.transpose(0, 1).flatten(1)  # (I, 6N)
        gates = product(x.flatten(0, 1), both, b.flatten()).view(*x.shape[:2], -1)
        on_device = counts.to(x.device, torch.int32, non_blocking=True)
        out, inner = native.kernels().bigru_forward(gates, U, c, on_device)
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
        native.kernels().bigru_backward(grad.contiguous(), out, gates, inner, U, counts)
        padding = torch.arange(x.shape[1], device=x.device) >= counts.unsqueeze(1)
        gates.masked_fill_(padding.unsqueeze(-1), 0.0)
        olds = (
            nn.functional.pad(out[:, :-1, :N], (0, 0, 1, 0)),  # (B, S, N)
            nn.functional.pad(out[:, 1:, N:], (0, 0, 0, 1)),  # padding is 0, as a first state is
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


class _Looped(torch.autograd.Function):
    """One or both directions of a layer in plain torch, with its own backward pass.

    Forward takes the input's part of all gates as one product per direction, then runs both
    directions side by side, and keeps the gates of every step. Backward first takes every
    local derivative at once over all steps, so that its loop is one product and three
    elementwise operations a step; each weight's gradient is one product over all steps.

    A direction's own order of time is called ``t`` here: direction 1 reads the input from its
    end, so that its gates are stored flipped.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, padding: Tensor, W: Tensor, U: Tensor, b: Tensor, c: Tensor,
        reset: Reset,
    ) -> Tensor:  # fmt: skip
        """Input (S, B, I) and padding (S, B) to states (S, D, B, N), direction 1 flipped."""
        steps, batch, _ = x.shape
        D, N, _ = U.shape
        keep = any(ctx.needs_input_grad)
        gates = x.new_empty(D, steps, batch, 3 * N)
        for d, rows in enumerate((x, x.flip(0))[:D]):
            gates[d].view(-1, 3 * N).copy_(product(rows.flatten(0, 1), W[d], b[d]))
            hold = padding if d == 0 else padding.flip(0)
            gates[d, ..., N : 2 * N].masked_fill_(hold.unsqueeze(-1), HOLD)

        states = x.new_empty(steps, D, batch, N)
        saved = steps if keep else 1  # without gradients every step overwrites the last
        rz = x.new_empty(saved, D, batch, 2 * N)
        candidates = x.new_empty(saved, D, batch, N)
        inner = x.new_empty(saved, D, batch, N)  # after: h U_n + c; before: r * h
        U_rz, U_n = U[..., : 2 * N].contiguous(), U[..., 2 * N :].contiguous()
        hidden, own = x.new_empty(D, batch, 2 * N), x.new_empty(D, batch, N)
        state = x.new_zeros(D, batch, N)
        for t in range(steps):
            i = t if keep else 0
            torch.bmm(state, U_rz, out=hidden)
            torch.add(gates[:, t, :, : 2 * N], hidden, out=rz[i]).sigmoid_()
            r, z = rz[i, ..., :N], rz[i, ..., N:]
            if reset == "after":
                torch.baddbmm(c.unsqueeze(1), state, U_n, out=inner[i])
                torch.addcmul(gates[:, t, :, 2 * N :], r, inner[i], out=candidates[i]).tanh_()
            else:
                torch.mul(r, state, out=inner[i])
                torch.bmm(inner[i], U_n, out=own)
                torch.add(gates[:, t, :, 2 * N :], own, out=candidates[i]).tanh_()
            state = torch.lerp(candidates[i], state, z, out=states[t])
        if keep:
            ctx.reset = reset
            ctx.save_for_backward(x, W, U, states, rz, candidates, inner)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        """Gradients of x, W, U, b and c from that of the states, (S, D, B, N)."""
        x, W, U, states, rz, n, inner = ctx.saved_tensors
        steps, D, batch, N = states.shape
        r, z = rz[..., :N], rz[..., N:]
        before = torch.cat([states.new_zeros(1, D, batch, N), states[:-1]])  # h of t - 1
        after = ctx.reset == "after"

        # d h' / d (activation of r, z, n), and of r * h U_n: factors of the gradient of h'
        by_n = (1 - z) * (1 - n * n)  # (S, D, B, N)
        by_z = (before - n) * z * (1 - z)
        by_r = r * (1 - r) * (inner * by_n if after else before)
        gates = states.new_empty(D, steps, batch, 3, N)  # their gradients
        by_step = gates.transpose(0, 1)  # (S, D, B, 3, N)
        back = U.transpose(1, 2)  # (D, 3N, N)
        back_rz, back_n = back[:, : 2 * N].contiguous(), back[:, 2 * N :].contiguous()
        product_rz, product_n = grad.new_empty(D, batch, N), grad.new_empty(D, batch, N)
        d_inner = torch.empty_like(inner)
        d_state = grad.new_zeros(D, batch, N)
        for t in range(steps - 1, -1, -1):
            d_state += grad[t]
            d_n = torch.mul(d_state, by_n[t], out=by_step[t, ..., 2, :])
            torch.mul(d_state, by_z[t], out=by_step[t, ..., 1, :])
            if after:
                torch.mul(d_state, by_r[t], out=by_step[t, ..., 0, :])
                torch.mul(d_n, r[t], out=d_inner[t])
                torch.bmm(d_inner[t], back_n, out=product_n)
            else:
                torch.bmm(d_n.contiguous(), back_n, out=product_n)
                torch.mul(product_n, by_r[t], out=by_step[t, ..., 0, :])
                product_n *= r[t]
            torch.bmm(by_step[t, ..., :2, :].reshape(D, batch, 2 * N), back_rz, out=product_rz)
            d_state.mul_(z[t]).add_(product_n).add_(product_rz)

        d_gates = gates.view(D, steps * batch, 3 * N)
        rows = (d_inner if after else inner).transpose(0, 1).reshape(D, -1, N)
        olds = before.transpose(0, 1).reshape(D, -1, N)
        d_W, d_U, d_c, d_x = torch.empty_like(W), torch.empty_like(U), U.new_empty(D, N), None
        for d, inputs in enumerate((x, x.flip(0))[:D]):
            d_U[d] = recurrent_gradients(olds[d], d_gates[d], rows[d], ctx.reset)
            d_c[d] = rows[d].sum(0) if after else 0.0
            d_W[d] = product(inputs.flatten(0, 1).t(), d_gates[d])
        if ctx.needs_input_grad[0]:
            d_x = product(d_gates[0], W[0].t()).view(x.shape)
            for d in range(1, D):
                d_x += product(d_gates[d], W[d].t()).view(x.shape).flip(0)
        return d_x, None, d_W, d_U, d_gates.sum(1), d_c, None
