"""Which device, how many threads."""

import contextlib
import ctypes
import os

import torch

from asr.config.field import THREADS, require
from asr.errors import InputError, first_line
from asr.model.product import use_precision


def pick_device(name: str) -> torch.device:
    """The device of a setting: auto takes a GPU where there is one.

    Raises:
        InputError: the device is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {name}: not usable ({first_line(error)}); try auto") from error
    return device


def use_threads(threads: int) -> None:
    """CPU threads for matrix products; 0 takes every core. Tiny numbers count as zero.

    Raises:
        InputError: fewer than 0 are asked for, or more than any machine has.
    """
    require("threads", threads, THREADS)
    torch.set_num_threads(threads or os.cpu_count() or 1)
    torch.set_flush_denormal(True)


def use_machine(threads: int, precision: str) -> None:
    """What :func:`asr.config.add_machine_options` asks for, but for the device."""
    use_threads(threads)
    use_precision(precision)


# Of glibc's mallopt, and what it takes: the largest threshold that all its versions accept.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGE_BLOCK, KEPT = 1 << 25, 1 << 30  # bytes


def keep_memory() -> None:
    """Keep freed memory for the next step, until :func:`release_memory`.

    By default glibc hands the large blocks of every step back to the system and asks for them
    again: tens of thousands of pages a step, which took a tenth of its time. Other systems have no
    such call.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK)
        library.mallopt(M_TRIM_THRESHOLD, KEPT)


def release_memory() -> None:
    """Hand freed memory back to the system.

    Batches of many shapes leave the heap of glibc full of holes that it would keep; other
    systems have no such call and need none.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
