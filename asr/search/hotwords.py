"""Hot words: names and terms that a search favours.

Each character of a hot word adds the word's weight to the score at once, so that the search does
not prune the word before it is complete. The bonus stays if a space or the end follows the whole
word; the score loses it if the hypothesis leaves the hot word before its end. Hot words that
overlap, or are a part of another one, each have their bonus.

The prefixes of hot words are the nodes of an automaton (Aho and Corasick, 1975). The search is at
the node of the longest suffix of its text that begins a hot word. One table holds the bonus of
each next character at a node, another one the next node: a step looks up a row of each.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from asr import arrays
from asr.arrays import Array
from asr.errors import InputError
from asr.text.characters import clean
from asr.text.tokenizer import CharTokenizer
from asr.text.transcripts import read_lines

LONGEST = 200  # characters of a hot word or phrase
MOST_WEIGHT = 100.0
Spelling = tuple[int, ...]


class HotWords:
    """Hot words in a search: a :class:`asr.lm.protocol.LanguageModel` with scores above 0.

    Args:
        words: characters of each word or phrase, and the bonus of each of these characters.
        tokenizer: the recogniser's characters.
        device: device of the tables.
    """

    def __init__(
        self, words: Mapping[Spelling, float], tokenizer: CharTokenizer, device: Any = "cpu"
    ) -> None:
        self.space, self.eos = tokenizer.encode(" ")[0], tokenizer.eos_id
        self.values = {word: weight * len(word) for word, weight in words.items()}
        self.prefix_bonuses = self._prefix_bonuses(words)
        self.nodes = {prefix: number for number, prefix in enumerate(self.prefix_bonuses)}
        self.children: dict[Spelling, list[int]] = {prefix: [] for prefix in self.prefix_bonuses}
        for prefix in filter(None, self.prefix_bonuses):
            self.children[prefix[:-1]].append(prefix[-1])
        elsewhere = len(self.nodes)  # inside a word that is no hot word
        bonuses = np.zeros((elsewhere + 1, len(tokenizer)))
        next_nodes = np.full(bonuses.shape, elsewhere)
        next_nodes[:, [self.space, self.eos]] = self.nodes[()]
        for prefix, node in self.nodes.items():
            self._fill(prefix, bonuses[node], next_nodes[node])
        self.bonuses = arrays.on_device(bonuses.astype(np.float32), device)
        self.next_nodes = arrays.on_device(next_nodes, device)
        self.most = float(bonuses.max())
        """Largest bonus of a character."""

    def start(self, rows: int) -> Array:
        """Return the node of each row before the first character, (rows,)."""
        return arrays.full(rows, 0, self.next_nodes)

    def step(self, tokens: Array, state: Array, rows: Array) -> tuple[Array, Array]:
        """Read one character a row; return the bonuses of the next one, (N, V), and the nodes."""
        nodes = self.next_nodes[state[rows], tokens]
        return self.bonuses[nodes], nodes

    def select(self, state: Array, rows: Array) -> Array:
        """Return the given rows of a state."""
        return state[rows]

    def _prefix_bonuses(self, words: Mapping[Spelling, float]) -> dict[Spelling, float]:
        """Return the bonus that each prefix of a hot word has received, the empty prefix first."""
        found: dict[Spelling, float] = {(): 0.0}
        for word, weight in words.items():
            for length in range(1, len(word) + 1):
                prefix = word[:length]
                found[prefix] = max(found.get(prefix, 0.0), weight * length)
        return found

    def _fill(self, prefix: Spelling, bonuses: np.ndarray, next_nodes: np.ndarray) -> None:
        """Fill in the bonus of each next character after a prefix, and the next nodes."""
        begun = self._begun(prefix)
        bonuses[[self.space, self.eos]] = sum(self.values.get(word, 0.0) for word in begun)
        for suffix in begun:  # the longest comes last and holds the others
            for character in self.children[suffix]:
                longer = (*suffix, character)
                bonuses[character] += self.prefix_bonuses[longer]
                next_nodes[character] = self.nodes[longer]
        bonuses -= sum(self.prefix_bonuses[suffix] for suffix in begun)

    def _begun(self, prefix: Spelling) -> list[Spelling]:
        """Return the suffixes of whole words that begin a hot word, shortest first."""
        starts = [i + 1 for i, character in enumerate(prefix) if character == self.space]
        suffixes = [prefix[start:] for start in [*reversed(starts), 0]]
        return [suffix for suffix in suffixes if suffix in self.prefix_bonuses]


def load_hotwords(
    path: str | Path, weight: float, tokenizer: CharTokenizer, device: Any = "cpu"
) -> HotWords:
    """Read a file of hot words: a word or phrase a line, optionally a tab and its weight.

    Args:
        path: the file, UTF-8.
        weight: for lines without one.
        tokenizer: the recogniser's characters.
        device: device of the tables.

    Raises:
        InputError: the recogniser writes no spaces, the file is missing or empty, a word has
            characters that the recogniser does not write, or a weight is not a number above 0 and
            at most 100.
    """
    if tokenizer.unk_id in tokenizer.encode(" "):
        raise InputError(
            f"{path}: hot words need spaces between words, which this model does not write; "
            "decode without hot words"
        )
    words: dict[Spelling, float] = {}
    for number, line in enumerate(read_lines(path), 1):
        where = f"{path}:{number}"
        text, tab, value = line.partition("\t")
        text = " ".join(clean(text).split())
        if text:
            if len(text) > LONGEST:
                found = f"{where}: {len(text)} characters"
                raise InputError(f"{found}, expected at most {LONGEST}; shorten it")
            spelling = _spelling(text, tokenizer, where)
            words[spelling] = _weight(value.strip(), where) if tab else weight
        elif tab:
            raise InputError(f"{where}: a weight without a word; write the word before it")
    if not words:
        raise InputError(f"{path}: no hot words, expected a word or phrase on each line")
    return HotWords(words, tokenizer, device)


def _spelling(text: str, tokenizer: CharTokenizer, where: str) -> Spelling:
    text = tokenizer.normalize(text)
    ids = tokenizer.encode(text)
    missing = sorted({c for c, i in zip(text, ids, strict=True) if i == tokenizer.unk_id})
    if missing:
        remedy = "write the word as in the training transcripts"
        if tokenizer.unk_id not in tokenizer.encode(text.upper()):
            remedy = "write capitals"
        elif re.search(r"[\s,;:]+[\d.]+$", text):
            remedy = "write a tab before the weight"
        raise InputError(
            f'{where}: "{text}" has {" ".join(missing)}, which this model does not write, expected '
            f"only {tokenizer.decode(range(tokenizer.unk_id + 1, tokenizer.eos_id)).strip()}; "
            f"{remedy}"
        )
    return tuple(ids)


def _weight(value: str, where: str) -> float:
    try:
        weight = float(value)
    except ValueError:
        weight = math.nan
    if not 0 < weight <= MOST_WEIGHT:
        found = f'{where}: weight "{value}"'
        raise InputError(f"{found}, expected a number above 0, at most {MOST_WEIGHT:g}; 1 is usual")
    return weight
