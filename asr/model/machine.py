"""Which device, how many processors; random numbers and memory of a training."""

import contextlib
import ctypes
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from asr.errors import InputError, first_line


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


CGROUPS = Path("/sys/fs/cgroup")


def usable_cores(cgroups: Path = CGROUPS, process: Path = Path("/proc/self/cgroup")) -> int:
    """Processors that this process may use: of its affinity, and not more than its quota.

    Containers and batch systems set either; the quota is that of the tightest control group above
    the process (of version 1 or 2), rounded up.
    """
    affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if affinity else os.cpu_count() or 1
    quotas = [math.ceil(share) for share in _quotas(cgroups, process)]
    return max(1, min([cores, *quotas]))


def _quotas(cgroups: Path, process: Path) -> list[float]:
    """Processors that each control group above the process grants."""
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
    """Processors that a control group grants; 0: as many as there are."""
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota = (group / "cpu.cfs_quota_us").read_text()
            period = (group / "cpu.cfs_period_us").read_text()
        return int(quota) / int(period)  # -1 or the word max stand for no limit
    except (OSError, ValueError, ZeroDivisionError):
        return 0.0


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's generators, and restore their state at the end."""
    count = torch.cuda.device_count()  # 0, too, where there is none
    with torch.random.fork_rng(range(count)):
        torch.manual_seed(seed)
        yield


def release_memory() -> None:
    """Hand freed memory back to the system.

    Batches of many shapes leave the heap of glibc full of holes that it would keep; other
    systems have no such call and need none.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
