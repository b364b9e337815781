"""Devices, processor cores, random seeds and memory."""

import ctypes
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from asr.errors import InputError, first_line

NO_MEMORY = re.compile("out of memory|enough memory|allocate memory|ALLOC_FAILED")


def pick_device(name: str) -> torch.device:
    """Return the device of a setting; auto means a GPU if there is one.

    Raises:
        InputError: the device cannot be used.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        problem = f"not usable ({first_line(error)}); try auto"
        if "Expected one of" in problem:  # torch lists devices that hardly anyone has
            problem = "expected auto, cpu, cuda or cuda:N"
        raise InputError(f"device {name}: {problem}") from error
    if device.type not in ("cpu", "cuda") or (device.type == "cpu" and device.index is not None):
        raise InputError(f"device {name}: expected auto, cpu, cuda or cuda:N")
    return device


def proc(name: str, pattern: str) -> str:
    """Return the first group of a pattern in a file of Linux's /proc, or "" if it is not there."""
    try:
        text = (Path("/proc") / name).read_text(encoding="utf-8")
    except OSError:
        return ""
    found = re.search(pattern, text, re.MULTILINE)
    return found[1] if found else ""


CGROUPS = Path("/sys/fs/cgroup")


def usable_cores(cgroups: Path = CGROUPS, process: Path = Path("/proc/self/cgroup")) -> int:
    """Return the number of cores that this process may use: its affinity, limited by its quota.

    Containers and batch systems set either. The quota is the lowest one of the control groups
    (version 1 or 2) that contain the process, rounded up.
    """
    affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if affinity else os.cpu_count() or 1
    quotas = [math.ceil(share) for share in _quotas(cgroups, process)]
    return max(1, min([cores, *quotas]))


def _quotas(cgroups: Path, process: Path) -> list[float]:
    """Return the quotas, in cores, of the control groups that contain a process."""
    try:
        lines = process.read_text().splitlines()
    except OSError:
        lines = []
    found = []
    for line in ["0::/", "0:cpu:/", *lines]:  # in a container its own group may be the root
        _, controllers, path = line.split(":", 2)
        root = cgroups if not controllers else cgroups / "cpu"
        if controllers and "cpu" not in controllers.split(","):
            continue
        group = root / path.lstrip("/")
        found += [_quota(folder) for folder in (group, *group.parents)]
    return [share for share in found if share > 0]


def _quota(group: Path) -> float:
    """Return the quota of a control group in cores; 0 or less means no limit."""
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota = (group / "cpu.cfs_quota_us").read_text()
            period = (group / "cpu.cfs_period_us").read_text()
        return int(quota) / int(period)  # a quota of -1 or "max" means no limit
    except (OSError, ValueError, ZeroDivisionError):
        return 0.0


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's generators, and restore their state at the end."""
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


def is_no_memory(error: RuntimeError | MemoryError) -> bool:
    """Whether an error of torch or Python says that memory has run out."""
    return isinstance(error, MemoryError) or bool(NO_MEMORY.search(str(error)))


def release_memory() -> None:
    """Return freed memory to the system; with batches of many shapes glibc would keep it."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
