"""Translate the transcripts of a data directory into this recipe's second language.

usage: translate.py DATA OUT

OUT is DATA with other words in ``text``.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "utils"))

from grammar import GRAMMAR, WORDS
from recipe import run

from asr.corpus.datadir import read_valid
from asr.corpus.tables import write_tables
from asr.errors import EXIT_USAGE, InputError

Places = list[int]
"""Positions of words in the English sentence."""


def parse(symbol: str, words: Sequence[str], start: int) -> Iterator[tuple[int, Places]]:
    """Yield every end of a symbol that begins at a word, and its words in the other order."""
    for english, other in GRAMMAR[symbol].items():
        for end, parts in match(english.split(), words, start):
            left = list(zip(english.split(), parts, strict=True))
            yield end, [place for part in other.split() for place in take(part, left)]


def match(
    form: Sequence[str], words: Sequence[str], start: int
) -> Iterator[tuple[int, list[Places]]]:
    """Yield every end of a form that begins at a word, and the places of each of its parts."""
    if not form:
        yield start, []
        return
    first = form[0]
    if first.startswith("<"):
        found = parse(first.strip("<>"), words, start)
    else:
        found = iter([(start + 1, [start])] if words[start : start + 1] == [first] else [])
    for middle, places in found:
        for end, others in match(form[1:], words, middle):
            yield end, [places, *others]


def take(part: str, left: list[tuple[str, Places]]) -> Places:
    """Remove and return the places of the first part of this name."""
    return left.pop([name for name, _ in left].index(part))[1]


def order(words: Sequence[str]) -> Places:
    """Return the positions of English words in the order of the other language.

    Raises:
        InputError: the grammar does not have the sentence.
    """
    for end, places in parse("sentence", words, 0):
        if end == len(words):
            return places
    raise InputError(f"{' '.join(words)}: not a sentence of the grammar of data/mini")


def translate(sentence: str) -> str:
    """Return an English sentence in the other language.

    Raises:
        InputError: the grammar does not have the sentence.
    """
    words = sentence.split()
    return " ".join(WORDS[words[place]] for place in order(words))


def main(argv: list[str]) -> int:
    """``translate.py DATA OUT``."""
    if len(argv) != 2:
        print(__doc__, file=sys.stderr)
        return EXIT_USAGE
    data, out = map(Path, argv)
    tables = read_valid(data, text=True)
    texts = {name: translate(text) for name, text in tables["text"].items()}
    write_tables(out, {**tables, "text": texts})
    return 0


if __name__ == "__main__":
    run(main)
