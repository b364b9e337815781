"""The training loop: a plain one.

Killed at any moment and started again with the same command, it ends with the same weights
as if it had not been: the order of batches follows from (seed, epoch), the audio's random
changes from (seed, epoch, utterance), dropout and sampling from (seed, step), and the rest
is in ``checkpoints/last.pt``.
"""

import fcntl
import hashlib
import math
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import yaml

from asr.audio.cmvn import CmvnStats
from asr.config import TrainConfig
from asr.config.read import to_dict
from asr.corpus.datadir import DataDir, Utterance
from asr.corpus.feature_statistics import read_speaker_stats
from asr.errors import InputError, first_line
from asr.files import check_folder, write_atomically, write_text
from asr.model.batch import Batch
from asr.model.fast.product import use_precision
from asr.model.las import LAS
from asr.model.machine import keep_memory, pick_device, release_memory, use_threads
from asr.recognize.plausibility import Vocabulary
from asr.store.average import average_models
from asr.store.find import MODEL_FILE
from asr.store.model_file import read_model, save_model
from asr.store.weights import Weights
from asr.text.chars import CharTokenizer
from asr.train import checks as preflight
from asr.train import settings
from asr.train.checkpoint import Progress, load_state, save_state
from asr.train.data import UtteranceSet, load_batches, plan_batches, seed_of
from asr.train.evaluate import Evaluation, evaluate
from asr.train.init import begin_with, go_on_from
from asr.train.log import Journal, clock, plain
from asr.train.schedule import learning_rate, make_optimizer

SHOWN = 3  # dev utterances whose attention is drawn
GOOD_ALIGNMENT = 0.2  # before an alignment has formed the quality is below 0.1


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or a termination signal arrived; the state is saved before anybody else sees it."""


class Diverged(InputError):
    """Too many batches had to be skipped; the weights are not worth saving."""


def fingerprint(utterances: Sequence[Utterance], tokenizer: CharTokenizer, cmvn: CmvnStats) -> str:
    """A checksum of what training sees of its data.

    Ids, transcripts and durations, what the characters are, and what is taken from the features.
    """
    lines = (f"{u.id} {u.duration_s} {u.text}\n" for u in utterances)
    sums = [cmvn.count, cmvn.sum.tolist(), cmvn.square_sum.tolist()]
    seen = "".join(lines) + "\n".join(tokenizer.symbols) + repr(sums)
    return hashlib.sha256(seen.encode()).hexdigest()


@contextmanager
def sole_user(folder: Path) -> Iterator[None]:
    """Keep a second training out of a folder; the lock goes with the process, however it ends.

    Raises:
        InputError: a training is at work there.
    """
    with (folder / "log" / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"{folder}: another training is writing into this folder; wait for it, stop it, "
                "or use another --out"
            ) from error
        except OSError as error:  # some network file systems
            print(f"warning: {folder} cannot be locked ({error.strerror})", file=sys.stderr)
        yield


class Training:
    """One training: data, model, optimiser, and where it stands.

    Args:
        config: all settings.
        train: data directory with text and the files of ``asr features``.
        dev: another one, with other speakers.
        tokens: tokens.txt of ``asr chars``.
        out: folder for everything that is written; a training found there goes on.
        init: model whose weights the training begins with, see :mod:`asr.train.init`.
        change: names of settings with which a training found there goes on otherwise, see
            :mod:`asr.train.settings`.

    Raises:
        InputError: the data does not fit the configuration, or ``out`` holds another training.
    """

    def __init__(
        self,
        config: TrainConfig,
        train: str,
        dev: str,
        tokens: str,
        out: str | Path,
        init: str | None = None,
        change: Sequence[str] = (),
    ) -> None:
        preflight.check_settings(config)
        settings.check_names(change)
        check_folder(out)
        self.config, self.out = config, Path(out)
        self.device = pick_device(config.device)
        use_threads(config.threads)
        keep_memory()
        use_precision(config.precision)
        self.tokenizer = CharTokenizer.from_file(tokens)
        train_set, dev_set = self._load(train, dev)
        self.durations = [u.duration_s or 0.0 for u in train_set]
        self.dev_durations = [u.duration_s or 0.0 for u in dev_set]
        self.references = {u.id: u.text or "" for u in dev_set}
        texts = [u.text or "" for u in train_set]
        speakers = read_speaker_stats(train, config.features)
        self.cmvn = sum(speakers.values(), CmvnStats.zero(config.features.dim))
        self.fingerprint = fingerprint(train_set, self.tokenizer, self.cmvn)
        common = (self.tokenizer, config.features, self.cmvn)
        copies = 2 if config.loss.consistency > 0 else 1
        self.train_set = UtteranceSet(
            train_set, *common, speakers, config.augment, config.seed, copies
        )
        dev_speakers = read_speaker_stats(dev, config.features)
        self.dev_set = UtteranceSet(dev_set, *common, dev_speakers)
        dev_sums = sum(dev_speakers.values(), CmvnStats.zero(config.features.dim))
        self.dev_fingerprint = fingerprint(dev_set, self.tokenizer, dev_sums)
        by_length = sorted(dev_set, key=lambda u: u.duration_s or 0.0)
        step = max(1, len(by_length) // (SHOWN + 1))
        self.shown = [u.id for u in by_length[step::step][:SHOWN]] or [by_length[0].id]

        torch.manual_seed(config.seed)
        self.model = LAS(config.model, config.features.dim, len(self.tokenizer)).to(self.device)
        self.optimizer = make_optimizer(self.model.parameters(), config.optim)
        self.progress, self.beginning, self.changed = Progress(), list[str](), list[str]()
        self.state_file = self.out / "checkpoints" / "last.pt"
        if self.state_file.exists():
            self.progress, self.changed = load_state(
                self.state_file,
                self.model,
                self.optimizer,
                config,
                self.fingerprint,
                self.dev_fingerprint,
                change,
            )
            self.beginning = go_on_from(self.progress.init, init, self.state_file)
        elif init:
            self.progress.init, self.progress.known, self.beginning = begin_with(
                init, self.model, self.tokenizer, config
            )
        known = self.progress.known
        learnt = {word for text in texts for word in text.split()}
        self.vocabulary = Vocabulary.measured(
            None if known is None else frozenset(learnt.union(known)), self.references.values()
        )
        self._make_folders()
        self._stop = self._may_raise = self._without_pictures = False

    def _make_folders(self) -> None:
        for folder in ("checkpoints", "log", "pictures"):
            try:
                (self.out / folder).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(
                    f"{self.out / folder}: cannot be made ({error.strerror}); name another --out "
                    "folder"
                ) from error

    def _load(self, train: str, dev: str) -> tuple[tuple[Utterance, ...], tuple[Utterance, ...]]:
        sets = []
        for directory in (train, dev):
            utterances = DataDir.load(directory).utterances
            preflight.check_durations(utterances, directory)
            strict = directory == train
            preflight.check_characters(utterances, self.tokenizer, directory, strict=strict)
            if strict or self.config.loss.ctc_weight > 0:
                augment = self.config.augment
                fastest = max(augment.speeds) * (1 + augment.tempo) if strict else 1.0
                preflight.check_fit(utterances, self.tokenizer, self.config, directory, fastest)
            sets.append(utterances)
        preflight.check_separation(*sets)
        return sets[0], sets[1]

    def run(self) -> Path:
        """Train to the end; returns the final model's file.

        Raises:
            Interrupted: Ctrl-C; the state is saved, the same command goes on.
            InputError: too many batches had to be skipped, or the disk is full.
            Exception: whatever else went wrong in a step; the state before it is saved.
        """
        final = self.out / MODEL_FILE
        if final.exists() and self._finished() and not self.changed:
            print(f"{final}: this training is finished already", file=sys.stderr)
            return final
        with sole_user(self.out):
            text = yaml.safe_dump(to_dict(self.config), sort_keys=False)
            write_text(self.out / "config.yaml", text)
            self.journal = Journal(self.out, self.progress.step, self.progress.epoch)
            try:
                self._greet()
                self._try_longest_batch()
                if settings.DEV in self.changed:
                    self._measure_again()
                with self._graceful_interrupts(), self._saved_at_an_end():
                    while not self._finished():
                        self._run_epoch()
                self._average(final)
            finally:
                self.journal.close()
        return final

    @contextmanager
    def _saved_at_an_end(self) -> Iterator[None]:
        """Save the state when a signal or an error ends the training before its time."""
        try:
            yield
        except Interrupted:
            self._save()
            step = self.progress.step
            raise Interrupted(f"saved after step {step}; the same command goes on") from None
        except Diverged:
            raise
        except Exception:
            try:
                self._save()
                self.journal.say(f"saved after step {self.progress.step}")
            except Exception as error:  # the one that ended the training tells more
                self.journal.say(f"warning: the state cannot be saved: {first_line(error)}")
            raise

    def _finished(self) -> bool:
        progress, patience = self.progress, self.config.patience
        if progress.epoch >= self.config.epochs:
            return True
        best = [entry["epoch"] for entry in self._best_epochs(1)]
        return bool(patience and best and progress.epoch - best[0] >= patience)

    def _greet(self) -> None:
        parameters = sum(p.numel() for p in self.model.parameters())
        hours = sum(self.durations) / 3600
        self.journal.say(
            f"{len(self.durations)} training utterances, {hours:.2f} h; {parameters / 1e6:.2f} M "
            f"parameters; {self.device}, {torch.get_num_threads()} threads; "
            f"{self.config.epochs} epochs"
        )
        for line in self.beginning:
            self.journal.say(line)
        if self.progress.step:
            self.journal.say(
                f"going on after step {self.progress.step}, in epoch {self.progress.epoch + 1}"
            )
        if self.changed:
            self.journal.say(f"going on with other settings: {', '.join(self.changed)}")

    def _try_longest_batch(self) -> None:
        """Run the batch with most padded audio once, so that memory runs out now or never."""
        plan = plan_batches(self.durations, self.config.batch)
        longest = max(plan, key=lambda b: len(b) * max(self.durations[i] for _, i in b))
        batch = next(load_batches(self.train_set, [longest]))
        if not batch.ids:
            return
        try:
            self._loss(batch.to(self.device), self.progress.step).total.backward()
        except (RuntimeError, MemoryError) as error:
            if "memory" not in str(error).lower():
                raise
            raise InputError(
                f"the largest batch ({len(batch.ids)} utterances, {batch.audio_s:.0f} s, longest "
                f"{batch.ids[int(batch.frames.argmax())]}) does not fit the memory: "
                f"{first_line(error)}; lower batch.seconds (now {self.config.batch.seconds:g})"
            ) from error
        self.optimizer.zero_grad()

    @contextmanager
    def _graceful_interrupts(self) -> Iterator[None]:
        """The first Ctrl-C lets the step end and saves the state; a second one is immediate.

        TERM, and HUP of a terminal that is closed, do the same, unless `nohup` has HUP ignored.
        Outside the main thread signals are not ours to handle.
        """

        def stop(number: int, _frame: FrameType | None) -> None:
            self._stop = True
            if number == signal.SIGINT:  # TERM may well come twice, to the group and passed on
                signal.signal(number, before[signal.SIGINT])
            if self._may_raise:
                self._may_raise = False
                raise Interrupted

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            numbers.append(signal.SIGHUP)
        before = {number: signal.signal(number, stop) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Where nothing of the state changes, a signal need not wait for the end."""
        self._may_raise = True
        try:
            yield
        finally:
            self._may_raise = False

    def _run_epoch(self) -> None:
        progress, config = self.progress, self.config
        first = progress.epoch * config.passes
        plan = [
            batch
            for number in range(first, first + config.passes)
            for batch in plan_batches(self.durations, config.batch, seed=config.seed, number=number)
        ]
        left = load_batches(self.train_set, plan[progress.batch :], workers=config.batch.workers)
        with closing(left) as batches:
            self._run_steps(batches, len(plan))
        started = time.monotonic()
        scores = self._end_epoch()
        release_memory()
        progress.elapsed_s += time.monotonic() - started
        self._save()
        self._draw(scores, progress.epoch)
        if self._stop:
            raise Interrupted

    def _run_steps(self, batches: Iterator[Batch], count: int) -> None:
        """The steps of an epoch that are left; it has so many in all."""
        progress, config = self.progress, self.config
        saved = clocked = time.monotonic()
        while True:
            with self._interruptible():
                batch = next(batches, None)
            if batch is None:
                return
            wait_s = time.monotonic() - clocked
            self._step(batch, (progress.epoch + progress.batch / count) / config.epochs, wait_s)
            now = time.monotonic()
            progress.elapsed_s += now - clocked
            clocked = now
            if self._stop:
                raise Interrupted
            if now - saved > 60 * config.checkpoint_minutes:
                self._save()
                saved = now
            self._show((progress.epoch + progress.batch / count) / config.epochs)

    def _loss(self, batch: Batch, step: int) -> Any:
        loss, epoch = self.config.loss, self.progress.epoch
        weights = replace(
            loss,
            scheduled_sampling=loss.scheduled_sampling * (epoch >= loss.sampling_start_epoch),
            guide=loss.guide * max(0.0, 1 - epoch / max(1, loss.guide_epochs)),
        )
        self.model.train()
        torch.manual_seed(seed_of(self.config.seed, step))
        return self.model(batch, weights, batch.count)

    def _step(self, batch: Batch, share: float, wait_s: float) -> None:
        """One update; a batch without a finite loss and gradient is saved and skipped.

        Whatever may fail comes before the first change of the state, or after the last.
        """
        started = time.monotonic()
        progress = self.progress
        rate = learning_rate(progress.step, share, self.config.optim)
        values = self._gradient(batch, progress.step + 1) if batch.ids else []
        finite = all(map(math.isfinite, values))
        if values and finite:
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.optimizer.step()
            self._count(batch, values)
        self.optimizer.zero_grad()
        progress.step += 1
        progress.batch += 1
        progress.audio_s += batch.audio_s
        for message in batch.errors:
            self.journal.say(f"warning: left out: {message}")
        if not values:
            return
        names = ("loss", "attention", "ctc", "accuracy", "grad_norm")
        entry: dict[str, Any] = {"step": progress.step, "epoch": progress.epoch + 1}
        entry |= dict(zip(names, values, strict=True))
        entry |= {"learning_rate": rate, "audio_s": round(batch.audio_s, 2)}
        entry |= {"seconds": time.monotonic() - started, "wait_s": wait_s}
        self.journal.record(entry, "step")
        if not finite:
            self._skip(batch, values)

    def _gradient(self, batch: Batch, step: int) -> list[float]:
        """Compute the gradient of a batch; returns its losses, accuracy and norm."""
        loss = self._loss(batch.to(self.device), step)
        loss.total.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.optim.clip_norm)
        parts = (loss.total, loss.attention, loss.ctc, loss.accuracy, norm)
        values: list[float] = torch.stack([v.detach() for v in parts]).tolist()
        return values  # a GPU was waited for once

    def _count(self, batch: Batch, values: list[float]) -> None:
        """Add a step to the sums of this epoch."""
        characters = float(batch.lengths.sum())
        sums = self.progress.sums
        for name, value in zip(("loss", "attention", "ctc", "accuracy"), values, strict=False):
            sums[name] = sums.get(name, 0.0) + value * characters
        sums["characters"] = sums.get("characters", 0.0) + characters

    def _skip(self, batch: Batch, values: list[float]) -> None:
        """Save a batch for replay; stop when there are too many.

        Raises:
            Diverged: the limit is reached.
        """
        progress, config = self.progress, self.config
        progress.skipped += 1
        path = self.out / "log" / f"skipped_{progress.step:06d}.pt"
        write_atomically(path, lambda file: torch.save(asdict(batch), file))
        loss, _, ctc, _, norm = values
        self.journal.say(
            f"warning: step {progress.step} skipped: loss {loss:g}, CTC {ctc:g}, gradient norm "
            f"{norm:g}; batch of {batch.ids[0]} saved as {path}"
        )
        if progress.skipped >= config.skip_limit:
            cause = (
                "the CTC loss is infinite: transcripts are too long for their audio"
                if math.isinf(ctc)
                else "the loss or gradient overflows: try a lower optim.learning_rate or "
                "optim.clip_norm, and look at the saved batches for damaged audio"
            )
            raise Diverged(
                f"{progress.skipped} batches were skipped (skip_limit = {config.skip_limit}); "
                + cause
            )

    def _show(self, share: float) -> None:
        progress = self.progress
        mean = progress.sums.get("loss", 0.0) / max(1.0, progress.sums.get("characters", 0.0))
        left_s = progress.elapsed_s / max(share, 1e-9) * (1 - share)
        speed = progress.audio_s / max(progress.elapsed_s, 1e-9)
        self.journal.progress(
            share,
            f"epoch {progress.epoch + 1}/{self.config.epochs}",
            f"loss {mean:.3f}, {speed:.0f} times real time, {clock(left_s)} left",
        )

    def _end_epoch(self) -> Evaluation:
        """Score the dev set, keep the weights if they are among the best."""
        progress = self.progress
        if not progress.sums.get("characters"):
            raise InputError(
                f"epoch {progress.epoch + 1}: not one batch of it could be used; the warnings "
                "above say why. Mend that, and the same command goes on"
            )
        with self._interruptible():
            scores = self._evaluate()
        for message in scores.errors:
            self.journal.say(f"warning: counted as wrong: {message}")
        entry = self._describe(scores)
        self._keep_model(entry)
        progress.history.append(entry)
        progress.epoch, progress.batch, progress.sums = progress.epoch + 1, 0, {}
        self.journal.record(entry, "epoch")
        self._report(entry)
        return scores

    def _keep_model(self, entry: dict[str, Any]) -> None:
        """Write the weights as the model of an epoch."""
        save_model(
            self.out / "checkpoints" / entry["checkpoint"],
            self.model.state_dict(),
            config=self.config,
            tokenizer=self.tokenizer,
            cmvn=self.cmvn,
            info={
                **plain(entry),
                "data": self.fingerprint,
                "vocabulary": self.vocabulary.to_info(),
            },
        )

    def _evaluate(self) -> Evaluation:
        plan = plan_batches(self.dev_durations, self.config.batch)
        left = load_batches(self.dev_set, plan, workers=self.config.batch.workers)
        with closing(left) as batches:
            return evaluate(
                self.model,
                batches,
                self.references,
                self.tokenizer,
                self.config.loss,
                self.vocabulary,
                frozenset(self.shown),
            )

    def _measure_again(self) -> None:
        """Score the models of earlier epochs on other dev data; those that are gone are out."""
        self.journal.say("the dev data are others than before: measuring the epochs so far again")
        weights = {name: value.clone() for name, value in self.model.state_dict().items()}
        for entry in self.progress.history:
            entry["gone"] = not self._has_model(entry)
            if not entry["gone"]:
                _, others = read_model(self.out / "checkpoints" / entry["checkpoint"])
                found = self._measure(others)
                entry |= {key: found[key] for key in ("dev_wer", "dev_cer", "credit")}
        self.model.load_state_dict(weights)
        self._save()

    def _has_model(self, entry: dict[str, Any]) -> bool:
        """Whether the model of an epoch is there and whole."""
        try:
            read_model(self.out / "checkpoints" / entry["checkpoint"])
        except InputError:
            return False
        return True

    def _describe(self, scores: Evaluation) -> dict[str, Any]:
        progress = self.progress
        epoch = progress.epoch + 1
        characters = max(1.0, progress.sums.get("characters", 0.0))
        train = {
            k: progress.sums.get(k, math.nan) / characters for k in ("attention", "ctc", "accuracy")
        }
        return {
            "step": progress.step,
            "epoch": epoch,
            **{f"train_{key}": value for key, value in train.items()},
            "dev_attention": scores.attention,
            "dev_ctc": scores.ctc,
            "dev_accuracy": scores.accuracy,
            "dev_wer": scores.wer,
            "dev_cer": scores.cer,
            "credit": scores.standard and scores.standard.to_info(),
            "alignment": scores.alignment,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "elapsed_s": round(progress.elapsed_s, 1),
            "checkpoint": f"epoch_{epoch:03d}.safetensors",
        }

    def _report(self, entry: dict[str, Any]) -> None:
        epoch, epochs = entry["epoch"], self.config.epochs
        left_s = entry["elapsed_s"] / epoch * (epochs - epoch)
        self.journal.say(
            f"epoch {epoch}/{epochs}: train attention {entry['train_attention']:.3f}, CTC "
            f"{entry['train_ctc']:.3f}; dev attention {entry['dev_attention']:.3f}, CTC "
            f"{entry['dev_ctc']:.3f}, WER {100 * entry['dev_wer']:.1f} %, CER "
            f"{100 * entry['dev_cer']:.1f} %, alignment {entry['alignment']:.2f}; "
            f"{clock(entry['elapsed_s'])} done, {clock(left_s)} left"
        )
        alarm = self.config.alignment_alarm_step
        if alarm and entry["step"] >= alarm and entry["alignment"] < GOOD_ALIGNMENT:
            self.journal.say(
                f"ALARM: after {entry['step']} steps the attention does not run along the audio "
                f"(quality {entry['alignment']:.2f}, expected {GOOD_ALIGNMENT} or more); look at "
                f"{self.out}/pictures. Check that transcripts belong to their audio; then try "
                "loss.ctc_weight 0.5, shorter utterances first, or more data"
            )

    def _draw(self, scores: Evaluation, epoch: int) -> None:
        """Draw pictures; a training never fails for want of one."""
        try:
            self._draw_all(scores, epoch)
        except Exception as error:  # settings, fonts and versions of matplotlib, a full disk
            if not self._without_pictures:
                self.journal.say(f"warning: a picture cannot be drawn: {first_line(error)}")
            self._without_pictures = True

    def _draw_all(self, scores: Evaluation, epoch: int) -> None:
        from asr.explain import pictures  # matplotlib may refuse to be imported, too

        folder = self.out / "pictures"
        pictures.draw_curves(self.progress.history, folder / "curves.png")
        seconds = dict(zip(self.references, self.dev_durations, strict=True))
        examples = []
        for name, weights in scores.pictures.items():
            ids = self.tokenizer.encode(self.references[name])
            characters = [
                *(self.tokenizer.symbols[i].replace("<space>", "_") for i in ids),
                "<eos>",
            ]
            examples.append((f"{name}, epoch {epoch}", weights, characters, seconds[name]))
        if examples:
            pictures.draw_attention(examples, folder / f"attention_{epoch:03d}.png")

    def _best_epochs(self, count: int) -> list[dict[str, Any]]:
        """The epochs with the lowest dev error rates, best first."""
        measured = [e for e in self.progress.history if not e.get("gone")]
        return sorted(measured, key=lambda e: (e["dev_wer"], e["dev_cer"]))[:count]

    def _save(self) -> None:
        """Write the state, then delete the epochs' models that are no longer wanted."""
        save_state(
            self.state_file,
            self.model,
            self.optimizer,
            self.progress,
            self.config,
            self.fingerprint,
            self.dev_fingerprint,
        )
        kept = {entry["checkpoint"] for entry in self._best_epochs(self.config.average)}
        kept |= {entry["checkpoint"] for entry in self.progress.history[-1:]}
        for path in (self.out / "checkpoints").glob("epoch_*.safetensors"):
            if path.name not in kept:
                path.unlink(missing_ok=True)

    def _average(self, final: Path) -> None:
        best = self._best_models()
        sources = [self.out / "checkpoints" / e["checkpoint"] for e in best]
        found = average_models(sources, final, self._measure, self.config)
        epochs = ", ".join(str(e["epoch"]) for e in best)
        self.journal.say(
            f"{final}: the mean of epochs {epochs}; dev WER {100 * found['dev_wer']:.1f} %, "
            f"of the best one {100 * best[0]['dev_wer']:.1f} %"
        )

    def _best_models(self) -> list[dict[str, Any]]:
        """The best epochs whose models are there; the last one's can be written again."""
        last = self.progress.history[-1]
        if not self._has_model(last):
            self._keep_model(last)
        best = self._best_epochs(self.config.average)
        there = [entry for entry in best if self._has_model(entry)]
        if gone := [str(entry["epoch"]) for entry in best if entry not in there]:
            self.journal.say(
                f"warning: {self.out / 'checkpoints'}: no whole model of epoch "
                f"{', '.join(gone)}; going on without"
            )
        return there or [last]

    def _measure(self, weights: Weights) -> dict[str, Any]:
        """Dev scores of other weights, in place of which the model has no further use."""
        self.model.load_state_dict({name: torch.from_numpy(w) for name, w in weights.items()})
        scores = self._evaluate()
        return {
            "dev_wer": scores.wer,
            "dev_cer": scores.cer,
            "credit": scores.standard and scores.standard.to_info(),
            "vocabulary": self.vocabulary.to_info(),
        }
