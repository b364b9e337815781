"""Loader: worker processes read batches ahead, in the order of the plan."""

import multiprocessing
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Generator, Iterable, Sequence, Sized
from contextlib import contextmanager, suppress
from itertools import cycle, islice
from multiprocessing.process import BaseProcess
from typing import BinaryIO

import torch

from asr.errors import InputError
from asr.model.batch import Batch
from asr.terminal import Output
from asr.train.folder import forget_locks
from asr.train.utterances import Key, UtteranceSet

AHEAD = 4  # batches that a worker keeps ready
NICENESS = 10  # of workers; a training that waits for them leaves them its cores
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
END = b"!"  # what a worker sends after its last batch
Worker = tuple[BaseProcess, socket.socket]
Plan = Iterable[Sequence[Key]]


def load_batches(
    dataset: UtteranceSet, plan: Plan, *, workers: int = 0
) -> Generator[Batch, None, None]:
    """Read the planned batches in order, ahead of the consumer.

    The workers end with the iterator, at the latest when it is closed. Each worker has its own
    socket and sends every batch as an open file in memory, so that a worker that dies blocks
    nothing and leaves no lock, and the size of /dev/shm does not matter.

    Args:
        dataset: the utterances.
        plan: keys of the utterances of each batch; the workers go through it once.
        workers: number of processes; 0 reads in this process.

    Raises:
        InputError: a worker was killed, or reading failed for another reason than bad audio.
    """
    if not workers:
        yield from map(dataset.batch, plan)
        return
    count = min(workers, len(plan)) if isinstance(plan, Sized) else workers
    with _workers(dataset, plan, count) as started:
        for worker in cycle(started):
            if (batch := _receive(*worker)) is None:
                return
            yield batch


@contextmanager
def _workers(dataset: UtteranceSet, plan: Plan, count: int) -> Generator[list[Worker], None, None]:
    """Start workers, each with the socket that its batches come from; stop them at the end."""
    started: list[Worker] = []
    try:
        for first in range(count):
            _start(dataset, plan, (first, count), started)
        yield started
    finally:
        for process, connection in started:  # kill all before waiting for one
            _kill(process)
            connection.close()
        for process, _ in started:
            if process.pid is not None:
                process.join(5.0)


def _start(
    dataset: UtteranceSet, plan: Plan, place: tuple[int, int], started: list[Worker]
) -> None:
    """Start the worker of (first batch, number of workers); InputError if the system refuses."""
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    try:
        ours, theirs = socket.socketpair()
        inherited = [connection for _, connection in started] + [ours]
        process: BaseProcess = context.Process(
            target=_read_ahead, args=(dataset, plan, place, theirs, inherited), daemon=True
        )
        started.append((process, ours))
        with theirs, signals_blocked():
            process.start()
    except OSError as error:
        raise InputError(
            f"no process can be started to read audio ({error.strerror}); lower batch.workers, "
            "or allow more processes and open files (ulimit -u, ulimit -n)"
        ) from error


@contextmanager
def signals_blocked() -> Generator[None, None, None]:
    """Block signals, since a new process would run the parent's handlers."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _kill(process: BaseProcess) -> None:
    """Kill a worker and the commands of wav.scp that it runs, which share its process group."""
    if process.pid is None or process.exitcode is not None:
        return
    with suppress(OSError):  # it has not made its group yet
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()  # workers ignore TERM


def _receive(process: BaseProcess, connection: socket.socket) -> Batch | None:
    """Return the next batch of a worker, or None after its last one."""
    message, files = b"", list[int]()
    with suppress(OSError):
        message, files, _, _ = socket.recv_fds(connection, 1, 1)
    if message == END:
        return None
    if files:
        with suppress(OSError):  # the worker has sent its last batch and ended
            connection.send(b".")
        return _unpack(files[0])
    process.join(5.0)
    raise InputError(
        f"a process that reads audio has ended (exit code {process.exitcode}); with -9 the system "
        "killed it, usually because memory ran out: lower batch.workers or batch.seconds"
    )


def _unpack(descriptor: int) -> Batch:
    """Read the batch of a file of :func:`_pack`; raise InputError if it holds an error."""
    with open(descriptor, "rb") as file:
        file.seek(0)
        found = torch.load(file, weights_only=True)
    if isinstance(found, str):
        raise InputError(found)
    return Batch(**found)


def _pack(found: Batch | str) -> BinaryIO:
    """Write a batch, or the message of an error, into a file in memory."""
    file = _memory_file()
    torch.save(vars(found) if isinstance(found, Batch) else found, file)
    file.flush()
    return file


def _memory_file() -> BinaryIO:
    """Open an anonymous file, in memory if the system supports it."""
    with suppress(AttributeError, OSError):  # some containers refuse
        return open(os.memfd_create("batch"), "wb")
    return tempfile.TemporaryFile()


def _read_ahead(
    dataset: UtteranceSet,
    plan: Plan,
    place: tuple[int, int],
    connection: socket.socket,
    inherited: Sequence[socket.socket],
) -> None:
    """Read the batches of a worker and send them; this is its main function."""
    detach()
    for each in inherited:  # or nobody would notice that the parent has ended
        each.close()
    torch.set_num_threads(1)
    own = islice(plan, place[0], None, place[1])
    with suppress(OSError):  # the parent has ended, or notices that this process has
        for number, keys in enumerate(own):
            if number >= AHEAD and not connection.recv(1):  # wait until a batch is taken
                return
            with _read(dataset, keys) as file:
                socket.send_fds(connection, [b"."], [file.fileno()])
        connection.send(END)


def detach() -> None:
    """Detach a process beside the training from its signals and streams, and give way to it."""
    forget_locks()
    with suppress(AttributeError, OSError):  # low priority, to hardly slow the steps
        os.nice(NICENESS)
    # Workers ignore signals to the process group, so that the parent can save first.
    for ignored in STOPPING:
        signal.signal(ignored, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
    with suppress(OSError):
        os.setpgid(0, 0)
    # A thread that draws a progress bar may have held the locks of the parent's stream.
    with suppress(OSError):
        sys.stderr = Output(open(2, "w", buffering=1, closefd=False))  # noqa: SIM115


def _read(dataset: UtteranceSet, keys: Sequence[Key]) -> BinaryIO:
    """Return a file with a batch, or with the message of the error."""
    try:
        return _pack(dataset.batch(keys))
    except Exception as error:
        name = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
        return _pack(f"{name}{error}")
