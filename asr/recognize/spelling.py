"""Words in the characters that a model has, so that they can be aligned."""

import unicodedata
from collections.abc import Mapping

from asr.text.chars import CharTokenizer

LACKING = "\N{REPLACEMENT CHARACTER}"  # stands for <unk>, as in CharTokenizer.decode
_SHOWN = 40  # characters
_SHOWN_WORDS = 5


def spell(text: str, tokenizer: CharTokenizer) -> str:
    """A text with the same number of words, each in characters of the table.

    A character that the table lacks becomes the one in the other case or without its accent, or
    is left out; a word of which nothing remains is one :data:`LACKING`.
    """
    return " ".join(_spell_word(word, tokenizer) or LACKING for word in text.split())


def _spell_word(word: str, tokenizer: CharTokenizer) -> str:
    return "".join(_nearest(character, tokenizer) for character in tokenizer.normalize(word))


def _nearest(character: str, tokenizer: CharTokenizer) -> str:
    """The character, or what comes nearest to it in the table; empty where nothing does."""
    letters = unicodedata.normalize("NFKD", character)
    base = "".join(c for c in letters if not unicodedata.combining(c) and not c.isspace())
    same = (form for each in (character, base) for form in (each, each.upper(), each.lower()))
    return next((form for form in same if form and _known(form, tokenizer)), "")


def _known(text: str, tokenizer: CharTokenizer) -> bool:
    return LACKING not in text and tokenizer.unk_id not in tokenizer.encode(text)


def tell_lacking(texts: Mapping[str, str], tokenizer: CharTokenizer) -> str:
    """What of some transcripts, by their utterances, a model cannot spell; empty: nothing."""
    words: dict[str, str] = {}  # with the first utterance of each
    for utterance, text in texts.items():
        for word in text.split():
            words.setdefault(word, utterance)
    first: dict[str, str] = {}
    for word, utterance in words.items():
        for character in tokenizer.normalize(word):
            if not _known(character, tokenizer):
                first.setdefault(character, utterance)
    bare = [word for word in words if not _spell_word(word, tokenizer)]
    if not first and not bare:
        return ""
    said = [f"{c!r} {_as(c, tokenizer)} (first in {first[c]})" for c in sorted(first)]
    parts = [f"{len(first)} characters of the transcripts: {_some(said, _SHOWN)}"]
    if bare:
        shown = _some([f"{word} ({words[word]})" for word in bare], _SHOWN_WORDS)
        parts.append(f"words of such characters alone lie between their neighbours: {shown}")
    return "; ".join(parts)


def _as(character: str, tokenizer: CharTokenizer) -> str:
    spelled = _nearest(character, tokenizer)
    return f"aligned as {spelled!r}" if spelled else "left out"


def _some(items: list[str], number: int) -> str:
    more = f", ... ({len(items)})" if len(items) > number else ""
    return ", ".join(items[:number]) + more
