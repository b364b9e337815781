"""A network as a :class:`asr.search.protocol.Model`, for searches and recognisers.

On a processor the arrays of a search are numpy's and share torch's memory; on a GPU they are
tensors.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from asr.arrays import Array, FloatArray
from asr.model.char_lm import sentence_batch
from asr.model.las import LAS
from asr.model.memory import Memory
from asr.model.session import DecoderSession, DecoderState
from asr.search.protocol import Alignment, Forced


@dataclass
class TorchEncoded:
    """See :class:`asr.search.protocol.Encoded`."""

    memory: Memory
    model: "TorchModel"
    _ctc: Array | None = field(default=None, repr=False)

    @property
    def steps(self) -> list[int]:
        """See the protocol."""
        return self.memory.steps.tolist()

    @property
    def ctc(self) -> Array | None:
        """See the protocol."""
        if self._ctc is None and self.model.has_ctc:
            with torch.no_grad():
                self._ctc = self.model.from_torch(self.model.las.ctc_log_probs(self.memory.states))
        return self._ctc

    def array(self, values: npt.NDArray[Any]) -> Array:
        """See the protocol."""
        return values if self.model.numpy else torch.from_numpy(values).to(self.model.device)

    def select(self, utterances: Sequence[int]) -> Self:
        """See the protocol."""
        rows = list(utterances)
        memory = self.memory.select(rows)
        ctc = None if self._ctc is None else self._ctc[rows, : memory.states.shape[1]]
        return type(self)(memory, self.model, ctc)


class TorchSession:
    """See :class:`asr.search.protocol.DecoderSession`."""

    def __init__(self, session: DecoderSession, model: "TorchModel") -> None:
        self.session, self.model, self.start = session, model, session.start

    def step(
        self, tokens: Array, state: DecoderState, rows: Array
    ) -> tuple[Array, Alignment, DecoderState]:
        """See the protocol."""
        as_int32, from_torch = self.model.as_int32, self.model.from_torch
        log_probs, (weights, first), state = self.session.step(
            as_int32(tokens), state, as_int32(rows)
        )
        first = None if first is None else from_torch(first)
        return from_torch(log_probs), Alignment(from_torch(weights), first), state

    def select(self, state: DecoderState, rows: Array, encoded: TorchEncoded) -> DecoderState:
        """See the protocol."""
        self.session.bind(encoded.memory)
        return state.select(torch.as_tensor(rows), encoded.memory.states.shape[1])


class TorchModel:
    """See :class:`asr.search.protocol.Model`.

    Args:
        las: the network, in evaluation mode.
        has_ctc: whether its CTC head was trained.
    """

    def __init__(self, las: LAS, *, has_ctc: bool = True) -> None:
        self.las, self.has_ctc, self.eos = las, has_ctc, las.eos
        self.device = next(las.parameters()).device
        self.numpy = self.device.type == "cpu"
        """Whether the arrays of a search are numpy's."""

    @torch.no_grad()
    def encode(self, features: Sequence[FloatArray]) -> TorchEncoded:
        """See the protocol."""
        frames = torch.tensor([len(each) for each in features])
        padded = pad_sequence(
            [torch.from_numpy(np.asarray(each, np.float32)) for each in features], batch_first=True
        )
        return self.encoded(self.las.encode(padded.to(self.device), frames))

    def encoded(self, memory: Memory) -> TorchEncoded:
        """Wrap encoder output for a search; it is cut to the longest utterance."""
        longest = int(memory.steps.max()) == memory.states.shape[1]
        return TorchEncoded(memory if longest else memory.select([*range(len(memory.steps))]), self)

    def decode(self, encoded: TorchEncoded, width: int) -> TorchSession:
        """See the protocol."""
        return TorchSession(self.las.decoder.session(encoded.memory, width), self)

    @torch.no_grad()
    def teacher_force(self, encoded: TorchEncoded, texts: Sequence[Sequence[int]]) -> list[Forced]:
        """See the protocol."""
        read, targets = (part.to(self.device) for part in sentence_batch(texts, self.eos))
        lengths = torch.tensor([len(text) + 1 for text in texts])
        logits, weights = self.las.decoder(read, lengths, encoded.memory)
        chosen = targets.clamp_min(0).unsqueeze(2)  # (B, U + 1, 1)
        log_probs = logits.log_softmax(-1).gather(2, chosen).squeeze(2).cpu()
        ends = zip(log_probs, weights.cpu(), lengths.tolist(), encoded.steps, strict=True)
        return [Forced(each[:n].tolist(), w[:n, :steps].numpy()) for each, w, n, steps in ends]

    def as_int32(self, numbers: Array) -> Tensor:
        """Return an array of a search as an int32 tensor."""
        return torch.from_numpy(numbers.astype(np.int32)) if self.numpy else numbers.int()

    def from_torch(self, tensor: Tensor) -> Array:
        """Return a tensor as an array of a search."""
        return tensor.numpy() if self.numpy else tensor
