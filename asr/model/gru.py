"""Gated recurrent units, in one place for encoder and decoder.

The equations, in the form that cuDNN and torch have (reset AFTER the product)::

    r  = sigmoid(x W_r + b_r + h U_r)
    z  = sigmoid(x W_z + b_z + h U_z)
    n  = tanh(x W_n + b_n + r * (h U_n + c))
    h' = (1 - z) * n + z * h

Conventions, documented here once: the gates lie side by side in the order r, z, n; ``W``
multiplies from the right, so torch's ``weight_ih`` is ``W`` transposed; torch adds a second
bias to r and z, which is the same as a larger ``b``, so that only the candidate keeps its
own (``c``). ``z`` is the share of the OLD state, as in torch; the paper (arXiv:1406.1078)
writes it for the share of the new one in some versions.

:class:`BiGRU` runs both directions side by side, one batched product per step, with its own
backward pass; :func:`bigru_reference` is the same computation, step by step, for the tests.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

# A padded step must leave the state alone, which is z = 1. The sigmoid of this number plus
# any activation that a network reaches is exactly 1, and its derivative exactly 0.
HOLD = 1e4


def gru_step(gates: Tensor, state: Tensor, U: Tensor, c: Tensor) -> Tensor:
    """One step for one direction.

    Args:
        gates: the input's part, x W + b, (B, 3N).
        state: h, (B, N).
        U: recurrent weights, (N, 3N).
        c: bias of the candidate's recurrent part, (N,).

    Returns:
        h', (B, N).
    """
    units = state.shape[-1]
    hidden = state @ U  # (B, 3N)
    r, z = (gates[:, : 2 * units] + hidden[:, : 2 * units]).sigmoid().chunk(2, dim=-1)  # (B, N)
    n = (gates[:, 2 * units :] + r * (hidden[:, 2 * units :] + c)).tanh()  # (B, N)
    return n + z * (state - n)


def gru_weights(inputs: int, units: int, directions: int = 1) -> list[nn.Parameter]:
    """Fresh parameters W (directions, inputs, 3N), U, b, c: Glorot, orthogonal, zero, zero."""
    W = torch.empty(directions, inputs, 3, units)
    U = torch.empty(directions, units, 3, units)
    bound = math.sqrt(6.0 / (inputs + units))
    nn.init.uniform_(W, -bound, bound)
    for direction in U:
        for gate in range(3):
            direction[:, gate] = nn.init.orthogonal_(torch.empty(units, units))
    b = torch.zeros(directions, 3 * units)
    c = torch.zeros(directions, units)
    return [nn.Parameter(p) for p in (W.flatten(2), U.flatten(2), b, c)]


class _BidirectionalGRU(torch.autograd.Function):
    """Both directions of a GRU layer, with its own backward pass.

    Forward takes the input's part of all gates as one product per direction, then runs both
    directions side by side, and keeps the gates of every step. Backward first takes every
    local derivative at once over all steps, so that its loop is one product and three
    elementwise operations a step; each weight's gradient is one product over all steps.

    A direction's own order of time is called ``t`` here: direction 1 reads the input from its
    end, so that its gates are stored flipped.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, padding: Tensor, W: Tensor, U: Tensor, b: Tensor, c: Tensor
    ) -> Tensor:
        """Input (S, B, I) and padding (S, B) to states (S, 2, B, N), direction 1 flipped."""
        steps, batch, _ = x.shape
        units = U.shape[1]
        keep = any(ctx.needs_input_grad)
        gates = x.new_empty(2, steps, batch, 3 * units)
        for d, rows in enumerate((x, x.flip(0))):
            torch.addmm(b[d], rows.flatten(0, 1), W[d], out=gates[d].view(-1, 3 * units))
            hold = padding if d == 0 else padding.flip(0)
            gates[d, ..., units : 2 * units].masked_fill_(hold.unsqueeze(-1), HOLD)

        states = x.new_empty(steps, 2, batch, units)
        saved = steps if keep else 1  # without gradients every step overwrites the last
        rz = x.new_empty(saved, 2, batch, 2 * units)
        candidates = x.new_empty(saved, 2, batch, units)
        recurrent = x.new_empty(saved, 2, batch, units)  # h U_n + c
        hidden = x.new_empty(2, batch, 3 * units)
        state = x.new_zeros(2, batch, units)
        inner = c.unsqueeze(1)  # (2, 1, N)
        for t in range(steps):
            i = t if keep else 0
            torch.bmm(state, U, out=hidden)
            torch.add(gates[:, t, :, : 2 * units], hidden[..., : 2 * units], out=rz[i]).sigmoid_()
            r, z = rz[i, ..., :units], rz[i, ..., units:]
            torch.add(hidden[..., 2 * units :], inner, out=recurrent[i])
            torch.addcmul(gates[:, t, :, 2 * units :], r, recurrent[i], out=candidates[i]).tanh_()
            state = torch.lerp(candidates[i], state, z, out=states[t])
        if keep:
            ctx.save_for_backward(x, W, U, states, rz, candidates, recurrent)
        return states

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        """Gradients of x, W, U, b and c from that of the states, (S, 2, B, N)."""
        x, W, U, states, rz, n, recurrent = ctx.saved_tensors
        steps, _, batch, units = states.shape
        r, z = rz[..., :units], rz[..., units:]
        before = torch.cat([states.new_zeros(1, 2, batch, units), states[:-1]])  # h of t - 1

        # d h' / d (activation of r, z, recurrent part of n): a factor of the gradient of h'
        local = states.new_empty(2, steps, batch, 3, units)
        local_n = (1 - z).mul_(1 - n * n)  # d h' / d (activation of n)
        by_step = local.transpose(0, 1)  # (S, 2, B, 3, N)
        torch.mul(local_n, r, out=by_step[..., 2, :])
        torch.mul(by_step[..., 2, :], recurrent * (1 - r), out=by_step[..., 0, :])
        torch.mul((before - n).mul_(z), 1 - z, out=by_step[..., 1, :])

        d_hidden = local  # each step's factors give way to its gradient
        back = U.transpose(1, 2)  # (2, 3N, N)
        d_states = grad.new_empty(steps, 2, batch, units)
        product = grad.new_empty(2, batch, units)
        d_state = grad.new_zeros(2, batch, units)
        for t in range(steps - 1, -1, -1):
            torch.add(grad[t], d_state, out=d_states[t])
            d_hidden[:, t].mul_(d_states[t].unsqueeze(2))
            torch.bmm(d_hidden[:, t].flatten(2), back, out=product)
            torch.addcmul(product, d_states[t], z[t], out=d_state)

        d_gates = d_hidden.view(2, steps * batch, 3 * units)
        rows = before.transpose(0, 1).reshape(2, steps * batch, units)
        d_U = torch.bmm(rows.transpose(1, 2), d_gates)
        d_c = d_gates[..., 2 * units :].sum(1)
        # the input enters the candidate outside of r: its gradient lacks that factor
        torch.mul(d_states, local_n, out=by_step[..., 2, :])
        d_W, d_x = torch.empty_like(W), None
        for d, inputs in enumerate((x, x.flip(0))):
            torch.mm(inputs.flatten(0, 1).t(), d_gates[d], out=d_W[d])
        if ctx.needs_input_grad[0]:
            d_x = (d_gates[0] @ W[0].t()).view(x.shape)
            d_x += (d_gates[1] @ W[1].t()).view(x.shape).flip(0)
        return d_x, None, d_W, d_U, d_gates.sum(1), d_c


class BiGRU(nn.Module):
    """A bidirectional GRU layer over padded batches.

    A padded step holds the state, so the backward direction enters each utterance with a
    zero state and nothing of the padding reaches a real step.

    Args:
        inputs: width of the input.
        units: N, units per direction.
    """

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.W, self.U, self.b, self.c = gru_weights(inputs, units, directions=2)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        """Run both directions.

        Args:
            x: (B, S, inputs).
            padding: True where there is no step, (B, S).

        Returns:
            States of the forward, then of the backward direction, (B, S, 2N); 0 on padding.
        """
        x = x.transpose(0, 1).contiguous()  # (S, B, inputs): steps first, as the loop reads them
        states: Tensor = _BidirectionalGRU.apply(  # type: ignore[no-untyped-call]
            x, padding.t(), self.W, self.U, self.b, self.c
        )  # (S, 2, B, N)
        both = torch.cat([states[:, 0], states[:, 1].flip(0)], dim=-1)  # (S, B, 2N)
        return both.transpose(0, 1).masked_fill(padding.unsqueeze(-1), 0.0)


def bigru_reference(layer: BiGRU, x: Tensor, padding: Tensor) -> Tensor:
    """What :class:`BiGRU` computes, as the equations say it: step by step, utterance by
    utterance, without padding. Slow; the tests compare with it."""
    result = x.new_zeros(*x.shape[:2], 2 * layer.U.shape[1])
    for row, count in enumerate((~padding).sum(1).tolist()):
        directions = []
        for d, order in enumerate((range(count), range(count - 1, -1, -1))):
            state = x.new_zeros(1, layer.U.shape[1])
            states: dict[int, Tensor] = {}
            for t in order:
                gates = x[row, t].unsqueeze(0) @ layer.W[d] + layer.b[d]
                state = states[t] = gru_step(gates, state, layer.U[d], layer.c[d])
            directions.append(torch.cat([states[t] for t in range(count)]))
        result[row, :count] = torch.cat(directions, dim=-1)
    return result
