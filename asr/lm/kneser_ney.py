"""Word n-grams by interpolated, modified Kneser-Ney smoothing (Chen and Goodman, 1999).

With h' the history h without its first word::

    p(w | h) = (a(h w) - D(a(h w))) / a(h .)  +  gamma(h) * p(w | h')
    gamma(h) = (sum of the discounts) / a(h .)

a(h w) is the count of the n-gram at the highest order, and the number of different words before it
at the lower orders (n-grams that begin a sentence keep their counts, because no word can precede
them). The unigrams are interpolated with a uniform distribution over all words and <unk>, which
gives <unk> its probability. The discounts D are estimated from the numbers of n-grams with the
counts 1, 2, 3 and 4; if one of these numbers is 0, D is 0.5, 1 and 1.5.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from asr.arrays import FloatArray, IntArray
from asr.errors import InputError
from asr.lm.arpa import SPECIAL, ZERO, Arpa, Order

FALLBACK = np.array([0.0, 0.5, 1.0, 1.5])  # discounts of counts 0, 1, 2 and more
_BEGIN, _END = 0, 1  # ids of <s> and </s>


@dataclass(frozen=True)
class _Counts:
    """The R different n-grams of one order (k) in a text, sorted by their words."""

    words: IntArray
    """(R, k)."""
    prefix: IntArray
    """Row of all words but the last one in the order below, (R,)."""
    suffix: IntArray
    """Row of all words but the first one in the order below, (R,)."""
    seen: IntArray
    """Number of occurrences, (R,)."""


def estimate(sentences: Iterable[str], order: int) -> Arpa:
    """Estimate n-grams from sentences.

    Args:
        sentences: words with white space between them.
        order: n of the longest n-grams, or less if all sentences are shorter.

    Raises:
        InputError: the text has no words, or one of its words is <s>, </s>, <unk> or <UNK>.
    """
    words, ids = _numbered(sentences)
    tables = [table for table in _count(ids, len(words), order) if len(table.words)]
    probs = np.full(len(words), 1 / (len(words) - 1))  # uniform; <s> is never predicted
    orders: list[Order] = []
    for k, table in enumerate(tables, 1):
        counts = _adjusted(table, tables[k] if k < len(tables) else None)
        heads = len(tables[k - 2].words) if k > 1 else 1
        taken = np.where(counts > 0, _discounts(counts)[np.minimum(counts, 3)], 0.0)
        total = np.bincount(table.prefix, counts, heads)
        left = np.bincount(table.prefix, taken, heads) / np.maximum(total, 1)  # gamma
        share = (counts - taken) / np.maximum(total, 1)[table.prefix]
        probs = share + left[table.prefix] * probs[table.suffix]
        if k > 1:
            backoffs = _log10(np.where(total > 0, left, 1.0))
            orders[-1] = replace(orders[-1], backoffs=backoffs)
        orders.append(Order(table.words, _log10(probs), np.zeros(len(probs))))
    orders[0].log_probs[_BEGIN] = ZERO
    return Arpa(tuple(words), tuple(orders))


def _numbered(sentences: Iterable[str]) -> tuple[list[str], IntArray]:
    """Return the vocabulary, and the ids of all sentences, each between <s> and </s>."""
    ids = {word: i for i, word in enumerate(SPECIAL)}
    text: list[int] = []
    for sentence in sentences:
        words = sentence.split()
        if wrong := [word for word in words if word in (*SPECIAL, "<UNK>")]:
            raise InputError(
                f'the text has the word "{wrong[0]}", which n-grams reserve, in "{sentence[:60]}"; '
                "remove it"
            )
        text += [_BEGIN, *(ids.setdefault(word, len(ids)) for word in words), _END]
    if len(ids) == len(SPECIAL):
        raise InputError("no words in the text; check the files")
    return list(ids), np.array(text, np.int64)


def _count(ids: IntArray, vocab: int, order: int) -> list[_Counts]:
    """Count the n-grams of all orders within sentences."""
    every, zero = np.arange(vocab), np.zeros(vocab, np.int64)
    tables = [_Counts(every[:, None], zero, every, np.bincount(ids, minlength=vocab))]
    rows = ids  # of the (k-1)-gram that begins at each position; -1 if a sentence ends within it
    for k in range(2, order + 1):
        inside = (rows[: 1 - k] >= 0) & (ids[k - 2 : -1] != _END)
        positions = np.flatnonzero(inside)
        keys = rows[positions] * vocab + ids[positions + k - 1]
        unique, first, inverse, seen = np.unique(keys, True, True, True)
        prefix, last = unique // vocab, unique % vocab
        words = np.hstack([tables[-1].words[prefix], last[:, None]])
        tables.append(_Counts(words, prefix, rows[positions[first] + 1], seen))
        rows = np.full(len(ids), -1)
        rows[positions] = inverse
    return tables


def _adjusted(table: _Counts, longer: _Counts | None) -> IntArray:
    """Return a: the counts, or numbers of different words before at lower orders, (R,)."""
    counts = table.seen.copy()
    if longer is not None:
        before = np.bincount(longer.suffix, minlength=len(counts))
        counts = np.where(table.words[:, 0] == _BEGIN, counts, before)
    if table.words.shape[1] == 1:
        counts[_BEGIN] = 0
    return counts


def _discounts(counts: IntArray) -> FloatArray:
    """Return Chen and Goodman's discounts of the counts 0, 1, 2 and more, (4,)."""
    _, *of = np.bincount(np.minimum(counts, 5), minlength=6)[:5].tolist()  # seen 1, 2, 3, 4 times
    if not all(of):
        return FALLBACK
    y = of[0] / (of[0] + 2 * of[1])
    found = np.array([0.0] + [i - (i + 1) * y * of[i] / of[i - 1] for i in (1, 2, 3)])
    usable = bool((found[1:] > 0).all() and (found <= np.arange(4)).all())
    return found if usable else FALLBACK


def _log10(values: FloatArray) -> FloatArray:
    return np.log10(np.maximum(values, 10**ZERO))
