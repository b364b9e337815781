"""``asr lm``: make language models, and compare them on a text."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from asr.config import LMConfig
from asr.config.args import (
    add_machine_options,
    add_settings,
    config_files,
    from_args,
    make_parser,
    number,
)
from asr.config.field import below, between, require
from asr.config.help import Parser
from asr.errors import EXIT_OK, EXIT_USAGE, InputError
from asr.files import beside, check_outputs, write_text

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

    from asr.model.char_lm import CharLM
    from asr.text.chars import CharTokenizer

Entry = dict[str, float]


def _train_parser() -> "ArgumentParser":
    parser = make_parser(
        "asr lm train",
        "Train a character language model for `asr decode --lm`. Writes one safetensors file, at "
        "any time that of the best epoch so far, and beside it a .jsonl with a line an epoch; and, "
        "until the training is finished, its state (.state.pt), from which the same command goes "
        "on after an interruption.",
    )
    parser.add_argument("--text", nargs="+", required=True, help="text files or data directories")
    parser.add_argument("--dev", help="text that chooses the epoch; default: see held_out")
    parser.add_argument("--plain", action="store_true", help="lines have no utterance ids")
    parser.add_argument("--tokens", required=True, help="tokens.txt of the recogniser")
    parser.add_argument("--out", required=True, help="model file to write (.safetensors)")
    add_machine_options(parser, precision=False)
    add_settings(parser, LMConfig)
    return parser


def train(argv: list[str]) -> int:
    """``asr lm train``: a character language model."""
    config, args = from_args(LMConfig, _train_parser(), argv)
    out = Path(args.out)
    state = beside(out, ".state.pt")
    read = [*args.text, args.dev, args.tokens, *config_files(args)]
    check_outputs([out, beside(out, ".jsonl"), state], read)

    from asr.commands.machine import machine
    from asr.model.machine import pick_device
    from asr.store.lm_file import save_lm
    from asr.text.chars import CharTokenizer
    from asr.train.char_lm import describe, hold_out, read_sentences, train_lm

    tokenizer = CharTokenizer.from_file(args.tokens)
    sentences = [s for path in args.text for s in read_sentences(path, tokenizer, args.plain)]
    if args.dev:
        dev = read_sentences(args.dev, tokenizer, args.plain)
    else:
        sentences, dev = hold_out(sentences, config.held_out, config.seed)
    device = pick_device(args.device)
    report = _Reporter(out, config, tokenizer)
    try:
        with machine(args.threads):
            lm, best = train_lm(config, tokenizer, sentences, dev, report, state, device)
    except KeyboardInterrupt as interrupt:
        kept = "the same command goes on" if state.exists() else "nothing is written"
        raise KeyboardInterrupt(kept) from interrupt
    save_lm(out, lm.state_dict(), config, tokenizer, best)
    state.unlink(missing_ok=True)
    space = tokenizer.encode(" ")[0]
    print(
        f"{args.out}: {len(sentences)} sentences, {len(dev)} for dev; epoch {best['epoch']}, "
        f"dev {describe(best['dev_loss'], dev, space)}"
    )
    return EXIT_OK


class _Reporter:
    """Writes the best model so far and the figures of every epoch, and prints the last ones."""

    def __init__(self, out: Path, config: LMConfig, tokenizer: "CharTokenizer") -> None:
        self.out, self.config, self.tokenizer = out, config, tokenizer
        self.started, self.epochs = time.monotonic(), 0

    def __call__(self, lm: "CharLM", entries: list[Entry]) -> None:
        from asr.store.lm_file import save_lm
        from asr.train.log import clock

        entry = entries[-1]
        if entry["best"] == entry["epoch"]:
            save_lm(self.out, lm.state_dict(), self.config, self.tokenizer, entry)
        write_text(beside(self.out, ".jsonl"), "".join(json.dumps(e) + "\n" for e in entries))
        self.epochs += 1  # of this run
        passed = time.monotonic() - self.started
        left = passed / self.epochs * (self.config.epochs - entry["epoch"])
        print(
            f"epoch {entry['epoch']}/{self.config.epochs}: train {entry['train_loss']:.3f}, dev "
            f"{entry['dev_loss']:.3f} nats a character; at most {clock(left)} left",
            file=sys.stderr,
        )


def ngram(argv: list[str]) -> int:
    """``asr lm ngram``: word n-grams."""
    parser = Parser(
        prog="asr lm ngram",
        description="Count word n-grams and smooth them (interpolated, modified Kneser-Ney). "
        "Writes an ARPA file, which `asr decode --word_lm` and other toolkits read; compressed if "
        "its name ends in .gz.",
    )
    parser.add_argument("--text", nargs="+", required=True, help="text files or data directories")
    parser.add_argument("--plain", action="store_true", help="lines have no utterance ids")
    parser.add_argument("--order", type=int, default=3, help="longest n-grams, words (default: 3)")
    parser.add_argument("--out", required=True, help="ARPA file to write (.arpa or .arpa.gz)")
    args = parser.parse_args(argv)
    require("order", args.order, between(1, 9))
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
    """``asr lm score``: log-probabilities and perplexity of texts."""
    parser = Parser(
        prog="asr lm score",
        description="Natural log-probability and perplexity of texts, as a search would "
        "score them: ends of sentences count, as a character and as a word, and words that the "
        "n-gram does not know are spelled, so that all kinds of language models can be compared.",
    )
    parser.add_argument("texts", nargs="+", metavar="TEXT", help="text files or data directories")
    parser.add_argument("--plain", action="store_true", help="lines have no utterance ids")
    parser.add_argument("--lm", default="", help="character language model of asr lm train")
    parser.add_argument("--word_lm", default="", help="ARPA file; with --lm, both together")
    parser.add_argument(
        "--lm_share", type=number(float, below(1)), default=0.5, help="see asr decode --help"
    )
    parser.add_argument("--tokens", required=True, help="tokens.txt of the recogniser")
    parser.add_argument(
        "--each", action="store_true", help="print the log-probability of every sentence"
    )
    args = parser.parse_args(argv)
    if not (args.lm or args.word_lm):
        raise InputError("no language model; name one with --lm or --word_lm")

    from asr.config import DecodeConfig
    from asr.lm.perplexity import perplexity
    from asr.lm.texts import read_texts
    from asr.loading import open_lm
    from asr.text.chars import CharTokenizer

    tokenizer = CharTokenizer.from_file(args.tokens)
    config = DecodeConfig(lm=args.lm, word_lm=args.word_lm, lm_share=args.lm_share)
    lm = open_lm(config, tokenizer)
    assert lm is not None
    for path in args.texts:
        found = perplexity(lm, read_texts(path, args.plain), tokenizer)
        if args.each:
            print("\n".join(f"{x:.4f}\t{text}" for x, text in found.sentences))
        print(f"{path}: {found}")
    return EXIT_OK


COMMANDS: dict[str, tuple[Callable[[list[str]], int], str]] = {
    "train": (train, "train a character language model"),
    "ngram": (ngram, "count word n-grams, as an ARPA file"),
    "score": (score, "log-probability and perplexity of texts"),
}


def main(argv: list[str]) -> int:
    """Run one of the commands."""
    if argv and argv[0] in COMMANDS:
        return COMMANDS[argv[0]][0](argv[1:])
    width = max(map(len, COMMANDS))
    lines = "\n".join(f"  {name:{width}}  {text}" for name, (_, text) in COMMANDS.items())
    usage = f"usage: asr lm COMMAND [OPTION...]\n\n{lines}\n\nasr lm COMMAND --help explains one."
    asked = bool(argv) and argv[0] in ("-h", "--help", "help")
    print(usage, file=sys.stdout if asked else sys.stderr)
    return EXIT_OK if asked else EXIT_USAGE
