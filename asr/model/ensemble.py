"""Several networks as one :class:`asr.search.protocol.Model`: a search reads mean probabilities.

Each network encodes the audio, and its decoder keeps a state of its own. All decoders read the same
characters of a hypothesis.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from asr import arrays
from asr.arrays import Array, FloatArray
from asr.model.runtime import TorchEncoded, TorchModel, TorchSession
from asr.search.protocol import Alignment, Forced


def log_mean(log_probs: Sequence[Array]) -> Array:
    """Return log((p_1 + ... + p_M) / M) of M arrays of log-probabilities of the same shape."""
    total = log_probs[0]
    for each in log_probs[1:]:
        total = arrays.namespace(total).logaddexp(total, each)
    return total - math.log(len(log_probs))


@dataclass
class EnsembleEncoded:
    """Utterances by all encoders; see :class:`asr.search.protocol.Encoded`."""

    parts: Sequence[TorchEncoded]
    _ctc: Array | None = field(default=None, repr=False)

    @property
    def steps(self) -> list[int]:
        """See the protocol; all encoders have the same number of steps."""
        return self.parts[0].steps

    @property
    def ctc(self) -> Array | None:
        """Log of the mean probabilities of CTC, (B, S, V)."""
        if self._ctc is None:
            found = [each for part in self.parts if (each := part.ctc) is not None]
            self._ctc = log_mean(found) if found else None
        return self._ctc

    def array(self, values: npt.NDArray[Any]) -> Array:
        """See the protocol."""
        return self.parts[0].array(values)

    def select(self, utterances: Sequence[int]) -> Self:
        """See the protocol."""
        parts = [part.select(utterances) for part in self.parts]
        ctc = None if self._ctc is None else self._ctc[list(utterances), : max(parts[0].steps)]
        return type(self)(parts, ctc)


class EnsembleSession:
    """The decoders of all networks; see :class:`asr.search.protocol.DecoderSession`."""

    def __init__(self, sessions: Sequence[TorchSession]) -> None:
        self.sessions = sessions

    def start(self) -> list[Any]:
        """Return the state of each decoder."""
        return [session.start() for session in self.sessions]

    def step(self, tokens: Array, state: list[Any], rows: Array) -> tuple[Array, Alignment, Any]:
        """Return log of the mean probabilities, the alignment of the first decoder, and states."""
        found = [s.step(tokens, own, rows) for s, own in zip(self.sessions, state, strict=True)]
        log_probs, alignments, states = zip(*found, strict=True)
        return log_mean(log_probs), alignments[0], list(states)

    def select(self, state: list[Any], rows: Array, encoded: EnsembleEncoded) -> list[Any]:
        """See the protocol."""
        each = zip(self.sessions, state, encoded.parts, strict=True)
        return [session.select(own, rows, part) for session, own, part in each]


class Ensemble:
    """Networks with the same features, characters and numbers of steps.

    Args:
        models: the networks.
    """

    def __init__(self, models: Sequence[TorchModel]) -> None:
        self.models, self.eos = models, models[0].eos

    def encode(self, features: Sequence[FloatArray]) -> EnsembleEncoded:
        """See the protocol."""
        return EnsembleEncoded([model.encode(features) for model in self.models])

    def decode(self, encoded: EnsembleEncoded, width: int) -> EnsembleSession:
        """See the protocol."""
        pairs = zip(self.models, encoded.parts, strict=True)
        return EnsembleSession([model.decode(part, width) for model, part in pairs])

    def teacher_force(
        self, encoded: EnsembleEncoded, texts: Sequence[Sequence[int]]
    ) -> list[Forced]:
        """Return log of the mean probabilities, and the attention of the first decoder."""
        pairs = zip(self.models, encoded.parts, strict=True)
        each = zip(*(model.teacher_force(part, texts) for model, part in pairs), strict=True)
        return [
            Forced(log_mean([np.array(f.log_probs) for f in found]).tolist(), found[0].attention)
            for found in each
        ]
