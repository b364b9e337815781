"""Seconds, memory, and what the machine could do."""

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from asr.model.fast import native
from asr.model.fast.product import product


def seconds_of(work: Callable[[], Any], repeats: int, warm_up: int = 2) -> float:
    """Median of the seconds that a call takes, after some that do not count."""
    for _ in range(warm_up):
        work()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def busy_share(work: Callable[[], Any]) -> float:
    """Share of a call's time in which the GPU computes, after :func:`seconds_of` has warmed up."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        torch.cuda.synchronize()
        started = time.perf_counter()
        work()
        torch.cuda.synchronize()
        seconds = time.perf_counter() - started
    return sum(event.self_device_time_total for event in seen.key_averages()) / 1e6 / seconds


def product_speeds(device: torch.device) -> dict[str, float]:
    """GFLOP/s of a large float32 matrix product, by torch's default and by this project's way."""
    size = 1536
    a, b = torch.randn(size, size, device=device), torch.randn(size, size, device=device)
    flops = 2 * size**3
    return {
        "torch_gflops": flops / seconds_of(lambda: a @ b, 5) / 1e9,
        "product_gflops": flops / seconds_of(lambda: product(a, b), 5) / 1e9,
    }


def memory_mb(device: torch.device | None = None) -> float:
    """The most memory that this process has held so far, in main memory or on a GPU."""
    if device is not None and device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 if platform.system() == "Linux" else 1024 * 1024)


def machine() -> dict[str, Any]:
    """Versions and settings for which the numbers hold."""
    return {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "native": native.library() is not None,
    }


def in_child(arguments: list[str]) -> dict[str, Any]:
    """Run ``asr bench`` with these arguments in a process of its own; returns its JSON.

    Memory is that of one contestant then, and none finds caches that another has filled.

    Raises:
        RuntimeError: it failed.
    """
    root = str(Path(__file__).parents[2])
    paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    child = subprocess.run(
        [sys.executable, "-m", "asr", "bench", *arguments, "--json"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )
    if child.returncode:
        raise RuntimeError(child.stderr.strip().splitlines()[-1] if child.stderr else "no output")
    return json.loads(child.stdout)
