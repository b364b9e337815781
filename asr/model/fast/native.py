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
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from asr.errors import InputError, first_line
from asr.files import write_text

SOURCE = Path(__file__).with_name("native.cpp")


class Arguments(ctypes.Structure):
    """What a function takes: a struct of native.cpp, pointers first, threads last."""

    def set(self, **values: Tensor | int | None) -> Self:
        """Set fields: tensors to their addresses. The caller keeps the tensors.

        They have to be contiguous, float32 or int32; the function writes into some of them.
        """
        for name, value in values.items():
            if isinstance(value, Tensor):
                assert value.is_contiguous() and value.device.type == "cpu", name
                assert value.dtype in (torch.float32, torch.int32), name
                value = value.data_ptr()
            setattr(self, name, value)
        return self


def _fields(pointers: str, integers: str) -> list[tuple[str, Any]]:
    return [
        *((name, ctypes.c_void_p) for name in pointers.split()),
        *((name, ctypes.c_int) for name in [*integers.split(), "threads"]),
    ]


class Layer(Arguments):
    """A layer of D directions."""

    _fields_ = _fields(
        "gates_forward gates_back U c counts kept out d_out olds d_b d_c", "cell D B S N"
    )


class Loop(Arguments):
    """The decoder's loop over whole transcripts."""

    _fields_ = _fields(
        "gates keys values steps lengths W filters location w U c kept states weights"
        " d_states d_weights d_queries d_keys d_filters d_location d_w",
        "energy cell B L S H A C K",
    )


class Step(Arguments):
    """One step of a search."""

    _fields_ = _fields(
        "tokens from state memory previous gates keys steps filters location w c bias"
        " values W U candidate readout states memories weights log_probs",
        "energy cell R beam S H A C K V",
    )


class Dropout(Arguments):
    """Dropout of n numbers."""

    _fields_ = _fields("x out", "n seed per_mille")


FUNCTIONS = {
    "layer_forward": Layer,
    "layer_backward": Layer,
    "decoder_forward": Loop,
    "decoder_backward": Loop,
    "decoder_step": Step,
    "dropout": Dropout,
}
OLDEST = (8, 0)  # compute capability that kernels.py needs: Ampere
DAY_S = 86400  # a compiler that failed is asked again after this time
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


# What -march=native depends on, as /proc/cpuinfo calls it: on x86, ARM, RISC-V, POWER and s390.
CPU_KEYS = (
    "vendor_id",
    "cpu family",
    "model",
    "model name",
    "flags",
    "features",
    "cpu implementer",
    "cpu architecture",
    "cpu variant",
    "cpu part",
    "isa",
    "uarch",
    "cpu",
    "machine",
)


def _processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """What distinguishes processors that cannot run each other's code; else the machine's name."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        lines = []
    told = {line for line in lines if line.partition(":")[0].strip().lower() in CPU_KEYS}
    return "\n".join(sorted(told)) or f"{platform.processor()} {platform.node()}"


def _is_ours(path: Path) -> bool:
    """Whether nobody else could have written a file or into a folder, as ssh asks of its keys."""
    found = path.stat()
    return found.st_uid in (0, os.getuid()) and not found.st_mode & 0o022


def _cache() -> Path:
    """The folder of compiled libraries, which is made private where it is our own.

    Raises:
        OSError: there is none, or it belongs to somebody else.
    """
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError as error:
        raise OSError(f"{error}; set HOME or XDG_CACHE_HOME") from error
    folder = home / "asr"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _is_ours(folder):
        if folder.stat().st_uid != os.getuid():
            raise OSError(f"{folder} belongs to somebody else; set XDG_CACHE_HOME")
        folder.chmod(folder.stat().st_mode & ~0o022)
        for file in folder.glob("native-*"):  # others may have put them there
            file.unlink()
    return folder


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _whole(path: Path) -> bool:
    """Whether a library is ours and as long as it was written: its name has its checksum."""
    return _is_ours(path) and path.stem.endswith(_digest(path.read_bytes()))


def _build(command: list[str]) -> Path:
    """Compile, unless that was done before; raises OSError or SubprocessError."""
    cache = _cache()
    sources = [path.read_text() for path in (SOURCE, *sorted(SOURCE.parent.glob("*.h")))]
    facts = (*sources, *FLAGS, *command, platform.machine(), _processor())
    stem = f"native-{_digest(repr(facts).encode())}"
    for found in cache.glob(f"{stem}-*.so"):
        if _whole(found):
            return found
        found.unlink()
    failure = cache / f"{stem}.failed"
    if failure.exists() and _is_ours(failure) and time.time() - failure.stat().st_mtime < DAY_S:
        raise OSError(f"{failure.read_text()} -- as on the last try; remove {failure} to try again")
    try:
        return _compile(command, cache, stem)
    except (OSError, subprocess.SubprocessError) as error:
        with suppress(InputError):  # the disk may be full
            write_text(failure, _reason(error))
        raise


def _compile(command: list[str], cache: Path, stem: str) -> Path:
    print("compiling the inner loops for this processor, once ...", file=sys.stderr)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        made = Path(folder) / f"{stem}.so"
        subprocess.run(
            [*command, *FLAGS, str(SOURCE), "-o", str(made)],
            check=True,
            capture_output=True,
            text=True,
            timeout=300,
        )
        made.chmod(0o700)
        return made.replace(cache / f"{stem}-{_digest(made.read_bytes())}.so")


def _reason(error: Exception) -> str:
    """The line of a compiler's messages that tells most."""
    detail = str(getattr(error, "stderr", None) or error)
    return next((line for line in detail.splitlines() if "error" in line), detail.strip())


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
        for name, arguments in FUNCTIONS.items():
            getattr(loaded, name).argtypes = [ctypes.POINTER(arguments)]
        return loaded
    except (OSError, subprocess.SubprocessError) as error:
        print(
            f"warning: {SOURCE.name} cannot be compiled by {' '.join(command)}, or its library "
            f"not loaded ({_reason(error)}); going on with plain torch, which is slower; fix or "
            "remove what is named, or set ASR_NATIVE=0 to do without",
            file=sys.stderr,
        )
        return None


# The threads of OpenMP stay behind in the parent: a child that waits for them would wait for ever.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=functools.partial(torch.set_num_threads, 1))


def usable(*tensors: Tensor) -> bool:
    """Whether native functions can compute with these: float32 on the processor."""
    fits = all(t.dtype == torch.float32 and t.device.type == "cpu" for t in tensors)
    return fits and library() is not None


@functools.cache
def kernels() -> Any:
    """The module asr.model.fast.kernels, or None where Triton is not there or cannot compile, or
    the GPU is not NVIDIA's or too old for its products."""
    if os.environ.get("ASR_NATIVE") == "0" or torch.version.hip:
        return None
    if torch.cuda.get_device_capability() < OLDEST or not importlib.util.find_spec("triton"):
        return None
    try:
        from asr.model.fast import kernels

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


def run(name: str, arguments: Arguments) -> None:
    """Call a function of native.cpp on torch's number of threads."""
    loaded = library()
    assert loaded is not None, name
    arguments.threads = torch.get_num_threads()
    getattr(loaded, name)(arguments)


def call(name: str, **values: Tensor | int | None) -> None:
    """The same with the fields of its struct, see :meth:`Arguments.set`; others are null or 0."""
    run(name, FUNCTIONS[name]().set(**values))


def int32(numbers: Tensor | Sequence[int]) -> Tensor:
    """Counts as native functions take them."""
    return torch.as_tensor(numbers).to("cpu", torch.int32).contiguous()
