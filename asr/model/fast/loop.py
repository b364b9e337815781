"""The decoder's loop over whole transcripts in one call, with its backward pass.

For location-aware attention and a GRU: by native.cpp on processors and kernels.py on GPUs. The
plain loop of :class:`asr.model.decoder.AttentionDecoder` computes the same.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from asr.model.attention.energy import uniform
from asr.model.attention.location import Location
from asr.model.cells.gru import GRU, Reset
from asr.model.fast import native
from asr.model.fast.layer import consume, recurrent_gradients
from asr.model.fast.product import product
from asr.model.memory import Memory


def location_weights(attention: Location) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weights of the attention as native.cpp takes them: (H, A), (C, K), (C, A) and (A,)."""
    return (
        attention.W.weight.t().contiguous(),
        attention.filters.weight.squeeze(1).contiguous(),
        attention.U.weight.t().contiguous(),
        attention.w.weight.view(-1),
    )


def folded_weights(attention: Location) -> tuple[Tensor, Tensor, Tensor]:
    """The same as kernels.py takes them: W (H, A), F = filters^T location (K, A), w (A,)."""
    W, filters, location, w = location_weights(attention)
    return W, filters.t() @ location, w


def native_loop(
    attention: Location, cell: GRU, characters: Tensor, lengths: Tensor, memory: Memory
) -> tuple[Tensor, Tensor]:
    """Run the recurrence on a processor.

    Args:
        attention: the kind.
        cell: the cell.
        characters: their part of the gates, (B, L, 3H).
        lengths: real characters, (B,), in main memory.
        memory: encoder output.

    Returns:
        outputs of the cell (B, L, H) and attention weights (B, L, S).
    """
    values = memory.values[:, 0, :, : cell.gate_width]
    return _NativeLoop.apply(  # type: ignore[no-untyped-call]
        characters, memory.keys.keys.contiguous(), values.contiguous(),
        native.int32(memory.steps), native.int32(lengths), *location_weights(attention), cell.U,
        cell.c, cell.reset,
    )  # fmt: skip


def kernel_loop(
    attention: Location, cell: GRU, characters: Tensor, lengths: Tensor, memory: Memory
) -> tuple[Tensor, Tensor]:
    """The same on a GPU."""
    steps, lengths = (
        counts.to(characters.device, torch.int32, non_blocking=True)
        for counts in (memory.steps, lengths)
    )
    values = memory.values[:, 0, :, : cell.gate_width]
    return _KernelLoop.apply(  # type: ignore[no-untyped-call]
        characters, memory.keys.keys.contiguous(), values.contiguous(), steps, lengths,
        uniform(memory.keys), *folded_weights(attention), cell.U, cell.c, cell.reset,
    )  # fmt: skip


class _NativeLoop(torch.autograd.Function):
    """The loop over whole transcripts by native.cpp, and its backward pass.

    Each weight's gradient is one product over all steps, after the loop.
    """

    @staticmethod
    def forward(
        ctx: Any, gates: Tensor, keys: Tensor, values: Tensor, steps: Tensor, lengths: Tensor,
        W: Tensor, filters: Tensor, location: Tensor, w: Tensor, U: Tensor, c: Tensor,
        reset: Reset,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Gates of the characters (B, L, 3H) to states (B, L, H) and weights (B, L, S)."""
        batch, length, _ = gates.shape
        S, A = keys.shape[1:]
        H, (C, K) = U.shape[0], filters.shape
        sizes = (batch, length, S, H, A, C, K, reset == "before")
        gates = gates.clone()
        keep = any(ctx.needs_input_grad)
        inner = gates.new_empty(batch, length, H) if keep else None
        states, weights = gates.new_empty(batch, length, H), gates.new_empty(batch, length, S)
        attention = (W, filters, location, w)
        native.call(
            "decoder_forward", gates, keys, values, steps, lengths, *attention, U, c, inner,
            states, weights, *sizes,
        )  # fmt: skip
        if keep:
            ctx.reset, ctx.sizes, ctx.consumed = reset, sizes, False
            ctx.save_for_backward(
                gates, inner, states, weights, keys, values, steps, lengths, *attention, U
            )
        return states, weights

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_states: Tensor, d_weights: Tensor) -> Any:
        """Gradients of all inputs from those of states and weights."""
        consume(ctx)
        gates, inner, states, weights, keys, values, steps, lengths, *attention, U = (
            ctx.saved_tensors
        )
        _, filters, location, w = attention
        d_queries = gates.new_zeros(*gates.shape[:2], keys.shape[2])
        d_keys, d_filters, d_location, d_w = map(torch.zeros_like, (keys, filters, location, w))
        native.call(
            "decoder_backward", d_states.contiguous(), d_weights.contiguous(), keys, values,
            states, weights, steps, lengths, *attention, U, gates, inner, d_queries, d_keys,
            d_filters, d_location, d_w, *ctx.sizes,
        )  # fmt: skip
        before = torch.zeros_like(states)
        before[:, 1:] = states[:, :-1]
        d_W, d_U, d_c = _weight_gradients(before, d_queries, gates, inner, ctx.reset)
        d_values = torch.bmm(weights.transpose(1, 2), gates)
        return (
            gates, d_keys, d_values, None, None, d_W, d_filters, d_location, d_w, d_U, d_c, None
        )  # fmt: skip


class _KernelLoop(torch.autograd.Function):
    """The same on a GPU, by kernels.py."""

    @staticmethod
    def forward(
        ctx: Any, gates: Tensor, keys: Tensor, values: Tensor, steps: Tensor, lengths: Tensor,
        first: Tensor, W: Tensor, F: Tensor, w: Tensor, U: Tensor, c: Tensor, reset: Reset,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Gates of the characters (B, L, 3H) and weights before (B, S) to states and weights."""
        batch, length, _ = gates.shape
        gates = gates.clone()
        states = gates.new_zeros(batch, length + 1, U.shape[0])
        weights = gates.new_zeros(batch, length + 1, keys.shape[1])
        weights[:, 0] = first
        before = reset == "before"
        inner, queries = native.kernels().forward(
            gates, keys, values, steps, lengths, W, F, w, U, c, states, weights, before
        )
        if any(ctx.needs_input_grad):
            ctx.reset, ctx.consumed = reset, False
            ctx.save_for_backward(
                gates, inner, queries, states, weights, keys, values, steps, lengths, W, F, w, U
            )
        return states[:, 1:], weights[:, 1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_states: Tensor, d_weights: Tensor) -> Any:
        """Gradients of all inputs from those of states and weights."""
        consume(ctx)
        gates, inner, queries, states, weights, keys, values, steps, lengths, *attention, U = (
            ctx.saved_tensors
        )
        d_queries, d_keys, d_F, d_w = native.kernels().backward(
            d_states.contiguous(), d_weights.contiguous(), keys, values, states, weights, queries,
            steps, lengths, *attention, U, gates, inner, ctx.reset == "before",
        )  # fmt: skip
        d_W, d_U, d_c = _weight_gradients(states[:, :-1], d_queries, gates, inner, ctx.reset)
        d_values = torch.bmm(weights[:, 1:].transpose(1, 2), gates)
        return gates, d_keys, d_values, None, None, None, d_W, d_F, d_w, d_U, d_c, None


def _weight_gradients(
    before: Tensor, d_queries: Tensor, d_gates: Tensor, inner: Tensor, reset: Reset
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of W, U and c, each a product over all characters.

    Args:
        before: states before each character, (B, L, H).
        d_queries: gradients of queries, (B, L, A).
        d_gates: of the gates' activations, (B, L, 3H).
        inner: see :func:`recurrent_gradients`; (B, L, H).
        reset: where the reset gate stands.
    """
    olds, rows = before.flatten(0, 1), inner.flatten(0, 1)
    d_U = recurrent_gradients(olds, d_gates.flatten(0, 1), rows, reset)
    d_c = rows.sum(0) if reset == "after" else torch.zeros_like(rows[0])
    return product(olds.t(), d_queries.flatten(0, 1)), d_U, d_c
