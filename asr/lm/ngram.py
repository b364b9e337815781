"""Word n-grams: probabilities of many words after many histories at once.

In the back-off form of ARPA files (Katz, 1987), with h' the history h without its first word::

    p(w | h) = p as listed, where the file lists h w;  otherwise  backoff(h) * p(w | h')

Words with the same prefix have consecutive numbers, so that the probability of all words with a
prefix is a sum over a range. :meth:`NGram.range_probs` finds it without a loop over the words: the
words that h lists add their differences from ``backoff(h) * p(w | h')``, and two binary searches
look up the range in the cumulative sums of these differences.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from asr.arrays import Array, IntArray, full, move, namespace
from asr.errors import InputError
from asr.lm.arpa import BEGIN, END, UNKNOWN, Arpa, Order

_LN10 = math.log(10.0)


class NGram:
    """Back-off n-grams for batches of histories.

    The number of a history is that of its longest listed suffix: 0 is the empty history, and the
    n-gram at position i of all listed ones, shorter ones first, has the number i + 1.

    Args:
        arpa: the n-grams.
        words: the same vocabulary in the order of the words' numbers.
        device: device of the tables.

    Raises:
        InputError: an n-gram is listed twice, or its first n - 1 words are not listed.
    """

    def __init__(self, arpa: Arpa, words: Sequence[str], device: Any = "cpu") -> None:
        self.words, self.order = tuple(words), len(arpa.orders)
        self.ids = {word: i for i, word in enumerate(words)}
        self.begin, self.end, self.unknown = (self.ids[w] for w in (BEGIN, END, UNKNOWN))
        numbers = np.array([self.ids[word] for word in arpa.words], np.int64)
        orders = [_renumbered(order, numbers) for order in arpa.orders]
        self._keys: Array = np.zeros(0, np.int64)  # V times the history, plus the word
        shorter = [np.zeros(1, np.int64)]
        for order in orders:
            keys = self._checked_keys(order)
            shorter.append(self._longest(order.words[:, 1:]))
            self._keys = np.concatenate([self._keys, keys])
        self._shorter: Array = np.concatenate(shorter[:-1])
        self._targets: Array = np.append(np.arange(1, len(self._shorter)), shorter[-1])
        self._backoffs: Array = np.concatenate([[0.0], *(o.backoffs for o in orders[:-1])]) * _LN10
        self._log_probs: Array = np.concatenate([order.log_probs for order in orders]) * _LN10
        self._first: Array = np.searchsorted(self._keys, np.arange(len(self._shorter)) * len(words))
        self._sums = self._cumulative_differences()
        move(self, device)

    def _checked_keys(self, order: Order) -> IntArray:
        """Return the keys of the n-grams of an order, whose shorter orders are listed, (R,)."""
        n = order.words.shape[1]
        histories = self._numbers(order.words[:, :-1])
        if missing := np.count_nonzero(histories < 0):
            raise InputError(
                f"{missing} {n}-grams begin with words that are no {n - 1}-gram, expected every "
                "beginning to be listed; make the file again without dropping those"
            )
        keys = histories * len(self.words) + order.words[:, -1]
        if not np.diff(keys).all():
            raise InputError(f"{n}-grams that are listed twice, expected each once")
        return keys

    def _numbers(self, words: IntArray) -> IntArray:
        """Return the numbers of listed histories, -1 for others: (R, k) to (R,)."""
        histories = np.zeros(len(words), np.int64)
        for column in words.T:
            positions, found = self._find(histories, column)
            histories = np.where(found, positions + 1, -1)
        return histories

    def _longest(self, words: IntArray) -> IntArray:
        """Return the numbers of the longest listed suffixes: (R, k) to (R,)."""
        suffixes = (words[:, skip:] for skip in range(words.shape[1] + 1))
        return np.max([self._numbers(suffix) for suffix in suffixes], axis=0)

    @property
    def start(self) -> int:
        """The history at the beginning of a sentence."""
        return 1 + self.begin if self.order > 1 else 0

    def start_histories(self, rows: int) -> Array:
        """Return the history at the beginning of a sentence for each row, (rows,)."""
        return full(rows, self.start, self._keys)

    def _find(self, histories: Array, words: Array) -> tuple[Array, Array]:
        """Return the position of each n-gram among all listed ones, and whether it is listed."""
        keys = histories * len(self.words) + words
        positions = namespace(keys).searchsorted(self._keys, keys).clip(max=len(self._keys) - 1)
        return positions, self._keys[positions] == keys

    def log_probs(self, histories: Array, words: Array) -> tuple[Array, Array]:
        """Return natural log-probabilities of words after histories, and the next histories.

        Args:
            histories: (N,).
            words: (N,).

        Returns:
            (N,) float64 and (N,) int64.
        """
        xp = namespace(histories)
        factor = full(len(histories), 0.0, self._log_probs)
        result, target = full(len(histories), -math.inf, factor), xp.zeros_like(histories)
        waiting = histories >= 0
        for _ in range(self.order):
            positions, found = self._find(histories, words)
            found = found & waiting
            result = xp.where(found, factor + self._log_probs[positions], result)
            target = xp.where(found, self._targets[positions], target)
            waiting = waiting & ~found
            factor = factor + self._backoffs[histories]
            histories = self._shorter[histories]
        return result, target

    def range_probs(self, histories: Array, first: Array, beyond: Array) -> Array:
        """Return the summed probability of a range of words after each history.

        Args:
            histories: (N,).
            first: number of the range's first word, (N,).
            beyond: number of the word after its last one, (N,).

        Returns:
            (N,), float64.
        """
        xp, total = namespace(histories), full(len(histories), 0.0, self._sums)
        factor = full(len(histories), 1.0, total)
        for _ in range(self.order):
            total = total + factor * (self._sum(histories, beyond) - self._sum(histories, first))
            # the empty history is its own shorter history and must not count twice
            factor = xp.where(histories == 0, 0.0, factor * xp.exp(self._backoffs[histories]))
            histories = self._shorter[histories]
        return total.clip(0.0)

    def _sum(self, histories: Array, beyond: Array) -> Array:
        """Return the summed differences of each history's listed words before a word, (N,)."""
        xp = namespace(histories)
        positions = xp.searchsorted(self._keys, histories * len(self.words) + beyond)
        some = positions > self._first[histories]
        return xp.where(some, self._sums[(positions - 1).clip(0)], 0.0)

    def _cumulative_differences(self) -> Array:
        """Return p(w | h) - backoff(h) p(w | h'), summed within each history up to each word."""
        histories, words = self._keys // len(self.words), self._keys % len(self.words)
        backed = self.log_probs(self._shorter[histories], words)[0] + self._backoffs[histories]
        sums = np.exp(self._log_probs) - np.where(histories > 0, np.exp(backed), 0.0)
        position = np.arange(len(sums)) - self._first[histories]
        # sums over doubling distances, within a history: one over all would lose digits
        distance = 1
        while distance <= int(position.max()):
            moved = np.where(position[distance:] >= distance, sums[:-distance], 0.0)
            sums = np.concatenate([sums[:distance], sums[distance:] + moved])
            distance *= 2
        return sums


def _renumbered(order: Order, numbers: IntArray) -> Order:
    """Return the n-grams with new word numbers, sorted by them."""
    words = numbers[order.words]
    rows = np.lexsort(words.T[::-1])
    return Order(words[rows], order.log_probs[rows], order.backoffs[rows])
