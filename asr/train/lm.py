"""``asr lm train`` and ``asr lm score``: character language models.

Text is a Kaldi ``text`` file, a data directory, or with ``--plain`` a file of sentences.
"""

import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import nll_loss

from asr.config import LMConfig, add_settings, from_args, make_parser
from asr.corpus.datadir import read_table
from asr.errors import InputError
from asr.model.lm import CharLM, load_lm, save_lm, sentence_batch
from asr.text.chars import CharTokenizer
from asr.text.transcripts import read_lines
from asr.train.adamw import AdamW

Sentences = list[list[int]]


def read_sentences(path: str | Path, tokenizer: CharTokenizer, plain: bool = False) -> Sentences:
    """The sentences of a text file as characters' ids.

    Args:
        path: a Kaldi ``text`` file (an id, then the transcript), or a directory with one.
        tokenizer: characters; others become <unk>.
        plain: there are no ids; empty lines are left out.

    Raises:
        InputError: the file is missing, malformed, or holds no sentence.
    """
    path = Path(path) / "text" if Path(path).is_dir() else Path(path)
    lines = read_lines(path) if plain else list(read_table(path).values())
    sentences = [tokenizer.encode(" ".join(line.split())) for line in lines if line.strip()]
    if not sentences:
        raise InputError(f"{path}: no sentence in it; check the data preparation")
    return sentences


def mean_loss(lm: CharLM, sentences: Sentences, batch: int = 256) -> float:
    """Mean of -log p over characters and sentence ends, in nats."""
    lm.eval()
    order = sorted(sentences, key=len)
    total = sum(float(lm.score(order[i : i + batch]).sum()) for i in range(0, len(order), batch))
    return -total / sum(len(s) + 1 for s in sentences)


def describe(loss: float, sentences: Sentences, space: int) -> str:
    """Perplexities of a mean loss, by character and by word."""
    characters = sum(len(s) + 1 for s in sentences)
    words = sum(s.count(space) + 2 for s in sentences)  # the end counts as a word
    return (
        f"perplexity {math.exp(loss):.3f} a character, "
        f"{math.exp(min(700.0, loss * characters / words)):.1f} a word"
    )


def _batches(sentences: Sentences, size: int, seed: int, epoch: int) -> list[Sentences]:
    """Sentences of similar length together, in random order."""
    chance = np.random.default_rng([seed, epoch])
    key = np.array([len(s) for s in sentences]) * chance.uniform(0.8, 1.2, len(sentences))
    order = np.argsort(key, kind="stable").tolist()
    batches = [[sentences[i] for i in order[n : n + size]] for n in range(0, len(order), size)]
    chance.shuffle(batches)
    return batches


def train_lm(
    config: LMConfig,
    tokenizer: CharTokenizer,
    train: Sentences,
    dev: Sentences,
    report: Callable[[dict[str, float]], None],
) -> tuple[CharLM, dict[str, float]]:
    """Train a language model; keep the epoch with the lowest dev loss.

    Args:
        config: sizes and schedule.
        tokenizer: characters.
        train: sentences to learn.
        dev: sentences to choose the epoch by.
        report: told the figures of each epoch.

    Returns:
        the model of the best epoch, and its figures.
    """
    torch.manual_seed(config.seed)
    lm = CharLM(config, len(tokenizer))
    optimizer = AdamW(lm.parameters(), config.learning_rate, config.weight_decay)
    best: dict[str, float] = {"dev_loss": math.inf}
    weights: dict[str, Tensor] = {}
    for epoch in range(config.epochs):
        batches = _batches(train, config.batch, config.seed, epoch)
        rates = [
            0.5 * (1 + math.cos(math.pi * (epoch + i / len(batches)) / config.epochs))
            for i in range(len(batches))
        ]
        loss = _run_epoch(lm, optimizer, batches, [config.learning_rate * r for r in rates])
        entry = {"epoch": epoch + 1, "train_loss": loss, "dev_loss": mean_loss(lm, dev)}
        report(entry)
        if entry["dev_loss"] < best["dev_loss"]:
            best = entry
            weights = {name: value.clone() for name, value in lm.state_dict().items()}
    lm.load_state_dict(weights)
    return lm.eval(), best


def _run_epoch(
    lm: CharLM, optimizer: AdamW, batches: Sequence[Sentences], rates: Sequence[float]
) -> float:
    lm.train()
    total = count = 0.0
    for batch, rate in zip(batches, rates, strict=True):
        inputs, targets = sentence_batch(batch, lm.eos)
        loss = nll_loss(lm(inputs)[0].flatten(0, 1), targets.flatten(), ignore_index=-1)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(lm.parameters(), 1.0)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        optimizer.zero_grad()
        characters = int((targets >= 0).sum())
        total, count = total + float(loss.detach()) * characters, count + characters
    return total / count


def _train(argv: list[str]) -> int:
    parser = make_parser("asr lm train", "Train a character language model on transcripts.")
    parser.add_argument("--text", nargs="+", required=True, help="text files or data directories")
    parser.add_argument("--dev", required=True, help="text that chooses the epoch")
    parser.add_argument("--plain", action="store_true", help="lines have no utterance ids")
    parser.add_argument("--tokens", required=True, help="tokens.txt of the recogniser")
    parser.add_argument("--out", required=True, help="model file to write (.safetensors)")
    add_settings(parser, LMConfig)
    config, args = from_args(LMConfig, parser, argv)
    tokenizer = CharTokenizer.from_file(args.tokens)
    train = [s for path in args.text for s in read_sentences(path, tokenizer, args.plain)]
    dev = read_sentences(args.dev, tokenizer, args.plain)
    log = Path(args.out).with_suffix(".jsonl")
    log.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with log.open("w", encoding="utf-8") as file:

        def report(entry: dict[str, float]) -> None:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            passed = time.monotonic() - started
            left = passed / entry["epoch"] * (config.epochs - entry["epoch"])
            print(
                f"epoch {entry['epoch']}/{config.epochs}: train {entry['train_loss']:.3f}, dev "
                f"{entry['dev_loss']:.3f} nats a character; {left:.0f} s left",
                file=sys.stderr,
            )

        lm, best = train_lm(config, tokenizer, train, dev, report)
    save_lm(args.out, lm, config, tokenizer, best)
    space = tokenizer.encode(" ")[0]
    print(f"{args.out}: epoch {best['epoch']}, dev {describe(best['dev_loss'], dev, space)}")
    return 0


def _score(argv: list[str]) -> int:
    parser = make_parser("asr lm score", "Perplexity of texts by a character language model.")
    parser.add_argument("--lm", required=True, help="file of asr lm train")
    parser.add_argument("--tokens", required=True, help="tokens.txt of the recogniser")
    parser.add_argument("--plain", action="store_true", help="lines have no utterance ids")
    parser.add_argument("texts", nargs="+", help="text files or data directories")
    args = parser.parse_args(argv)
    tokenizer = CharTokenizer.from_file(args.tokens)
    lm = load_lm(args.lm, tokenizer)
    space = tokenizer.encode(" ")[0]
    for path in args.texts:
        sentences = read_sentences(path, tokenizer, args.plain)
        print(f"{path}: {describe(mean_loss(lm, sentences), sentences, space)}")
    return 0


def main(argv: list[str]) -> int:
    """``asr lm train|score``."""
    commands = {"train": _train, "score": _score}
    if not argv or argv[0] not in commands:
        print("usage: asr lm train|score [OPTION...]; each explains itself with --help")
        return 0 if argv and argv[0] in ("-h", "--help") else 2
    return commands[argv[0]](argv[1:])
