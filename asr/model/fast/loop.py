"""The decoder's loop over whole transcripts, with its backward pass.

native.cpp computes it on processors, and kernels.py on GPUs if the cell is a GRU. The plain loop
of :class:`asr.model.decoder.AttentionDecoder` computes the same.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from asr.model.attention import Attention
from asr.model.attention.energy import uniform
from asr.model.cells import Cell
from asr.model.cells.gru import GRU, Reset
from asr.model.fast import kinds, native
from asr.model.fast.layer import consume, recurrent_gradients
from asr.model.fast.product import product
from asr.model.memory import Memory


def native_loop(
    attention: Attention, cell: Cell, gates: Tensor, lengths: Tensor, memory: Memory
) -> tuple[Tensor, Tensor]:
    """Run the recurrence on a processor.

    Args:
        attention: one that has a fast form.
        cell: one that has a fast form.
        gates: the characters' part of the cell's gates, (B, L, G).
        lengths: number of characters of each utterance, (B,), in main memory.
        memory: encoder output.

    Returns:
        outputs of the cell (B, L, H) and attention weights (B, L, S).
    """
    energy, form = kinds.energy(attention), kinds.form(cell)
    assert energy and form
    values = memory.values[:, 0, :, : cell.gate_width]
    return _NativeLoop.apply(  # type: ignore[no-untyped-call]
        energy.kind, form, torch.is_grad_enabled(), gates, getattr(cell, "c", None),
        memory.keys.keys.contiguous(), values.contiguous(), native.int32(memory.steps),
        native.int32(lengths), cell.U, *energy[1:],
    )  # fmt: skip


def folded_weights(energy: kinds.EnergyWeights) -> tuple[Tensor, Tensor, Tensor]:
    """Return the attention's weights for kernels.py; F and w are empty or 0 in kinds without them.

    Returns:
        W (H, A), F = filters^T location (K, A) and w (A,).
    """
    _, W, filters, location, w, *_ = energy
    A = W.shape[1]
    if filters is None or location is None:
        F = W.new_zeros(0, A)
    else:
        F = filters.squeeze(1).t() @ location
    return W, F, W.new_zeros(A) if w is None else w


def kernel_loop(
    attention: Attention, cell: GRU, gates: Tensor, lengths: Tensor, memory: Memory
) -> tuple[Tensor, Tensor]:
    """Run the recurrence on a GPU; see :func:`native_loop`."""
    energy = kinds.energy(attention)
    assert energy
    steps, lengths = (
        counts.to(gates.device, torch.int32, non_blocking=True)
        for counts in (memory.steps, lengths)
    )
    values = memory.values[:, 0, :, : cell.gate_width]
    return _KernelLoop.apply(  # type: ignore[no-untyped-call]
        cell.reset, energy.kind, gates, uniform(memory.keys), memory.keys.keys.contiguous(),
        values.contiguous(), steps, lengths, *folded_weights(energy), cell.U, cell.c,
    )  # fmt: skip


INPUTS = ("keys", "values", "steps", "lengths", "U", *kinds.EnergyWeights._fields[1:])
"""Inputs of the native loop, by the names of their fields in native.cpp."""


def _fields(
    kind: str, form: kinds.Form, states: Tensor, weights: Tensor, sums: Tensor | None, *inputs: Any
) -> Any:
    """Return the fields of :data:`native.LOOP` that forward and backward share."""
    (B, L, H), S = states.shape, weights.shape[2]
    given = dict(zip(INPUTS, inputs, strict=True))
    numbers = kinds.EnergyWeights(kind, *inputs[5:]).numbers(form)
    outputs = {"states": states, "weights": weights, "sums": sums}
    return {**given, **numbers, **outputs, "B": B, "L": L, "S": S, "H": H}


class _NativeLoop(torch.autograd.Function):
    """The loop by native.cpp; the gradient of each weight is one product after the loop."""

    @staticmethod
    def forward(
        ctx: Any, kind: str, form: kinds.Form, grad: bool, gates: Tensor, c: Tensor | None,
        *inputs: Any,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Gates of the characters (B, L, G) to states (B, L, H) and weights (B, L, S).

        ``grad`` says whether autograd is on.
        """
        batch, length, _ = gates.shape
        keys, U = inputs[0], inputs[4]
        gates = gates.clone()
        states = gates.new_empty(batch, length, len(U))
        weights = gates.new_empty(batch, length, keys.shape[1])
        sums = torch.empty_like(weights) if "sum" in kinds.EARLIER_WEIGHTS[kind] else None
        kept = torch.empty_like(states) if grad and any(ctx.needs_input_grad) else None
        shared = _fields(kind, form, states, weights, sums, *inputs)
        native.call("decoder_forward", gates=gates, c=c, kept=kept, **shared)
        if kept is not None:
            ctx.kind, ctx.form, ctx.consumed = kind, form, False
            ctx.save_for_backward(gates, kept, states, weights, sums, *inputs)
        return states, weights

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_states: Tensor, d_weights: Tensor) -> Any:
        """Gradients of all inputs from those of states and weights."""
        consume(ctx)
        gates, kept, states, weights, *inputs = ctx.saved_tensors
        shared = _fields(ctx.kind, ctx.form, states, weights, *inputs)
        d_states, d_weights = d_states.contiguous(), d_weights.contiguous()
        d_queries = gates.new_zeros(*gates.shape[:2], shared["A"])
        sums = {
            f"d_{name}": None if shared[name] is None else torch.zeros_like(shared[name])
            for name in ("keys", "filters", "location", "w", "generator")
        }
        native.call(
            "decoder_backward", gates=gates, kept=kept, d_states=d_states, d_weights=d_weights,
            d_queries=d_queries, **sums, **shared,
        )  # fmt: skip
        before = torch.zeros_like(states)
        before[:, 1:] = states[:, :-1]
        d_W, d_U, d_c = _weight_gradients(before, d_queries, gates, kept, ctx.form)
        d_values = torch.bmm(weights.transpose(1, 2), gates)
        d_keys, *d_energy = sums.values()
        d_b = None if shared["b"] is None else d_queries.sum((0, 1))
        return (
            None, None, None, gates, d_c, d_keys, d_values, None, None, d_U, d_W, *d_energy, d_b,
            None,
        )  # fmt: skip


class _KernelLoop(torch.autograd.Function):
    """The loop by kernels.py.

    Its inputs are keys, values, steps, lengths, W, F, w, U and c of :func:`kernels.forward`.
    """

    @staticmethod
    def forward(
        ctx: Any, reset: Reset, kind: str, gates: Tensor, first: Tensor, *inputs: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Gates of the characters (B, L, 3H) and first weights (B, S) to states and weights."""
        batch, length, width = gates.shape
        gates = gates.clone()
        states = gates.new_zeros(batch, length + 1, width // 3)
        weights = gates.new_zeros(batch, length + 1, first.shape[1])
        weights[:, 0] = first
        inner, queries = native.launch(
            "forward", gates, *inputs, states, weights, reset == "before", kind
        )
        if any(ctx.needs_input_grad):
            ctx.reset, ctx.kind, ctx.consumed = reset, kind, False
            ctx.save_for_backward(gates, inner, queries, states, weights, *inputs)
        return states[:, 1:], weights[:, 1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_states: Tensor, d_weights: Tensor) -> Any:
        """Gradients of all inputs from those of states and weights."""
        consume(ctx)
        gates, inner, queries, states, weights, *inputs = ctx.saved_tensors
        d_queries, d_keys, d_F, d_w = native.launch(
            "backward", d_states.contiguous(), d_weights.contiguous(), gates, inner, queries,
            states, weights, *inputs[:-1], ctx.reset == "before", ctx.kind,
        )  # fmt: skip
        d_W, d_U, d_c = _weight_gradients(states[:, :-1], d_queries, gates, inner, ctx.reset)
        d_values = torch.bmm(weights[:, 1:].transpose(1, 2), gates)
        return None, None, gates, None, d_keys, d_values, None, None, d_W, d_F, d_w, d_U, d_c


def _weight_gradients(
    before: Tensor, d_queries: Tensor, d_gates: Tensor, kept: Tensor, form: kinds.Form
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the gradients of W, U and c, each a product over all characters.

    Args:
        before: states before each character, (B, L, H).
        d_queries: gradients of the queries, (B, L, A).
        d_gates: gradients of the gates' pre-activations, (B, L, G).
        kept: see :func:`recurrent_gradients`; (B, L, H).
        form: the form of the cell.
    """
    olds, rows = before.flatten(0, 1), kept.flatten(0, 1)
    d_U = recurrent_gradients(olds, d_gates.flatten(0, 1), rows, form)
    d_c = None if form == "lstm" else rows.sum(0)
    if form == "before":  # c has no effect in this form, but is a parameter
        d_c = torch.zeros_like(rows[0])
    return product(olds.t(), d_queries.flatten(0, 1)), d_U, d_c
