"""Write characters while the audio is still coming, with a hard kind of attention.

The hard form of a monotonic kind (:mod:`asr.model.attention.monotonic`) decides at each encoder
step whether to stop, so that a character can be written as soon as the step of its stop is there.
The encoder must have GRUs in one direction alone, whose steps do not change when more audio comes.
"""

from dataclasses import replace

import torch
from torch import Tensor

from asr.errors import InputError
from asr.model.attention.monotonic import Monotonic
from asr.model.cells.gru import gru_step
from asr.model.encoder import stack_neighbours
from asr.model.encoder.gru import GRU
from asr.model.las import LAS
from asr.model.memory import Memory
from asr.model.session import DecoderState
from asr.search.hypothesis import BLANK, length_limits


class LayerStream:
    """A one-directional GRU layer that keeps its state from one piece of its input to the next."""

    def __init__(self, layer: GRU) -> None:
        self.layer = layer
        self.state = layer.U.new_zeros(1, layer.config.units)
        self.rest: Tensor | None = None
        """Inputs that do not make a whole step yet, (n, I)."""

    def push(self, x: Tensor, last: bool) -> Tensor:
        """Return the next steps (S, N) for the next inputs (T, I); the last step may be padded."""
        x = x if self.rest is None else torch.cat([self.rest, x])
        layer, whole = self.layer, len(x) if last else len(x) - len(x) % self.layer.config.reduction
        self.rest, outputs = x[whole:], [self.state[:0]]
        stacked = stack_neighbours(x[None, :whole], layer.config.reduction)[0]  # (S, r I)
        for gates in (stacked @ layer.W[0] + layer.b[0]).unsqueeze(1):  # (1, 3N)
            self.state = gru_step(gates, self.state, layer.U[0], layer.c[0], layer.reset)
            outputs.append(self.state)
        return torch.cat(outputs)


class Stream:
    """A greedy search of one utterance, whose features come in pieces.

    It writes the same characters as :func:`asr.search.greedy.greedy` with all of the audio. There
    is no beam, and CTC, language models and hot words have no part in it. Filterbanks and their
    normalisation with statistics of the training set are up to the caller. After <eos> it writes
    nothing more: the next utterance needs a new stream.

    Example:
        >>> stream = Stream(las)
        >>> for features in pieces:
        ...     characters += stream.push(features)
        >>> characters += stream.close()

    Args:
        las: the network, in evaluation mode.

    Raises:
        InputError: the attention has no hard form, or several heads, or a layer of the encoder is
            not a GRU in one direction.
    """

    def __init__(self, las: LAS) -> None:
        layers = [each for each in las.encoder.layers if isinstance(each, GRU) and len(each.W) == 1]
        if len(layers) < len(las.encoder.layers):
            raise InputError(
                "model.encoder.layers: a stream needs layers of kind gru with directions 1 alone"
            )
        attention = las.decoder.attention
        if not isinstance(attention, Monotonic):
            raise InputError(
                "model.attention: a stream needs a kind with a hard form, such as hard_monotonic "
                "or mocha, and one head"
            )
        self.attention, self.las = attention, las
        self.layers = [LayerStream(each) for each in layers]
        self.memory: Memory | None = None
        self.state: DecoderState | None = None
        self.token, self.written, self.ended = las.eos, 0, False

    def push(self, features: Tensor) -> list[int]:
        """Return the characters that the next frames (T, F) make certain."""
        return self._read(features, last=False)

    def close(self) -> list[int]:
        """Return the characters that are left when the audio has ended."""
        return self._read(torch.zeros(0, self.las.feature_dim), last=True)

    @torch.no_grad()
    def _read(self, x: Tensor, last: bool) -> list[int]:
        for layer in self.layers:
            x = layer.push(x, last)
        if len(x):
            new = self.las.decoder.precompute(x.unsqueeze(0), torch.tensor([len(x)]))
            self.memory = new if self.memory is None else _joined(self.memory, new)
        return [] if self.memory is None else self._write(self.memory, last)

    def _write(self, memory: Memory, last: bool) -> list[int]:
        """Return the next characters, until one needs more audio."""
        session = self.las.decoder.session(memory)
        state = session.start() if self.state is None else self.state
        found: list[int] = []
        row, steps = torch.zeros(1, dtype=torch.int32), int(memory.steps)
        certain = int(self.attention.end(memory.keys))  # more audio changes no stop before it
        limit = length_limits([steps], 1.0)[0]  # of the audio so far; more audio raises it
        while not self.ended and (self.written < limit or last):
            token = torch.tensor([self.token], dtype=torch.int32)
            log_probs, _, after = session.step(token, state, row)
            if (stop := int(after.attention.step)) >= certain and not last:
                if stop == steps:  # it has not stopped yet: go on with it there
                    state = DecoderState(state.cell, after.attention)
                break
            log_probs[:, BLANK] = -torch.inf
            self.token, state = int(log_probs.argmax()), after
            self.ended = self.token == self.las.eos or self.written == limit
            if not self.ended:
                found.append(self.token)
                self.written += 1
        self.state = state
        return found


def _joined(old: Memory, new: Memory) -> Memory:
    """Return the encoder's output of an utterance with its next steps."""
    keys, names = new.keys, type(new.keys).over_steps
    grown = {n: torch.cat([getattr(old.keys, n), getattr(keys, n)], 1) for n in names}
    return Memory(
        torch.cat([old.states, new.states], 1),
        replace(keys, steps=old.keys.steps + keys.steps, **grown),
        torch.cat([old.values, new.values], 2),
        old.steps + new.steps,
    )
