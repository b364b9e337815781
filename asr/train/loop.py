"""The training loop.

A training that is killed at any moment and started again with the same command ends with the
same weights as an uninterrupted one: the order of batches follows from (seed, pass),
augmentation from (seed, pass, utterance), dropout from (seed, step), and everything else is in
``checkpoints/last.pt``.
"""

import hashlib
import math
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from itertools import islice
from pathlib import Path

import torch
import yaml

from asr.config import TrainConfig
from asr.config.read import to_dict
from asr.errors import InputError, counted, first_line
from asr.files import write_text
from asr.model.batch import Batch, Count
from asr.model.fast.product import precision_in_use
from asr.model.las import LAS
from asr.model.machine import is_no_memory, pick_device, release_memory, seeded
from asr.recognize.plausibility import Vocabulary
from asr.train import checks, report, settings
from asr.train.adamw import AdamW
from asr.train.checkpoint import Progress, pack_state, restore_state
from asr.train.data import TrainData
from asr.train.drawing import Drawing
from asr.train.evaluate import Evaluation
from asr.train.folder import RunFolder
from asr.train.init import ENCODER, check_origin, initialize, read_tokens
from asr.train.loader import load_batches
from asr.train.log import Log, RankLog
from asr.train.rank import Interrupted as Interrupted
from asr.train.rank import Rank
from asr.train.schedule import learning_rate
from asr.train.selection import ModelSelection, best_epochs
from asr.train.step import OutOfMemory, StepResult, TrainStep, weights_at
from asr.train.utterances import seed_of


class Diverged(InputError):
    """Too many batches were skipped, or weights are not finite; the state is not saved."""


class Training:
    """A training: data, model, optimiser and progress.

    Threads, precision and signals of the process are up to the caller, see
    :func:`asr.commands.machine.machine` and :meth:`stop`.

    Args:
        config: all settings.
        train: data directory with text and the files of ``asr features``, or tar shards.
        dev: the same for the dev set, with other speakers.
        tokens: tokens.txt of ``asr chars``; None: the characters of ``init``.
        out: folder of the training; a training found there is resumed.
        init: model whose weights the training begins with, see :mod:`asr.train.init`.
        change: names of settings that may differ when a training is resumed, see
            :mod:`asr.train.settings`.
        rank: this process among several, see :mod:`asr.train.group`; None trains alone.

    Raises:
        InputError: the data does not fit the configuration, or ``out`` holds another training.
    """

    def __init__(
        self,
        config: TrainConfig,
        train: str,
        dev: str,
        tokens: str | None,
        out: str | Path,
        init: str | None = None,
        change: Sequence[str] = (),
        rank: Rank | None = None,
    ) -> None:
        checks.check_settings(config)
        settings.check_names(change)
        self.config, self.folder = config, RunFolder(out, config.checkpoints)
        self.rank = rank or Rank(pick_device(config.device))
        tokenizer = read_tokens(tokens, init, self.folder.tokens)
        self.data = TrainData(config, train, dev, tokenizer)
        self.model = self._new_model()
        self.optimizer = AdamW(
            self.model.parameters(), config.optim.learning_rate, config.optim.weight_decay
        )
        self.progress, self.changed, self.origin = self._restore(init, change)
        known = self.progress.known
        words = None if known is None else frozenset(self.data.words.union(known))
        vocabulary = Vocabulary.from_texts(words, self.data.references.values())
        self.step = TrainStep(
            self.model,
            self.optimizer,
            config,
            self.rank,
            lambda text: self.log.say(text),
        )
        self.selection = ModelSelection(self.model, self.data, self.folder, vocabulary, self.rank)
        self.folder.make()
        self._check_ranks()
        self._clocked = 0.0  # when the time of the training was last added up
        self._interruptible_thread = 0  # identifier of a thread in which stop() raises at once

    def _new_model(self) -> LAS:
        config = self.config
        try:
            with seeded(config.seed):
                model = LAS(config.model, config.features.dim, len(self.data.tokenizer))
            return model.to(self.rank.device)
        except (RuntimeError, MemoryError) as error:
            if is_no_memory(error):
                reason = "does not fit into memory; lower model.encoder.units or other sizes"
                raise InputError(f"the model {reason}") from error
            raise

    def _restore(
        self, init: str | None, change: Sequence[str]
    ) -> tuple[Progress, list[str], list[str]]:
        """Return progress, changed settings, and lines for the log about initial weights."""
        path = self.folder.state_file
        state = self.rank.broadcast(self.folder.load() if self.rank.index == 0 else None)
        if state:
            progress, changed = restore_state(
                state, path, self.model, self.optimizer, self.data, change
            )
            return progress, changed, check_origin(progress.init, init, path)
        if not init:
            return Progress(), [], []
        origin, known, lines = initialize(init, self.model, self.data.tokenizer, self.config)
        return Progress(init=origin, known=known), [], lines

    def _check_ranks(self) -> None:
        """Raise InputError if processes have other data, settings or weights than rank 0."""
        weights = hashlib.sha256()
        for value in self.model.state_dict().values():
            weights.update(value.cpu().numpy().tobytes())
        own = {
            "training data": self.data.fingerprint,
            "dev data": self.data.dev_fingerprint,
            "settings": settings.common_settings(self.config)
            | {"accumulate": self.config.batch.accumulate},
            "precision": precision_in_use(),
            "noise": self.data.files,
            "initial weights": weights.hexdigest(),
        }
        first, *others = self.rank.gather(own)
        for rank, theirs in enumerate(others, 1):
            if different := [name for name in own if theirs[name] != first[name]]:
                raise InputError(
                    f"rank {rank} has other {', '.join(different)} than rank 0; start all "
                    "processes with the same options and files"
                )

    def stop(self) -> None:
        """Stop the training soon, with its state saved; :meth:`run` raises Interrupted.

        Signal handlers and other threads may call it. The current step is finished first.
        """
        self.rank.stopped = True
        if self._interruptible_thread == threading.get_ident():
            self._interruptible_thread = 0
            raise Interrupted

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Let :meth:`stop` raise at once, while the state does not change.

        Several processes stop together instead, where they call :meth:`Rank.check_stop`.
        """
        if self.rank.count > 1:
            yield
            return
        self._interruptible_thread = threading.get_ident()
        try:
            yield
        finally:
            self._interruptible_thread = 0
        self.rank.check_stop()

    def run(self) -> Path:
        """Train to the end and return the path of the final model.

        Raises:
            Interrupted: :meth:`stop` was called; the state is saved.
            InputError: too many batches were skipped, or the disk is full.
            Exception: a step failed; the state before it is saved.
        """
        final = self.folder.final
        done = final.exists() and self.progress.averaged and self._finished() and not self.changed
        if self.rank.broadcast(done):
            print(f"{final}: this training is finished already", file=sys.stderr)
            return final
        with self._opened() as log:
            self.log = log
            self._log_start()
            self._run()
        return final

    @contextmanager
    def _opened(self) -> Iterator[Log | RankLog]:
        """Lock the folder and open the log; rank 0 alone writes into the folder."""
        if self.rank.index:
            yield RankLog()
            return
        with self.folder.lock():
            text = yaml.safe_dump(to_dict(self.config), sort_keys=False)
            write_text(self.folder.path / "config.yaml", text)
            self.folder.write_tokens(self.data.tokenizer)
            with (
                closing(Log(self.folder.path, self.progress.step, self.progress.epoch)) as log,
                closing(Drawing(log.say)) as self.drawing,
            ):
                yield log

    def _run(self) -> None:
        progress = self.progress
        progress.averaged = False
        self._clocked = time.monotonic()
        with self._interruptible():
            self._try_largest_batch()
            if settings.DEV in self.changed:
                self.log.say("the dev set has changed: measuring the epochs so far again")
                progress.history = self.selection.measure_again(progress.history)
            if progress.init and not progress.step:
                self._measure_first()
        try:
            self._run_epochs()
            with self._interruptible():
                self.selection.average(progress.history, self.log)
        except Interrupted:
            self._save()
            self.rank.total(0.0)  # or torchrun would end rank 0 while it saves
            step = progress.step
            raise Interrupted(f"saved after step {step}; run the same command to resume") from None
        except Diverged:
            raise
        except Exception:
            self._save_after_error()
            raise
        progress.averaged = True
        self._save()
        self.rank.total(0.0)  # nobody ends before rank 0 has written everything

    def _measure_first(self) -> None:
        """Say how many errors the model that a training begins with makes on the dev set."""
        name = self.progress.init["model"]
        if name.endswith(f":{ENCODER}"):  # its decoder is random
            return
        scores = self.selection.evaluate().dev_scores()
        self.log.say(f"{name} before this training: dev WER {100 * scores['dev_wer']:.1f} %")

    def _save_after_error(self) -> None:
        """Save the state if possible; the error that ended the training is more informative."""
        if self.rank.index:
            return
        try:
            self._save()
            self.log.say(f"saved after step {self.progress.step}")
        except Exception as error:
            self.log.say(f"warning: the state cannot be saved: {first_line(error)}")

    def _save(self) -> None:
        """Write the state, then delete models of epochs that are no longer among the best.

        Raises:
            Diverged: the weights are not finite; the previous state is kept.
        """
        if not all(bool(p.isfinite().all()) for p in self.model.parameters()):
            raise Diverged(
                f"{self.folder.state_file}: not saved again after step {self.progress.step}, as "
                "weights are no longer finite; go on from the state before with a lower "
                "optim.learning_rate, and --change optim.learning_rate"
            )
        if self.rank.index == 0:
            self.folder.save(pack_state(self.model, self.optimizer, self.progress, self.data))
            self.selection.keep(self.progress.history)

    def _finished(self) -> bool:
        progress, patience = self.progress, self.config.patience
        if progress.epoch >= self.config.epochs:
            return True
        best = best_epochs(progress.history, 1)
        return bool(patience and best and progress.epoch - best[0]["epoch"] >= patience)

    def _log_start(self) -> None:
        progress, durations_s = self.progress, self.data.train.durations_s
        parameters = sum(p.numel() for p in self.model.parameters())
        if self.rank.count > 1:
            self.log.say(f"rank {self.rank.index} of {self.rank.count}, {socket.gethostname()}")
        self.log.say(
            f"{counted(len(durations_s), 'training utterance')}, {sum(durations_s) / 3600:.2f} h; "
            f"{parameters / 1e6:.2f} M parameters; {self.rank.device}, "
            f"{counted(torch.get_num_threads(), 'thread')}, {precision_in_use()}; "
            f"{counted(self.config.epochs, 'epoch')}"
        )
        for line in self.origin:
            self.log.say(line)
        if progress.step:
            self.log.say(f"resuming after step {progress.step}, in epoch {progress.epoch + 1}")
        if self.changed:
            self.log.say(f"resuming with other settings: {', '.join(self.changed)}")

    def _try_largest_batch(self) -> None:
        """Compute one gradient, so that a lack of memory shows before training."""
        batches = self.data.largest_batch(self.rank)
        weights = weights_at(self.config.loss, self.progress.epoch)
        try:
            for batch in batches:
                self.step.local_gradient([batch], batch.count, weights, 0)
        except OutOfMemory as error:
            raise InputError(f"the largest batch: {error}") from error
        finally:
            self.optimizer.zero_grad()

    def _run_epochs(self) -> None:
        """Run the remaining epochs; the same workers read for all, also during evaluation."""
        progress, workers = self.progress, self.config.batch.workers
        plan = self.data.remaining(progress.epoch, progress.batch, self.rank)
        with closing(load_batches(self.data.train, plan, workers=workers)) as batches:
            while not self._finished():
                self._run_epoch(batches)

    def _run_epoch(self, batches: Iterator[Batch]) -> None:
        progress = self.progress
        steps = self.data.epoch(progress.epoch, self.rank).steps
        left = (steps - progress.batch) * self.config.batch.accumulate
        self._run_steps(islice(batches, left), steps)
        scores = self._end_epoch()
        release_memory()
        self._save()
        self._draw(scores)
        self.rank.check_stop()

    def _run_steps(self, batches: Iterator[Batch], count: int) -> None:
        """Run the remaining steps of an epoch; ``count`` is the number of all its batches."""
        progress, config = self.progress, self.config
        saved = time.monotonic()
        while True:
            started = time.monotonic()
            with self._interruptible():
                micro_batches = list(islice(batches, config.batch.accumulate))
            if not micro_batches:
                return
            wait_s = time.monotonic() - started
            self._step(micro_batches, self._done(count), wait_s)
            now = self._add_time()
            self.rank.check_stop()
            used = progress.sums.get("characters")  # otherwise the weights may have diverged
            if used and now - saved > 60 * config.checkpoint_minutes:
                self._save()
                saved = now
            done = self._done(count)
            label = f"epoch {progress.epoch + 1}/{config.epochs}"
            self.log.progress(done, label, report.progress_note(progress, done))

    def _done(self, count: int) -> float:
        """Return the fraction of the training that is done; an epoch has ``count`` batches."""
        return (self.progress.epoch + self.progress.batch / count) / self.config.epochs

    def _add_time(self) -> float:
        """Add the time since the last call to the time that the training has taken."""
        now = time.monotonic()
        self.progress.elapsed_s += now - self._clocked
        self._clocked = now
        return now

    def _step(self, micro_batches: Sequence[Batch], done: float, wait_s: float) -> None:
        """Update the weights and log the step.

        Whatever can raise an error runs before the state changes, or after all of it has changed.

        Args:
            micro_batches: those of this process; they are empty if no audio could be read.
            done: fraction of the training that is done.
            wait_s: time spent waiting for the batch, for the log.
        """
        started = time.monotonic()
        progress, config = self.progress, self.config
        rate = learning_rate(progress.step, done, config.optim)
        self.rank.report(f"step {progress.step + 1}: {', '.join(map(str, micro_batches))}")
        local = [(*batch.count, batch.audio_s) for batch in micro_batches]
        *sizes, audio_s = self.rank.total(*map(sum, zip(*local, strict=True)))
        count, result = Count(*map(int, sizes)), None
        if count.utterances:
            weights = weights_at(config.loss, progress.epoch)
            seed = seed_of(config.seed, progress.step + 1)
            result = self.step(micro_batches, count, weights, rate, seed)
            if result.finite:
                progress.add(result._asdict(), count)
        progress.step += 1
        progress.batch += 1
        progress.audio_s += audio_s
        for message in (text for batch in micro_batches for text in batch.errors):
            self.log.say(f"warning: left out: {message}")
        if result is None:
            return
        entry = {"step": progress.step, "epoch": progress.epoch + 1, **result._asdict()}
        entry |= {"learning_rate": rate, "audio_s": round(audio_s, 2)}
        entry |= {"seconds": time.monotonic() - started, "wait_s": wait_s}
        entry |= self.rank.times()
        self.log.record(entry, "step")
        if not result.finite:
            self._skip(micro_batches, result)

    def _skip(self, micro_batches: Sequence[Batch], result: StepResult) -> None:
        """Save the batches of a skipped step for inspection.

        Raises:
            Diverged: too many batches were skipped.
        """
        progress, limit = self.progress, self.config.skip_limit
        progress.skipped += 1
        progress.sums["skipped"] = progress.sums.get("skipped", 0.0) + 1
        saved = [
            f"; batch of {batch.ids[0]} saved as "
            f"{self.folder.save_batch(batch, progress.step, place)}"
            for place, batch in enumerate(micro_batches, self.rank.index * len(micro_batches))
            if batch.ids
        ]
        self.log.say(
            f"warning: step {progress.step} skipped: loss {result.loss:g}, CTC {result.ctc:g}, "
            f"gradient norm {result.grad_norm:g}{''.join(saved)}"
        )
        if progress.skipped >= limit:
            cause = (
                "the CTC loss is infinite: transcripts are too long for their audio"
                if math.isinf(result.ctc)
                else "the loss or gradient overflows: try a lower optim.learning_rate or "
                "optim.clip_norm, and look at the saved batches for damaged audio"
            )
            raise Diverged(
                f"{progress.skipped} batches were skipped (skip_limit = {limit}); {cause}"
            )

    def _end_epoch(self) -> Evaluation:
        """Score the model on the dev set, write it, and log the epoch."""
        progress = self.progress
        if not progress.sums.get("characters"):
            message = f"epoch {progress.epoch + 1}: no batch could be used; the warnings above say"
            if progress.sums.get("skipped"):
                raise Diverged(f"{message} why; a lower optim.learning_rate may help")
            progress.batch = 0  # a resumed training reads this epoch again
            raise InputError(f"{message} why. Fix that, and run the same command to resume")
        self.rank.report(f"evaluation of epoch {progress.epoch + 1}")
        with self._interruptible():
            scores = self.selection.evaluate()
        self._add_time()
        for message in scores.errors:
            self.log.say(f"warning: counted as wrong: {message}")
        entry = report.history_entry(progress, scores, self.optimizer.lr)
        if self.rank.index == 0:
            self.selection.write(entry)
        progress.end_epoch(entry)
        self.log.record(entry, "epoch")
        self.log.say(report.epoch_line(entry, self.config.epochs))
        if scores.statistics is not None:
            self.log.say(f"dev alignment: {scores.statistics}")
        if alarm := report.alarm(entry, self.config, self.folder.path):
            self.log.say(alarm)
        return scores

    def _draw(self, scores: Evaluation) -> None:
        """Draw pictures, beside the next steps; a failure is a warning, once."""
        if self.rank.index == 0:
            folder, history = self.folder.path / "pictures", self.progress.history
            self.drawing.start(partial(report.draw, folder, history, scores, self.data))
