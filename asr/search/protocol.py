"""Protocols of a search: the model, and the scorers whose scores it sums.

:class:`asr.model.runtime.TorchModel` implements :class:`Model`, and :mod:`asr.search.scorers` holds
the scorers. The model decides the kind of the arrays (:mod:`asr.arrays`): numpy on a CPU, torch on
a GPU. Letters: B utterances, K hypotheses of each, N = B K rows, S encoder steps, V characters,
M heads, W columns of a window.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, Self

import numpy.typing as npt

from asr import arrays
from asr.arrays import Array, FloatArray, IntArray


class Alignment(NamedTuple):
    """Attention of one decoder step."""

    weights: Array
    """(N, M, W); 0 on padding. Each head sums to 1 if its kind of attention is normalised."""
    first: Array | None = None
    """Encoder step of column 0, (N,); None if the weights cover all steps (W = S)."""

    def heads_over(self, steps: int) -> Array:
        """Return the weights over all encoder steps, (N, M, steps)."""
        if self.first is None:
            return self.weights
        N, M, _ = self.weights.shape
        rows, heads = (arrays.arange(count, self.weights)[:, None] for count in (N, M))
        over = arrays.full((N, M, steps), 0.0, self.weights)
        over[rows[:, None], heads, self.columns()[:, None]] = self.weights
        return over

    def over(self, steps: int) -> Array:
        """Return the mean of the heads over all encoder steps, (N, steps)."""
        heads = self.heads_over(steps)
        return heads.mean(1) if heads.shape[1] > 1 else heads[:, 0]

    def of_row(self, row: int, steps: int) -> Array:
        """Return the mean of the heads of one row over the first encoder steps, (steps,)."""
        if self.first is None and self.weights.shape[1] == 1:
            return self.weights[row, 0, :steps]
        first = None if self.first is None else self.first[row : row + 1]
        longest = max(steps, self.weights.shape[2])
        return Alignment(self.weights[row : row + 1], first).over(longest)[0, :steps]

    def columns(self) -> Array:
        """Return the encoder step of each column of a window, (N, W)."""
        assert self.first is not None
        return self.first[:, None] + arrays.arange(self.weights.shape[2], self.weights)


class Encoded(Protocol):
    """A batch of encoded utterances. Only its model reads more than these attributes."""

    @property
    def steps(self) -> Sequence[int]:
        """Encoder steps of each utterance."""

    @property
    def ctc(self) -> Array | None:
        """CTC's log-probabilities, (B, S, V), computed once; None if the model has no CTC."""

    def array(self, values: npt.NDArray[Any]) -> Array:
        """Return numbers as an array of the kind that the model computes with."""

    def select(self, utterances: Sequence[int]) -> Self:
        """Return some of the utterances, cut to the longest of them."""


class DecoderSession(Protocol):
    """The decoder in the search of one batch. Its state is a value."""

    def start(self) -> Any:
        """Return the state before the first character, N rows."""

    def step(self, tokens: Array, state: Any, rows: Array) -> tuple[Array, Alignment, Any]:
        """Read one character a row and score the next one.

        Args:
            tokens: the last characters, <sos/eos> at first, (N,).
            state: from :meth:`start`, :meth:`select` or the step before.
            rows: the row of ``state`` that each row extends, (N,).

        Returns:
            log-probabilities (N, V), the alignment of this step, and the next state.
        """

    def select(self, state: Any, rows: Array, encoded: Any) -> Any:
        """Return the state of the utterances that stay; see :meth:`Scorer.select`."""


class Forced(NamedTuple):
    """Teacher-forced log-probabilities and alignment of a known text of U characters."""

    log_probs: list[float]
    """Log-probability of each character and of the end, U + 1."""
    attention: FloatArray
    """Attention of each character and of the end, the mean of the heads, (U + 1, S)."""


class Model(Protocol):
    """A network as a search and a recogniser see it."""

    @property
    def eos(self) -> int:
        """Id of <sos/eos>, which begins and ends every text: V - 1."""

    def encode(self, features: Sequence[FloatArray]) -> Encoded:
        """Encode a batch of utterances, given as their normalised frames, (T_i, F) each."""

    def decode(self, encoded: Any, width: int) -> DecoderSession:
        """Return a session of the decoder with ``width`` rows for each utterance (K)."""

    def teacher_force(self, encoded: Any, texts: Sequence[Sequence[int]]) -> list[Forced]:
        """Score a text of each utterance, given as characters without <sos/eos>."""


class Step(NamedTuple):
    """Inputs of the scorers at one step of the search."""

    tokens: Array
    """Last character of each row, <sos/eos> at first, (N,), int64."""
    rows: Array
    """The row of the step before that each row extends, (N,), int64."""
    log_probs: Array
    """The decoder's log-probabilities of the next character, (N, V)."""
    alignment: Alignment
    """The decoder's attention for the next character."""


class Scorer(Protocol):
    """One of the scores that the search sums. Its state is a value that only the scorer reads."""

    name: str
    """Name of its score in :attr:`asr.search.hypothesis.Hypothesis.scores`."""
    weight: float
    """Factor of its scores in the total."""
    cumulative: bool = False
    """If True, :meth:`step` scores the whole hypothesis with the next character; if False, the
    next character alone, and the search sums these scores."""

    def start(self, encoded: Encoded, width: int) -> Any:
        """Return the state of B utterances with ``width`` rows each (K); the default is None."""
        return None

    def step(self, step: Step, state: Any) -> tuple[Array, Any]:
        """Read the last characters and score the next ones.

        Args:
            step: the step of the search.
            state: from :meth:`start`, :meth:`select` or the step before.

        Returns:
            scores in the type of ``step.log_probs``, (N, V) or broadcastable to it, and the next
            state.
        """

    def select(self, state: Any, rows: Array, encoded: Encoded) -> Any:
        """Return the state of the rows that stay in the batch.

        Args:
            state: from :meth:`step`.
            rows: K rows of the state for each utterance that stays; a row may be repeated.
            encoded: encoder output of the utterances that stay, cut to the longest of them.
        """
        return None

    def bound(self, scores: FloatArray, left: IntArray, steps: IntArray) -> FloatArray | float:
        """Return an upper bound of what the scorer can still add to the totals.

        Args:
            scores: this scorer's scores of the hypotheses so far, (B, K).
            left: most further characters, (B, 1).
            steps: encoder steps of each utterance, (B, 1).

        Returns:
            the bound with the scorer's weight, (B, K) or broadcastable to it.
        """
        return 0.0
