"""The gated recurrent unit, in both of its forms.

In the form that cuDNN and torch have (reset AFTER the product)::

    r  = sigmoid(x W_r + b_r + h U_r)
    z  = sigmoid(x W_z + b_z + h U_z)
    n  = tanh(x W_n + b_n + r * (h U_n + c))
    h' = (1 - z) * n + z * h

and in the form of the paper (arXiv:1406.1078; reset BEFORE the product), where only n differs::

    n  = tanh(x W_n + b_n + (r * h) U_n)

The latter is Keras's ``reset_after=False`` and ONNX's ``linear_before_reset=0``.

All GRUs of the project have these conventions. The gates are concatenated in the order r, z, n.
``W`` multiplies from the right: torch's ``weight_ih`` is ``W`` transposed. torch's second biases of
r and z are part of ``b``; only the candidate has a second bias, ``c``, without effect in the
paper's form. ``z`` is the share of the OLD state, as in torch; some versions of the paper write it
for the share of the new one.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from asr.model.cells import Cell

Reset = Literal["after", "before"]


def gru_step(gates: Tensor, state: Tensor, U: Tensor, c: Tensor, reset: Reset = "after") -> Tensor:
    """Compute one step of one direction.

    Args:
        gates: the inputs' part of the gates, x W + b, (B, 3N).
        state: h, (B, N).
        U: recurrent weights, (N, 3N).
        c: bias of the candidate's recurrent part, (N,).
        reset: where the reset gate stands.

    Returns:
        h', (B, N).
    """
    N = state.shape[-1]
    x_rz, x_n = torch.split(gates, [2 * N, N], dim=-1)
    if reset == "after":
        h_rz, h_n = torch.split(state @ U, [2 * N, N], dim=-1)
        r, z = (x_rz + h_rz).sigmoid().chunk(2, dim=-1)  # (B, N)
        n = (x_n + r * (h_n + c)).tanh()  # (B, N)
    else:
        U_rz, U_n = torch.split(U, [2 * N, N], dim=-1)
        r, z = (x_rz + state @ U_rz).sigmoid().chunk(2, dim=-1)  # (B, N)
        n = (x_n + (r * state) @ U_n).tanh()  # (B, N)
    return n + z * (state - n)


class GRU(Cell):
    """A GRU whose state is (h,)."""

    def __init__(self, parts: Sequence[int], units: int, reset: Reset) -> None:
        super().__init__(parts, units, gates=3)
        self.reset = reset
        self.c = nn.Parameter(torch.zeros(units))

    def start(self, rows: int) -> tuple[Tensor]:
        """Return zeros."""
        return (self.U.new_zeros(rows, self.U.shape[0]),)

    def step(self, gates: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor]:
        """See :func:`gru_step`."""
        return (gru_step(gates, state[0], self.U, self.c, self.reset),)
