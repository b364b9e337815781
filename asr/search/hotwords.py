"""Hot words: names and terms that a search favours.

Spelled from the beginning of a word on, each character of a hot word earns its weight at once, so
that the search does not lose the word while it is being spelled. What was earned is taken back
when the spelling goes on as no hot word does; when the word is completed, with a space or the end
after it, it stays.

The beginnings of hot words are places of a table that says what each next character earns, and of
one that says where it leads: a step of the search looks up a row of each.
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
        self.earned = self._beginnings(words)
        self.places = {start: number for number, start in enumerate(self.earned)}
        self.children: dict[Spelling, list[int]] = {start: [] for start in self.earned}
        for start in self.earned:
            if start:
                self.children[start[:-1]].append(start[-1])
        elsewhere = len(self.places)  # inside a word that is no hot word
        gains = np.zeros((elsewhere + 1, len(tokenizer)))
        following = np.full(gains.shape, elsewhere)
        following[:, [self.space, self.eos]] = self.places[()]
        for start, place in self.places.items():
            self._fill(start, gains[place], following[place])
        self.gains = arrays.on_device(gains.astype(np.float32), device)
        self.following = arrays.on_device(following, device)
        self.most = float(gains.max())
        """The most that a character can earn."""

    def start(self, rows: int) -> Array:
        """The places of so many rows before the first character, (rows,)."""
        return arrays.full(rows, 0, self.following)

    def step(self, tokens: Array, state: Array, rows: Array) -> tuple[Array, Array]:
        """Read one character a row and say what each next one earns, (N, V)."""
        places = self.following[state[rows], tokens]
        return self.gains[places], places

    def select(self, state: Array, rows: Array) -> Array:
        """The given rows of a state, picked or repeated."""
        return state[rows]

    def _beginnings(self, words: Mapping[Spelling, float]) -> dict[Spelling, float]:
        """Every beginning of a hot word, the empty one first, and what it has earned."""
        found: dict[Spelling, float] = {(): 0.0}
        for word, weight in words.items():
            for length in range(1, len(word) + 1):
                start = word[:length]
                found[start] = max(found.get(start, 0.0), weight * length)
        for start in found:  # never less than the complete words in it
            found[start] = max(found[start], self._complete(start, whole=False))
        return found

    def _fill(self, start: Spelling, gains: np.ndarray, following: np.ndarray) -> None:
        """What each next character earns after a beginning, and the place that it leads to."""
        gains[:] = self._complete(start, whole=False)
        gains[[self.space, self.eos]] = self._complete(start, whole=True)
        for kept, rest in self._rests(start):
            for character in self.children.get(rest, ()):
                longer = (*rest, character)
                if kept + self.earned[longer] >= gains[character]:
                    gains[character] = kept + self.earned[longer]
                    following[character] = self.places[longer]
        gains -= self.earned[start]

    def _rests(self, start: Spelling) -> Iterator[tuple[float, Spelling]]:
        """What else may be under way after the words of a beginning, the shortest first.

        With it comes what the words before it have earned.
        """
        for place in range(len(start), 0, -1):
            if start[place - 1] == self.space:
                yield self._complete(start[:place], whole=False), start[place:]
        yield 0.0, start

    def _complete(self, text: Spelling, *, whole: bool) -> float:
        """What the hot words in a text earn at most; its last word counts if it is ``whole``."""
        ends = [i for i, character in enumerate(text) if character == self.space]
        ends += [len(text)] if whole else []
        best = {0: 0.0}  # by the place where the next word begins
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
