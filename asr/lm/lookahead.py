"""A word n-gram as a language model of characters: look-ahead (arXiv:1808.02608).

The vocabulary is a tree of characters. Inside a word, the probability of a character is that of
the words that it leaves possible::

    p(c | prefix, h) = P(words that begin with prefix c | h) / P(words that begin with prefix | h)

At the end of the word the score makes up the rest, so that the log-probabilities of its characters
and of the space or end after it add up to log p(word | h). A character model spells the words
outside the vocabulary, which share the probability of <unk> after h and join the sums above::

    P(unknown words that begin with prefix | h) = p(<unk> | h) * P_spelling(prefix)

Hence no text is impossible, and the probabilities of the next characters sum to 1 at most: scores
never rise at the end of a word, so that the bounds of the search hold. A good character model may
also have a share in the words of the vocabulary. It replaces p(word | h) by::

    (1 - share) * p(word | h) + share * p(not the end | h) * P_spelling(word)

A few array operations score all rows of a search. The sum over the words below a node is a range
of word numbers (:meth:`asr.lm.ngram.NGram.range_probs`): its cost hardly depends on the vocabulary.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from asr.arrays import Array, cast, full, move, namespace
from asr.errors import InputError
from asr.lm.arpa import SPECIAL, Arpa, read_arpa
from asr.lm.ngram import NGram
from asr.lm.prefix_tree import ROOT, PrefixTree
from asr.lm.protocol import LanguageModel
from asr.terminal import warn
from asr.text.tokenizer import SPACE, CharTokenizer

MOST_UNSPELLED = 0.5  # share of running words that cannot be spelled, above which loading fails
WARN_UNSPELLED = 0.1  # share above which a warning is printed
_FLOOR = -50.0  # least log-probability, as of a space after a space
_CASES = ("lower-case", str.islower, str.isupper), ("upper-case", str.isupper, str.islower)
_LIKELIEST_END = -1e-9  # largest log-probability of an end, so that the text may always go on


class CharacterUnigram(LanguageModel):
    """Spells words by the frequency of characters in the vocabulary; it has no state.

    Args:
        spellings: characters of each word; every word counts once.
        tokenizer: the characters, all of which get some probability.
        device: device of the arrays.
    """

    def __init__(
        self, spellings: Sequence[Sequence[int]], tokenizer: CharTokenizer, device: Any
    ) -> None:
        counts = np.ones(len(tokenizer))
        counts += np.bincount([c for s in spellings for c in s], minlength=len(tokenizer))
        counts[tokenizer.eos_id] += len(spellings)
        counts[tokenizer.blank_id] = 0.0
        with np.errstate(divide="ignore"):
            self.log_probs: Array = np.log(counts / counts.sum())
        move(self, device)

    def step(self, tokens: Array, state: None, rows: Array) -> tuple[Array, None]:
        """Return the same scores for every row; see :class:`asr.lm.protocol.LanguageModel`."""
        shape = len(tokens), len(self.log_probs)
        return namespace(tokens).broadcast_to(self.log_probs, shape), None


class WordState(NamedTuple):
    """State of N hypotheses."""

    history: Array
    """The n-gram's history before the current word, (N,)."""
    node: Array
    """Tree node of the characters of the current word, (N,)."""
    spelled: Array
    """Log-probability of these characters by the character language model, (N,), float64."""
    next: Array
    """The character language model's log-probabilities of the next character, (N, V)."""
    character_lm: Any
    """The character language model's own state."""


class WordLM:
    """Word n-grams in a search over characters.

    Args:
        arpa: the n-grams.
        tokenizer: the recogniser's characters; words with other characters are left out.
        character_lm: spells unknown words, for example :class:`asr.model.char_lm.CharLM`, which
            reads the whole sentence; the default is a :class:`CharacterUnigram`.
        oov_penalty: subtracted from the log-probability of every unknown word.
        share: share of the character language model in known words, at least 0 and below 1.
        device: device of the arrays.

    Raises:
        InputError: no word can be spelled, or the n-grams are inconsistent.
    """

    def __init__(
        self,
        arpa: Arpa,
        tokenizer: CharTokenizer,
        character_lm: LanguageModel | None = None,
        oov_penalty: float = 0.0,
        share: float = 0.0,
        device: Any = "cpu",
    ) -> None:
        spellings = _spellings(arpa, tokenizer)
        if not spellings:
            raise InputError("no word of the n-grams has only characters of tokens.txt")
        known = set(spellings.values())
        others = (word for word in arpa.words if word not in known)
        self.ngram = NGram(arpa, [*spellings.values(), *others], device)
        self.tree = PrefixTree(list(spellings), len(tokenizer), device)
        self.character_lm = character_lm or CharacterUnigram(list(spellings), tokenizer, device)
        self.eos, self.vocab, self.penalty = tokenizer.eos_id, len(tokenizer), oov_penalty
        self.log_rest = math.log(1 - share)
        self.log_share = math.log(share) if share > 0 else -math.inf
        self.space = tokenizer.encode(" ")[0]

    def start(self, rows: int) -> WordState:
        """Return the state of some rows before the first character."""
        history = self.ngram.start_histories(rows)
        spelled = full(rows, 0.0, history, "float64")
        following = full((rows, self.vocab), 0.0, spelled)
        root = full(rows, ROOT, history)
        return WordState(history, root, spelled, following, self.character_lm.start(rows))

    def select(self, state: WordState, rows: Array) -> WordState:
        """Return the given rows of a state; a row may be repeated."""
        history, node, spelled, following = (part[rows] for part in state[:4])
        character_lm = self.character_lm.select(state.character_lm, rows)
        return WordState(history, node, spelled, following, character_lm)

    @np.errstate(divide="ignore")  # log 0 is -inf
    def step(self, tokens: Array, state: WordState, rows: Array) -> tuple[Array, WordState]:
        """Read one character a row and score the next one; see :class:`LanguageModel`."""
        state = self._read(tokens, state, rows)
        return self._score(state, tokens == self.eos), state

    def _read(self, tokens: Array, state: WordState, rows: Array) -> WordState:
        following, character_lm = self.character_lm.step(tokens, state.character_lm, rows)
        history, node, spelled = state.history[rows], state.node[rows], state.spelled[rows]
        xp, space, start = namespace(tokens), tokens == self.space, tokens == self.eos
        _, ended = self.ngram.log_probs(history, self._word(node))
        history = xp.where(space & (node != ROOT), ended, history)
        history = xp.where(start, self.ngram.start, history)
        node = xp.where(space | start, ROOT, self.tree.child(node, tokens))
        character = cast(state.next[rows, tokens], "float64")
        spelled = xp.where(space | start, 0.0, spelled + character)
        return WordState(history, node, spelled, following, character_lm)

    def _word(self, node: Array) -> Array:
        """Return the word that ends at each node, or <unk>, (N,)."""
        word = self.tree.word[node]
        return namespace(word).where(word < 0, self.ngram.unknown, word)

    def _score(self, state: WordState, start: Array) -> Array:
        """Return log-probabilities of the next character; ``start`` marks sentence starts."""
        xp, node, words = namespace(state.node), state.node, self._word_scores(state)
        spelling = cast(state.next, "float64")
        here, below = self._look_ahead(state)
        total = xp.logaddexp(below, words.spelled_any[:, None] + spelling)  # (N, V)
        # the word ends, and perhaps the sentence
        ends = xp.logaddexp(spelling[:, self.space], spelling[:, self.eos])
        known = xp.logaddexp(words.spelled_known + ends, words.word)
        whole = xp.where(self.tree.word[node] >= 0, known, words.spelled_any + ends)
        whole = xp.where(node == ROOT, -math.inf, whole)
        total[:, self.space] = whole + words.later_no_end
        total[:, self.eos] = xp.where(start, words.end, whole + words.later_end)
        # probability of the prefix; at the root, of everything but the end of the sentence
        mass = xp.where(node == ROOT, words.no_end, xp.logaddexp(here, words.spelled_any))
        mass = xp.where(start, 0.0, mass)
        return cast((total - mass[:, None]).clip(_FLOOR, 0.0), "float32")

    def _word_scores(self, state: WordState) -> "_WordScores":
        """Score the current word, and the end of the sentence before and after it."""
        ngram, node, count = self.ngram, state.node, len(state.node)
        xp = namespace(node)
        unknown, end = (full(count, word, node) for word in (ngram.unknown, ngram.end))
        words = xp.concatenate([self._word(node), unknown, end])
        log_probs, after = ngram.log_probs(xp.concatenate([state.history] * 3), words)
        log_word, log_unknown, log_end = log_probs.reshape(3, count)
        log_end, no_end = _or_not(log_end)
        later_end, later_no_end = _or_not(ngram.log_probs(after[:count], end)[0])
        spelled_known = self.log_share + no_end + state.spelled
        oov = self.log_rest + log_unknown - self.penalty + state.spelled
        return _WordScores(
            self.log_rest + log_word, spelled_known, xp.logaddexp(spelled_known, oov),
            log_end, no_end, later_end, later_no_end,
        )  # fmt: skip

    def _look_ahead(self, state: WordState) -> tuple[Array, Array]:
        """Score the known words below the nodes, (N,), and below their children, (N, V)."""
        tree, node, history, xp = self.tree, state.node, state.history, namespace(state.node)
        parents, children = tree.every_child(node)
        nodes = xp.concatenate([node, children])
        probs = self.ngram.range_probs(
            xp.concatenate([history, history[parents]]), tree.first[nodes], tree.beyond[nodes]
        )
        logs = xp.log(probs) + self.log_rest
        here, there = logs[: len(node)], logs[len(node) :]
        below = full((len(node), self.vocab), -math.inf, here)
        below[parents, tree.keys[children] % self.vocab] = there
        return here, below


class _WordScores(NamedTuple):
    """Log-probabilities of N hypotheses, (N,) each."""

    word: Array
    """By the n-gram, of the word that ends at the node."""
    spelled_known: Array
    """By the character language model, of the known words with this prefix."""
    spelled_any: Array
    """By the character language model, of all words with this prefix, known or not."""
    end: Array
    """The sentence ends before the current word."""
    no_end: Array
    """The sentence does not end before the current word."""
    later_end: Array
    """The sentence ends after the current word."""
    later_no_end: Array
    """The sentence does not end after the current word."""


def _or_not(log_prob: Array) -> tuple[Array, Array]:
    """Return the log-probabilities of an end, which is never certain, and of no end."""
    log_prob, xp = log_prob.clip(max=_LIKELIEST_END), namespace(log_prob)
    return log_prob, xp.log1p(-xp.exp(log_prob))


def load_word_lm(
    path: str | Path,
    tokenizer: CharTokenizer,
    character_lm: LanguageModel | None = None,
    oov_penalty: float = 0.0,
    share: float = 0.0,
    device: Any = "cpu",
) -> WordLM:
    """Load an ARPA file for a search over characters; see :class:`WordLM`.

    Raises:
        InputError: the file is missing or damaged, or the recogniser writes no spaces or cannot
            spell most running words. If it cannot spell some of them, or writes both cases and all
            words are in one, a warning is printed.
    """
    arpa = read_arpa(path)
    _check_words(arpa, tokenizer, path)
    try:
        return WordLM(arpa, tokenizer, character_lm, oov_penalty, share, device)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _check_words(arpa: Arpa, tokenizer: CharTokenizer, path: str | Path) -> None:
    """Refuse n-grams of words that the recogniser cannot spell, because they would mislead it."""
    if tokenizer.unk_id in tokenizer.encode(" "):
        raise InputError(
            f"{path}: a word n-gram needs spaces between words, which this model does not write; "
            "decode without it, or with a language model of characters"
        )
    unigrams = zip(arpa.words, (10.0 ** arpa.orders[0].log_probs).tolist(), strict=True)
    probs = {word: prob for word, prob in unigrams if word not in SPECIAL}
    missing = [word for word in probs if tokenizer.unk_id in tokenizer.encode(word)]
    share = sum(probs[word] for word in missing) / (sum(probs.values()) or 1.0)
    remedy = "make the n-gram from texts written as in the training transcripts"
    if share > WARN_UNSPELLED:
        commonest = max(missing, key=lambda word: probs[word])
        message = (
            f"{path}: {len(missing)} of {len(probs)} words, {100 * share:.0f} % of running words, "
            f'have characters that this model does not write, for example "{commonest}"; {remedy}'
        )
        if share > MOST_UNSPELLED:
            raise InputError(message)
        warn(message)
    letters = "".join(tokenizer.symbols[tokenizer.unk_id + 1 : tokenizer.eos_id])
    letters = letters.replace(SPACE, "")
    for name, case, other in _CASES:
        if all(map(case, probs)) and any(map(other, letters)):
            warn(f"{path}: all words are {name}, but this model writes both cases; {remedy}")


def _spellings(arpa: Arpa, tokenizer: CharTokenizer) -> dict[tuple[int, ...], str]:
    """Return the spellings in ascending order, and the likeliest word that has each of them."""
    rows = np.argsort(arpa.orders[0].log_probs, kind="stable").tolist()
    words = (arpa.words[row] for row in rows)
    found = {tuple(tokenizer.encode(word)): word for word in words if word not in SPECIAL}
    return {ids: found[ids] for ids in sorted(found) if tokenizer.unk_id not in ids}
