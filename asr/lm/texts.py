"""Texts that language models learn from and are measured on."""

from collections.abc import Callable
from pathlib import Path

from asr.corpus.tables import read_table
from asr.errors import InputError
from asr.text.characters import clean
from asr.text.subtitles import plain_lines


def read_texts(
    path: str | Path, plain: bool = False, form: Callable[[str], str] = clean
) -> list[str]:
    """Read the sentences of a text, with single spaces; those without words are left out.

    Args:
        path: a Kaldi ``text`` file (an id, then the transcript), or a directory with one.
        plain: the lines have no ids.
        form: brings the characters into the form in which they count.

    Raises:
        InputError: the file is missing or malformed, or has no sentence.
    """
    file = Path(path) / "text" if Path(path).is_dir() else Path(path)
    lines = plain_lines(file) if plain else list(read_table(file).values())
    found = [words for line in lines if (words := " ".join(form(line).split()))]
    if not found:
        raise InputError(f"{file}: no sentence in it; check the data preparation")
    return found
