"""Texts for training and evaluating language models."""

from collections.abc import Callable
from pathlib import Path

from asr.corpus.tables import read_table
from asr.errors import InputError
from asr.text.characters import clean
from asr.text.subtitles import plain_lines


def read_texts(
    path: str | Path, plain: bool = False, form: Callable[[str], str] = clean
) -> list[str]:
    """Read the sentences of a text, with single spaces; skip sentences without words.

    Args:
        path: a Kaldi ``text`` file (an id, then the transcript), a directory with one, or a file of
            another name, whose lines have no ids.
        plain: True if the lines of a file called ``text`` have no ids.
        form: normalises the characters of a line.

    Raises:
        InputError: the file is missing, malformed or empty.
    """
    file = Path(path) / "text" if Path(path).is_dir() else Path(path)
    plain = plain or file.name != "text"
    lines = plain_lines(file) if plain else list(read_table(file).values())
    found = [words for line in lines if (words := " ".join(form(line).split()))]
    if not found:
        raise InputError(f"{file}: no sentences; check the data preparation")
    return found
