"""Training of character language models: sentences in random order, the best epoch is kept."""

import hashlib
import json
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import nll_loss

from asr.config import LMConfig
from asr.config.read import to_dict
from asr.errors import InputError, first_line
from asr.lm.texts import read_texts
from asr.model.char_lm import CharLM, sentence_batch
from asr.model.loss import IGNORE
from asr.text.chars import CharTokenizer
from asr.train.adamw import AdamW
from asr.train.checkpoint import read_state, write_state

Sentences = list[list[int]]
Entry = dict[str, float]
VERSION = 1  # of the state
SAVE_EVERY_S = 60.0
MOST_UNKNOWN = 0.2  # of the characters; a text with more is written in another way


def read_sentences(path: str | Path, tokenizer: CharTokenizer, plain: bool = False) -> Sentences:
    """Read the sentences of a text as the ids of their characters, see :mod:`asr.lm.texts`.

    Raises:
        InputError: as :func:`asr.lm.texts.read_texts`, or more than a fifth of the characters are
            unknown; a warning tells of fewer.
    """
    texts = read_texts(path, plain, tokenizer.normalize)
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
    """Split sentences at random: those to train on, and a share (at least one) to choose by.

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
    """Return the mean of -log p over characters and ends, in nats; sets evaluation mode."""
    lm.eval()
    order = sorted(sentences, key=len)
    total = sum(float(lm.score(order[i : i + batch]).sum()) for i in range(0, len(order), batch))
    return -total / sum(len(s) + 1 for s in sentences)


def describe(loss: float, sentences: Sentences, space: int) -> str:
    """Return the perplexities of a mean loss, by character and by word."""
    characters = sum(len(s) + 1 for s in sentences)
    words = sum(s.count(space) + 2 for s in sentences)  # the end counts as a word
    return (
        f"perplexity {math.exp(loss):.3f} a character, "
        f"{math.exp(min(700.0, loss * characters / words)):.1f} a word"
    )


def _batches(sentences: Sentences, size: int, seed: int, epoch: int) -> list[Sentences]:
    """Return batches of sentences of similar length, in random order."""
    chance = np.random.default_rng([seed, epoch])
    key = np.array([len(s) for s in sentences]) * chance.uniform(0.8, 1.2, len(sentences))
    order = np.argsort(key, kind="stable").tolist()
    batches = [[sentences[i] for i in order[n : n + size]] for n in range(0, len(order), size)]
    chance.shuffle(batches)
    return batches


@dataclass
class Progress:
    """Where a training of a language model stands."""

    batch: int = 0
    """Batches of the epoch under way that are done."""
    loss: float = 0.0
    """Sum over the characters of this epoch, in nats."""
    characters: int = 0
    """Characters of this epoch so far."""
    entries: list[Entry] = field(default_factory=list)
    """The figures of every finished epoch: ``epoch`` from 1, ``train_loss``, ``dev_loss`` and
    ``best``, the best epoch so far."""


def train_lm(
    config: LMConfig,
    tokenizer: CharTokenizer,
    train: Sentences,
    dev: Sentences,
    report: Callable[[CharLM, list[Entry]], None],
    state: Path | None = None,
    device: str | torch.device = "cpu",
) -> tuple[CharLM, Entry]:
    """Train a language model; keep the epoch with the lowest dev loss.

    Args:
        config: sizes and schedule.
        tokenizer: characters.
        train: sentences to learn.
        dev: sentences to choose the epoch by.
        report: is given the model and the figures of all epochs after each epoch.
        state: file that the state of the training is kept in; where it exists already, the
            training goes on from there, and ends as if it had never been interrupted.
        device: where to train.

    Returns:
        the model of the best epoch, and its figures.

    Raises:
        InputError: the loss became infinite, or ``state`` is of another training or damaged.
    """
    devices = [device] if torch.device(device).type == "cuda" else []
    with torch.random.fork_rng(devices):
        training = _Training(config, tokenizer, train, dev, state, device)
        while not training.finished():
            training.run_epoch()
            report(training.lm, training.progress.entries)
            training.save()
        training.lm.load_state_dict(training.best_weights)
        return training.lm.eval(), _best(training.progress.entries)


def _best(entries: list[Entry]) -> Entry:
    return min(entries, key=lambda entry: entry["dev_loss"])


class _Training:
    """A training with its state; see :func:`train_lm` for the arguments."""

    def __init__(
        self,
        config: LMConfig,
        tokenizer: CharTokenizer,
        train: Sentences,
        dev: Sentences,
        state: Path | None,
        device: str | torch.device,
    ) -> None:
        self.config, self.train, self.dev, self.state = config, train, dev, state
        self.device = torch.device(device)
        torch.manual_seed(config.seed)
        self.lm = CharLM(config, len(tokenizer)).to(device)
        self.optimizer = AdamW(self.lm.parameters(), config.learning_rate, config.weight_decay)
        self.progress, self.saved_s = Progress(), time.monotonic()
        self.best_weights: dict[str, Tensor] = {}
        self.data = _fingerprint(tokenizer, train, dev)
        if state is not None and state.exists():
            self._go_on(state)

    def finished(self) -> bool:
        """Whether all epochs are done, or ``patience`` has run out."""
        entries, patience = self.progress.entries, self.config.patience
        waited = len(entries) - entries[-1]["best"] if entries else 0
        return len(entries) >= self.config.epochs or bool(patience and waited >= patience)

    def run_epoch(self) -> None:
        """Train to the end of the epoch under way and measure the model."""
        progress, config, epoch = self.progress, self.config, len(self.progress.entries)
        batches = _batches(self.train, config.batch, config.seed, epoch)
        self.lm.train()
        for i, batch in enumerate(batches[progress.batch :], progress.batch):
            share = 0.5 * (1 + math.cos(math.pi * (epoch + i / len(batches)) / config.epochs))
            loss, characters = self._step(batch, config.learning_rate * share)
            progress.loss += loss * characters
            progress.characters += characters
            progress.batch += 1
            if time.monotonic() - self.saved_s > SAVE_EVERY_S:
                self.save()
        self._measure()

    def _step(self, batch: Sentences, rate: float) -> tuple[float, int]:
        """Update the weights; returns the mean loss of a character and how many there were."""
        lm = self.lm
        inputs, targets = (part.to(self.device) for part in sentence_batch(batch, lm.eos))
        loss = nll_loss(lm(inputs)[0].flatten(0, 1), targets.flatten(), ignore_index=IGNORE)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(lm.parameters(), 1.0)
        self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(loss.detach()), int((targets >= 0).sum())

    def _measure(self) -> None:
        """End the epoch under way: its figures, and its weights where they are the best."""
        progress, epoch = self.progress, len(self.progress.entries) + 1
        loss, dev_loss = progress.loss / progress.characters, mean_loss(self.lm, self.dev)
        if not math.isfinite(loss + dev_loss):
            if self.state is not None:  # from there it would only diverge again
                self.state.unlink(missing_ok=True)
            raise InputError(
                f"epoch {epoch}: the loss is not finite; lower learning_rate (now "
                f"{self.config.learning_rate:g})"
            )
        entry: Entry = {"epoch": epoch, "train_loss": loss, "dev_loss": dev_loss}
        entries = [*progress.entries, entry]
        entry["best"] = _best(entries)["epoch"]
        if entry["best"] == epoch:
            self.best_weights = {k: v.clone() for k, v in self.lm.state_dict().items()}
        self.progress = Progress(entries=entries)

    def save(self) -> None:
        """Write the state, if it is to be kept."""
        if self.state is None:
            return
        cuda = self.device.type == "cuda"
        state = {
            "version": VERSION,
            "config": json.dumps(to_dict(self.config)),
            "data": self.data,
            "model": self.lm.state_dict(),
            "best": self.best_weights,
            "optimizer": self.optimizer.state_dict(),
            "random": torch.cuda.get_rng_state(self.device) if cuda else torch.get_rng_state(),
            "progress": dict(vars(self.progress)),
        }
        write_state(self.state, state)
        self.saved_s = time.monotonic()

    def _go_on(self, path: Path) -> None:
        state = read_state(path)
        try:
            self._check(state, path)
            self.lm.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.best_weights = {k: v.to(self.device) for k, v in state["best"].items()}
            self.progress = Progress(**state["progress"])
            if self.device.type == "cuda":
                torch.cuda.set_rng_state(state["random"], self.device)
            else:
                torch.set_rng_state(state["random"])
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise InputError(
                f"{path}: damaged ({first_line(error)}); delete it to start over"
            ) from error

    def _check(self, state: dict[str, Any], path: Path) -> None:
        """Refuse the state of another training."""
        before = {"version": state["version"], **json.loads(state["config"])}
        now = {"version": VERSION, **to_dict(self.config)}
        changed = [f"{k} was {before.get(k)}, is {now[k]}" for k in now if before.get(k) != now[k]]
        if state["data"] != self.data:
            changed.append("it has other sentences or characters")
        if changed:
            raise InputError(
                f"{path}: the training that is not finished is another: {', '.join(changed)}; give "
                "its command again to go on, or delete the file to start over"
            )


def _fingerprint(tokenizer: CharTokenizer, *texts: Sentences) -> str:
    """Return a hash of the characters and of all sentences."""
    digest = hashlib.sha256(tokenizer.table().encode())
    for sentences in texts:
        for sentence in sentences:
            digest.update(np.array([*sentence, tokenizer.eos_id], np.int32).tobytes())
        digest.update(b"end")
    return digest.hexdigest()
