"""Data directory to batches: which utterances go together, and what becomes of their audio.

Whatever is random about an utterance follows from (seed, pass, utterance) and nothing else,
so that a training that was interrupted goes on with the very same numbers, however many
processes read the audio.
"""

import mmap
import multiprocessing
import os
import pickle
import signal
import socket
import sys
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from asr.audio.clip import read
from asr.audio.cmvn import CmvnStats
from asr.audio.features import FeatureExtractor, normalize
from asr.config import AugmentConfig, BatchConfig, FeatureConfig
from asr.corpus.datadir import Utterance
from asr.errors import InputError, first_line
from asr.model.batch import Batch
from asr.terminal import Output
from asr.text.chars import CharTokenizer
from asr.train.augment import augment_waveform, draw_factor, spec_augment


@dataclass(frozen=True)
class Example:
    """One utterance, ready for a batch; ``error`` says why it is not."""

    id: str
    copies: tuple[Tensor, ...]
    """Features (T, F), masked differently if there are several."""
    tokens: Tensor
    error: str = ""


def seed_of(*numbers: int) -> int:
    """One well-mixed seed from several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def pad(sequences: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Put sequences (T_i, ...) side by side: (B, T, ...), 0 on padding, and lengths (B,)."""
    lengths = torch.tensor([len(s) for s in sequences])
    return torch.nn.utils.rnn.pad_sequence(list(sequences), batch_first=True), lengths


def plan_batches(
    durations_s: Sequence[float], config: BatchConfig, *, seed: int = 0, number: int | None = None
) -> list[list[tuple[int, int]]]:
    """Group utterances of similar length; as many as fit the audio budget with padding.

    Args:
        durations_s: length of every utterance.
        config: the budget.
        seed: of the training.
        number: of the pass over the training set, from 0; None gives the plain order, shortest
            first, as for a dev set. The first pass of training does the same if
            ``shortest_first`` is set; in the others lengths are jittered by up to 10 % before
            sorting and the batches are shuffled.

    Returns:
        (pass, index into ``durations_s``) of each utterance, a list for each batch.
    """
    lengths = np.asarray(durations_s, dtype=float)
    key, generator = lengths, None
    if number is not None and not (number == 0 and config.shortest_first):
        generator = np.random.default_rng([seed, number])
        key = lengths * generator.uniform(0.9, 1.1, len(lengths))
    batches: list[list[tuple[int, int]]] = []
    longest = 0.0
    for index in np.argsort(key, kind="stable").tolist():
        longest = max(longest, lengths[index]) if batches else lengths[index]
        full = not batches or len(batches[-1]) >= config.max_utterances
        if full or longest * (len(batches[-1]) + 1) > config.seconds:
            batches.append([])
            longest = lengths[index]
        batches[-1].append((number or 0, index))
    if generator is not None:
        generator.shuffle(batches)
    return batches


class UtteranceSet:
    """Utterances by (pass, index): audio is read, augmented and turned into features.

    Args:
        utterances: with text.
        tokenizer: characters to ids.
        features: how features are made and normalised.
        overall: statistics of the training set.
        speakers: statistics of each speaker, for ``features.cmvn: speaker``.
        augment: random changes; None leaves the audio as it is.
        seed: of the training.
        copies: how often each utterance is in its batch, under other masks.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        tokenizer: CharTokenizer,
        features: FeatureConfig,
        overall: CmvnStats | None,
        speakers: dict[str, CmvnStats] | None = None,
        augment: AugmentConfig | None = None,
        seed: int = 0,
        copies: int = 1,
    ) -> None:
        self.utterances = utterances
        self.extractor = FeatureExtractor(features)
        self.kind = features.cmvn
        self.sample_rate = features.sample_rate
        self.tokens = [torch.tensor(tokenizer.encode(u.text or "")) for u in utterances]
        self.overall, self.speakers = overall, speakers or {}
        self.augment, self.seed, self.copies = augment, seed, copies

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, key: tuple[int, int]) -> Example:
        number, index = key
        utterance, tokens = self.utterances[index], self.tokens[index]
        try:
            return Example(utterance.id, self._features(utterance, number, index), tokens)
        except InputError as error:
            return Example(utterance.id, (), tokens, first_line(error))
        except Exception as error:  # none of its audio: it has to be told apart from bad input
            raise InputError(
                f"{utterance.id}: {type(error).__name__}: {first_line(error)}; if it is this "
                "utterance alone, take it out of text, then `asr data fix`"
            ) from error

    def _features(self, utterance: Utterance, number: int, index: int) -> tuple[Tensor, ...]:
        waveform = read(utterance.clip, sample_rate=self.sample_rate)
        generator = torch.Generator().manual_seed(seed_of(self.seed, number, index))
        warp = tempo = 1.0
        if self.augment is not None:
            samples = torch.from_numpy(waveform)
            waveform = augment_waveform(samples, self.augment, generator, self.sample_rate).numpy()
            warp = draw_factor(self.augment.vtln, generator)
            tempo = draw_factor(self.augment.tempo, generator)
        noise = None
        if self.extractor.config.dither > 0:
            noise = torch.randn(len(waveform), generator=generator).numpy()
        found = self.extractor(waveform, noise, warp, tempo)
        stats = self.speakers.get(utterance.speaker)
        features = torch.from_numpy(normalize(found, self.kind, self.overall, stats))
        if self.augment is None:
            return (features,)
        return tuple(spec_augment(features, self.augment, generator) for _ in range(self.copies))

    def batch(self, keys: Sequence[tuple[int, int]]) -> Batch:
        """Read utterances and put them side by side."""
        return self.collate([self[key] for key in keys])

    def collate(self, examples: list[Example]) -> Batch:
        """Pad examples into a batch, which is empty if no audio could be read."""
        good = [e for e in examples if not e.error]
        errors = tuple(f"{e.id}: {e.error}" for e in examples if e.error)
        if not good:
            nothing, none = torch.zeros(0, 0), torch.zeros(0, dtype=torch.int64)
            return Batch(nothing, none, nothing, none, errors=errors)
        copies = len(good[0].copies)
        features, frames = pad([e.copies[i] for i in range(copies) for e in good])
        tokens, lengths = pad([e.tokens for e in good] * copies)
        audio_s = float(frames.sum()) * self.extractor.config.frame_shift_ms / 1000
        ids = tuple(e.id for e in good) * copies
        return Batch(features, frames, tokens, lengths, ids, audio_s, errors)


AHEAD = 4  # batches that a process keeps ready
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def load_batches(
    dataset: UtteranceSet, plan: Sequence[Sequence[tuple[int, int]]], *, workers: int = 0
) -> Generator[Batch, None, None]:
    """Read the planned batches in order, ``workers`` processes ahead of the consumer.

    The processes end with the iterator, at the latest when it is closed. Each has a socket of its
    own to the consumer, and hands over every batch as an open file in memory: none can hold up the
    others or leave a lock behind, however it ends, and the size of /dev/shm does not matter.

    Raises:
        InputError: a process was killed, or an utterance caused an error that is not one of its
            audio.
    """
    if not workers:
        yield from map(dataset.batch, plan)
        return
    with _processes(dataset, plan, min(workers, len(plan))) as started:
        for number in range(len(plan)):
            yield _receive(*started[number % len(started)])


@contextmanager
def _processes(
    dataset: UtteranceSet, plan: Sequence[Sequence[tuple[int, int]]], count: int
) -> Generator[list[tuple[BaseProcess, socket.socket]], None, None]:
    """Processes that share a plan in turns, each with the socket to receive its batches from."""
    started: list[tuple[BaseProcess, socket.socket]] = []
    try:
        for first in range(count):
            _start(dataset, plan[first::count], started)
        yield started
    finally:
        for process, connection in started:  # all are killed before one is waited for
            _kill(process)
            connection.close()
        for process, _ in started:
            if process.pid is not None:
                process.join(5.0)


def _start(
    dataset: UtteranceSet,
    plan: Sequence[Sequence[tuple[int, int]]],
    started: list[tuple[BaseProcess, socket.socket]],
) -> None:
    """Start one more process; raises InputError where the system allows none."""
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    try:
        ours, theirs = socket.socketpair()
        inherited = [connection for _, connection in started] + [ours]
        process: BaseProcess = context.Process(
            target=_read_ahead, args=(dataset, plan, theirs, inherited), daemon=True
        )
        started.append((process, ours))
        with theirs, _signals_wait():
            process.start()
    except OSError as error:
        raise InputError(
            f"no process can be started to read audio ({error.strerror}); lower batch.workers, "
            "or allow more processes and open files (ulimit -u, ulimit -n)"
        ) from error


@contextmanager
def _signals_wait() -> Generator[None, None, None]:
    """Hold signals back, or a process that has just begun would obey the parent's handlers."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _kill(process: BaseProcess) -> None:
    """End a process and the commands of wav.scp that it runs, which share its group."""
    if process.pid is None or process.exitcode is not None:
        return
    with suppress(OSError):  # it had no time to make its group
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()  # TERM is ignored, see below


def _receive(process: BaseProcess, connection: socket.socket) -> Batch:
    files: list[int] = []
    with suppress(OSError):
        _, files, _, _ = socket.recv_fds(connection, 1, 1)
    if files:
        with suppress(OSError):  # it has sent its last batch and ended
            connection.send(b".")
        return _unpack(files[0])
    process.join(5.0)
    raise InputError(
        f"a process that reads audio has ended (exit code {process.exitcode}); with -9 the system "
        "killed it, mostly for want of memory: lower batch.workers or batch.seconds"
    )


def _unpack(descriptor: int) -> Batch:
    """The batch in a file of :func:`_pack`; raises InputError where it holds an error."""
    with open(descriptor, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
        found = pickle.loads(view)
    if isinstance(found, str):
        raise InputError(found)
    fields: dict[str, Any] = {
        k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in found
    }
    return Batch(**fields)


def _pack(found: Batch | str) -> BinaryIO:
    """A file in memory with a batch or an error."""
    if isinstance(found, Batch):  # with arrays, for tensors would be put into /dev/shm
        values = vars(found).items()
        content = pickle.dumps([(k, v.numpy() if isinstance(v, Tensor) else v) for k, v in values])
    else:
        content = pickle.dumps(found)
    file = _memory_file()
    file.write(content)
    file.flush()
    return file


def _memory_file() -> BinaryIO:
    """A file in memory where the system has such, otherwise one without a name."""
    with suppress(AttributeError, OSError):  # some containers refuse
        return open(os.memfd_create("batch"), "wb")
    return tempfile.TemporaryFile()


def _read_ahead(
    dataset: UtteranceSet,
    plan: Sequence[Sequence[tuple[int, int]]],
    connection: socket.socket,
    inherited: Sequence[socket.socket],
) -> None:
    """What a process does: it reads its batches and sends them, or the error that ended it."""
    _stand_alone()
    for each in inherited:  # or nobody would notice that the parent has ended
        each.close()
    torch.set_num_threads(1)
    for number, keys in enumerate(plan):
        if number >= AHEAD and not _still_wanted(connection):
            return
        with _read(dataset, keys) as file:
            try:
                socket.send_fds(connection, [b"."], [file.fileno()])
            except OSError:  # the parent has ended, or it will see that this process has
                return


def _stand_alone() -> None:
    """Leave a process nothing of its parent's that could hold it up or stop it early."""
    # Who stops a job signals all its processes; these read on until the parent has saved.
    for ignored in STOPPING:
        signal.signal(ignored, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
    with suppress(OSError):
        os.setpgid(0, 0)
    # A thread that was drawing a progress bar may have held the locks of the parent's stream.
    with suppress(OSError):
        sys.stderr = Output(open(2, "w", buffering=1, closefd=False))  # noqa: SIM115


def _read(dataset: UtteranceSet, keys: Sequence[tuple[int, int]]) -> BinaryIO:
    """A file with a batch, or with what went wrong."""
    try:
        return _pack(dataset.batch(keys))
    except Exception as error:
        name = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
        return _pack(f"{name}{error}")


def _still_wanted(connection: socket.socket) -> bool:
    """Wait until a batch has been taken; False: nobody will take one any more."""
    try:
        return bool(connection.recv(1))
    except OSError:
        return False
