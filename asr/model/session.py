"""The decoder in a search: one character after another, without gradients."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from asr.model.attention import Alignment, Attention, State
from asr.model.cells import Cell
from asr.model.memory import Memory


@dataclass(frozen=True)
class DecoderState:
    """State of the decoder between two steps."""

    cell: tuple[Tensor, ...]
    """The cell's; its output (N, H) is the first."""
    attention: State
    """The attention's, N rows."""

    def select(self, rows: Tensor, steps: int | None = None) -> "DecoderState":
        """The given rows, picked or repeated; cut to so many encoder steps, if that is given."""
        cell = tuple(part[rows] for part in self.cell)
        return DecoderState(cell, self.attention.select(rows, steps))


class DecoderParts(NamedTuple):
    """Parts of a decoder that a search needs."""

    attention: Attention
    cell: Cell
    gates: Tensor
    """What each character brings to the cell's gates, (V, G)."""
    readout: Tensor
    """Weights of the readout for the cell's output, (H, V); the context's are in the values."""
    bias: Tensor
    """Of the readout, (V,)."""


class DecoderSession:
    """A search's view of the decoder for one batch, step by step in plain torch.

    Args:
        parts: the decoder's.
        memory: encoder output of B utterances.
        width: rows for each utterance (K): those of the first one, then of the next; N = B K.
    """

    @torch.no_grad()
    def __init__(self, parts: DecoderParts, memory: Memory, width: int) -> None:
        self.parts, self.width = parts, width
        self.bind(memory)

    def bind(self, memory: Memory) -> None:
        """Look at these utterances from now on."""
        if memory.values.shape[3] != self.parts.gates.shape[1] + len(self.parts.bias):
            raise ValueError("the encoder output was made in training mode, not for a search")
        self.memory = memory

    def start(self) -> DecoderState:
        """The state before the first character, N rows."""
        rows = len(self.memory.steps) * self.width
        attention = self.parts.attention.start(self.memory.keys, rows)
        return DecoderState(self.parts.cell.start(rows), attention)

    @torch.no_grad()
    def step(
        self, tokens: Tensor, state: DecoderState, rows: Tensor
    ) -> tuple[Tensor, Alignment, DecoderState]:
        """Read one character a row and score the next one.

        Args:
            tokens: the last characters, (N,), int32.
            state: from :meth:`start` or the step before.
            rows: the row of ``state`` that each row continues, (N,), int32.

        Returns:
            log-probabilities (N, V), where this step looked, and the next state.
        """
        attention, cell, gates, readout, bias = self.parts
        state = state.select(rows)
        alignment, looked = attention.step(state.cell[0], self.memory.keys, state.attention)
        context = alignment.mix(self.memory.values)  # (N, G + V)
        G = gates.shape[1]
        after = cell.step(gates[tokens] + context[:, :G], state.cell)
        logits = torch.addmm(bias, after[0], readout) + context[:, G:]
        return logits.log_softmax(-1), alignment, DecoderState(after, looked)
