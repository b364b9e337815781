"""Audio files, bytes and pipes to 16 kHz mono waveforms.

libsndfile reads wav, flac, ogg, opus, mp3 and NIST SPHERE at any rate and with any number of
channels; channels are averaged and the rate is changed. Samples are float32, full scale 1;
float files may go beyond it and are left as they are.
"""

import io
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import lru_cache
from math import gcd
from pathlib import Path

import numpy as np
import soundfile
import torch
import torchaudio
from torch import Tensor

from asr.errors import InputError, first_line
from asr.files import write_atomically

SAMPLE_RATE = 16000
READABLE = "expected wav, flac, ogg, opus, mp3 or NIST SPHERE"
CONVERT = "convert it, for example: ffmpeg -i IN -ar 16000 -ac 1 OUT.wav"
_UNKNOWN_SIZE = 0x7FFFF000  # programs that write into a pipe put a size like this, or 0


class AudioError(InputError):
    """Audio that cannot be read, or is not what its header promises."""


@dataclass(frozen=True)
class AudioInfo:
    """What the header of an audio file says."""

    path: str
    duration_s: float
    sample_rate: int
    channels: int
    samples: int
    """Samples of each channel."""


def info(path: str | Path) -> AudioInfo:
    """Read the header of an audio file.

    Raises:
        AudioError: the file is missing, empty, or not audio.
    """
    with _open(path, str(path)) as file:
        return AudioInfo(
            str(path), file.frames / file.samplerate, file.samplerate, file.channels, file.frames
        )


def read(
    source: str | Path | bytes,
    *,
    sample_rate: int = SAMPLE_RATE,
    start_s: float = 0.0,
    end_s: float | None = None,
    name: str | None = None,
) -> Tensor:
    """Read audio as a mono waveform.

    Args:
        source: a file, or the bytes of one.
        sample_rate: rate of the result in Hz.
        start_s: where to begin, in seconds; what stands before is not decoded.
        end_s: where to end; by default the end of the file.
        name: how error messages call the source; by default its path.

    Returns:
        (N,), float32.

    Raises:
        AudioError: the source is missing, empty, cut short, not audio, holds numbers that
            are not finite, or has nothing between ``start_s`` and ``end_s``.
    """
    name = name or ("audio data" if isinstance(source, bytes) else str(source))
    with _open(source, name) as file:
        rate, total = file.samplerate, file.frames
        begin = round(start_s * rate)
        end = total if end_s is None else min(round(end_s * rate), total)
        if begin >= end:
            raise AudioError(
                f"{name}: nothing from {start_s:g} s on, the file has {total / rate:.3f} s; "
                "check the segment's times"
                if total
                else f"{name}: a header without any samples; record or copy it again"
            )
        samples = _samples(file, begin, end, name)
    waveform = torch.from_numpy(samples.mean(axis=1, dtype=np.float32))
    if not torch.isfinite(waveform).all():
        raise AudioError(f"{name}: samples that are not finite numbers; make the file again")
    if rate < SAMPLE_RATE:
        _warn_of_low_rate(rate, name)
    return resample(waveform, rate, sample_rate)


def _samples(file: soundfile.SoundFile, begin: int, end: int, name: str) -> np.ndarray:
    """Samples ``begin`` to ``end`` of all channels, (N, channels)."""
    found = 0
    reason = ""
    try:
        file.seek(begin)
        samples = file.read(end - begin, dtype="float32", always_2d=True)
        found = len(samples)
    except soundfile.LibsndfileError as error:
        reason = f" ({first_line(error)})"
    if found < end - begin:
        raise AudioError(
            f"{name}: cut short or damaged: {found} samples after {begin} where the header "
            f"promises {end - begin}{reason}; copy or record it again"
        )
    return samples


def read_pipe(
    command: str,
    *,
    sample_rate: int = SAMPLE_RATE,
    start_s: float = 0.0,
    end_s: float | None = None,
) -> Tensor:
    """Run a shell command that the user wrote into wav.scp and read its output as audio.

    Args:
        command: without the trailing ``|``; bash runs it.
        sample_rate: see :func:`read`, as for ``start_s`` and ``end_s``.

    Raises:
        AudioError: the command fails or its output is not audio.
    """
    result = subprocess.run(["bash", "-c", command], capture_output=True, stdin=subprocess.DEVNULL)
    if result.returncode:
        said = result.stderr.decode(errors="replace").strip().splitlines()
        raise AudioError(
            f"pipe `{command}`: exit code {result.returncode}: {said[-1] if said else 'no message'}"
        )
    return read(
        result.stdout,
        sample_rate=sample_rate,
        start_s=start_s,
        end_s=end_s,
        name=f"output of `{command}`",
    )


def read_entry(
    entry: str,
    *,
    sample_rate: int = SAMPLE_RATE,
    start_s: float = 0.0,
    end_s: float | None = None,
) -> Tensor:
    """Read the right-hand side of a wav.scp line: a path, or a command that ends in ``|``."""
    if entry.endswith("|"):
        command = entry[:-1].strip()
        return read_pipe(command, sample_rate=sample_rate, start_s=start_s, end_s=end_s)
    return read(entry, sample_rate=sample_rate, start_s=start_s, end_s=end_s)


def write_wav(path: str | Path, waveform: Tensor | np.ndarray, sample_rate: int) -> Path:
    """Write a 16-bit wav file atomically; waveform (N,) with full scale 1."""
    buffer = io.BytesIO()
    soundfile.write(buffer, np.asarray(waveform), sample_rate, subtype="PCM_16", format="WAV")
    return write_atomically(path, lambda file: file.write(buffer.getbuffer()))


def resample(waveform: Tensor, rate: int, target: int) -> Tensor:
    """Change the rate of a waveform (N,) by windowed-sinc interpolation.

    The result has ceil(N * target / rate) samples.
    """
    if rate == target:
        return waveform
    common = gcd(rate, target)
    if max(rate, target) // common > 2000:  # the sinc table would grow without bound
        import librosa

        result = librosa.resample(waveform.numpy(), orig_sr=rate, target_sr=target)
        return torch.from_numpy(result)
    return _resampler(rate // common, target // common)(waveform)


@lru_cache(maxsize=32)
def _resampler(rate: int, target: int) -> torchaudio.transforms.Resample:
    return torchaudio.transforms.Resample(rate, target)


_warned = False


def _warn_of_low_rate(rate: int, name: str) -> None:
    """Say once per process that upsampled audio lacks the upper half of the spectrum."""
    global _warned
    if not _warned:
        _warned = True
        print(
            f"warning: {name}: recorded at {rate} Hz, below {SAMPLE_RATE} Hz; it is converted, but "
            "its high frequencies are missing (said once)",
            file=sys.stderr,
        )


def _open(source: str | Path | bytes, name: str) -> soundfile.SoundFile:
    """Open audio for reading; every way in which this fails has its message."""
    head, size = _head(source, name)
    if size == 0:
        raise AudioError(f"{name}: the file is empty (0 bytes); record or copy it again")
    if b"shorten" in head and head.startswith(b"NIST_1A"):
        raise AudioError(f"{name}: SPHERE compressed with shorten; unpack it with sph2pipe")
    missing = _missing_wav_bytes(head, size)
    if missing:
        raise AudioError(
            f"{name}: cut short: {missing} bytes fewer than the header promises; copy or record "
            "it again"
        )
    try:
        return soundfile.SoundFile(io.BytesIO(source) if isinstance(source, bytes) else str(source))
    except (soundfile.LibsndfileError, TypeError) as error:
        raise AudioError(f"{name}: {_looks_like(head)}, {READABLE}; {CONVERT}") from error


def _head(source: str | Path | bytes, name: str) -> tuple[bytes, int]:
    """The first kilobytes and the size in bytes."""
    if isinstance(source, bytes):
        return source[:4096], len(source)
    try:
        with open(source, "rb") as file:
            return file.read(4096), os.fstat(file.fileno()).st_size
    except IsADirectoryError:
        raise AudioError(f"{name}: a folder, expected an audio file") from None
    except OSError as error:
        raise AudioError(f"{name}: cannot read ({error.strerror}); check the path") from error


def _missing_wav_bytes(head: bytes, size: int) -> int:
    """How many bytes a wav file lacks; libsndfile would read what is there without a word."""
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        return 0
    position = 12
    while position + 8 <= len(head):
        length = int.from_bytes(head[position + 4 : position + 8], "little")
        if head[position : position + 4] == b"data":
            known = 0 < length < _UNKNOWN_SIZE
            return max(0, position + 8 + length - size) if known else 0
        position += 8 + length + length % 2
    return 0


def _looks_like(head: bytes) -> str:
    """What a file that is not audio seems to be."""
    if head[4:8] == b"ftyp":
        return "an mp4 or m4a file"
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return "a webm or mkv file"
    if head[:4] in (b"RIFF", b"fLaC", b"OggS"):
        return "damaged audio"
    printable = sum(32 <= byte < 127 or byte in b"\t\n\r" for byte in head)
    return "a text file" if printable > 0.95 * len(head) else "not an audio format known here"
