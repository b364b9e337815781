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

All rows of a search are handled by a few operations on tensors, without a loop over them. The
sum over the words below a node is one over a range of word numbers, see
:meth:`asr.lm.ngram.NGram.range_probs`; it costs the same for 100 and for 200,000 words.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from asr.errors import InputError
from asr.lm.arpa import BEGIN, END, UNKNOWN, Arpa, read_arpa
from asr.lm.ngram import NGram
from asr.lm.prefix_tree import ROOT, PrefixTree
from asr.lm.protocol import LanguageModel
from asr.text.chars import SPACE, CharTokenizer

MOST_UNSPELLED = 0.5  # of what is said, by the n-gram's unigrams; with more it cannot help
WARN_UNSPELLED = 0.1
_FLOOR = -50.0  # log-probability of what cannot be, as a space after a space
_ALMOST = -1e-9  # largest log-probability of an end; a text may still go on


class UnigramSpeller:
    """The spelling model where there is no better one: how frequent characters are in words.

    Args:
        spellings: characters of each word; every word counts once.
        tokenizer: the characters; none is impossible.
        device: where it works.
    """

    def __init__(
        self,
        spellings: Sequence[Sequence[int]],
        tokenizer: CharTokenizer,
        device: str | torch.device,
    ) -> None:
        counts = torch.ones(len(tokenizer), dtype=torch.float64)
        counts += torch.bincount(
            torch.tensor([c for s in spellings for c in s]), minlength=len(tokenizer)
        )
        counts[tokenizer.eos_id] += len(spellings)
        counts[tokenizer.blank_id] = 0.0
        self.log_probs = (counts / counts.sum()).log().to(device)

    def start(self, rows: int) -> None:
        """There is nothing to know."""

    def step(self, tokens: Tensor, state: None, rows: Tensor) -> tuple[Tensor, None]:
        """The same for every row; see :class:`asr.lm.protocol.LanguageModel`."""
        return self.log_probs.expand(len(tokens), -1), None

    def select(self, state: None, rows: Tensor) -> None:
        """There is nothing to know."""


@dataclass(frozen=True)
class WordState:
    """Where N hypotheses stand."""

    history: Tensor
    """The n-gram's number for the words before the present one, (N,)."""
    node: Tensor
    """Of the tree, for the characters of the present word, (N,)."""
    spelled: Tensor
    """Log-probability of these characters by the spelling model, (N,), float64."""
    next: Tensor
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
        device: where it works.

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
        device: str | torch.device = "cpu",
    ) -> None:
        spellings = _spellings(arpa.words, tokenizer)
        if not spellings:
            raise InputError("no word of the n-grams has only characters of tokens.txt")
        known = set(spellings.values())
        others = (word for word in arpa.words if word not in known)
        self.ngram = NGram(arpa, [*spellings.values(), *others], device)
        self.tree = PrefixTree(list(spellings), len(tokenizer)).to(device)
        self.speller = speller or UnigramSpeller(list(spellings), tokenizer, device)
        self.eos, self.vocab, self.penalty = tokenizer.eos_id, len(tokenizer), oov_penalty
        self.own = math.log(1 - share)
        self.spelled = math.log(share) if share > 0 else -math.inf
        self.space = tokenizer.encode(" ")[0]

    def start(self, rows: int) -> WordState:
        """The state of so many rows before the first character."""
        device = self.ngram.device
        zeros = torch.zeros(rows, dtype=torch.int64, device=device)
        nothing = torch.zeros(rows, dtype=torch.float64, device=device)
        spelled = torch.zeros(rows, self.vocab, dtype=torch.float64, device=device)
        history = zeros + self.ngram.start
        return WordState(history, zeros + ROOT, nothing, spelled, self.speller.start(rows))

    def select(self, state: WordState, rows: Tensor) -> WordState:
        """The given rows of a state, picked or repeated."""
        return WordState(
            state.history[rows],
            state.node[rows],
            state.spelled[rows],
            state.next[rows],
            self.speller.select(state.speller, rows),
        )

    @torch.no_grad()
    def step(self, tokens: Tensor, state: WordState, rows: Tensor) -> tuple[Tensor, WordState]:
        """Read one character a row and score the next one; see :class:`LanguageModel`."""
        state = self._read(tokens.long(), state, rows)
        return self._score(state, tokens == self.eos), state

    def _read(self, tokens: Tensor, state: WordState, rows: Tensor) -> WordState:
        following, speller = self.speller.step(tokens, state.speller, rows)
        history, node, spelled = state.history[rows], state.node[rows], state.spelled[rows]
        space, start = tokens == self.space, tokens == self.eos
        _, ended = self.ngram.log_probs(history, self._word(node))
        history = torch.where(space & (node != ROOT), ended, history)
        history = torch.where(start, self.ngram.start, history)
        node = torch.where(space | start, ROOT, self.tree.child(node, tokens))
        said = state.next[rows, tokens].double()
        spelled = torch.where(space | start, 0.0, spelled + said)
        return WordState(history, node, spelled, following, speller)

    def _word(self, node: Tensor) -> Tensor:
        """The word that ends at each node, or <unk>, (N,)."""
        word = self.tree.word[node]
        return torch.where(word < 0, self.ngram.unknown, word)

    def _score(self, state: WordState, start: Tensor) -> Tensor:
        """Log-probabilities of the next character; ``start`` marks beginnings of sentences."""
        node, spelling, odds = state.node, state.next.double(), self._weigh(state)
        here, below = self._look_ahead(state)
        total = torch.logaddexp(below, odds.unknown.unsqueeze(1) + spelling)  # (N, V)
        # the word ends, and the sentence with it or not
        ends = torch.logaddexp(spelling[:, self.space], spelling[:, self.eos])
        known = torch.logaddexp(odds.any_word + ends, odds.word)
        whole = torch.where(self.tree.word[node] >= 0, known, odds.unknown + ends)
        whole = whole.masked_fill(node == ROOT, -torch.inf)
        total[:, self.space] = whole + odds.later_word
        total[:, self.eos] = torch.where(start, odds.end, whole + odds.later_end)
        # what the prefix had; at the beginning of a word, all but the sentence's end
        had = torch.where(node == ROOT, odds.no_end, torch.logaddexp(here, odds.unknown))
        had = torch.where(start, 0.0, had)
        return (total - had.unsqueeze(1)).clamp(_FLOOR, 0.0).float()

    def _weigh(self, state: WordState) -> "_Odds":
        """What the n-gram says of the present word and of the end before and after it."""
        ngram, node, count = self.ngram, state.node, len(state.node)
        unknown, end = (torch.full_like(node, word) for word in (ngram.unknown, ngram.end))
        log_probs, after = ngram.log_probs(
            state.history.repeat(3), torch.cat([self._word(node), unknown, end])
        )
        log_word, log_unknown, log_end = log_probs.chunk(3)
        log_end, no_end = _or_not(log_end)
        later_end, later_word = _or_not(ngram.log_probs(after[:count], end)[0])
        any_word = self.spelled + no_end + state.spelled
        none_known = self.own + log_unknown - self.penalty + state.spelled
        return _Odds(
            self.own + log_word, any_word, torch.logaddexp(any_word, none_known), log_end, no_end,
            later_end, later_word,
        )  # fmt: skip

    def _look_ahead(self, state: WordState) -> tuple[Tensor, Tensor]:
        """Log-probabilities of the known words below nodes, (N,), and their children, (N, V)."""
        tree, node, history = self.tree, state.node, state.history
        parents, children = tree.every_child(node)
        nodes = torch.cat([node, children])
        probs = self.ngram.range_probs(
            torch.cat([history, history[parents]]), tree.first[nodes], tree.beyond[nodes]
        )
        logs = probs.log() + self.own
        here, there = logs[: len(node)], logs[len(node) :]
        below = here.new_full((len(node), self.vocab), -torch.inf)
        below[parents, tree.keys[children] % self.vocab] = there
        return here, below


@dataclass(frozen=True)
class _Odds:
    """Log-probabilities of N hypotheses, (N,) each."""

    word: Tensor
    """The n-gram's share of the word that ends here."""
    any_word: Tensor
    """The speller's share of known words that begin like this."""
    unknown: Tensor
    """Of all words that are spelled like this up to here and go on, known or not."""
    end: Tensor
    """No word but the end of the sentence."""
    no_end: Tensor
    """A word."""
    later_end: Tensor
    """The end of the sentence after the present word."""
    later_word: Tensor
    """Another word after the present one."""


def _or_not(log_prob: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of something, which is never quite certain, and of its contrary."""
    log_prob = log_prob.clamp_max(_ALMOST)
    return log_prob, (-log_prob.exp()).log1p()


def load_word_lm(
    path: str | Path,
    tokenizer: CharTokenizer,
    speller: LanguageModel | None = None,
    oov_penalty: float = 0.0,
    share: float = 0.0,
    device: str | torch.device = "cpu",
) -> WordLM:
    """Load an ARPA file for a search over characters; see :class:`WordLM`.

    Raises:
        InputError: the file is missing or damaged, or most of its words, as they are spoken, have
            other characters. Where a part has, or where all are in one case and the characters
            are in both, a warning says so.
    """
    arpa = read_arpa(path)
    _check_words(arpa, tokenizer, path)
    try:
        return WordLM(arpa, tokenizer, speller, oov_penalty, share, device)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _check_words(arpa: Arpa, tokenizer: CharTokenizer, path: str | Path) -> None:
    """The words are written as the recogniser writes; otherwise they spoil its texts."""
    chances = dict(zip(arpa.words, (10.0 ** arpa.orders[0].log_probs).tolist(), strict=True))
    for name in (BEGIN, END, UNKNOWN):
        chances.pop(name, None)
    missing = sorted(
        (w for w in chances if not _can_spell(w, tokenizer)), key=lambda w: -chances[w]
    )
    share = sum(chances[word] for word in missing) / (sum(chances.values()) or 1.0)
    if share > WARN_UNSPELLED:
        message = (
            f"{path}: {len(missing)} of {len(chances)} words, {100 * share:.0f} % of what is said, "
            f'have characters that this model does not write, "{missing[0]}" for one'
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
    """A remark where most of these words could be written in the other case."""
    for case, name in ((str.upper, "capitals"), (str.lower, "small letters")):
        if sum(_can_spell(case(word), tokenizer) for word in words) > len(words) / 2:
            return f" (it writes {name})"
    return ""


def _spellings(words: Sequence[str], tokenizer: CharTokenizer) -> dict[tuple[int, ...], str]:
    """Words by their characters, in ascending order; only those that the characters can spell."""
    found = {}
    for word in words:
        ids = tuple(tokenizer.encode(word))
        if word not in (BEGIN, END, UNKNOWN) and tokenizer.unk_id not in ids:
            found[ids] = word
    return dict(sorted(found.items()))
