"""Compile, load and call the functions of native.cpp; find out whether kernels.py can run.

The library is compiled for this processor on first use (some seconds; a minute with the compiler
of the ziglang package) and kept in the user's cache folder. Without a C++ compiler, or with
``ASR_NATIVE=0`` in the environment, plain torch computes the same.
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
    """Arguments of a function of native.cpp: its struct, pointers first, ``threads`` last."""

    def set(self, **values: Tensor | int | None) -> Self:
        """Set fields; a tensor's field is its address, so the caller has to keep the tensor.

        Tensors are contiguous, float32 or int32. The function writes into some of them.
        """
        for name, value in values.items():
            if isinstance(value, Tensor):
                assert value.is_contiguous() and value.device.type == "cpu", name
                assert value.dtype in (torch.float32, torch.int32), name
                value = value.data_ptr()
            elif value is not None and not -(2**31) <= value < 2**31:
                raise OverflowError(f"{name} = {value}: too large for {SOURCE.name}")
            setattr(self, name, value)
        return self


def _struct(pointers: str, integers: str) -> type[Arguments]:
    """Return the class of a struct of native.cpp from the names of its fields."""
    fields = [
        *((name, ctypes.c_void_p) for name in pointers.split()),
        *((name, ctypes.c_int) for name in [*integers.split(), "threads"]),
    ]
    return type("Struct", (Arguments,), {"_fields_": fields})


LAYER = _struct("gates_forward gates_back U c counts kept out d_out olds d_b d_c", "cell D B S N")
LOOP = _struct(
    "gates keys values steps lengths W filters location w generator b prior U c kept states weights"
    " sums d_states d_weights d_queries d_keys d_filters d_location d_w d_generator",
    "energy cell B L S H A C K last sum moves",
)
STEP = _struct(
    "tokens from state memory previous sums gates keys steps filters location w generator b prior c"
    " bias values W U candidate readout states memories weights log_probs",
    "energy cell R beam S H A C K last sum moves V",
)
FUNCTIONS = {
    "layer_forward": LAYER,
    "layer_backward": LAYER,
    "decoder_forward": LOOP,
    "decoder_backward": LOOP,
    "decoder_step": STEP,
    "dropout": _struct("x out", "n seed per_mille"),
}
OLDEST = (8, 0)  # compute capability that kernels.py needs: Ampere
DAY_S = 86400  # a compiler that failed is tried again after this time
FLAGS = ("-O3", "-march=native", "-std=c++17", "-shared", "-fPIC", "-pthread")


def compiler() -> list[str]:
    """Return the command of a C++ compiler: $CXX, the system's, or ziglang's; [] without one."""
    if named := os.environ.get("CXX"):
        return named.split()
    for name in ("c++", "g++", "clang++"):
        if shutil.which(name):
            return [name]
    return [sys.executable, "-m", "ziglang", "c++"] if importlib.util.find_spec("ziglang") else []


# Lines of /proc/cpuinfo on which -march=native depends: on x86, ARM, RISC-V, POWER and s390.
CPU_KEYS = (
    "vendor_id", "cpu family", "model", "model name", "flags", "features", "cpu implementer",
    "cpu architecture", "cpu variant", "cpu part", "isa", "uarch", "cpu", "machine",
)  # fmt: skip


def _processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Describe the processor's instruction set; without /proc/cpuinfo name the machine."""
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    found = {line for line in lines if line.partition(":")[0].strip().lower() in CPU_KEYS}
    return "\n".join(sorted(found)) or f"{platform.processor()} {platform.node()}"


def _is_ours(path: Path) -> bool:
    """Whether only this user or root can write to a file or folder."""
    found = path.stat()
    return found.st_uid in (0, os.getuid()) and not found.st_mode & 0o022


def _cache() -> Path:
    """Return the folder of compiled libraries, after making it writable for this user only.

    Raises:
        OSError: it cannot be made, or belongs to another user.
    """
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError as error:
        raise OSError(f"{error}; set HOME or XDG_CACHE_HOME") from error
    folder = home / "asr"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _is_ours(folder):
        if folder.stat().st_uid != os.getuid():
            raise OSError(f"{folder} belongs to another user; set XDG_CACHE_HOME")
        folder.chmod(folder.stat().st_mode & ~0o022)
        for file in folder.glob("native-*"):  # others could have written them
            file.unlink(missing_ok=True)
    return folder


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _intact(path: Path) -> bool:
    """Whether a library is ours and its content has the checksum in its name."""
    try:
        return _is_ours(path) and path.stem.endswith(_digest(path.read_bytes()))
    except FileNotFoundError:  # another process has removed it
        return False


def _identity(command: list[str]) -> str:
    """Return what changes when the compiler does: the file of the program, its size and time."""
    path = shutil.which(command[0])
    if path is None:
        return ""
    found = Path(path).stat()
    return f"{os.path.realpath(path)} {found.st_size} {found.st_mtime_ns}"


def _build(command: list[str]) -> Path:
    """Return the compiled library, from the cache if it is there.

    Raises:
        OSError: the cache cannot be used, or the compiler failed within the last day.
        SubprocessError: the compiler failed.
    """
    cache = _cache()
    sources = [path.read_text() for path in (SOURCE, *sorted(SOURCE.parent.glob("*.h")))]
    compiled_by = (*FLAGS, *command, _identity(command), *platform.libc_ver())
    facts = (*sources, *compiled_by, platform.machine(), _processor())
    stem = f"native-{_digest(repr(facts).encode())}"
    for found in cache.glob(f"{stem}-*.so"):
        if _intact(found):
            return found
        found.unlink(missing_ok=True)
    failure = cache / f"{stem}.failed"
    if failure.exists() and _is_ours(failure) and time.time() - failure.stat().st_mtime < DAY_S:
        raise OSError(f"{failure.read_text()} -- as on the last try; remove {failure} to try again")
    try:
        return _compile(command, cache, stem)
    except subprocess.SubprocessError as error:
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
    """Return the most informative line of a compiler's messages."""
    detail = str(getattr(error, "stderr", None) or error)
    return next((line for line in detail.splitlines() if "error" in line), detail.strip())


@functools.cache
def library() -> ctypes.CDLL | None:
    """Return the compiled functions, or None after a warning if they cannot be compiled."""
    if os.environ.get("ASR_NATIVE") == "0":
        return None
    command = compiler()
    if not command:
        return None
    try:
        path = _build(command)
        try:
            loaded = ctypes.CDLL(str(path))
        except OSError:  # it was made for another system
            path.unlink(missing_ok=True)
            loaded = ctypes.CDLL(str(_build(command)))
        for name, arguments in FUNCTIONS.items():
            getattr(loaded, name).argtypes = [ctypes.POINTER(arguments)]
        return loaded
    except (OSError, subprocess.SubprocessError) as error:
        print(
            f"warning: {SOURCE.name} cannot be compiled by {' '.join(command)}, or the library "
            f"cannot be loaded ({_reason(error)}); continuing with plain torch, which is slower; "
            "fix the cause, or set ASR_NATIVE=0 to hide this warning",
            file=sys.stderr,
        )
        return None


# A forked child does not have the parent's OpenMP threads and would wait for them for ever.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=functools.partial(torch.set_num_threads, 1))


def usable(*tensors: Tensor) -> bool:
    """Whether the functions of native.cpp can take these tensors: float32 on the processor."""
    fits = all(t.dtype == torch.float32 and t.device.type == "cpu" for t in tensors)
    return fits and library() is not None


@functools.cache
def kernels() -> Any:
    """Return the module asr.model.fast.kernels, or None if it cannot run on this machine.

    It needs Triton, a C compiler and a GPU of NVIDIA from Ampere on.
    """
    if os.environ.get("ASR_NATIVE") == "0" or torch.version.hip:
        return None
    if torch.cuda.get_device_capability() < OLDEST or not importlib.util.find_spec("triton"):
        return None
    try:
        from asr.model.fast import kernels

        kernels.try_out()
    except Exception as error:  # Triton raises errors of many types
        print(
            f"warning: Triton cannot compile ({type(error).__name__}: {first_line(error)}); "
            "continuing with plain torch, which is slower; install a C compiler, or set "
            "ASR_NATIVE=0 to hide this warning",
            file=sys.stderr,
        )
        return None
    return kernels


def on_gpu(*tensors: Tensor) -> bool:
    """Whether kernels.py can take these tensors: float32 on a GPU."""
    fits = all(t.dtype == torch.float32 and t.device.type == "cuda" for t in tensors)
    if not fits or not torch.cuda.is_available():
        return False
    with torch.cuda.device_of(tensors[0]):  # type: ignore[no-untyped-call]
        return kernels() is not None


def run(name: str, arguments: Arguments) -> None:
    """Call a function of native.cpp with torch's number of threads.

    Raises:
        MemoryError: the memory does not suffice.
    """
    loaded = library()
    assert loaded is not None, name
    arguments.threads = torch.get_num_threads()
    if getattr(loaded, name)(arguments):
        raise MemoryError(f"not enough memory for {name} of {SOURCE.name}")


def call(name: str, **values: Tensor | int | None) -> None:
    """Call a function with fields of its struct (:meth:`Arguments.set`); others are null or 0."""
    run(name, FUNCTIONS[name]().set(**values))


def launch(name: str, first: Tensor, *others: Any) -> Any:
    """Call a function of kernels.py on the device of its first tensor."""
    with torch.cuda.device_of(first):  # type: ignore[no-untyped-call]
        return getattr(kernels(), name)(first, *others)


def int32(numbers: Tensor | Sequence[int]) -> Tensor:
    """Return counts as int32 in main memory."""
    return torch.as_tensor(numbers).to("cpu", torch.int32).contiguous()
