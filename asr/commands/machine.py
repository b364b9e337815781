"""Process-wide settings of a verb, restored at its end; nothing else in asr changes any."""

import contextlib
import ctypes
from collections.abc import Iterator

import torch

from asr.config.field import THREADS, require
from asr.model.fast.product import precision_in_use, use_precision
from asr.model.machine import usable_cores

# Arguments of glibc's mallopt; LARGE_BLOCK is the largest threshold that all versions accept.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGE_BLOCK, KEPT = 1 << 25, 1 << 30  # bytes


@contextlib.contextmanager
def machine(
    threads: int, precision: str = "float32", device: str = "auto", *, keep_memory: bool = False
) -> Iterator[int]:
    """Set the number of threads and the precision of products; flush denormal numbers to zero.

    Args:
        threads: CPU threads; 0 takes every usable core.
        precision: see :func:`asr.model.fast.product.use_precision`.
        device: on which the products run.
        keep_memory: whether freed memory stays with the process to its end, for a training.

    Yields:
        the number of threads.

    Raises:
        InputError: the number of threads is out of range.
    """
    require("threads", threads, THREADS)
    count, before = threads or usable_cores(), torch.get_num_threads()
    products, tiny = precision_in_use(), torch.tensor(1e-40).mul(1.0).item()
    torch.set_num_threads(count)
    torch.set_flush_denormal(True)
    use_precision(precision, device)
    if keep_memory:
        _keep_memory()
    try:
        yield count
    finally:
        torch.set_num_threads(before)
        torch.set_flush_denormal(tiny == 0)
        use_precision(products)


def _keep_memory() -> None:
    """Keep freed memory for the next step, until :func:`asr.model.machine.release_memory`.

    By default, glibc returns the large blocks of every step to the system and requests them again,
    which costs time.
    """
    with contextlib.suppress(OSError, AttributeError):  # systems without mallopt
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK)
        library.mallopt(M_TRIM_THRESHOLD, KEPT)
