"""Normalizers of transcripts, for training and scoring; every report of a WER names its own."""

import unicodedata
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path

from asr.errors import InputError
from asr.text.characters import APOSTROPHES, clean, compose, is_letter, plain_apostrophes
from asr.text.transcripts import read_lines

WordMap = Mapping[tuple[str, ...], tuple[str, ...]]
# str.upper turns dotless i into I, the capital of i, and sharp s into SS, the capital of ss.
_CAPITALS = {"\u0131": "\u0131", "\u00df": "\u1e9e"}


def librispeech(text: str) -> str:
    """Return a text in the form of LibriSpeech's: upper case letters, digits and apostrophes.

    Every other visible character separates words: ``well-known`` becomes two. Letters of any
    script are kept with their accents and vowel signs, in composed form (NFC). Different words stay
    different: Turkish dotless i, which has no capital of its own, is unchanged, and the capital of
    the German sharp s is U+1E9E. An apostrophe beside a letter is kept, because ``'TIS`` and
    ``BOYS'`` look like quotations.
    """
    words = compose(plain_apostrophes(capitals(clean(text)))).translate(_KEPT).split()
    return " ".join(word for word in words if word.strip("'"))


def capitals(text: str) -> str:
    """Return a text in upper case, except where two letters would become one."""
    if text.isascii():
        return text.upper()
    return "".join(_CAPITALS.get(c) or c.upper() for c in text)


def fold_case(text: str) -> str:
    """Return a text in lower case, for comparison without case.

    Upper case would turn Turkish dotless i into i, and the German sharp s into ss.
    """
    return compose(text.lower().replace("\u03c2", "\u03c3"))  # a final sigma


def sentence_key(text: str) -> str:
    """Return a key that sentences share if only case, punctuation or letter forms differ."""
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", clean(text)).casefold())
    return " ".join(text.translate(_LETTERS).split()) or " ".join(text.split())


def _letter(character: str) -> str:
    """Return a letter itself, and a space or nothing for other characters."""
    kind = unicodedata.category(character)
    if kind[0] in "LMN":
        return character
    return "" if kind == "Cf" or character in APOSTROPHES else " "


class _Characters(dict[int, str]):
    """A table for str.translate: a code point to a text, computed on demand."""

    def __init__(self, translate: Callable[[str], str]) -> None:
        self._translate = translate

    def __missing__(self, code: int) -> str:
        self[code] = self._translate(chr(code))
        return self[code]


_KEPT = _Characters(lambda c: c if is_letter(c) or c == "'" else " ")
_LETTERS = _Characters(_letter)


def whisper(text: str) -> str:
    """Apply the English normalizer of Whisper's authors, from the package whisper-normalizer.

    It rewrites numbers, spellings and abbreviations. Use it to compare with results that others
    have computed with it, never for LibriSpeech's.

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
            "normalizer whisper: its package is not installed; run: "
            "pip install 'whisper-normalizer>=0.1'"
        ) from error
    normalizer: Callable[[str], str] = EnglishTextNormalizer()
    return normalizer


NORMALIZERS: dict[str, Callable[[str], str]] = {
    "none": str,  # the text is unchanged
    "librispeech": librispeech,
    "whisper": whisper,
}


def find_normalizer(name: str) -> Callable[[str], str]:
    """Return the normalizer with a name.

    Raises:
        InputError: the name is unknown.
    """
    if name not in NORMALIZERS:
        raise InputError(f"normalizer {name!r}: unknown, expected one of {', '.join(NORMALIZERS)}")
    return NORMALIZERS[name]


def read_map(path: str | Path) -> dict[tuple[str, ...], tuple[str, ...]]:
    """Read a map of words to equivalent words: ``from => to`` a line, a subset of NIST's GLM.

    Either side may have several words, and the right one may be empty; ``;;`` starts a comment.
    Contexts (``/ [ ] __ [ ]``) and alternatives are not supported.

    Raises:
        InputError: a line has another form, or words are mapped twice.
    """
    found: dict[tuple[str, ...], tuple[str, ...]] = {}
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip() or line.lstrip().startswith((";;", "* ")):
            continue
        left, arrow, right = clean(line).partition("=>")
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
    """Replace words from left to right, the longest match first; results are not replaced."""
    words, result = text.split(), list[str]()
    longest = max(map(len, mapping), default=0)
    position = 0
    while position < len(words):
        lengths = range(min(longest, len(words) - position), 0, -1)
        length = next((n for n in lengths if tuple(words[position : position + n]) in mapping), 1)
        source = words[position : position + length]
        result += mapping.get(tuple(source), source)
        position += length
    return " ".join(result)
