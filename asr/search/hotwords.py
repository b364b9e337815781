"""Hot words: names and terms that a search favours.

Each character of a hot word earns its weight at once, so that the search does not lose the word
while it is being spelled. The reward is taken back when the spelling goes on as no hot word does;
when the word is completed, with a space or the end after it, it stays.

The prefixes of hot words are the nodes of an automaton. A table holds what each next character
earns in a node, another one the node that follows: a step of the search looks up a row of each.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from asr import arrays
from asr.arrays import Array
from asr.errors import InputError
from asr.text.chars import CharTokenizer
from asr.text.transcripts import read_lines

MOST_WEIGHT = 100.0
Spelling = tuple[int, ...]


class HotWords:
    """Hot words in a search: a :class:`asr.lm.protocol.LanguageModel` that may score above 0.

    Args:
        words: characters of each word or phrase, and what each of these adds to the score.
        tokenizer: the recogniser's characters.
        device: where the tables lie.
    """

    def __init__(
        self, words: Mapping[Spelling, float], tokenizer: CharTokenizer, device: Any = "cpu"
    ) -> None:
        self.space, self.eos = tokenizer.encode(" ")[0], tokenizer.eos_id
        self.values = {word: weight * len(word) for word, weight in words.items()}
        self.earned = self._prefixes(words)
        self.nodes = {prefix: number for number, prefix in enumerate(self.earned)}
        self.children: dict[Spelling, list[int]] = {prefix: [] for prefix in self.earned}
        for prefix in self.earned:
            if prefix:
                self.children[prefix[:-1]].append(prefix[-1])
        elsewhere = len(self.nodes)  # inside a word that is no hot word
        gains = np.zeros((elsewhere + 1, len(tokenizer)))
        following = np.full(gains.shape, elsewhere)
        following[:, [self.space, self.eos]] = self.nodes[()]
        for prefix, node in self.nodes.items():
            self._fill(prefix, gains[node], following[node])
        self.gains = arrays.on_device(gains.astype(np.float32), device)
        self.following = arrays.on_device(following, device)
        self.most = float(gains.max())
        """The most that a character can earn."""

    def start(self, rows: int) -> Array:
        """The nodes of so many rows before the first character, (rows,)."""
        return arrays.full(rows, 0, self.following)

    def step(self, tokens: Array, state: Array, rows: Array) -> tuple[Array, Array]:
        """Read one character a row and say what each next one earns, (N, V)."""
        nodes = self.following[state[rows], tokens]
        return self.gains[nodes], nodes

    def select(self, state: Array, rows: Array) -> Array:
        """The given rows of a state, picked or repeated."""
        return state[rows]

    def _prefixes(self, words: Mapping[Spelling, float]) -> dict[Spelling, float]:
        """Every prefix of a hot word, the empty one first, and what it has earned."""
        found: dict[Spelling, float] = {(): 0.0}
        for word, weight in words.items():
            for length in range(1, len(word) + 1):
                prefix = word[:length]
                found[prefix] = max(found.get(prefix, 0.0), weight * length)
        for prefix in found:  # never less than the complete words in it
            found[prefix] = max(found[prefix], self._complete(prefix, whole=False))
        return found

    def _fill(self, prefix: Spelling, gains: np.ndarray, following: np.ndarray) -> None:
        """Fill in what each next character earns after a prefix, and the node that follows."""
        gains[:] = self._complete(prefix, whole=False)
        gains[[self.space, self.eos]] = self._complete(prefix, whole=True)
        for kept, rest in self._rests(prefix):
            for character in self.children.get(rest, ()):
                longer = (*rest, character)
                if kept + self.earned[longer] >= gains[character]:
                    gains[character] = kept + self.earned[longer]
                    following[character] = self.nodes[longer]
        gains -= self.earned[prefix]

    def _rests(self, prefix: Spelling) -> Iterator[tuple[float, Spelling]]:
        """Yield the suffixes of a prefix that may begin a hot word, the shortest first.

        With it comes what the words before it have earned.
        """
        for begin in range(len(prefix), 0, -1):
            if prefix[begin - 1] == self.space:
                yield self._complete(prefix[:begin], whole=False), prefix[begin:]
        yield 0.0, prefix

    def _complete(self, text: Spelling, *, whole: bool) -> float:
        """What the hot words in a text earn at most; its last word counts if it is ``whole``."""
        ends = [i for i, character in enumerate(text) if character == self.space]
        ends += [len(text)] if whole else []
        best = {0: 0.0}  # by the index where the next word begins
        for end in ends:
            best[end + 1] = max(
                earned + self.values.get(text[begin:end], 0.0) for begin, earned in best.items()
            )
        return max(best.values())


def load_hotwords(
    path: str | Path, weight: float, tokenizer: CharTokenizer, device: Any = "cpu"
) -> HotWords:
    """Read a file of hot words: a word or phrase a line, after it a tab and its weight, or none.

    Args:
        path: the file, UTF-8.
        weight: of the words without one.
        tokenizer: the recogniser's characters.
        device: where the tables lie.

    Raises:
        InputError: there is no such file or no word in it, a word has characters that the
            recogniser does not write, or a weight is no number above 0.
    """
    words: dict[Spelling, float] = {}
    for number, line in enumerate(read_lines(path), 1):
        text, tab, value = line.partition("\t")
        text = " ".join(text.split())
        if text:
            words[_spelling(text, tokenizer, f"{path}:{number}")] = (
                _weight(value.strip(), f"{path}:{number}") if tab else weight
            )
        elif tab:
            raise InputError(f"{path}:{number}: a weight without a word; write the word before it")
    if not words:
        raise InputError(f"{path}: no hot word in it, expected a word or phrase a line")
    return HotWords(words, tokenizer, device)


def _spelling(text: str, tokenizer: CharTokenizer, where: str) -> Spelling:
    text = tokenizer.form(text)
    ids = tokenizer.encode(text)
    missing = sorted({c for c, i in zip(text, ids, strict=True) if i == tokenizer.unk_id})
    if missing:
        raise InputError(
            f'{where}: "{text}" has {" ".join(missing)}, which this model does not write, expected '
            f"only {tokenizer.decode(range(tokenizer.unk_id + 1, tokenizer.eos_id)).strip()}; "
            "write it as the transcripts of the training would"
        )
    return tuple(ids)


def _weight(value: str, where: str) -> float:
    try:
        weight = float(value)
    except ValueError:
        weight = math.nan
    if not 0 < weight <= MOST_WEIGHT:
        raise InputError(
            f'{where}: weight "{value}", expected a number above 0, at most {MOST_WEIGHT:g}; '
            "1 is usual"
        )
    return weight
