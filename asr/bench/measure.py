"""Measure seconds and memory, and how fast the machine multiplies matrices."""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from asr.config import OptimConfig
from asr.model.fast import native
from asr.model.fast.product import product
from asr.model.machine import proc
from asr.train.adamw import AdamW


def training_step(
    model: nn.Module, loss: Callable[[], Tensor], toolkit: str = "asr"
) -> Callable[[], float]:
    """Return a training step: loss, gradients, clipping and AdamW; torch's for other toolkits."""
    parameters, config = [p for p in model.parameters() if p.requires_grad], OptimConfig()
    optimizer: AdamW | torch.optim.AdamW
    if toolkit == "asr":
        optimizer = AdamW(parameters, config.learning_rate, config.weight_decay)
    else:
        optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, fused=True)

    def step() -> float:
        optimizer.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        return float(value.detach())

    return step


class Seconds(NamedTuple):
    """Time of a call."""

    wall: float
    processor: float
    """Of all threads; on one thread, other programs hardly change it."""


def times_of(work: Callable[[], Any], repeats: int, warm_up: int = 2) -> Seconds:
    """Return the medians of the times that a call takes, after ``warm_up`` other calls."""
    for _ in range(warm_up):
        work()
    times = []
    for _ in range(repeats):
        started = time.perf_counter(), time.process_time()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append((time.perf_counter() - started[0], time.process_time() - started[1]))
    return Seconds(*map(statistics.median, zip(*times, strict=True)))


def busy_share(work: Callable[[], Any]) -> float:
    """Return the share of a call's time in which the GPU computes."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        torch.cuda.synchronize()
        started = time.perf_counter()
        work()
        torch.cuda.synchronize()
        seconds = time.perf_counter() - started
    return sum(event.self_device_time_total for event in seen.key_averages()) / 1e6 / seconds


def product_speeds(device: torch.device) -> dict[str, float]:
    """Return GFLOP/s of a large float32 product: torch's, and that of asr.model.fast.product."""
    size = 1536
    a, b = torch.randn(2, size, size, device=device)
    flops = 2 * size**3
    return {
        "torch_gflops": flops / times_of(lambda: a @ b, 5).wall / 1e9,
        "product_gflops": flops / times_of(lambda: product(a, b), 5).wall / 1e9,
    }


def memory_mb(device: torch.device | None = None) -> float:
    """Return the peak memory of this process in MiB, of a GPU or of the main memory.

    On Linux it is VmHWM, because a new program inherits the ru_maxrss of the one that started it.
    """
    if device is not None and device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if peak_kb := proc("self/status", r"^VmHWM:\s*(\d+)"):
        return int(peak_kb) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20  # in bytes on macOS


def machine() -> dict[str, Any]:
    """Return the versions and settings under which the numbers were measured."""
    return {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "native": native.library() is not None,
    }


def in_child(arguments: list[str]) -> dict[str, Any]:
    """Run ``asr bench`` in a process of its own, whose memory is that of one toolkit only.

    Returns:
        its JSON.

    Raises:
        RuntimeError: it failed.
    """
    root = str(Path(__file__).parents[2])
    paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    child = subprocess.run(
        [sys.executable, "-m", "asr", "bench", *arguments, "--json"],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip
    if child.returncode:
        raise RuntimeError(child.stderr.strip().splitlines()[-1] if child.stderr else "no output")
    return json.loads(child.stdout)
