"""All directions of a GRU layer, with their backward pass.

:func:`native_layer` calls native.cpp on processors, :func:`kernel_layer` kernels.py on GPUs;
:func:`cudnn_layer` and :func:`looped_layer` run the layers that these cannot, and all layers on
machines without a compiler. All compute what the plain loop of
:class:`asr.model.encoder.gru.GRU` does; :mod:`asr.model.cells.gru` has the equations.
"""

from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from asr.model.cells.gru import Reset
from asr.model.fast import native
from asr.model.fast.kinds import CELLS, Form
from asr.model.fast.product import product, product_columns
from asr.model.padding import pack, padding_mask, unpack

# Activation of z on padding: its sigmoid is exactly 1, so that the state stays as it is, and the
# derivative is exactly 0.
HOLD = 1e4


class GRUWeights(Protocol):
    """A layer of D directions: W (D, I, 3N), U (D, N, 3N), b (D, 3N) and c (D, N)."""

    W: Tensor
    U: Tensor
    b: Tensor
    c: Tensor
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
        x.contiguous(), native.int32(counts), layer.W, layer.U, layer.b, layer.c, layer.reset
    )


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


def looped_layer(layer: GRUWeights, x: Tensor, counts: Tensor) -> Tensor:
    """Run a layer step by step in torch, on any device and in any precision."""
    padding = padding_mask(counts, x.shape[1], x.device)
    x = x.transpose(0, 1).contiguous()  # (S, B, I)
    states = _Looped.apply(  # type: ignore[no-untyped-call]
        x, padding.t(), layer.W, layer.U, layer.b, layer.c, layer.reset
    )  # (S, D, B, N)
    back = [each.flip(0) for each in states[:, 1:].unbind(1)]
    both = torch.cat([states[:, 0], *back], dim=-1)  # (S, B, D N)
    return both.transpose(0, 1).masked_fill(padding.unsqueeze(-1), 0.0)


def recurrent_gradients(before: Tensor, d_gates: Tensor, kept: Tensor, form: Form) -> Tensor:
    """Return the gradient of U, (N, G), by products over all R steps.

    Args:
        before: h of the step before, (R, N).
        d_gates: gradients of the gates' activations, (R, G).
        kept: for form "after", the gradient of h U_n + c; for "before", r * h; (R, N).
        form: the form of the cell.
    """
    if form == "lstm":
        return product(before.t(), d_gates)
    N = before.shape[-1]
    d_U = before.new_empty(N, 3 * N)
    d_U[:, : 2 * N] = product_columns(before.t(), d_gates, 0, 2 * N)
    if form == "after":
        d_U[:, 2 * N :] = product(before.t(), kept)
    else:
        d_U[:, 2 * N :] = product_columns(kept.t(), d_gates, 2 * N, 3 * N)
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
    weight is one product after it, both without padding. One buffer holds the gates' activations,
    then the gates, then their gradients.
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


class _Looped(torch.autograd.Function):
    """A layer in torch, all directions side by side, with its own backward pass.

    Backward takes the local derivatives of all steps at once, so that its loop has few operations,
    and the gradient of each weight is one product over all steps. Direction 1 is reversed in time.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, padding: Tensor, W: Tensor, U: Tensor, b: Tensor, c: Tensor,
        reset: Reset,
    ) -> Tensor:  # fmt: skip
        """Input (S, B, I) and padding (S, B) to states (S, D, B, N), direction 1 reversed."""
        steps, batch, _ = x.shape
        D, N, _ = U.shape
        gates = x.new_empty(steps, D, batch, 3 * N)
        for d, (rows, hold) in enumerate([(x, padding), (x.flip(0), padding.flip(0))][:D]):
            gates[:, d] = product(rows.flatten(0, 1), W[d], b[d]).view(steps, batch, 3 * N)
            gates[:, d, :, N : 2 * N].masked_fill_(hold.unsqueeze(-1), HOLD)
        keep = any(ctx.needs_input_grad)
        U_rz, U_n = U[..., : 2 * N].contiguous(), U[..., 2 * N :].contiguous()
        state, states, kept = x.new_zeros(D, batch, N), [], []
        for gate in gates:  # (D, B, 3N)
            rz = (gate[..., : 2 * N] + torch.bmm(state, U_rz)).sigmoid_()
            r, z = rz.chunk(2, dim=-1)
            if reset == "after":
                inner = torch.baddbmm(c.unsqueeze(1), state, U_n)  # h U_n + c
                n = torch.addcmul(gate[..., 2 * N :], r, inner).tanh_()
            else:
                inner = r * state
                n = (gate[..., 2 * N :] + torch.bmm(inner, U_n)).tanh_()
            state = torch.lerp(n, state, z)
            states.append(state)
            if keep:
                kept.append((rz, n, inner))
        stacked = torch.stack(states)
        if keep:
            ctx.reset = reset
            ctx.save_for_backward(x, W, U, stacked, *map(torch.stack, zip(*kept, strict=True)))
        return stacked

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        """Gradients of x, W, U, b and c from that of the states, (S, D, B, N)."""
        x, W, U, states, rz, n, inner = ctx.saved_tensors
        D, N, _ = U.shape
        r, z = rz.chunk(2, dim=-1)
        before = torch.cat([torch.zeros_like(states[:1]), states[:-1]])  # h of the step before
        after = ctx.reset == "after"

        # factors by which a gradient of h' becomes one of the activations of r, z and n
        by_n = (1 - z) * (1 - n * n)  # (S, D, B, N)
        by_z = (before - n) * z * (1 - z)
        by_r = r * (1 - r) * (inner * by_n if after else before)
        back = U.transpose(1, 2)  # (D, 3N, N)
        back_rz, back_n = back[:, : 2 * N].contiguous(), back[:, 2 * N :].contiguous()
        d_state, found = torch.zeros_like(grad[0]), []
        for t in range(len(states) - 1, -1, -1):
            d_state = d_state + grad[t]
            d_n, d_z = d_state * by_n[t], d_state * by_z[t]
            if after:
                d_r, own = d_state * by_r[t], d_n * r[t]  # own: gradient of h U_n + c
                d_past = torch.bmm(own, back_n)
            else:
                own = torch.bmm(d_n, back_n)  # gradient of r * h
                d_r, d_past = own * by_r[t], own * r[t]
            d_rz = torch.cat([d_r, d_z], dim=-1)
            d_state = d_state * z[t] + d_past + torch.bmm(d_rz, back_rz)
            found.append((torch.cat([d_rz, d_n], dim=-1), own))
        d_gates, d_own = (  # (D, S B, 3N), (D, S B, N)
            torch.stack(each[::-1], dim=1).flatten(1, 2) for each in zip(*found, strict=True)
        )
        olds = before.transpose(0, 1).flatten(1, 2)
        rows = d_own if after else inner.transpose(0, 1).flatten(1, 2)
        d_U = [recurrent_gradients(olds[d], d_gates[d], rows[d], ctx.reset) for d in range(D)]
        inputs = (x, x.flip(0))[:D]
        d_W = [product(each.flatten(0, 1).t(), d_gates[d]) for d, each in enumerate(inputs)]
        d_c = torch.stack([each.sum(0) for each in rows]) if after else U.new_zeros(D, N)
        d_x = None
        if ctx.needs_input_grad[0]:
            d_x = product(d_gates[0], W[0].t()).view(x.shape)
            for d in range(1, D):
                d_x += product(d_gates[d], W[d].t()).view(x.shape).flip(0)
        return d_x, None, torch.stack(d_W), torch.stack(d_U), d_gates.sum(1), d_c, None
