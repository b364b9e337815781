"""Training of character language models: sentences in random order, the best epoch is kept."""

import math
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import nll_loss

from asr.config import LMConfig
from asr.errors import InputError
from asr.lm.texts import read_texts
from asr.model.char_lm import CharLM, sentence_batch
from asr.text.chars import CharTokenizer
from asr.train.adamw import AdamW

Sentences = list[list[int]]
MOST_UNKNOWN = 0.2  # of the characters; a text with more is written in another way


def read_sentences(path: str | Path, tokenizer: CharTokenizer, plain: bool = False) -> Sentences:
    """Read the sentences of a text as the ids of their characters, see :mod:`asr.lm.texts`.

    Raises:
        InputError: as :func:`asr.lm.texts.read_texts`, or more than a fifth of the characters are
            unknown; a warning tells of fewer.
    """
    texts = read_texts(path, plain, tokenizer.form)
    sentences = [tokenizer.encode(text) for text in texts]
    _check_known(texts, sentences, tokenizer, path)
    return sentences


def _check_known(
    texts: Sequence[str], sentences: Sentences, tokenizer: CharTokenizer, path: str | Path
) -> None:
    unknown = Counter(
        character
        for text, ids in zip(texts, sentences, strict=True)
        for character, token in zip(text, ids, strict=True)
        if token == tokenizer.unk_id
    )
    if not unknown:
        return
    share = unknown.total() / sum(map(len, sentences))
    listed = " ".join(character for character, _ in unknown.most_common(10))
    message = (
        f"{path}: {100 * share:.2g} % of the characters are not among the tokens: {listed}"
        f"{' ...' if len(unknown) > 10 else ''}"
    )
    if share > MOST_UNKNOWN:
        raise InputError(f"{message}; write the text as the transcripts are, or take other tokens")
    print(f"warning: {message}; they count as <unk>", file=sys.stderr)


def hold_out(sentences: Sentences, share: float, seed: int) -> tuple[Sentences, Sentences]:
    """Part sentences by chance: those to train on, and a share, one at least, to choose by.

    Raises:
        InputError: there is one sentence only.
    """
    if len(sentences) < 2:
        raise InputError("one sentence only: none can be held out; name others with --dev")
    order = np.random.default_rng(seed).permutation(len(sentences)).tolist()
    count = min(len(sentences) - 1, max(1, round(share * len(sentences))))
    apart = set(order[:count])
    kept = [s for i, s in enumerate(sentences) if i not in apart]
    return kept, [sentences[i] for i in sorted(apart)]


def mean_loss(lm: CharLM, sentences: Sentences, batch: int = 256) -> float:
    """Mean of -log p over characters and sentence ends, in nats; sets evaluation mode."""
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
    report: Callable[[CharLM, dict[str, float]], None],
    device: str | torch.device = "cpu",
) -> tuple[CharLM, dict[str, float]]:
    """Train a language model; keep the epoch with the lowest dev loss.

    Args:
        config: sizes and schedule.
        tokenizer: characters.
        train: sentences to learn.
        dev: sentences to choose the epoch by.
        report: given the model after each epoch and its figures; ``best`` is the epoch that is
            the best so far.
        device: where to train.

    Returns:
        the model of the best epoch, and its figures.

    Raises:
        InputError: the loss became infinite.
    """
    torch.manual_seed(config.seed)
    lm = CharLM(config, len(tokenizer)).to(device)
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
        if not math.isfinite(loss + entry["dev_loss"]):
            raise InputError(
                f"epoch {epoch + 1}: the loss is not finite; lower learning_rate (now "
                f"{config.learning_rate:g})"
            )
        if entry["dev_loss"] < best["dev_loss"]:
            best = entry
            weights = {name: value.clone() for name, value in lm.state_dict().items()}
        report(lm, entry | {"best": best["epoch"]})
        if config.patience and entry["epoch"] - best["epoch"] >= config.patience:
            break
    lm.load_state_dict(weights)
    return lm.eval(), best


def _run_epoch(
    lm: CharLM, optimizer: AdamW, batches: Sequence[Sentences], rates: Sequence[float]
) -> float:
    lm.train()
    total = count = 0.0
    device = lm.readout.weight.device
    for batch, rate in zip(batches, rates, strict=True):
        inputs, targets = (part.to(device) for part in sentence_batch(batch, lm.eos))
        loss = nll_loss(lm(inputs)[0].flatten(0, 1), targets.flatten(), ignore_index=-1)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(lm.parameters(), 1.0)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        optimizer.zero_grad()
        characters = int((targets >= 0).sum())
        total, count = total + float(loss.detach()) * characters, count + characters
    return total / count
