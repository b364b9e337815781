"""Protocols of a search: the model, and the scorers whose scores it sums.

A model is :class:`Model`, whatever computes it; :class:`asr.model.runtime.TorchModel` is torch's.
Arrays within a search are of its kind (:mod:`asr.arrays`): numpy on a processor, torch on a GPU.
The scorers that there are stand in :mod:`asr.search.scorers`. Letters: B utterances, K hypotheses
of each side by side, N = B K rows, S encoder steps, V characters, M heads, W columns of a window.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from asr import arrays
from asr.arrays import Array

FloatArray: TypeAlias = npt.NDArray[np.floating]
IntArray: TypeAlias = npt.NDArray[np.int64]


class Alignment(NamedTuple):
    """Where one step of the decoder looks."""

    weights: Array
    """(N, M, W); each head sums to 1, or obeys the law of its kind; 0 on padding."""
    first: Array | None = None
    """Encoder step of column 0, (N,); None: W = S, the weights cover all steps."""

    def heads_over(self, steps: int) -> Array:
        """The weights over all encoder steps, (N, M, steps)."""
        if self.first is None:
            return self.weights
        N, M, _ = self.weights.shape
        rows, heads = (arrays.arange(count, self.weights)[:, None] for count in (N, M))
        over = arrays.full((N, M, steps), 0.0, self.weights)
        over[rows[:, None], heads, self.columns()[:, None]] = self.weights
        return over

    def over(self, steps: int) -> Array:
        """The mean of the heads over all encoder steps, (N, steps)."""
        heads = self.heads_over(steps)
        return heads.mean(1) if heads.shape[1] > 1 else heads[:, 0]

    def of_row(self, row: int, steps: int) -> Array:
        """The mean of the heads of one row over the first encoder steps, (steps,)."""
        if self.first is None and self.weights.shape[1] == 1:
            return self.weights[row, 0, :steps]
        first = None if self.first is None else self.first[row : row + 1]
        longest = max(steps, self.weights.shape[2])
        return Alignment(self.weights[row : row + 1], first).over(longest)[0, :steps]

    def columns(self) -> Array:
        """The encoder step of each column of a window, (N, W)."""
        assert self.first is not None
        return self.first[:, None] + arrays.arange(self.weights.shape[2], self.weights)


class Encoded(Protocol):
    """A batch of encoded utterances; opaque to all but its model, besides these attributes."""

    @property
    def steps(self) -> Sequence[int]:
        """Encoder steps of each utterance."""

    @property
    def ctc(self) -> Array | None:
        """CTC's log-probabilities, (B, S, V), computed once; None: the model has none."""

    def array(self, values: npt.NDArray[Any]) -> Array:
        """Return numbers as an array of the kind that the model computes with."""

    def select(self, utterances: Sequence[int]) -> Self:
        """Return some of the utterances, cut to the longest of them."""


class DecoderSession(Protocol):
    """The decoder on its way through a search of a batch. Its state is a value."""

    def start(self) -> Any:
        """Return the state before the first character, N rows."""

    def step(self, tokens: Array, state: Any, rows: Array) -> tuple[Array, Alignment, Any]:
        """Read one character a row and score the next one.

        Args:
            tokens: the last characters, <sos/eos> at first, (N,).
            state: from :meth:`start`, :meth:`select` or the step before.
            rows: the row of ``state`` that each row continues, (N,).

        Returns:
            log-probabilities (N, V), where this step looked, and the next state.
        """

    def select(self, state: Any, rows: Array, encoded: Any) -> Any:
        """Go on with fewer utterances; see :meth:`Scorer.select`."""


class Forced(NamedTuple):
    """Teacher-forced log-probabilities and alignment of a known text of U characters."""

    log_probs: list[float]
    """Of each character and of the end, U + 1."""
    attention: FloatArray
    """Attention of each character and of the end, the mean of the heads, (U + 1, S)."""


class Model(Protocol):
    """All that a search and a recogniser see of a network."""

    @property
    def eos(self) -> int:
        """Id of <sos/eos>, which begins and ends every text; the last one (V - 1)."""

    def encode(self, features: Sequence[FloatArray]) -> Encoded:
        """Encode utterances side by side.

        Args:
            features: normalised frames of each utterance, (T_i, F).
        """

    def decode(self, encoded: Any, width: int) -> DecoderSession:
        """Return the decoder for a search with ``width`` rows for each utterance (K)."""

    def teacher_force(self, encoded: Any, texts: Sequence[Sequence[int]]) -> list[Forced]:
        """Score a text of each utterance, characters without <sos/eos>."""


class Step(NamedTuple):
    """Inputs of the scorers at one step of the search."""

    tokens: Array
    """Last character of each row, <sos/eos> at first, (N,), int64."""
    rows: Array
    """The row of the step before that each row continues, (N,), int64."""
    log_probs: Array
    """The decoder's log-probabilities of the next character, (N, V)."""
    alignment: Alignment
    """Where the decoder looks for the next character."""


class Scorer(Protocol):
    """One of the scores that the search adds up. A state is a value; only its scorer knows it."""

    name: str
    """Names its score in :attr:`asr.search.hypothesis.Hypothesis.scores`."""
    weight: float
    """Factor of its scores in the total."""
    cumulative: bool = False
    """True: :meth:`step` scores the whole hypothesis with the next character; False: the next
    character alone, and the search adds up."""

    def start(self, encoded: Encoded, width: int) -> Any:
        """Return the state before the first character; by default there is none.

        Args:
            encoded: encoder output of B utterances.
            width: rows of each utterance (K).
        """
        return None

    def step(self, step: Step, state: Any) -> tuple[Array, Any]:
        """Read the last characters and score the next ones.

        Args:
            step: the step of the search.
            state: from :meth:`start`, :meth:`select` or the step before.

        Returns:
            scores in the type of ``step.log_probs``, (N, V) or what broadcasts to it, and the
            next state.
        """

    def select(self, state: Any, rows: Array, encoded: Encoded) -> Any:
        """Return the state of some rows; the others have left the batch.

        Args:
            state: from :meth:`step`.
            rows: of the state, K for each utterance that stays; a row may be repeated.
            encoded: encoder output of the utterances that stay, cut to the longest of them.
        """
        return None

    def bound(self, scores: FloatArray, left: IntArray, steps: IntArray) -> FloatArray | float:
        """Return the most that hypotheses can still add to their totals, weight included.

        Args:
            scores: of the hypotheses so far, (B, K).
            left: most characters that each may still get, (B, 1).
            steps: encoder steps of its utterance, (B, 1).

        Returns:
            (B, K) or what broadcasts to it.
        """
        return 0.0
