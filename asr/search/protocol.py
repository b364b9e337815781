"""What the beam search asks of a scorer.

The search adds up the weighted scores of a list of scorers; see :mod:`asr.search.scorers` for
those that there are. Letters: B utterances, K hypotheses of each side by side, N = B K rows,
V characters.
"""

from typing import Any, NamedTuple, Protocol

from torch import Tensor

from asr.model.attention import Alignment
from asr.model.memory import Memory


class Step(NamedTuple):
    """What is known at one step of the search."""

    tokens: Tensor
    """Last character of each row, <sos/eos> at first, (N,), int64."""
    rows: Tensor
    """The row of the step before that each row continues, (N,), int64."""
    log_probs: Tensor
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

    def start(self, encoded: Memory, width: int) -> Any:
        """Return the state before the first character; by default there is none.

        Args:
            encoded: encoder output of B utterances.
            width: rows of each utterance (K).
        """
        return None

    def step(self, step: Step, state: Any) -> tuple[Tensor, Any]:
        """Read the last characters and score the next ones.

        Args:
            step: the step of the search.
            state: from :meth:`start`, :meth:`select` or the step before.

        Returns:
            scores in the type of ``step.log_probs``, (N, V) or what broadcasts to it, and the
            next state.
        """

    def select(self, state: Any, rows: Tensor, encoded: Memory) -> Any:
        """Return the state of some rows, for the others have left the batch.

        Args:
            state: from :meth:`step`.
            rows: of the state, K for each utterance that stays; a row may be repeated.
            encoded: encoder output of the utterances that stay, cut to the longest of them.
        """
        return None

    def bound(self, score: float, left: int, steps: int) -> float:
        """Return the most that a hypothesis can still add to its total, weight included.

        Args:
            score: of the hypothesis so far.
            left: most characters that it may still get.
            steps: encoder steps of its utterance.
        """
        return 0.0
