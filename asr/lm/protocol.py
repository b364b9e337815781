"""Protocol of a language model.

The search adds its log-probabilities of the next character to the recogniser's (shallow fusion,
arXiv:1503.03535). Its characters must be the recogniser's.
"""

from typing import Any, Protocol

from asr.arrays import Array


class LanguageModel(Protocol):
    """A language model in a search. Its state is a value that only the model reads.

    The arrays are those of the search: numpy on a CPU, torch on a GPU.
    """

    def start(self, rows: int) -> Any:
        """Return the state of some rows before the first character; the default is None."""
        return None

    def step(self, tokens: Array, state: Any, rows: Array) -> tuple[Array, Any]:
        """Read one character a row and score the next one.

        Args:
            tokens: the last characters, <sos/eos> at first, (N,).
            state: from :meth:`start` or the step before.
            rows: the row of ``state`` that each row extends, (N,).

        Returns:
            log-probabilities (N, V), 0 at most, and the next state.
        """

    def select(self, state: Any, rows: Array) -> Any:
        """Return the given rows of a state; a row may be repeated."""
        return None
