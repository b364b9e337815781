"""Training of character language models."""

import hashlib
import json
import math
import time
from collections.abc import Callable
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
from asr.lm.texts import check_characters, read_texts
from asr.model.char_lm import CharLM, sentence_batch
from asr.model.loss import IGNORE
from asr.model.machine import is_no_memory
from asr.text.tokenizer import CharTokenizer
from asr.train.adamw import AdamW
from asr.train.checkpoint import read_state, write_state
from asr.train.utterances import seed_of

Sentences = list[list[int]]
Entry = dict[str, float]
VERSION = 2  # of the state
SAVE_EVERY_S = 60.0


def read_sentences(path: str | Path, tokenizer: CharTokenizer, plain: bool = False) -> Sentences:
    """Read the sentences of a text as token ids; warn of unknown characters.

    Raises:
        InputError: see :func:`asr.lm.texts.read_texts` and :func:`~asr.lm.texts.check_characters`.
    """
    texts = read_texts(path, plain, tokenizer.normalize)
    check_characters(path, texts, tokenizer)
    return [tokenizer.encode(text) for text in texts]


def hold_out(sentences: Sentences, share: float, seed: int) -> tuple[Sentences, Sentences]:
    """Split sentences at random into a training set and a dev set of a share, at least one.

    Raises:
        InputError: there is only one sentence.
    """
    if len(sentences) < 2:
        raise InputError("one sentence only: none can be held out; name others with --dev")
    order = np.random.default_rng(seed).permutation(len(sentences)).tolist()
    count = min(len(sentences) - 1, max(1, round(share * len(sentences))))
    train, dev = sorted(order[count:]), sorted(order[:count])
    return [sentences[i] for i in train], [sentences[i] for i in dev]


def mean_loss(lm: CharLM, sentences: Sentences, batch: int) -> float:
    """Return the cross-entropy per character, ends counted, in nats; set evaluation mode."""
    lm.eval()
    order = sorted(sentences, key=len)
    total = sum(float(lm.score(order[i : i + batch]).sum()) for i in range(0, len(order), batch))
    return -total / sum(len(s) + 1 for s in sentences)


def describe(loss: float, sentences: Sentences, space: int) -> str:
    """Return a line with the perplexities of a mean loss, per character and per word."""
    characters = sum(len(s) + 1 for s in sentences)
    words = sum(s.count(space) + 2 for s in sentences)  # the end counts as a word
    return (
        f"perplexity {math.exp(min(700.0, loss)):.3f} per character, "
        f"{math.exp(min(700.0, loss * characters / words)):.1f} per word"
    )


def _batches(sentences: Sentences, size: int, seed: int, epoch: int) -> list[Sentences]:
    """Return batches of sentences of similar length, in random order."""
    rng = np.random.default_rng([seed, epoch])
    key = np.array([len(s) for s in sentences]) * rng.uniform(0.8, 1.2, len(sentences))
    order = np.argsort(key, kind="stable").tolist()
    batches = [[sentences[i] for i in order[n : n + size]] for n in range(0, len(order), size)]
    rng.shuffle(batches)
    return batches


@dataclass
class Progress:
    """Progress of a training."""

    batch: int = 0
    """Batches of the current epoch that are done."""
    loss: float = 0.0
    """Sum over the characters of the current epoch, in nats."""
    characters: int = 0
    """Characters of the current epoch so far."""
    entries: list[Entry] = field(default_factory=list)
    """One entry for each finished epoch: ``epoch`` from 1, ``train_loss``, ``dev_loss`` and
    ``best``, the best epoch so far."""


def train_lm(
    config: LMConfig,
    tokenizer: CharTokenizer,
    train: Sentences,
    dev: Sentences,
    report: Callable[[list[Entry]], None],
    state: Path | None = None,
    device: str | torch.device = "cpu",
) -> tuple[CharLM, Entry]:
    """Train a language model; return that of the epoch with the lowest dev loss.

    Args:
        config: sizes and schedule.
        tokenizer: characters.
        train: sentences to train on.
        dev: sentences to select the epoch on.
        report: called after each epoch with the entries of all epochs.
        state: file of the training's state; if it exists, the training is resumed and ends like
            an uninterrupted one (on GPUs up to the dropout between layers, which cuDNN draws).
        device: device to train on.

    Returns:
        the model and the entry of the best epoch.

    Raises:
        InputError: the loss is not finite, or ``state`` is damaged or of another training.
    """
    devices = [device] if torch.device(device).type == "cuda" else []
    with torch.random.fork_rng(devices):
        training = _Training(config, tokenizer, train, dev, state, device)
        while not training.finished():
            try:
                training.run_epoch()
            except (RuntimeError, MemoryError) as error:
                if not is_no_memory(error):
                    raise
                longest = max(map(len, train + dev))
                raise InputError(
                    f"not enough memory; the longest sentence has {longest} characters: write one "
                    "sentence on each line, or lower batch, units or layers"
                ) from error
            training.save()
            report(training.progress.entries)
        training.lm.load_state_dict(training.best_weights)
        entries = training.progress.entries
        return training.lm.eval(), entries[int(entries[-1]["best"]) - 1]


class _Training:
    """A training and its state; see :func:`train_lm` for the arguments."""

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
        self.data = fingerprint(tokenizer, train, dev)
        if state is not None and state.exists():
            self._restore(state)

    def finished(self) -> bool:
        """Whether all epochs are done, or ``patience`` has run out."""
        entries, patience = self.progress.entries, self.config.patience
        waited = len(entries) - entries[-1]["best"] if entries else 0
        return len(entries) >= self.config.epochs or bool(patience and waited >= patience)

    def run_epoch(self) -> None:
        """Train to the end of the current epoch and measure the dev loss."""
        progress, config, epoch = self.progress, self.config, len(self.progress.entries)
        batches = _batches(self.train, config.batch, config.seed, epoch)
        self.lm.train()
        for i, batch in enumerate(batches[progress.batch :], progress.batch):
            factor = 0.5 * (1 + math.cos(math.pi * (epoch + i / len(batches)) / config.epochs))
            torch.manual_seed(seed_of(config.seed, epoch, i))  # of dropout
            loss, characters = self._step(batch, config.learning_rate * factor)
            progress.loss += loss * characters
            progress.characters += characters
            progress.batch += 1
            if time.monotonic() - self.saved_s > SAVE_EVERY_S:
                self.save()
        self._measure()

    def _step(self, batch: Sentences, rate: float) -> tuple[float, int]:
        """Update the weights; return the mean loss per character and the number of characters."""
        lm = self.lm
        inputs, targets = (part.to(self.device) for part in sentence_batch(batch, lm.eos))
        loss = nll_loss(lm(inputs)[0].flatten(0, 1), targets.flatten(), ignore_index=IGNORE)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(lm.parameters(), 1.0)
        self.optimizer.lr = rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(loss.detach()), int((targets >= 0).sum())

    def _measure(self) -> None:
        """Append the entry of the epoch, and keep its weights if they are the best."""
        progress, epoch = self.progress, len(self.progress.entries) + 1
        loss = progress.loss / progress.characters
        dev_loss = mean_loss(self.lm, self.dev, self.config.batch)
        if not math.isfinite(loss + dev_loss):
            if self.state is not None:  # a training resumed from it would diverge again
                self.state.unlink(missing_ok=True)
            raise InputError(
                f"epoch {epoch}: the loss is not finite; lower learning_rate (now "
                f"{self.config.learning_rate:g})"
            )
        entry: Entry = {"epoch": epoch, "train_loss": loss, "dev_loss": dev_loss}
        entries = [*progress.entries, entry]
        entry["best"] = min(entries, key=lambda each: each["dev_loss"])["epoch"]
        if entry["best"] == epoch:
            self.best_weights = {k: v.clone() for k, v in self.lm.state_dict().items()}
        self.progress = Progress(entries=entries)

    def save(self) -> None:
        """Write the state, if it has a file."""
        if self.state is None:
            return
        state = {
            "version": VERSION,
            "config": json.dumps(to_dict(self.config)),
            "data": self.data,
            "model": self.lm.state_dict(),
            "best": self.best_weights,
            "optimizer": self.optimizer.state_dict(),
            "progress": dict(vars(self.progress)),
        }
        write_state(self.state, state)
        self.saved_s = time.monotonic()

    def _restore(self, path: Path) -> None:
        """Restore the state; raise InputError if it is damaged or of another training."""
        state = read_state(path)
        try:
            self._check(state, path)
            self.lm.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.best_weights = {k: v.to(self.device) for k, v in state["best"].items()}
            self.progress = Progress(**state["progress"])
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise InputError(
                f"{path}: damaged ({first_line(error)}); delete it to start over"
            ) from error

    def _check(self, state: dict[str, Any], path: Path) -> None:
        """Raise InputError if the state is of another training."""
        before = {"version": state["version"], **json.loads(state["config"])}
        now = {"version": VERSION, **to_dict(self.config)}
        changed = [f"{k} was {before.get(k)}, is {now[k]}" for k in now if before.get(k) != now[k]]
        if state["data"] != self.data:
            changed.append("other sentences or characters")
        if changed:
            raise InputError(
                f"{path}: an unfinished training with other settings: {', '.join(changed)}; run "
                "its command again to resume it, or delete the file to start over"
            )


def fingerprint(tokenizer: CharTokenizer, *texts: Sentences) -> str:
    """Return a hash of the characters and the sentences."""
    digest = hashlib.sha256(tokenizer.table().encode())
    for sentences in texts:
        for sentence in sentences:
            digest.update(np.array([*sentence, tokenizer.eos_id], np.int32).tobytes())
        digest.update(b"end")
    return digest.hexdigest()
