"""Normalizers: what is made of a transcript before it is trained on or scored.

A word error rate means little without the name of its normalizer; every report names it.
"""

import unicodedata
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path

from asr.errors import InputError
from asr.text.transcripts import read_lines

WordMap = Mapping[tuple[str, ...], tuple[str, ...]]
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


def whisper(text: str) -> str:
    """The English normalizer of Whisper's authors, by the package whisper-normalizer.

    It rewrites numbers, spellings and abbreviations: for tables that others have made with it,
    never for LibriSpeech's.

    Raises:
        InputError: the package is not installed.
    """
    return str(_whisper()(text))


@lru_cache(maxsize=1)
def _whisper() -> Callable[[str], str]:
    try:
        from whisper_normalizer.english import EnglishTextNormalizer
    except ImportError as error:
        raise InputError(
            "normalizer whisper: needs a package that is not installed: "
            "pip install 'whisper-normalizer>=0.1'"
        ) from error
    normalizer: Callable[[str], str] = EnglishTextNormalizer()
    return normalizer


NORMALIZERS: dict[str, Callable[[str], str]] = {
    "none": none,
    "librispeech": librispeech,
    "whisper": whisper,
}


def find_normalizer(name: str) -> Callable[[str], str]:
    """The normalizer of that name.

    Raises:
        InputError: there is none.
    """
    if name not in NORMALIZERS:
        raise InputError(f"normalizer {name!r}: unknown, expected one of {', '.join(NORMALIZERS)}")
    return NORMALIZERS[name]


def read_map(path: str | Path) -> dict[tuple[str, ...], tuple[str, ...]]:
    """Words that count as others: ``from => to`` a line, a simple part of NIST's GLM files.

    Either side may have several words, the right one none; ``;;`` starts a comment. There are no
    contexts (``/ [ ] __ [ ]``) and no alternatives.

    Raises:
        InputError: a line has another form, or words are mapped twice.
    """
    found: dict[tuple[str, ...], tuple[str, ...]] = {}
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip() or line.lstrip().startswith((";;", "* ")):
            continue
        left, arrow, right = line.partition("=>")
        source, target = tuple(left.split()), tuple(right.split())
        if not (arrow and source) or any(set("[]{}/") & set(w) for w in (*source, *target)):
            raise InputError(
                f'{path}:{number}: "{line.strip()}", expected "<words> => <words>", without '
                "contexts and alternatives"
            )
        if source in found:
            raise InputError(f"{path}:{number}: {' '.join(source)} is mapped already; keep one")
        found[source] = target
    return found


def apply_map(text: str, mapping: WordMap) -> str:
    """Replace words from left to right, the longest that fit first; results stay as they are."""
    words, result = text.split(), list[str]()
    longest = max(map(len, mapping), default=0)
    place = 0
    while place < len(words):
        for length in range(min(longest, len(words) - place), 0, -1):
            source = tuple(words[place : place + length])
            if source in mapping:
                result += mapping[source]
                break
        else:
            length = 1
            result.append(words[place])
        place += length
    return " ".join(result)
