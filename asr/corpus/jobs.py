"""Work in several processes, which end with the one that started them."""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, as_completed, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection, parent_process
from typing import Any, TypeVar

from asr.errors import InputError

T = TypeVar("T")


def in_processes(
    work: Callable[..., T], calls: Iterable[tuple[Any, ...]], jobs: int
) -> Iterator[T]:
    """Yield the results of calls as they come.

    Ctrl-C ends the processes at once, and they end if this process is killed.

    Args:
        work: the function.
        calls: its arguments; they are read as they are needed.
        jobs: number of processes.

    Raises:
        InputError: a process was killed.
    """
    pool, running = ProcessPoolExecutor(jobs, initializer=_begin), set[Future[T]]()
    try:
        for arguments in calls:
            running.add(pool.submit(work, *arguments))
            if len(running) > 2 * jobs:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (each.result() for each in done)
        yield from (each.result() for each in as_completed(running))
    except BrokenProcessPool as error:
        raise InputError(
            "a process was killed, usually because memory ran out; run the command again with a "
            "lower --nj, and it goes on where it stopped"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """Let a process end at Ctrl-C, and with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if parent := parent_process():
        connection.wait([parent.sentinel])
        os._exit(1)
