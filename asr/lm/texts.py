"""Texts for training and evaluating language models."""

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from asr.corpus.tables import read_table
from asr.errors import InputError
from asr.terminal import warn
from asr.text.characters import clean
from asr.text.subtitles import plain_lines
from asr.text.tokenizer import CharTokenizer

MOST_UNKNOWN = 0.2  # share of the characters of a text


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


def check_characters(path: str | Path, texts: Sequence[str], tokenizer: CharTokenizer) -> None:
    """Warn of characters of normalised texts that are not among the tokens.

    Raises:
        InputError: more than a fifth of all characters are not.
    """
    counts = Counter(itertools.chain.from_iterable(texts))
    unknown = Counter({c: count for c, count in counts.items() if tokenizer.unknown(c)})
    if not unknown:
        return
    share = unknown.total() / counts.total()
    examples = " ".join(character for character, _ in unknown.most_common(10))
    message = (
        f"{path}: {100 * share:.2g} % of the characters are not among the tokens: {examples}"
        f"{' ...' if len(unknown) > 10 else ''}"
    )
    if share > MOST_UNKNOWN:
        raise InputError(f"{message}; write the text as the transcripts are, or take other tokens")
    warn(f"{message}; they count as <unk>")
