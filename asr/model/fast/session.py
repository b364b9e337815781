"""The decoder's step in a search in one call: by native.cpp on processors, kernels.py on GPUs.

For location-aware attention and a GRU; the weights are laid out once for a whole search.
"""

import torch
from torch import Tensor, nn

from asr.model.attention import Alignment
from asr.model.attention.location import LastWeights, Location
from asr.model.cells.gru import GRU
from asr.model.fast import native
from asr.model.fast.loop import folded_weights, location_weights
from asr.model.fast.product import as_read
from asr.model.memory import Memory
from asr.model.session import DecoderParts, DecoderSession, DecoderState


def blocks(matrix: Tensor) -> Tensor:
    """(..., K, N) as native.cpp reads it fastest, 32 columns at a time: (..., N / 32, K, 32).

    Zeros fill the last columns up.
    """
    padded = nn.functional.pad(matrix, (0, -matrix.shape[-1] % 32))
    return padded.view(*padded.shape[:-1], -1, 32).transpose(-3, -2).contiguous()


class _FastSession(DecoderSession):
    """What both have in common."""

    def __init__(self, parts: DecoderParts, memory: Memory, width: int) -> None:
        assert isinstance(parts.attention, Location) and isinstance(parts.cell, GRU)
        self.attention, self.cell = parts.attention, parts.cell
        self.before = parts.cell.reset == "before"
        super().__init__(parts, memory, width)


class NativeSession(_FastSession):
    """A search on a processor."""

    @torch.no_grad()
    def __init__(self, parts: DecoderParts, memory: Memory, width: int) -> None:
        super().__init__(parts, memory, width)
        W, *self.location = location_weights(self.attention)
        U, H = self.cell.U, len(self.cell.U)
        first = 2 * H if self.before else 3 * H  # columns of the first product
        self.weights = blocks(W), *self.location, blocks(U[:, :first]), blocks(U[:, first:])
        self.readout = blocks(parts.readout)

    def bind(self, memory: Memory) -> None:
        """See :meth:`DecoderSession.bind`."""
        super().bind(memory)
        self.keys, self.values = memory.keys.keys.contiguous(), blocks(memory.values[:, 0])
        self.steps = native.int32(memory.steps)

    @torch.no_grad()
    def step(
        self, tokens: Tensor, state: DecoderState, rows: Tensor
    ) -> tuple[Tensor, Alignment, DecoderState]:
        """See :meth:`DecoderSession.step`."""
        (before,), looked = state.cell, state.attention.weights
        N, S, (H, V) = len(tokens), self.keys.shape[1], self.parts.readout.shape
        (C, K), A = self.location[0].shape, self.keys.shape[2]
        hidden, weights = before.new_empty(N, H), before.new_empty(N, S)
        log_probs = hidden.new_empty(N, V)
        native.call(
            "decoder_step", tokens, rows, before, looked, self.parts.gates, self.keys,
            self.values, self.steps, *self.weights, self.cell.c, self.readout, self.parts.bias,
            hidden, weights, log_probs, N, self.width, S, H, A, C, K, V, self.before,
        )  # fmt: skip
        alignment = Alignment(weights.unsqueeze(1))
        return log_probs, alignment, DecoderState((hidden,), LastWeights(weights))


class KernelSession(_FastSession):
    """A search on a GPU."""

    @torch.no_grad()
    def __init__(self, parts: DecoderParts, memory: Memory, width: int) -> None:
        super().__init__(parts, memory, width)
        W, *self.location = folded_weights(self.attention)
        self.read = [as_read(matrix) for matrix in (W, self.cell.U, parts.readout)]

    def bind(self, memory: Memory) -> None:
        """See :meth:`DecoderSession.bind`."""
        super().bind(memory)
        keys, values = memory.keys.keys, memory.values[:, 0]
        self.keys, self.values = (as_read(m.contiguous()) for m in (keys, values))
        self.steps = memory.steps.to(keys.device, torch.int32, non_blocking=True)

    @torch.no_grad()
    def step(
        self, tokens: Tensor, state: DecoderState, rows: Tensor
    ) -> tuple[Tensor, Alignment, DecoderState]:
        """See :meth:`DecoderSession.step`."""
        (before,), looked = state.cell, state.attention.weights
        W, U, readout = self.read
        log_probs, hidden, weights = native.kernels().step(
            tokens, rows, before, looked, self.parts.gates, self.keys, self.values, self.steps,
            W, *self.location, U, self.cell.c, readout, self.parts.bias, self.before,
        )  # fmt: skip
        alignment = Alignment(weights.unsqueeze(1))
        return log_probs, alignment, DecoderState((hidden,), LastWeights(weights))
