"""Normalizers: what is made of a transcript before it is trained on or scored.

A word error rate means little without the name of its normalizer; every report names it.
"""

import unicodedata
from collections.abc import Callable

from asr.errors import InputError

_APOSTROPHES = {0x2019: "'", 0x02BC: "'"}  # typographic, and the letter that looks like one


def none(text: str) -> str:
    """The text as it is: case, punctuation, spacing and accents are left alone."""
    return text


def librispeech(text: str) -> str:
    """The form of LibriSpeech's transcripts: upper case, letters, digits, apostrophes.

    Every other character separates words, so ``well-known`` gives two. Letters of any
    script stay, with their accents and vowel signs, in composed form (NFC). An apostrophe
    stays where it touches a letter, because ``'TIS`` and ``BOYS'`` cannot be told from quotes.
    """
    composed = unicodedata.normalize("NFC", text.translate(_APOSTROPHES).upper())
    words = composed.translate(_KEPT).split()
    return " ".join(word for word in words if word.strip("'"))


class _KeptCharacters(dict[int, str]):
    """Code point to itself or to a space; decided once per code point."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        mark = unicodedata.category(character).startswith("M")  # vowel signs of Devanagari, say
        kept = character.isalnum() or character == "'" or mark
        self[code] = character if kept else " "
        return self[code]


_KEPT = _KeptCharacters()

NORMALIZERS: dict[str, Callable[[str], str]] = {"none": none, "librispeech": librispeech}


def find_normalizer(name: str) -> Callable[[str], str]:
    """The normalizer of that name.

    Raises:
        InputError: there is none.
    """
    if name not in NORMALIZERS:
        raise InputError(f"normalizer {name!r}: unknown, expected one of {', '.join(NORMALIZERS)}")
    return NORMALIZERS[name]
