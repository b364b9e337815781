"""The inner loops of native.cpp: built once where there is a C++ compiler, absent elsewhere.

The library is compiled for the processor at hand on first use (some seconds; a minute with the
compiler of the ziglang package) and kept in the user's cache folder. Without a compiler, or with
``ASR_NATIVE=0`` in the environment, the plain torch forms compute the same.
"""

import ctypes
import functools
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from asr.errors import first_line

SOURCE = Path(__file__).with_name("native.cpp")
# Arguments of each function: pointers, then integers, of which the last is the thread count.
ARGUMENTS = {
    "bigru_forward": (7, 5),
    "bigru_backward": (10, 5),
    "decoder_forward": (14, 9),
    "decoder_backward": (20, 9),
    "decoder_step": (20, 10),
    "dropout": (2, 4),
}
OLDEST = (8, 0)  # compute capability that kernels.py needs: Ampere
FLAGS = ("-O3", "-march=native", "-std=c++17", "-shared", "-fPIC", "-pthread")


def compiler() -> list[str]:
    """The command that compiles C++: $CXX, the system's, or that of the ziglang package; or []."""
    named = os.environ.get("CXX")
    if named:
        return named.split()
    for name in ("c++", "g++", "clang++"):
        if shutil.which(name):
            return [name]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "c++"]
    return []


def _processor() -> str:
    """What distinguishes processors that cannot run each other's code."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return "".join(sorted({line for line in lines if line.startswith(("model name", "flags"))}))


def _cache() -> Path:
    """The user's folder for what can be made again; raises OSError where there is no home."""
    if found := os.environ.get("XDG_CACHE_HOME"):
        return Path(found)
    try:
        return Path.home() / ".cache"
    except RuntimeError as error:  # a user that the system does not know, without HOME
        raise OSError(f"{first_line(error)} XDG_CACHE_HOME may name a folder") from error


def _build(command: list[str]) -> Path:
    """Compile, unless that was done before; raises OSError or SubprocessError."""
    cache = _cache() / "asr"
    facts = (SOURCE.read_text(), *FLAGS, *command, platform.machine(), _processor())
    library = cache / f"native-{hashlib.sha256(repr(facts).encode()).hexdigest()[:16]}.so"
    if not library.exists():
        cache.mkdir(parents=True, exist_ok=True)
        print("compiling the inner loops for this processor, once ...", file=sys.stderr)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            made = Path(folder) / library.name
            subprocess.run(
                [*command, *FLAGS, str(SOURCE), "-o", str(made)],
                check=True,
                capture_output=True,
                text=True,
                timeout=300,
            )
            made.replace(library)
    return library


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled functions, or None where there can be none; says why once."""
    if os.environ.get("ASR_NATIVE") == "0":
        return None
    command = compiler()
    if not command:
        return None
    try:
        loaded = ctypes.CDLL(str(_build(command)))
        for name, (pointers, integers) in ARGUMENTS.items():
            types = [ctypes.c_void_p] * pointers + [ctypes.c_int] * integers
            getattr(loaded, name).argtypes = types
        return loaded
    except (OSError, subprocess.SubprocessError) as error:
        detail = getattr(error, "stderr", None) or str(error)
        first = next((line for line in detail.splitlines() if "error" in line), detail.strip())
        print(
            f"warning: {SOURCE.name} cannot be compiled by {' '.join(command)}, or its library "
            f"not loaded ({first}); going on with plain torch, which is slower; mend or remove "
            "what is named, or set ASR_NATIVE=0 to do without",
            file=sys.stderr,
        )
        return None


def usable(*tensors: Tensor) -> bool:
    """Whether native functions can compute with these: float32 on the processor."""
    fits = all(t.dtype == torch.float32 and t.device.type == "cpu" for t in tensors)
    return fits and library() is not None


@functools.cache
def kernels() -> Any:
    """The module asr.model.kernels, or None where Triton is not there or cannot compile, or the
    GPU is not NVIDIA's or too old for its products."""
    if os.environ.get("ASR_NATIVE") == "0" or torch.version.hip:
        return None
    if torch.cuda.get_device_capability() < OLDEST or not importlib.util.find_spec("triton"):
        return None
    try:
        from asr.model import kernels

        kernels.try_out()
    except Exception as error:  # whatever Triton or the C compiler that it needs stumbles over
        print(
            f"warning: Triton cannot compile ({type(error).__name__}: {first_line(error)}); going "
            "on with plain torch, which is slower; install a C compiler, or set ASR_NATIVE=0 to "
            "do without",
            file=sys.stderr,
        )
        return None
    return kernels


def on_gpu(*tensors: Tensor) -> bool:
    """Whether kernels.py can compute with these: float32 on a GPU."""
    fits = all(t.dtype == torch.float32 and t.device.type == "cuda" for t in tensors)
    return fits and torch.cuda.is_available() and kernels() is not None


def call(name: str, *arguments: Tensor | int | None) -> None:
    """Call a function of native.cpp, with the address of each tensor; adds the thread count.

    Tensors have to be contiguous, float32 or int32; the function writes into some of them.
    """
    loaded = library()
    assert loaded is not None, name
    values: list[int | None] = []
    for argument in arguments:
        if isinstance(argument, Tensor):
            assert argument.is_contiguous() and argument.device.type == "cpu", name
            assert argument.dtype in (torch.float32, torch.int32), name
            values.append(argument.data_ptr())
        else:
            values.append(argument)
    assert len(values) + 1 == sum(ARGUMENTS[name]), name
    getattr(loaded, name)(*values, torch.get_num_threads())


def int32(numbers: Tensor | Sequence[int]) -> Tensor:
    """Counts as native functions take them."""
    return torch.as_tensor(numbers).to("cpu", torch.int32).contiguous()
