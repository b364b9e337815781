"""Words in the characters that a model has, so that they can be aligned."""

import unicodedata
from collections.abc import Mapping

from asr.errors import counted, listed
from asr.text.tokenizer import CharTokenizer

UNKNOWN = "\N{REPLACEMENT CHARACTER}"  # stands for <unk>, as in CharTokenizer.decode
_SHOWN = 40  # characters of a warning
_SHOWN_WORDS = 5


def spell(text: str, tokenizer: CharTokenizer) -> str:
    """Return a text with the same number of words, spelled with the tokenizer's characters.

    A missing character is replaced by the one in the other case or without its accent, or left
    out; a word of which nothing remains becomes one :data:`UNKNOWN`.
    """
    return " ".join(_spell_word(word, tokenizer) or UNKNOWN for word in text.split())


def _spell_word(word: str, tokenizer: CharTokenizer) -> str:
    found = "".join(_nearest(character, tokenizer) for character in tokenizer.normalize(word))
    return tokenizer.normalize(found)  # a joiner is nothing without its letters


def _nearest(character: str, tokenizer: CharTokenizer) -> str:
    """Return the character or its nearest substitute; empty if the table has neither."""
    letters = unicodedata.normalize("NFKD", character)
    base = "".join(c for c in letters if not unicodedata.combining(c) and not c.isspace())
    same = (form for each in (character, base) for form in (each, each.upper(), each.lower()))
    return next((form for form in same if form and _known(form, tokenizer)), "")


def _known(text: str, tokenizer: CharTokenizer) -> bool:
    return UNKNOWN not in text and tokenizer.unk_id not in tokenizer.encode(text)


def missing_characters(texts: Mapping[str, str], tokenizer: CharTokenizer) -> str:
    """Describe the characters that transcripts have and the tokenizer lacks; empty without any."""
    words: dict[str, str] = {}  # with the first utterance of each
    for utterance, text in texts.items():
        for word in text.split():
            words.setdefault(word, utterance)
    first: dict[str, str] = {}
    for word, utterance in words.items():
        for character in tokenizer.normalize(word):
            if not _known(character, tokenizer):
                first.setdefault(character, utterance)
    bare = [f"{word} ({words[word]})" for word in words if not _spell_word(word, tokenizer)]
    if not first and not bare:
        return ""
    uses = [f"{c!r} {_use(c, tokenizer)} (first in {first[c]})" for c in sorted(first)]
    parts = [f"{counted(len(first), 'character')} of the transcripts: {listed(uses, _SHOWN)}"]
    if bare:
        parts.append(
            "words of such characters alone lie between their neighbours: "
            f"{listed(bare, _SHOWN_WORDS)}"
        )
    return "; ".join(parts)


def _use(character: str, tokenizer: CharTokenizer) -> str:
    spelled = _nearest(character, tokenizer)
    return f"aligned as {spelled!r}" if spelled else "left out"
