"""A step of the decoder in a search: by native.cpp on processors, by kernels.py on GPUs."""

import torch
from torch import Tensor, nn

from asr.model.attention import Alignment
from asr.model.attention.energy import Energy
from asr.model.cells.gru import GRU
from asr.model.fast import kinds, native
from asr.model.fast.loop import folded_weights
from asr.model.fast.product import rounded
from asr.model.memory import Memory
from asr.model.session import DecoderParts, DecoderSession, DecoderState


def blocks(matrix: Tensor) -> Tensor:
    """Lay a matrix out for native.cpp, 32 columns at a time: (..., K, N) to (..., N / 32, K, 32).

    The last block is padded with zeros.
    """
    padded = nn.functional.pad(matrix, (0, -matrix.shape[-1] % 32))
    return padded.view(*padded.shape[:-1], -1, 32).transpose(-3, -2).contiguous()


class NativeSession(DecoderSession):
    """A session on a processor; it lays the weights out once."""

    @torch.no_grad()
    def __init__(self, parts: DecoderParts, memory: Memory, width: int) -> None:
        energy, form = kinds.energy(parts.attention), kinds.form(parts.cell)
        assert energy and form and isinstance(parts.attention, Energy)
        self.attention = parts.attention
        U, (H, V) = parts.cell.U, parts.readout.shape
        first = 2 * H if form == "before" else U.shape[1]  # columns that multiply the state
        self.weights = {
            **energy._asdict(), "W": blocks(energy.W), "U": blocks(U[:, :first]),
            "candidate": blocks(U[:, first:]), "c": getattr(parts.cell, "c", None),
            "readout": blocks(parts.readout), "gates": parts.gates, "bias": parts.bias,
        }  # fmt: skip
        del self.weights["kind"]
        sizes = {"beam": width, "H": H, "V": V}
        self.arguments = native.STEP(**energy.numbers(form), **sizes).set(**self.weights)
        super().__init__(parts, memory, width)

    def bind(self, memory: Memory) -> None:
        """See :meth:`DecoderSession.bind`."""
        super().bind(memory)
        self.keys, self.values = memory.keys.keys.contiguous(), blocks(memory.values[:, 0])
        self.steps, S = native.int32(memory.steps), self.keys.shape[1]
        self.arguments.set(keys=self.keys, values=self.values, steps=self.steps, S=S)

    @torch.no_grad()
    def step(
        self, tokens: Tensor, state: DecoderState, rows: Tensor
    ) -> tuple[Tensor, Alignment, DecoderState]:
        """See :meth:`DecoderSession.step`."""
        N, (h, *c) = len(tokens), state.cell
        cell = tuple(h.new_empty(N, h.shape[1]) for _ in state.cell)
        weights = h.new_empty(N, self.keys.shape[1])
        log_probs = h.new_empty(N, len(self.parts.bias))
        arguments = self.arguments.set(
            tokens=tokens, state=h, memory=c[0] if c else None,
            previous=getattr(state.attention, "weights", None),
            sums=getattr(state.attention, "total", None), states=cell[0],
            memories=cell[1] if c else None, weights=weights, log_probs=log_probs, R=N,
            **{"from": rows},
        )  # fmt: skip
        native.run("decoder_step", arguments)
        before = state.attention.select(rows) if arguments.sum else state.attention
        attended = self.attention.after(weights, before)
        return log_probs, Alignment(weights.unsqueeze(1)), DecoderState(cell, attended)


class KernelSession(DecoderSession):
    """A session on a GPU, for GRUs."""

    @torch.no_grad()
    def __init__(self, parts: DecoderParts, memory: Memory, width: int) -> None:
        energy = kinds.energy(parts.attention)
        assert energy and isinstance(parts.attention, Energy) and isinstance(parts.cell, GRU)
        super().__init__(parts, memory, width)
        self.attention, self.cell, self.kind = parts.attention, parts.cell, energy.kind
        W, *self.location = folded_weights(energy)
        self.matrices = [rounded(matrix) for matrix in (W, self.cell.U, parts.readout)]

    def bind(self, memory: Memory) -> None:
        """See :meth:`DecoderSession.bind`."""
        super().bind(memory)
        keys, values = memory.keys.keys, memory.values[:, 0]
        self.keys, self.values = (rounded(m.contiguous()) for m in (keys, values))
        self.steps = memory.steps.to(keys.device, torch.int32, non_blocking=True)

    @torch.no_grad()
    def step(
        self, tokens: Tensor, state: DecoderState, rows: Tensor
    ) -> tuple[Tensor, Alignment, DecoderState]:
        """See :meth:`DecoderSession.step`."""
        (before,) = state.cell
        previous = getattr(state.attention, "weights", before)  # not read without filters
        (W, U, readout), reset_before = self.matrices, self.cell.reset == "before"
        log_probs, hidden, weights = native.launch(
            "step", tokens, rows, before, previous, self.parts.gates, self.keys, self.values,
            self.steps, W, *self.location, U, self.cell.c, readout, self.parts.bias, reset_before,
            self.kind,
        )  # fmt: skip
        state = DecoderState((hidden,), self.attention.after(weights, state.attention))
        return log_probs, Alignment(weights.unsqueeze(1)), state
