"""Collect the characters of transcripts in tokens.txt.

Each line of tokens.txt is "<symbol> <id>"; <blank>, <unk>, <space> and <sos/eos> are added.

Examples:
    asr chars data/train -o data/tokens.txt
    asr chars transcripts.txt --normalize librispeech
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from asr.config.help import Parser
from asr.errors import EXIT_OK, InputError, counted
from asr.files import check_outputs
from asr.terminal import note, print_error, warn
from asr.text.characters import changed_characters, clean
from asr.text.normalize import NORMALIZERS
from asr.text.subtitles import plain_lines
from asr.text.tokenizer import CharTokenizer
from asr.text.transcripts import parse_text, read_lines

RARE = 5  # characters that occur less often are hardly learnt, and often typing errors
RARE_SHOWN = 20


def main(argv: list[str]) -> int:
    """Run ``asr chars``; return the exit code."""
    parser = Parser("asr chars", description=__doc__)
    add = parser.add_argument
    text = "data directories of the training set, or files of transcripts"
    add("inputs", nargs="+", metavar="TEXT_FILE|DATA_DIR", help=text)
    add("-o", "--out", metavar="FILE", help="tokens.txt to write (default: standard output)")
    text = (
        "text: each line begins with an utterance id; plain: no ids; auto: text for data "
        "directories and for files named text, plain for other files"
    )
    add("--format", choices=["auto", "text", "plain"], default="auto", help=text)
    text = (
        "normalisation before counting; the transcripts must be normalised in the same way before "
        "the training, or it stops at characters that are not in the table"
    )
    add("--normalize", choices=list(NORMALIZERS), default="none", help=text)
    options = parser.parse_args(argv)
    if options.out is not None:
        check_outputs([options.out], options.inputs)
    texts = gather(options.inputs, options.format)
    changed = changed_characters(texts.values())
    normalize = NORMALIZERS[options.normalize]
    texts = {place: clean(normalize(clean(text))) for place, text in texts.items()}
    if not any(texts.values()):
        raise InputError(f"{' '.join(options.inputs)}: no characters; check the transcripts")
    tokenizer = CharTokenizer.from_texts(texts.values())
    if options.out:
        tokenizer.to_file(options.out)
        print(f"{options.out}: {len(tokenizer)} symbols from {len(texts)} transcripts")
    else:
        print(tokenizer.table(), end="")
    if changed:
        note(f"asr chars: note: {changed}")
    warn_rare(texts)
    return EXIT_OK


def gather(inputs: Iterable[str], file_format: str) -> dict[str, str]:
    """Return the transcripts of all inputs by their places."""
    texts: dict[str, str] = {}
    for name in inputs:
        path = Path(name)
        path = path / "text" if path.is_dir() else path
        has_ids = file_format == "text" or (file_format == "auto" and path.name == "text")
        lines = parse_text(read_lines(path), path).values() if has_ids else plain_lines(path)
        place = f"{path}:" if has_ids else f"{path}, text "  # plain files have other lines, too
        texts |= {f"{place}{number}": line for number, line in enumerate(lines, 1)}
    return texts


def warn_rare(texts: dict[str, str]) -> None:
    """Print the characters that occur fewer than RARE times, with their first occurrence."""
    counts = Counter(character for text in texts.values() for character in text)
    rare = sorted(character for character, count in counts.items() if count < RARE)
    if not rare:
        return
    count = counted(len(rare), "character")
    warn(f"{count} with fewer than {RARE} occurrences, check for typos")
    for character in rare[:RARE_SHOWN]:
        first = next(place for place, text in texts.items() if character in text)
        times = counted(counts[character], "occurrence")
        print_error(f"  {character!r}: {times}, first in {first}")
    if len(rare) > RARE_SHOWN:
        print_error(f"  and {len(rare) - RARE_SHOWN} more")
