"""Unicode normalisation of transcripts, file names, hot words, tokens and scored texts.

Letters are composed (NFC). Invisible characters are removed: format characters such as soft
hyphens, direction marks and joiners, variation selectors, fillers and control characters. Joiners
are kept in scripts that need them, such as those of Persian, Hindi or Sinhala. Latin ligatures and
Arabic presentation forms, which PDF files contain, become ordinary letters.
"""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

APOSTROPHES = (
    "'\u2019\u02bc\uff07\u02bb\u02bd\u02b9\ua78b\ua78c\u055a\u05f3\u2018\u201b`\u00b4\u2032"
)
"""Characters that people type as an apostrophe; the last five are also quotes or accents."""

_ZWJ = "\u200d"
_JOINERS = re.compile(f"[\u200c{_ZWJ}\u180e]+")
# Scripts with joining letters or consonant clusters: Arabic to Tibetan and Burmese, Khmer and
# Mongolian, those of Indonesia, and those of the supplementary plane.
_JOINING = re.compile(
    "[\u0600-\u08ff\u0900-\u109f\u1780-\u18af\u1900-\u1cff\ua800-\uabff\ufb50-\ufdff\ufe70-\ufefc"
    "\U00010a00-\U00010eff\U00011000-\U00011fff\U0001e900-\U0001e95f]"
)
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f"  # control characters except white space
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u200b\u200e\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffc\ufffe\uffff"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_PRESENTATION_FORMS = re.compile("[\ufb00-\ufb06\ufb13-\ufb17\ufb50-\ufdff\ufe70-\ufefc]")
_FORM_TAGS = ("<compat>", "<initial>", "<medial>", "<final>", "<isolated>")
_LONGEST_FORM = 3  # letters; longer decompositions are phrases
_APOSTROPHE = re.compile(rf"[{APOSTROPHES[:-5]}]|(?<=\w)[{APOSTROPHES[-5:]}](?=\w)")
_IN_WORDS = re.compile(rf"(?<=\w)[{APOSTROPHES}](?=\w)")


def compose(text: str) -> str:
    """Return a text with composed letters (NFC)."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def spelled_on_disk(path: str) -> str:
    """Return a path as its file is spelled on disk; the same path if the file is missing.

    A Mac may decompose a letter with an accent, which tables and keyboards have as one character.
    """
    if path.isascii() or os.path.lexists(path):
        return path
    folder, name = os.path.split(path)
    if not name:
        return path
    folder = spelled_on_disk(folder)
    try:
        names = os.listdir(folder or ".")  # noqa: PTH208  # a folder may have many files
    except (OSError, ValueError):
        return path
    same = (found for found in names if compose(found) == compose(name))
    return os.path.join(folder, next(same, name))  # noqa: PTH118


def visible(text: str) -> str:
    """Return a text without invisible characters; white space and required joiners are kept."""
    if text.isascii() and text.isprintable():
        return text
    return _JOINERS.sub(_kept_joiner, _INVISIBLE.sub("", text))


def clean(text: str) -> str:
    """Return a text with composed letters and without invisible characters; white space is kept."""
    return text if text.isascii() and text.isprintable() else _composed(visible(text))


def _composed(text: str) -> str:
    return compose(_PRESENTATION_FORMS.sub(_plain_letters, text))


def _plain_letters(match: re.Match[str]) -> str:
    """Return the letters of a ligature or presentation form; those of whole phrases are kept."""
    form = match[0]
    if not unicodedata.decomposition(form).startswith(_FORM_TAGS):
        return form
    letters = unicodedata.normalize("NFKC", form)
    return form if " " in letters or len(letters) > _LONGEST_FORM else letters


def _kept_joiner(match: re.Match[str]) -> str:
    """Return the first joiner if a letter of a joining script is beside it, or else ""."""
    before, after = match.string[: match.start()][-1:], match.string[match.end() :][:1]
    if not (_JOINING.match(before) or _JOINING.match(after)):
        return ""
    joiner = match[0][0]
    return joiner if joiner == _ZWJ or (is_letter(before) and is_letter(after)) else ""


def is_letter(character: str) -> bool:
    """Return whether a character is a letter, digit, mark or joiner; False for ""."""
    if not character:
        return False
    mark = unicodedata.category(character).startswith("M")
    return mark or character.isalnum() or bool(_JOINERS.match(character))


def plain_apostrophes(text: str) -> str:
    """Return a text with U+0027 for all apostrophes; quotes and accents only between letters."""
    return _APOSTROPHE.sub("'", text)


def apostrophes(text: str) -> Counter[str]:
    """Count the characters that a text has as apostrophes between letters."""
    return Counter(_IN_WORDS.findall(text))


def upper_share(text: str) -> float:
    """Return the share of upper-case letters among those with a case; 0.5 if none has one."""
    upper, lower = (sum(map(test, text)) for test in (str.isupper, str.islower))
    return upper / (upper + lower) if upper + lower else 0.5


def name_of(character: str) -> str:
    """Return the name of a character for a message: ``U+00AD (SOFT HYPHEN)``."""
    return f"U+{ord(character):04X} ({unicodedata.name(character, 'a control character')})"


def invisible(text: str) -> Counter[str]:
    """Count the characters of a text that :func:`visible` removes."""
    shown = visible(text)
    return Counter() if shown == text else Counter(text) - Counter(shown)


def decomposed(text: str) -> str:
    """Return the first character, or its mark, that is not in composed form; "" if all are."""
    shown = "" if text.isascii() else visible(text)
    composed = _composed(shown)
    if composed == shown:
        return ""
    gone = Counter(shown) - Counter(composed)
    marks = [c for c in shown if unicodedata.combining(c) or _composed(c) != c]
    return next((c for c in [*marks, *gone] if c in gone), marks[0] if marks else "")


def changed_characters(texts: Iterable[str]) -> str:
    """Describe what :func:`clean` changes in texts; empty if nothing."""
    gone, composed = Counter[str](), 0
    for text in texts:
        if not text.isascii() or not text.isprintable():
            gone += invisible(text)
            composed += bool(decomposed(text))
    parts = [f"{count} {name_of(character)} removed" for character, count in gone.most_common()]
    if composed:
        parts.append(f"letters of {composed} texts composed (Unicode NFC)")
    return ", ".join(parts)
