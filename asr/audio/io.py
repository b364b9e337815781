"""Audio files, bytes and pipes to 16 kHz mono waveforms.

libsndfile reads wav, flac, ogg, opus, mp3 and NIST SPHERE at any rate and with any number of
channels, and PyAV, where it is installed, m4a, mp4 and webm (see media.py). Channels are averaged,
or one is taken, and the rate is changed. Samples are float32, full scale 1; float files may go
beyond it and are left as they are. :func:`blocks` reads files of any length in bounded memory.

libsndfile says nothing when a wav, ogg or SPHERE file ends early, so the sizes that the headers
promise are compared with the file's before it is opened.
"""

import io
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from math import gcd
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import numpy as np
import soundfile
import torch
import torchaudio
from torch import Tensor

from asr.audio.entry import command_of, path_of
from asr.audio.formats import READABLE
from asr.audio.media import INSTALL, MediaError, MediaFile, container_of, installed
from asr.errors import InputError, first_line
from asr.files import write_atomically

SAMPLE_RATE = 16000
LOWEST_RATE, HIGHEST_RATE = 1000, 1_536_000  # in Hz; other rates are those of damaged headers
LOUDEST = 1e10  # files of floats may hold 32-bit integers; what is beyond is damage
BLOCK_S = 10.0  # of audio that is read at a time
CONVERT = "convert it, for example: ffmpeg -i IN -ar 16000 -ac 1 OUT.wav"
LARGEST_RATIO = 2000  # of rates; beyond, the table of the sinc would grow without bound
MAX_OVERSHOOT_S = 0.5  # a segment may end this much after its recording (extract-segments)
_UNKNOWN_SIZE = 0x7FFFF000  # programs that write into a pipe put a size from here on, or 0
_NO_LENGTH = 1 << 48  # samples, from which on it is libsndfile's word for "unknown": streamed flac
_OGG_PAGE_BYTES = 65307  # the longest page, header included (RFC 3533)
_AGAIN = "copy or record it again"


if TYPE_CHECKING:
    Sound: TypeAlias = soundfile.SoundFile | MediaFile


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


@dataclass(frozen=True)
class Clip:
    """A stretch of an audio file, and which of its channels; nothing is read yet.

    Example::

        Clip("talk.wav", 60.0, 90.0)        # the second half of the second minute
        Clip("call.wav", channel=2)         # the other speaker
    """

    source: str | Path | bytes
    """A file, or the bytes of one."""
    start_s: float = 0.0
    end_s: float | None = None
    """None: the end of the file."""
    channel: int | None = None
    """Counted from 1; None averages all."""
    name: str = ""
    """How error messages call it; by default its path."""
    command: bool = False
    """The source is a command out of a wav.scp, which bash runs; what it writes is the audio."""

    @classmethod
    def of_entry(cls, entry: str, start_s: float = 0.0, end_s: float | None = None) -> "Clip":
        """That of the right-hand side of a wav.scp line: a path, or a command and ``|``."""
        command = command_of(entry)
        if command is not None:
            return cls(command, start_s, end_s, command=True)
        return cls(path_of(entry), start_s, end_s)


def info(source: str | Path | bytes) -> AudioInfo:
    """Read the header of an audio file, or of the bytes of one.

    Raises:
        AudioError: the file is missing, empty, or not audio.
    """
    name = _name_of(source)
    with _open(source, name) as file:
        return AudioInfo(
            name, file.frames / file.samplerate, file.samplerate, file.channels, file.frames
        )


def _name_of(source: str | Path | bytes) -> str:
    return "audio data" if isinstance(source, bytes) else str(source)


def read(
    source: str | Path | bytes,
    *,
    sample_rate: int = SAMPLE_RATE,
    start_s: float = 0.0,
    end_s: float | None = None,
    channel: int | None = None,
    name: str | None = None,
) -> Tensor:
    """Read audio as a mono waveform.

    Args:
        source: a file, or the bytes of one.
        sample_rate: rate of the result in Hz.
        start_s: where to begin, in seconds; what stands before is not decoded.
        end_s: where to end; by default the end of the file, which it may exceed by 0.5 s
            as in Kaldi's extract-segments.
        channel: the only one to read, counted from 1; by default they are averaged.
        name: how error messages call the source; by default its path.

    Returns:
        (N,), float32.

    Raises:
        AudioError: the source is missing, empty, cut short, not audio, holds numbers that
            are not finite, or has nothing between ``start_s`` and ``end_s``.
    """
    name = name or _name_of(source)
    with _open(source, name) as file:
        rate = file.samplerate
        begin, end = _span(file, start_s, end_s, name)
        waveform = _waveform(file, begin, end, channel, name)
    if rate < sample_rate:
        _warn_of_low_rate(rate, sample_rate, name)
    return resample(waveform, rate, sample_rate)


def blocks(
    clip: Clip, *, sample_rate: int = SAMPLE_RATE, block_s: float = BLOCK_S
) -> Iterator[Tensor]:
    """Read audio of any length as a mono waveform, a block at a time.

    Args:
        clip: what to read.
        sample_rate: rate of the result in Hz.
        block_s: length of what is in memory at a time.

    Yields:
        (N,), float32; joined, they are what :func:`read` gives, but for rounding.

    Raises:
        AudioError: see :func:`read`; damage in the middle shows when it is reached.
    """
    source, said, name = clip.source, "", clip.name or _name_of(clip.source)
    if clip.command:
        source, said = _output(str(clip.source))
        name = clip.name or f"output of `{clip.source!s}`"
    try:
        yield from _blocks(source, clip, name, sample_rate, block_s)
    except AudioError as error:
        raise AudioError(f"{error}{said}") from error


def _blocks(
    source: str | Path | bytes, clip: Clip, name: str, sample_rate: int, block_s: float
) -> Iterator[Tensor]:
    with _open(source, name) as file:
        rate = file.samplerate
        begin, end = _span(file, clip.start_s, clip.end_s, name)
        if rate < sample_rate:
            _warn_of_low_rate(rate, sample_rate, name)
        resampler, size = Resampler(rate, sample_rate), max(1, round(block_s * rate))
        for start in range(begin, end, size):
            stop = min(start + size, end)
            seek = start == begin
            yield resampler.push(_waveform(file, start, stop, clip.channel, name, seek=seek))
        yield resampler.close()


def _span(file: "Sound", start_s: float, end_s: float | None, name: str) -> tuple[int, int]:
    """First sample of a segment and the one after its last."""
    total_s = file.frames / file.samplerate
    if file.frames == 0:
        raise AudioError(f"{name}: a header without any samples; {_AGAIN}")
    end_s = total_s if end_s is None else end_s
    begin, end = (round(t * file.samplerate) if math.isfinite(t) else -1 for t in (start_s, end_s))
    if not 0 <= begin < min(end, file.frames) or end_s > total_s + MAX_OVERSHOOT_S:
        raise AudioError(
            f"{name}: asked for {start_s:g} s to {end_s:g} s, the audio lasts {total_s:.3f} s; "
            "check the segment's times"
        )
    return begin, min(end, file.frames)


def _waveform(
    file: "Sound", begin: int, end: int, channel: int | None, name: str, *, seek: bool = True
) -> Tensor:
    """Samples ``begin`` to ``end`` of a channel or of the mean of all, (N,)."""
    if channel is not None and not 1 <= channel <= file.channels:
        raise AudioError(f"{name}: channel {channel}, expected 1 to {file.channels}")
    samples = torch.from_numpy(_samples(file, begin, end, name, seek=seek))  # (N, channels)
    if not is_sound(samples):
        raise AudioError(
            f"{name}: samples that are not finite numbers, or beyond {LOUDEST:g} where full scale "
            "is 1; make the file again"
        )
    if channel is not None:
        return samples[:, channel - 1].contiguous()
    return samples.mean(1) if samples.shape[1] > 1 else samples[:, 0]


def is_sound(samples: Tensor) -> bool:
    """Whether all samples are finite, and small enough for the squares of their spectrum."""
    return bool((samples.abs() <= LOUDEST).all())


def _samples(file: "Sound", begin: int, end: int, name: str, *, seek: bool) -> np.ndarray:
    """Samples ``begin`` to ``end`` of all channels, (N, channels)."""
    found = 0
    reason = ""
    try:
        if seek:
            file.seek(begin)
        samples = file.read(end - begin, dtype="float32", always_2d=True)
        found = len(samples)
    except (soundfile.LibsndfileError, MediaError) as error:
        reason = f" ({first_line(error)})"
    if found < end - begin:
        raise AudioError(
            f"{name}: cut short or damaged: {found} samples after {begin} where the header "
            f"promises {end - begin}{reason}; {_AGAIN}"
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
    output, said = _output(command)
    try:
        return read(
            output,
            sample_rate=sample_rate,
            start_s=start_s,
            end_s=end_s,
            name=f"output of `{command}`",
        )
    except AudioError as error:  # in `a | b` the exit code is that of b alone
        raise AudioError(f"{error}{said}") from error


@lru_cache(maxsize=1)  # of the recording that several segments are in
def _output(command: str) -> tuple[bytes, str]:
    """What a command of wav.scp writes, and what it said to standard error, for messages."""
    result = subprocess.run(["bash", "-c", command], capture_output=True, stdin=subprocess.DEVNULL)
    lines = result.stderr.decode(errors="replace").strip().splitlines()
    said = f"; it said: {lines[-1]}" if lines else ""
    if result.returncode:
        raise AudioError(f"pipe `{command}`: exit code {result.returncode}{said}")
    return result.stdout, said


def read_entry(
    entry: str,
    *,
    sample_rate: int = SAMPLE_RATE,
    start_s: float = 0.0,
    end_s: float | None = None,
) -> Tensor:
    """Read the right-hand side of a wav.scp line: a path, or a command that ends in ``|``."""
    command = command_of(entry)
    if command is not None:
        return read_pipe(command, sample_rate=sample_rate, start_s=start_s, end_s=end_s)
    return read(path_of(entry), sample_rate=sample_rate, start_s=start_s, end_s=end_s)


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
    if max(rate, target) // common > LARGEST_RATIO:
        import librosa

        result = librosa.resample(waveform.numpy(), orig_sr=rate, target_sr=target)
        return torch.from_numpy(result)
    return _resampler(rate // common, target // common)(waveform)


class Resampler:
    """Changes the rate of audio that comes in blocks; joined, the results equal :func:`resample`.

    Args:
        rate: samples per second that come in.
        target: samples per second that go out.
    """

    def __init__(self, rate: int, target: int) -> None:
        common = gcd(rate, target)
        self.period, self.made = rate // common, target // common  # so many in, so many out
        self.same = rate == target
        self.stream: Any = None
        self.sinc: Any = None
        if self.same:
            return
        if max(self.period, self.made) > LARGEST_RATIO:
            import soxr

            self.stream = soxr.ResampleStream(rate, target, 1, dtype="float32", quality="HQ")
            return
        self.sinc = _resampler(self.period, self.made)
        self.reach = self.sinc.width  # samples to both sides that an output depends on
        self.before = self.reach // self.period + 1  # periods of samples kept for the left side
        self.samples = torch.zeros(self.before * self.period)

    def push(self, waveform: Tensor) -> Tensor:
        """Samples (N,) in; those that can be known now come out."""
        if self.same:
            return waveform
        if self.stream is not None:
            return torch.from_numpy(self.stream.resample_chunk(waveform.numpy()))
        self.samples = torch.cat([self.samples, waveform])
        periods = (len(self.samples) - self.reach) // self.period - self.before
        if periods <= 0:
            return waveform[:0]
        result = self.sinc(self.samples)[self.before * self.made :][: periods * self.made]
        self.samples = self.samples[periods * self.period :]
        return result

    def close(self) -> Tensor:
        """The samples that are left."""
        if self.same:
            return torch.zeros(0)
        if self.stream is not None:
            rest = self.stream.resample_chunk(np.zeros(0, np.float32), last=True)
            return torch.from_numpy(rest)
        return self.sinc(self.samples)[self.before * self.made :]


@lru_cache(maxsize=32)
def _resampler(rate: int, target: int) -> torchaudio.transforms.Resample:
    return torchaudio.transforms.Resample(rate, target)


_warned = False


def _warn_of_low_rate(rate: int, target: int, name: str) -> None:
    """Say once per process that upsampled audio lacks the upper part of the spectrum."""
    global _warned
    if not _warned:
        _warned = True
        print(
            f"warning: {name}: recorded at {rate} Hz, below {target} Hz; it is converted, but "
            "its high frequencies are missing (said once)",
            file=sys.stderr,
        )


def _open(source: str | Path | bytes, name: str) -> "Sound":
    """Open audio for reading; every way in which this fails has its message."""
    with _stream(source, name) as stream, _told_as_audio_error(name):
        head = stream.read(4096)
        if not head:
            raise AudioError(f"{name}: empty (0 bytes); {_AGAIN}")
        if head.startswith(b"NIST_1A") and b"embedded-" in head:
            raise AudioError(f"{name}: compressed SPHERE; unpack it: sph2pipe -f wav IN OUT.wav")
        missing = _missing_bytes(stream, head)
        if missing > 0:
            raise AudioError(
                f"{name}: cut short: {missing} bytes fewer than its header promises; {_AGAIN}"
            )
        patched = _with_data_size(source, name) if _is_streamed_wav(stream, head) else None
    try:
        file = _decoder(patched or source, head)
    except (soundfile.LibsndfileError, TypeError) as error:
        raise AudioError(f"{name}: {_diagnosis(head)}") from error
    except MediaError as error:
        raise AudioError(f"{name}: {error}; {_AGAIN}") from error
    if file.frames >= _NO_LENGTH:
        raise AudioError(f"{name}: its header does not say how long it is; {CONVERT}")
    if not LOWEST_RATE <= file.samplerate <= HIGHEST_RATE:
        raise AudioError(
            f"{name}: a rate of {file.samplerate} Hz, expected {LOWEST_RATE} to {HIGHEST_RATE}; "
            f"its header is damaged, {_AGAIN}"
        )
    return file


def _decoder(source: "str | Path | bytes | _Patched", head: bytes) -> "Sound":
    if isinstance(source, _Patched):  # a wav file
        return soundfile.SoundFile(source)
    container = container_of(head)
    if container and installed():
        return MediaFile(source, container)
    if isinstance(source, bytes):
        return soundfile.SoundFile(io.BytesIO(source))
    # bytes: names are any bytes on Unix, also such as are no text
    return soundfile.SoundFile(str(source) if os.name == "nt" else os.fsencode(source))


@contextmanager
def _told_as_audio_error(name: str) -> Iterator[None]:
    """What the system refuses, as the error of this source alone."""
    try:
        yield
    except IsADirectoryError:
        raise AudioError(f"{name}: a folder, expected an audio file") from None
    except (OSError, ValueError) as error:  # ValueError: a path that no system call takes
        reason = getattr(error, "strerror", None) or first_line(error)
        raise AudioError(f"{name}: cannot read ({reason}); check the path") from error


def _stream(source: str | Path | bytes, name: str) -> BinaryIO:
    """The bytes of a file, or those given."""
    if isinstance(source, bytes):
        return io.BytesIO(source)
    with _told_as_audio_error(name):
        stream = open(source, "rb")  # noqa: SIM115 - the caller closes it
    if not stream.seekable():
        stream.close()
        raise AudioError(f"{name}: a pipe, which cannot be read twice; write it into a file first")
    return stream


def _size(stream: BinaryIO) -> int:
    return stream.seek(0, os.SEEK_END)


def _missing_bytes(stream: BinaryIO, head: bytes) -> int:
    """How many bytes the headers promise beyond the end of the file; 0 or less: none."""
    if _is_wav(head):
        begin, length = _wav_data(stream)
        return begin + length - _size(stream) if length < _UNKNOWN_SIZE else 0
    if head.startswith(b"NIST_1A"):
        return _sphere_size(head) - _size(stream)
    if head.startswith(b"OggS"):
        return _missing_ogg_bytes(stream)
    return 0


def _is_wav(head: bytes) -> bool:
    return head[:4] == b"RIFF" and head[8:12] == b"WAVE"


def _wav_data(stream: BinaryIO) -> tuple[int, int]:
    """Where the samples of a wav file begin, and how many bytes of them it promises."""
    stream.seek(12)
    while len(chunk := stream.read(8)) == 8:
        length = int.from_bytes(chunk[4:], "little")
        if chunk[:4] == b"data":
            return stream.tell(), length
        stream.seek(length + length % 2, os.SEEK_CUR)
    return 0, 0


def _is_streamed_wav(stream: BinaryIO, head: bytes) -> bool:
    """Whether a wav header says "no samples" because its writer could not go back to it.

    A wav file that is really empty ends there, or goes on with the name of another chunk.
    """
    if not _is_wav(head):
        return False
    begin, length = _wav_data(stream)
    stream.seek(begin)
    following = stream.read(4)
    is_name = all(32 <= byte < 127 for byte in following)
    return begin > 0 and length == 0 and not is_name


def _with_data_size(source: str | Path | bytes, name: str) -> "_Patched":
    """A wav file whose header says how much there is, for libsndfile takes 0 at its word."""
    stream = _stream(source, name)
    begin, _ = _wav_data(stream)
    length = min(_size(stream) - begin, 0xFFFFFFFF)
    stream.seek(0)
    return _Patched(stream, begin - 4, length.to_bytes(4, "little"))


class _Patched(io.RawIOBase):
    """A file with some other bytes in it, which is read without being copied."""

    def __init__(self, stream: BinaryIO, place: int, data: bytes) -> None:
        self.stream, self.place, self.data = stream, place, data

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self.stream.seek(offset, whence)

    def tell(self) -> int:
        return self.stream.tell()

    def readinto(self, buffer: Any) -> int:
        start = self.stream.tell()
        data = self.stream.read(len(buffer))
        end = start + len(data)
        buffer[: len(data)] = data
        first, last = max(start, self.place), min(end, self.place + len(self.data))
        if first < last:
            buffer[first - start : last - start] = self.data[first - self.place :][: last - first]
        return len(data)

    def close(self) -> None:
        self.stream.close()
        super().close()


def _sphere_size(head: bytes) -> int:
    """Bytes of a SPHERE file without compression: header and samples."""
    fields = (rb"NIST_1A\s+", rb"sample_count -i ", rb"channel_count -i ", rb"sample_n_bytes -i ")
    found = [re.search(field + rb"(\d+)", head) for field in fields]
    header, *sizes = [int(match[1]) if match else 0 for match in found]
    return header + math.prod(sizes)


def _missing_ogg_bytes(stream: BinaryIO) -> int:
    """How many bytes of the last page of an ogg file are missing (RFC 3533)."""
    stream.seek(max(0, _size(stream) - _OGG_PAGE_BYTES))
    tail = stream.read()
    page = tail[max(0, tail.rfind(b"OggS\0")) :]
    if len(page) < 27:  # the header up to the number of segments
        return 27 - len(page)
    segments = page[26]
    return 27 + segments + sum(page[27 : 27 + segments]) - len(page)


def _diagnosis(head: bytes) -> str:
    """What is wrong with a file that libsndfile refuses, and what to do."""
    if head[:4] in (b"RIFF", b"fLaC", b"OggS") or head.startswith(b"NIST_1A"):
        return f"damaged audio; {_AGAIN}"
    printable = sum(32 <= byte < 127 or byte in b"\t\n\r" for byte in head)
    if container := container_of(head):
        kind = "mp4 or m4a" if container == "mp4" else "webm or mkv"
        return f"a file of kind {kind}, for which PyAV is needed: {INSTALL}; or {CONVERT}"
    if printable > 0.95 * len(head):
        return f"a text file, {READABLE}; check the path"
    return f"not an audio format known here, {READABLE}; {CONVERT}"
