"""Make language models, and compare them on a text.

`asr lm VERB --help` explains a verb.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from asr.config import LMConfig
from asr.config.args import (
    add_machine_options,
    add_settings,
    config_files,
    from_args,
    make_parser,
    number,
)
from asr.config.field import below, between
from asr.config.help import Parser, dispatch
from asr.errors import EXIT_OK, InputError
from asr.files import beside, check_outputs, write_text
from asr.terminal import note

Entry = dict[str, float]
PLAIN = "the lines of files called text have no utterance ids; those of other files never have"


def main(argv: list[str]) -> int:
    """Run one of the verbs of ``asr lm``; return the exit code."""
    return dispatch("asr lm", __doc__, {"train": train, "ngram": ngram, "score": score}, argv)


def _add_text(parser: argparse.ArgumentParser) -> None:
    text = "text files or data directories"
    parser.add_argument("--text", nargs="+", required=True, metavar="TEXT", help=text)
    parser.add_argument("--plain", action="store_true", help=PLAIN)


def add_lm_options(parser: argparse.ArgumentParser, *, tokens: bool) -> None:
    """Add the options for language models that score texts; ``tokens``: whether to require it."""
    add = parser.add_argument
    add("--lm", default="", help="character language model of `asr lm train`")
    add("--word_lm", default="", help="ARPA file; with --lm, both are used")
    add("--lm_share", type=number(float, below(1)), default=0.5, help="see `asr decode --help`")
    add("--tokens", required=tokens, help="tokens.txt of the recogniser")


def _add_train_options(parser: Any) -> None:
    _add_text(parser)
    add = parser.add_argument
    add("--dev", metavar="TEXT", help="text to choose the epoch (see --held-out)")
    add("--tokens", required=True, help="tokens.txt of the recogniser")
    add("-o", "--out", required=True, metavar="FILE", help="model file to write (.safetensors)")
    add_machine_options(parser, precision=False)
    add_settings(parser, LMConfig)


def train(argv: list[str]) -> int:
    """Train a character language model for `asr decode --lm`.

    The model of the best epoch is written at the end; a .jsonl beside it gets a line for each
    epoch. After an interruption, the same command continues from the state in a .state.pt.

    Examples:
        asr lm train --text data/train --tokens data/tokens.txt --out lm.safetensors
    """
    parser = make_parser("asr lm train", train.__doc__)
    _add_train_options(parser)
    config, args = from_args(LMConfig, parser, argv)
    out = Path(args.out)
    state = beside(out, ".state.pt")
    read = [*args.text, args.dev, args.tokens, *config_files(args)]
    check_outputs([out, beside(out, ".jsonl"), state], read)

    from asr.commands.machine import machine
    from asr.model.machine import pick_device
    from asr.store.model_file import save_lm
    from asr.text.tokenizer import CharTokenizer
    from asr.train.char_lm import describe, fingerprint, hold_out, read_sentences, train_lm

    tokenizer = CharTokenizer.from_file(args.tokens)
    sentences = [s for path in args.text for s in read_sentences(path, tokenizer, args.plain)]
    if args.dev:
        dev = read_sentences(args.dev, tokenizer, args.plain)
    else:
        sentences, dev = hold_out(sentences, config.held_out, config.seed)
    made_of = fingerprint(tokenizer, sentences, dev)
    if not state.exists() and _is_finished(out, config, made_of):
        note(f"{out}: this training is finished already")
        return EXIT_OK
    device = pick_device(args.device)
    report = _Reporter(out, config.epochs)
    try:
        with machine(args.threads):
            lm, best = train_lm(config, tokenizer, sentences, dev, report, state, device)
    except KeyboardInterrupt as interrupt:
        kept = "the same command continues" if state.exists() else "nothing is written"
        raise KeyboardInterrupt(kept) from interrupt
    save_lm(out, lm.state_dict(), config, tokenizer, {**best, "made_of": made_of})
    state.unlink(missing_ok=True)
    space = tokenizer.encode(" ")[0]
    print(
        f"{args.out}: {len(sentences)} sentences, {len(dev)} for dev; epoch {best['epoch']}, "
        f"dev {describe(best['dev_loss'], dev, space)}"
    )
    return EXIT_OK


def _is_finished(out: Path, config: LMConfig, made_of: str) -> bool:
    """Whether a file is the final model of this training."""
    from asr.store.model_file import read_lm_header

    try:
        found, info = read_lm_header(out)
    except (InputError, OSError):  # of another kind, damaged, or not there
        return False
    return found == config and info.get("made_of") == made_of


class _Reporter:
    """Writes the losses of all epochs, and prints the progress."""

    def __init__(self, out: Path, epochs: int) -> None:
        self.out, self.of = out, epochs
        self.started, self.epochs = time.monotonic(), 0

    def __call__(self, entries: list[Entry]) -> None:
        from asr.train.log import clock

        entry = entries[-1]
        write_text(beside(self.out, ".jsonl"), "".join(json.dumps(e) + "\n" for e in entries))
        self.epochs += 1  # since the start of this process
        passed = time.monotonic() - self.started
        left_s = passed / self.epochs * (self.of - entry["epoch"])
        note(
            f"epoch {entry['epoch']}/{self.of}: train {entry['train_loss']:.3f}, dev "
            f"{entry['dev_loss']:.3f} nats per character; at most {clock(left_s)} left"
        )


def ngram(argv: list[str]) -> int:
    """Estimate a word n-gram (interpolated modified Kneser-Ney).

    Writes an ARPA file for `asr decode --word-lm` and other toolkits; it is compressed if its name
    ends in .gz.

    Examples:
        asr lm ngram --text data/train --out exp/words.arpa.gz
    """
    parser = Parser("asr lm ngram", description=ngram.__doc__)
    _add_text(parser)
    add = parser.add_argument
    add("--order", type=number(int, between(1, 9)), default=3, help="length of the longest n-grams")
    add("-o", "--out", required=True, metavar="FILE", help="ARPA file to write (.arpa or .arpa.gz)")
    args = parser.parse_args(argv)
    check_outputs([args.out], args.text)

    from asr.lm.arpa import write_arpa
    from asr.lm.kneser_ney import estimate
    from asr.lm.texts import read_texts

    sentences = [s for path in args.text for s in read_texts(path, args.plain)]
    found = estimate(sentences, args.order)
    write_arpa(found, args.out)
    sizes = ", ".join(f"{len(o.words)} {k}-grams" for k, o in enumerate(found.orders, 1))
    print(f"{args.out}: {len(sentences)} sentences, {sizes}")
    return EXIT_OK


def score(argv: list[str]) -> int:
    """Compute the log-probability (base e) and perplexity of texts.

    Texts are scored as in a search: the end of a sentence counts as a character and as a word, and
    words that the n-gram does not know are spelled. All kinds of language models can be compared.

    Examples:
        asr lm score data/dev --word-lm exp/words.arpa.gz --tokens data/tokens.txt
    """
    parser = Parser("asr lm score", description=score.__doc__)
    add = parser.add_argument
    add("texts", nargs="+", metavar="TEXT", help="text files or data directories")
    add("--plain", action="store_true", help=PLAIN)
    add("--each", action="store_true", help="print the log-probability of every sentence")
    add_lm_options(parser, tokens=True)
    args = parser.parse_args(argv)
    if not (args.lm or args.word_lm):
        raise InputError("no language model; name one with --lm or --word-lm")

    from asr.config import DecodeConfig
    from asr.lm.perplexity import perplexity
    from asr.lm.texts import check_characters, read_texts
    from asr.loading import open_lm
    from asr.text.tokenizer import CharTokenizer

    tokenizer = CharTokenizer.from_file(args.tokens)
    config = DecodeConfig(lm=args.lm, word_lm=args.word_lm, lm_share=args.lm_share)
    lm = open_lm(config, tokenizer)
    assert lm is not None
    for path in args.texts:
        texts = read_texts(path, args.plain, tokenizer.normalize)
        check_characters(path, texts, tokenizer)
        found = perplexity(lm, texts, tokenizer)
        if args.each:
            print("\n".join(f"{x:.4f}\t{text}" for x, text in found.sentences))
        print(f"{path}: {found}")
    return EXIT_OK
