"""Word n-grams: probabilities of many words after many histories at once.

In the back-off form of ARPA files (Katz, 1987), with h' the history h without its first word::

    p(w | h) = p as listed, where the file lists h w;  otherwise  backoff(h) * p(w | h')

Words are numbered so that those which begin alike lie side by side. Then the probability of all
words with some beginning is a sum over a range, which :meth:`NGram.range_probs` finds without
looking at the words one by one: listed words of h contribute what they differ by from
``backoff(h) * p(w | h')``, these differences are summed up beforehand, and two binary searches
cut the range out of the sums.
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

    A history is known by the number of its longest suffix that the file lists: 0 is the empty
    one, then come those of one word, of two, and so on.

    Args:
        arpa: the n-grams.
        words: the same vocabulary in the order in which it is to be numbered.
        device: where the tables lie.

    Raises:
        InputError: an n-gram is there twice, or the shorter ones that it needs are not there.
    """

    def __init__(self, arpa: Arpa, words: Sequence[str], device: Any = "cpu") -> None:
        self.words = tuple(words)
        self.ids = {word: i for i, word in enumerate(words)}
        self.begin, self.end, self.unknown = (self.ids[w] for w in (BEGIN, END, UNKNOWN))
        number = np.array([self.ids[word] for word in arpa.words], np.int64)
        tables = _Tables(len(words), [_renumbered(order, number) for order in arpa.orders])
        self.order = len(arpa.orders)
        self._keys, self._log_probs, self._targets = tables.keys, tables.log_probs, tables.targets
        self._first, self._shorter, self._backoffs = tables.first, tables.shorter, tables.backoffs
        self._sums = self._differences_summed_up()
        move(self, device)

    @property
    def start(self) -> int:
        """History at the beginning of a sentence."""
        return 1 + self.begin if self.order > 1 else 0

    def start_histories(self, rows: int) -> Array:
        """Return the histories at the beginning of so many sentences, (rows,)."""
        return full(rows, self.start, self._keys)

    def _find(self, histories: Array, words: Array) -> tuple[Array, Array]:
        """Return the position of each word in the list of its history, and whether it is there."""
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
            # the empty history is its own shorter one, and must not count twice
            factor = xp.where(histories == 0, 0.0, factor * xp.exp(self._backoffs[histories]))
            histories = self._shorter[histories]
        return total.clip(0.0)

    def _sum(self, histories: Array, beyond: Array) -> Array:
        """Return the sum of the differences of a history's listed words before a word, (N,)."""
        xp = namespace(histories)
        positions = xp.searchsorted(self._keys, histories * len(self.words) + beyond)
        some = positions > self._first[histories]
        return xp.where(some, self._sums[(positions - 1).clip(0)], 0.0)

    def _differences_summed_up(self) -> Array:
        """Return sums within each history, up to each word, of p(w | h) - backoff(h) p(w | h')."""
        histories, words = self._keys // len(self.words), self._keys % len(self.words)
        backed = self.log_probs(self._shorter[histories], words)[0] + self._backoffs[histories]
        sums = np.exp(self._log_probs) - np.where(histories > 0, np.exp(backed), 0.0)
        position = np.arange(len(sums)) - self._first[histories]
        # doubling distances: sums stay within a history, so that no digits are lost
        distance = 1
        while distance <= int(position.max()):
            moved = np.where(position[distance:] >= distance, sums[:-distance], 0.0)
            sums = np.concatenate([sums[:distance], sums[distance:] + moved])
            distance *= 2
        return sums


def _renumbered(order: Order, number: IntArray) -> Order:
    """Return the n-grams with other numbers for the words, sorted by them."""
    words = number[order.words]
    rows = np.lexsort(words.T[::-1])
    return Order(words[rows], order.log_probs[rows], order.backoffs[rows])


class _Tables:
    """N-grams of all orders by history: the number of a listed n-gram as a history is 1 + its
    position among all that are listed, shorter ones first.

    Args:
        vocab: number of words (V).
        orders: sorted by words; the highest has no histories.
    """

    def __init__(self, vocab: int, orders: Sequence[Order]) -> None:
        self.vocab = vocab
        sizes = [len(order.words) for order in orders]
        bases = (1 + np.cumsum([0, *sizes[:-1]])).tolist()  # number of each order's first history
        histories = bases[-1]
        self.shorter = np.zeros(histories, np.int64)
        self.backoffs = np.zeros(histories)
        keys: list[IntArray] = []
        targets: list[IntArray] = []
        for k, (order, base) in enumerate(zip(orders, bases, strict=True), 1):
            parents = self._numbers(keys, bases, order.words[:, :-1])
            missing = np.flatnonzero(parents < 0)
            if len(missing):
                raise InputError(
                    f"{len(missing)} {k}-grams begin with words that are no {k - 1}-gram, expected "
                    "every beginning to be listed; make the file again without dropping those"
                )
            keys.append(parents * vocab + order.words[:, -1])
            if len(np.unique(keys[-1])) < len(keys[-1]):
                raise InputError(f"{k}-grams that are listed twice, expected each once")
            suffixes = self._longest(keys, bases, order.words[:, 1:])
            own = base + np.arange(len(order.words))
            targets.append(suffixes if k == len(orders) else own)
            if k < len(orders):
                self.shorter[own] = suffixes
                self.backoffs[own] = order.backoffs * _LN10
        self.keys = np.concatenate(keys)
        self.targets = np.concatenate(targets)
        self.log_probs = np.concatenate([order.log_probs for order in orders]) * _LN10
        self.first = np.searchsorted(self.keys, np.arange(histories) * vocab)

    def _numbers(self, keys: list[IntArray], bases: list[int], words: IntArray) -> IntArray:
        """Return the numbers of histories of one length, (R, k); -1 where they are not listed."""
        found = np.zeros(len(words), np.int64)
        for k in range(words.shape[1]):
            wanted = found * self.vocab + words[:, k]
            positions = np.searchsorted(keys[k], wanted).clip(max=max(0, len(keys[k]) - 1))
            listed = (found >= 0) & (len(keys[k]) > 0)
            if len(keys[k]):
                listed &= keys[k][positions] == wanted
            found = np.where(listed, bases[k] + positions, -1)
        return found

    def _longest(self, keys: list[IntArray], bases: list[int], words: IntArray) -> IntArray:
        """Return the numbers of the longest listed suffixes, (R, k) to (R,)."""
        found = np.full(len(words), -1, np.int64)
        for skip in range(words.shape[1] + 1):
            found = np.where(found < 0, self._numbers(keys, bases, words[:, skip:]), found)
        return found
