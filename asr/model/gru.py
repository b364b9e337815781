"""A bidirectional layer of gated recurrent units; :mod:`asr.model.cells.gru` has the equations."""

import torch
from torch import Tensor, nn

from asr.model.cells import fresh_weights
from asr.model.cells.gru import Reset, gru_step
from asr.model.fast import lookup
from asr.model.padding import padding_mask


class BiGRU(nn.Module):
    """A bidirectional GRU layer over padded batches.

    The backward direction enters each utterance at its own end with a zero state, and nothing
    of the padding reaches a real step.

    Args:
        inputs: width of the input.
        units: N, units per direction.
        reset: where the reset gate stands.
    """

    def __init__(self, inputs: int, units: int, reset: Reset = "after") -> None:
        super().__init__()
        self.reset = reset
        W, U = fresh_weights(inputs, units, gates=3, directions=2)
        self.W, self.U = nn.Parameter(W), nn.Parameter(U)
        self.b, self.c = (nn.Parameter(torch.zeros(2, n * units)) for n in (3, 1))

    def forward(self, x: Tensor, counts: Tensor) -> Tensor:
        """Run both directions.

        Args:
            x: (B, S, inputs).
            counts: real steps of each utterance, (B,), in main memory.

        Returns:
            States of the forward, then of the backward direction, (B, S, 2N); 0 on padding.
        """
        fast = lookup.layer(self, x)
        return fast(self, x, counts) if fast else self.loop(x, counts)

    def loop(self, x: Tensor, counts: Tensor) -> Tensor:
        """What :meth:`forward` computes, as the equations say it: step by step."""
        steps = x.shape[1]
        padding = padding_mask(counts, steps, x.device).unsqueeze(-1)  # (B, S, 1)
        directions = []
        for d, order in enumerate((range(steps), range(steps - 1, -1, -1))):
            gates = x @ self.W[d] + self.b[d]  # (B, S, 3N)
            state = x.new_zeros(len(x), self.U.shape[1])  # (B, N)
            states = {}
            for t in order:
                new = gru_step(gates[:, t], state, self.U[d], self.c[d], self.reset)
                state = states[t] = torch.where(padding[:, t], state, new)
            directions.append(torch.stack([states[t] for t in range(steps)], dim=1))
        return torch.cat(directions, dim=-1).masked_fill(padding, 0.0)
