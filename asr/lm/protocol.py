"""Protocol of a language model.

In a search the log-probabilities of the next character are added to the recogniser's (shallow
fusion, arXiv:1503.03535). Its characters have to be the recogniser's.
"""

from typing import Any, Protocol

from asr.arrays import Array


class LanguageModel(Protocol):
    """A language model in a search. Its state is a value that only the model reads.

    The arrays are those of the search: numpy on a processor, torch on a GPU.
    """

    def start(self, rows: int) -> Any:
        """Return the state before the first character, for a number of rows."""

    def step(self, tokens: Array, state: Any, rows: Array) -> tuple[Array, Any]:
        """Read one character a row and score the next one.

        Args:
            tokens: the last characters, <sos/eos> at first, (N,).
            state: from :meth:`start` or the step before.
            rows: the row of ``state`` that each row goes on from, (N,).

        Returns:
            log-probabilities (N, V), none of them above 0, and the next state.
        """

    def select(self, state: Any, rows: Array) -> Any:
        """Return the given rows of a state, picked or repeated."""
