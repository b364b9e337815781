"""When two transcripts are the same sentence."""

import unicodedata

from asr.text.characters import APOSTROPHES, clean


def sentence_key(text: str) -> str:
    """A text without case, marks and the ways of writing a letter: equal for equal sentences."""
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", clean(text)).casefold())
    letters = "".join(_letter(c) for c in text)
    return " ".join(letters.split()) or " ".join(text.split())


def _letter(character: str) -> str:
    """Itself; a space for marks, but for those within words, which vanish."""
    kind = unicodedata.category(character)
    if kind[0] in "LMN":
        return character
    return "" if kind == "Cf" or character in APOSTROPHES else " "
