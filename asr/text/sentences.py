"""Comparison of sentences without regard to case and punctuation."""

import unicodedata

from asr.text.characters import APOSTROPHES, clean


def sentence_key(text: str) -> str:
    """Return a key that sentences share if only case, punctuation or letter forms differ."""
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", clean(text)).casefold())
    letters = "".join(_letter(c) for c in text)
    return " ".join(letters.split()) or " ".join(text.split())


def _letter(character: str) -> str:
    """Return a letter itself, and a space or nothing for other characters."""
    kind = unicodedata.category(character)
    if kind[0] in "LMN":
        return character
    return "" if kind == "Cf" or character in APOSTROPHES else " "
