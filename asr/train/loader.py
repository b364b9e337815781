"""Loader: worker processes read batches ahead, in the order of the plan."""

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
from multiprocessing.process import BaseProcess
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from asr.errors import InputError
from asr.model.batch import Batch
from asr.terminal import Output
from asr.train.data import Key, UtteranceSet

AHEAD = 4  # batches that a process keeps ready
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def load_batches(
    dataset: UtteranceSet, plan: Sequence[Sequence[Key]], *, workers: int = 0
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
    dataset: UtteranceSet, plan: Sequence[Sequence[Key]], count: int
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
    plan: Sequence[Sequence[Key]],
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
    """Open an anonymous file, in memory if the system supports it."""
    with suppress(AttributeError, OSError):  # some containers refuse
        return open(os.memfd_create("batch"), "wb")
    return tempfile.TemporaryFile()


def _read_ahead(
    dataset: UtteranceSet,
    plan: Sequence[Sequence[Key]],
    connection: socket.socket,
    inherited: Sequence[socket.socket],
) -> None:
    """Main function of a worker: read its batches and send them, or the error that ended it."""
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
    """Detach a worker from signals and streams of its parent."""
    # Workers ignore signals to the process group, so that the parent can save first.
    for ignored in STOPPING:
        signal.signal(ignored, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
    with suppress(OSError):
        os.setpgid(0, 0)
    # A thread that was drawing a progress bar may have held the locks of the parent's stream.
    with suppress(OSError):
        sys.stderr = Output(open(2, "w", buffering=1, closefd=False))  # noqa: SIM115


def _read(dataset: UtteranceSet, keys: Sequence[Key]) -> BinaryIO:
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
