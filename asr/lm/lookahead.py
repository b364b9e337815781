"""A word n-gram as a language model of characters: look-ahead (arXiv:1808.02608).

The vocabulary is a tree of characters. Inside a word a character scores what is left of the
probability of the words that may still come::

    p(c | prefix, h) = P(words that begin with prefix c | h) / P(words that begin with prefix | h)

and at its end the word gets the rest, so that the scores of its characters, with the space or
end after it, add up to log p(word | h). Words that the n-gram does not know are spelled by a
character model: the probability of <unk> after h is spread over them, and joins the sums above,

    P(unknown words that begin with prefix | h) = p(<unk> | h) * P_spelling(prefix)

so that nothing is impossible, and the next characters' probabilities sum up to one at most. (Where
others multiply a character model into every word and take it out again at the end, scores rise
at word ends, and a search cannot tell that a hypothesis is lost.) A good character model may also
have a share in the words that the n-gram knows: what stands for p(word | h) then is

    (1 - share) * p(word | h) + share * p(not the end | h) * P_spelling(word)

All rows of a search are handled by a few operations on arrays, without a loop over them. The
sum over the words below a node is one over a range of word numbers, see
:meth:`asr.lm.ngram.NGram.range_probs`; it costs the same for 100 and for 200,000 words.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asr.arrays import Array, cast, full, move, namespace
from asr.errors import InputError
from asr.lm.arpa import BEGIN, END, UNKNOWN, Arpa, read_arpa
from asr.lm.ngram import NGram
from asr.lm.prefix_tree import ROOT, PrefixTree
from asr.lm.protocol import LanguageModel
from asr.text.chars import SPACE, CharTokenizer

MOST_UNSPELLED = 0.5  # share of the running words, by the unigrams, above which it cannot help
WARN_UNSPELLED = 0.1  # share above which a warning is printed
_FLOOR = -50.0  # log-probability of the impossible, such as a space after a space
_ALMOST = -1e-9  # largest log-probability of an end; a text may still go on


class UnigramSpeller:
    """Spells words by the frequency of characters in the vocabulary; keeps no state.

    Args:
        spellings: characters of each word; every word counts once.
        tokenizer: the characters; none is impossible.
        device: where its arrays lie.
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

    def start(self, rows: int) -> None:
        """Return no state."""

    def step(self, tokens: Array, state: None, rows: Array) -> tuple[Array, None]:
        """Return the same scores for every row; see :class:`asr.lm.protocol.LanguageModel`."""
        return namespace(tokens).broadcast_to(
            self.log_probs, (len(tokens), len(self.log_probs))
        ), None

    def select(self, state: None, rows: Array) -> None:
        """Return no state."""


@dataclass(frozen=True)
class WordState:
    """State of N hypotheses."""

    history: Array
    """The n-gram's number for the words before the present one, (N,)."""
    node: Array
    """Node of the tree for the characters of the present word, (N,)."""
    spelled: Array
    """Log-probability of these characters by the spelling model, (N,), float64."""
    next: Array
    """The spelling model's log-probabilities of the next character, (N, V)."""
    speller: Any
    """The spelling model's own state."""


class WordLM:
    """Word n-grams in a search over characters.

    Args:
        arpa: the n-grams.
        tokenizer: the recogniser's characters; words that they cannot spell are never found.
        speller: spells unknown words, a :class:`asr.model.char_lm.CharLM` for example, which
            reads the whole sentence; by default characters are drawn by their frequency in the
            vocabulary.
        oov_penalty: taken from the n-gram's log-probability of every unknown word.
        share: of the speller in known words, from 0 to below 1.
        device: where its arrays lie.

    Raises:
        InputError: no word can be spelled, or the tables of the n-grams are not consistent.
    """

    def __init__(
        self,
        arpa: Arpa,
        tokenizer: CharTokenizer,
        speller: LanguageModel | None = None,
        oov_penalty: float = 0.0,
        share: float = 0.0,
        device: Any = "cpu",
    ) -> None:
        spellings = _spellings(arpa.words, tokenizer)
        if not spellings:
            raise InputError("no word of the n-grams has only characters of tokens.txt")
        known = set(spellings.values())
        others = (word for word in arpa.words if word not in known)
        self.ngram = NGram(arpa, [*spellings.values(), *others], device)
        self.tree = PrefixTree(list(spellings), len(tokenizer), device)
        self.speller = speller or UnigramSpeller(list(spellings), tokenizer, device)
        self.eos, self.vocab, self.penalty = tokenizer.eos_id, len(tokenizer), oov_penalty
        self.own = math.log(1 - share)
        self.spelled = math.log(share) if share > 0 else -math.inf
        self.space = tokenizer.encode(" ")[0]

    def start(self, rows: int) -> WordState:
        """Return the state before the first character, for a number of rows."""
        history = self.ngram.start_histories(rows)
        spelled = full(rows, 0.0, history, "float64")
        following = full((rows, self.vocab), 0.0, spelled)
        root = full(rows, ROOT, history)
        return WordState(history, root, spelled, following, self.speller.start(rows))

    def select(self, state: WordState, rows: Array) -> WordState:
        """Return the given rows of a state, picked or repeated."""
        return WordState(
            state.history[rows],
            state.node[rows],
            state.spelled[rows],
            state.next[rows],
            self.speller.select(state.speller, rows),
        )

    @np.errstate(divide="ignore")  # what is impossible has the log-probability -inf
    def step(self, tokens: Array, state: WordState, rows: Array) -> tuple[Array, WordState]:
        """Read one character a row and score the next one; see :class:`LanguageModel`."""
        state = self._read(tokens, state, rows)
        return self._score(state, tokens == self.eos), state

    def _read(self, tokens: Array, state: WordState, rows: Array) -> WordState:
        following, speller = self.speller.step(tokens, state.speller, rows)
        history, node, spelled = state.history[rows], state.node[rows], state.spelled[rows]
        xp, space, start = namespace(tokens), tokens == self.space, tokens == self.eos
        _, ended = self.ngram.log_probs(history, self._word(node))
        history = xp.where(space & (node != ROOT), ended, history)
        history = xp.where(start, self.ngram.start, history)
        node = xp.where(space | start, ROOT, self.tree.child(node, tokens))
        character = cast(state.next[rows, tokens], "float64")
        spelled = xp.where(space | start, 0.0, spelled + character)
        return WordState(history, node, spelled, following, speller)

    def _word(self, node: Array) -> Array:
        """Return the word that ends at each node, or <unk>, (N,)."""
        word = self.tree.word[node]
        return namespace(word).where(word < 0, self.ngram.unknown, word)

    def _score(self, state: WordState, start: Array) -> Array:
        """Return log-probabilities of the next character; ``start`` marks sentence starts."""
        xp, node, odds = namespace(state.node), state.node, self._weigh(state)
        spelling = cast(state.next, "float64")
        here, below = self._look_ahead(state)
        total = xp.logaddexp(below, odds.unknown[:, None] + spelling)  # (N, V)
        # the word ends, and the sentence with it or not
        ends = xp.logaddexp(spelling[:, self.space], spelling[:, self.eos])
        known = xp.logaddexp(odds.any_word + ends, odds.word)
        whole = xp.where(self.tree.word[node] >= 0, known, odds.unknown + ends)
        whole = xp.where(node == ROOT, -math.inf, whole)
        total[:, self.space] = whole + odds.later_word
        total[:, self.eos] = xp.where(start, odds.end, whole + odds.later_end)
        # the mass of the prefix; at the beginning of a word, all but the end of the sentence
        mass = xp.where(node == ROOT, odds.no_end, xp.logaddexp(here, odds.unknown))
        mass = xp.where(start, 0.0, mass)
        return cast((total - mass[:, None]).clip(_FLOOR, 0.0), "float32")

    def _weigh(self, state: WordState) -> "_Odds":
        """Score the present word, and the end of the sentence before and after it."""
        ngram, node, count = self.ngram, state.node, len(state.node)
        xp = namespace(node)
        unknown, end = (full(count, word, node) for word in (ngram.unknown, ngram.end))
        words = xp.concatenate([self._word(node), unknown, end])
        log_probs, after = ngram.log_probs(xp.concatenate([state.history] * 3), words)
        log_word, log_unknown, log_end = log_probs.reshape(3, count)
        log_end, no_end = _or_not(log_end)
        later_end, later_word = _or_not(ngram.log_probs(after[:count], end)[0])
        any_word = self.spelled + no_end + state.spelled
        none_known = self.own + log_unknown - self.penalty + state.spelled
        return _Odds(
            self.own + log_word, any_word, xp.logaddexp(any_word, none_known), log_end, no_end,
            later_end, later_word,
        )  # fmt: skip

    def _look_ahead(self, state: WordState) -> tuple[Array, Array]:
        """Score all known words below the nodes, (N,), and below their children, (N, V)."""
        tree, node, history, xp = self.tree, state.node, state.history, namespace(state.node)
        parents, children = tree.every_child(node)
        nodes = xp.concatenate([node, children])
        probs = self.ngram.range_probs(
            xp.concatenate([history, history[parents]]), tree.first[nodes], tree.beyond[nodes]
        )
        logs = xp.log(probs) + self.own
        here, there = logs[: len(node)], logs[len(node) :]
        below = full((len(node), self.vocab), -math.inf, here)
        below[parents, tree.keys[children] % self.vocab] = there
        return here, below


@dataclass(frozen=True)
class _Odds:
    """Log-probabilities of N hypotheses, (N,) each."""

    word: Array
    """The n-gram's share of the word that ends at the node."""
    any_word: Array
    """The speller's share of known words with this prefix."""
    unknown: Array
    """What the speller gives to all words with this prefix, known or not."""
    end: Array
    """The sentence ends instead of another word."""
    no_end: Array
    """Another word comes."""
    later_end: Array
    """The sentence ends after the present word."""
    later_word: Array
    """Another word comes after the present one."""


def _or_not(log_prob: Array) -> tuple[Array, Array]:
    """Return the log-probabilities of an event, which is never certain, and of its opposite."""
    log_prob, xp = log_prob.clip(max=_ALMOST), namespace(log_prob)
    return log_prob, xp.log1p(-xp.exp(log_prob))


def load_word_lm(
    path: str | Path,
    tokenizer: CharTokenizer,
    speller: LanguageModel | None = None,
    oov_penalty: float = 0.0,
    share: float = 0.0,
    device: Any = "cpu",
) -> WordLM:
    """Load an ARPA file for a search over characters; see :class:`WordLM`.

    Raises:
        InputError: the file is missing or damaged, or most running words have characters that the
            recogniser does not write. A warning says so where a part has them, or where all words
            are in one case and the recogniser writes both.
    """
    arpa = read_arpa(path)
    _check_words(arpa, tokenizer, path)
    try:
        return WordLM(arpa, tokenizer, speller, oov_penalty, share, device)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _check_words(arpa: Arpa, tokenizer: CharTokenizer, path: str | Path) -> None:
    """Refuse words that the recogniser does not write, for they would spoil its texts."""
    chances = dict(zip(arpa.words, (10.0 ** arpa.orders[0].log_probs).tolist(), strict=True))
    for name in (BEGIN, END, UNKNOWN):
        chances.pop(name, None)
    missing = sorted(
        (w for w in chances if not _can_spell(w, tokenizer)), key=lambda w: -chances[w]
    )
    share = sum(chances[word] for word in missing) / (sum(chances.values()) or 1.0)
    if share > WARN_UNSPELLED:
        message = (
            f"{path}: {len(missing)} of {len(chances)} words, {100 * share:.0f} % of running words"
            f', have characters that this model does not write, "{missing[0]}" for one'
            f"{_other_case(missing, tokenizer)}"
        )
        if share > MOST_UNSPELLED:
            raise InputError(f"{message}; make the n-gram of texts written as the model writes")
        print(f"warning: {message}", file=sys.stderr)
    for case, other in ((str.islower, str.isupper), (str.isupper, str.islower)):
        letters = "".join(tokenizer.symbols[tokenizer.unk_id + 1 : tokenizer.eos_id])
        if all(map(case, chances)) and any(map(other, letters.replace(SPACE, ""))):
            which = "small" if case is str.islower else "capital"
            print(
                f"warning: {path}: all words are in {which} letters, but this model writes both; "
                "make the n-gram of texts written as the model writes",
                file=sys.stderr,
            )


def _can_spell(word: str, tokenizer: CharTokenizer) -> bool:
    return tokenizer.unk_id not in tokenizer.encode(word)


def _other_case(words: Sequence[str], tokenizer: CharTokenizer) -> str:
    """Return a remark where most of these words could be written in the other case."""
    for case, name in ((str.upper, "capitals"), (str.lower, "small letters")):
        if sum(_can_spell(case(word), tokenizer) for word in words) > len(words) / 2:
            return f" (it writes {name})"
    return ""


def _spellings(words: Sequence[str], tokenizer: CharTokenizer) -> dict[tuple[int, ...], str]:
    """Return the words that the characters can spell by their ids, in ascending order."""
    found = {}
    for word in words:
        ids = tuple(tokenizer.encode(word))
        if word not in (BEGIN, END, UNKNOWN) and tokenizer.unk_id not in ids:
            found[ids] = word
    return dict(sorted(found.items()))
