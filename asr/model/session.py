"""The decoder in a search: one character at a time, without gradients."""

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
    """State of the cell; its output (N, H) is the first tensor."""
    attention: State
    """State of the attention, N rows."""

    def select(self, rows: Tensor, steps: int | None = None) -> "DecoderState":
        """Return some rows, which may repeat, cut to a number of encoder steps if it is given."""
        cell = tuple(part[rows] for part in self.cell)
        return DecoderState(cell, self.attention.select(rows, steps))


class DecoderParts(NamedTuple):
    """The parts of a decoder that a search needs."""

    attention: Attention
    cell: Cell
    gates: Tensor
    """The gates' part of each token, (V, G)."""
    readout: Tensor
    """Weights of the readout for the cell's output, (H, V); :attr:`Memory.values` has the rest."""
    bias: Tensor
    """Bias of the readout, (V,)."""


class DecoderSession:
    """A search over one batch, in plain torch.

    Args:
        parts: parts of the decoder.
        memory: encoder output of B utterances.
        width: rows of each utterance (K); the N = B K rows are in the order of the utterances.
    """

    @torch.no_grad()
    def __init__(self, parts: DecoderParts, memory: Memory, width: int) -> None:
        self.parts, self.width = parts, width
        self.bind(memory)

    def bind(self, memory: Memory) -> None:
        """Continue with these utterances.

        Raises:
            ValueError: the encoder output was made in training mode.
        """
        if memory.values.shape[3] != self.parts.gates.shape[1] + len(self.parts.bias):
            raise ValueError("the encoder output was made in training mode, not for a search")
        self.memory = memory

    def start(self) -> DecoderState:
        """Return the state before the first character, N rows."""
        rows = len(self.memory.steps) * self.width
        attention = self.parts.attention.start(self.memory.keys, rows)
        return DecoderState(self.parts.cell.start(rows), attention)

    @torch.no_grad()
    def step(
        self, tokens: Tensor, state: DecoderState, rows: Tensor
    ) -> tuple[Tensor, Alignment, DecoderState]:
        """Read one character per row and score the next one.

        Args:
            tokens: the last characters, (N,), int32.
            state: from :meth:`start` or the step before.
            rows: the row of ``state`` that each row continues, (N,), int32.

        Returns:
            log-probabilities (N, V), the alignment, and the next state.
        """
        attention, cell, gates, readout, bias = self.parts
        state = state.select(rows)
        alignment, attended = attention.step(state.cell[0], self.memory.keys, state.attention)
        context = alignment.mix(self.memory.values)  # (N, G + V)
        G = gates.shape[1]
        after = cell.step(gates[tokens] + context[:, :G], state.cell)
        logits = torch.addmm(bias, after[0], readout) + context[:, G:]
        return logits.log_softmax(-1), alignment, DecoderState(after, attended)
