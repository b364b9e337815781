"""``asr chars``: collect the characters of the training transcripts."""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from asr.config.help import Parser
from asr.errors import EXIT_OK, InputError
from asr.files import check_outputs
from asr.terminal import note as say
from asr.text.characters import changed_characters, clean
from asr.text.chars import CharTokenizer
from asr.text.normalize import NORMALIZERS
from asr.text.subtitles import plain_lines
from asr.text.transcripts import parse_text, read_lines

RARE = 5  # a character seen less often than this is hardly learnt, and often a slip
RARE_SHOWN = 20


def main(argv: list[str]) -> int:
    """Run ``asr chars``; returns the exit code."""
    options = make_parser().parse_args(argv)
    if options.output is not None:
        check_outputs([options.output], options.inputs)
    texts = gather(options.inputs, options.format)
    note = changed_characters(texts.values())
    normalize = NORMALIZERS[options.normalize]
    texts = {place: clean(normalize(clean(text))) for place, text in texts.items()}
    if not any(texts.values()):
        raise InputError(f"{' '.join(options.inputs)}: no characters; check the transcripts")
    tokenizer = CharTokenizer.from_texts(texts.values())
    if options.output:
        tokenizer.to_file(options.output)
        print(f"{options.output}: {len(tokenizer)} symbols from {len(texts)} transcripts")
    else:
        print(tokenizer.table(), end="")
    if note:
        say(f"asr chars: note: {note}")
    warn_rare(texts)
    return EXIT_OK


def make_parser() -> argparse.ArgumentParser:
    """The options of ``asr chars``."""
    parser = Parser(
        prog="asr chars",
        description="Collect the characters of transcripts into tokens.txt: one line "
        '"<symbol> <id>" each, with <blank>, <unk>, <space> and <sos/eos>.',
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="TEXT_FILE|DATA_DIR",
        help="data directories of the training set, or files of transcripts",
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="tokens.txt to write; standard output if not given"
    )
    parser.add_argument(
        "--format",
        choices=["auto", "text", "plain"],
        default="auto",
        help="text: an utterance id starts each line; plain: no ids; auto (default): text for "
        "data directories and for files named text, plain for other files",
    )
    parser.add_argument(
        "--normalize",
        choices=list(NORMALIZERS),
        default="none",
        help="applied before counting (default: none); the transcripts themselves must have been "
        "normalised the same way, or training will find characters that are not in the table",
    )
    return parser


def gather(inputs: Iterable[str], file_format: str) -> dict[str, str]:
    """Return the transcripts of all inputs by ``file:line``."""
    texts: dict[str, str] = {}
    for name in inputs:
        path = Path(name)
        path = path / "text" if path.is_dir() else path
        has_ids = file_format == "text" or (file_format == "auto" and path.name == "text")
        if has_ids:
            lines = list(parse_text(read_lines(path), path).values())
        else:
            lines = plain_lines(path)
        texts |= {f"{path}:{number}": line for number, line in enumerate(lines, 1)}
    return texts


def warn_rare(texts: dict[str, str]) -> None:
    """List characters that occur less than RARE times, each with the place of the first."""
    counts: Counter[str] = Counter()
    for text in texts.values():
        counts.update(text)
    rare = sorted(character for character, count in counts.items() if count < RARE)
    if not rare:
        return
    print(
        f"asr chars: warning: {len(rare)} characters occur less than {RARE} times and will hardly "
        "be learnt; slips?",
        file=sys.stderr,
    )
    for character in rare[:RARE_SHOWN]:
        first = next(place for place, text in texts.items() if character in text)
        print(f"  {character!r} {counts[character]} times, first in {first}", file=sys.stderr)
    if len(rare) > RARE_SHOWN:
        print(f"  and {len(rare) - RARE_SHOWN} more", file=sys.stderr)
