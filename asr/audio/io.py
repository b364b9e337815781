"""Audio files, bytes and pipes to 16 kHz mono waveforms.

libsndfile reads wav, flac, ogg, opus, mp3, NIST SPHERE, aiff, au and others at any rate and with
any number of channels, and PyAV, where it is installed, m4a, mp4, webm and others (see media.py).
Channels are averaged, or one is taken, and the rate is changed. Samples are float32, full scale
1; float files may go beyond it and are left as they are. :func:`blocks` reads files of any length
in bounded memory.

What headers promise is compared with what is there (header.py, decode.py).
"""

import io
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import ArrayLike

from asr.audio import channels
from asr.audio.arrays import LOUDEST, is_sound
from asr.audio.channels import Mixer
from asr.audio.clip import AudioError, AudioInfo, Clip, MediaError
from asr.audio.decode import AGAIN, Sound, check_missing, opened
from asr.audio.entry import command_of, path_of
from asr.audio.memory import warn_once
from asr.audio.resample import Resampler, resample
from asr.errors import first_line
from asr.files import write_atomically

__all__ = [
    "AudioError",
    "AudioInfo",
    "Clip",
    "Outputs",
    "Resampler",
    "blocks",
    "info",
    "read",
    "read_entry",
    "read_pipe",
    "resample",
    "write_wav",
]

SAMPLE_RATE = 16000
BLOCK_S = 10.0  # of audio that is read at a time
MAX_OVERSHOOT_S = 0.5  # a segment may end this much after its recording (extract-segments)


def info(source: str | Path | bytes) -> AudioInfo:
    """Read the length and format of an audio file, or of the bytes of one.

    The header tells them where it can be trusted; otherwise the file is decoded.

    Raises:
        AudioError: the file is missing, empty, or not audio.
    """
    name = _name_of(source)
    with opened(source, name, checked=True) as sound:
        duration_s = sound.frames / sound.samplerate
        return AudioInfo(name, duration_s, sound.samplerate, sound.channels, sound.frames)


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
) -> np.ndarray:
    """Read audio as a mono waveform.

    Args:
        source: a file, or the bytes of one.
        sample_rate: rate of the result in Hz.
        start_s: where to begin, in seconds; what stands before is not decoded.
        end_s: where to end; by default the end of the file, which it may exceed by 0.5 s
            as in Kaldi's extract-segments.
        channel: the only one to read, counted from 1; by default they are averaged, but where
            they cancel each other one is taken.
        name: how error messages call the source; by default its path.

    Returns:
        (N,), float32.

    Raises:
        AudioError: the source is missing, empty, cut short, not audio, holds numbers that
            are not finite, or has nothing between ``start_s`` and ``end_s``.
    """
    name = name or _name_of(source)
    with opened(source, name) as sound:
        rate = sound.samplerate
        span = _span(sound, start_s, end_s, name)
        parts = list(_waveforms(sound, span, channel, name, span[1] - span[0]))
        waveform = np.concatenate(parts)
    if rate < sample_rate:
        _warn_of_low_rate(rate, sample_rate, name)
    return resample(waveform, rate, sample_rate)


class Outputs:
    """The audio of the last command that was run, for the segments of one recording.

    Whoever reads a list of segments makes one, and drops it at the end: a command that is run
    later may write something else.
    """

    def __init__(self) -> None:
        self._command, self._output = "", (b"", "")

    def of(self, command: str) -> tuple[bytes, str]:
        """What a command writes, and what it said to standard error, for messages."""
        if command != self._command:
            self._output = _run(command)
            self._command = command
        return self._output


def blocks(
    clip: Clip,
    *,
    sample_rate: int = SAMPLE_RATE,
    block_s: float = BLOCK_S,
    outputs: Outputs | None = None,
) -> Iterator[np.ndarray]:
    """Read audio of any length as a mono waveform, a block at a time.

    Args:
        clip: what to read.
        sample_rate: rate of the result in Hz.
        block_s: length of what is in memory at a time.
        outputs: of commands that were run for other segments; by default the command is run.

    Yields:
        (N,), float32; joined, they are what :func:`read` gives, but for rounding.

    Raises:
        AudioError: see :func:`read`; damage in the middle shows when it is reached.
    """
    source, said, name = clip.source, "", clip.name or _name_of(clip.source)
    if clip.command:
        source, said = (outputs or Outputs()).of(str(clip.source))
        name = clip.name or f"output of `{clip.source!s}`"
    try:
        yield from _blocks(source, clip, name, sample_rate, block_s)
    except AudioError as error:
        raise AudioError(f"{error}{said}") from error


def _blocks(
    source: str | Path | bytes, clip: Clip, name: str, sample_rate: int, block_s: float
) -> Iterator[np.ndarray]:
    with opened(source, name) as sound:
        rate = sound.samplerate
        span = _span(sound, clip.start_s, clip.end_s, name)
        if rate < sample_rate:
            _warn_of_low_rate(rate, sample_rate, name)
        resampler = Resampler(rate, sample_rate)
        for waveform in _waveforms(sound, span, clip.channel, name, max(1, round(block_s * rate))):
            yield resampler.push(waveform)
        yield resampler.close()


def _span(sound: Sound, start_s: float, end_s: float | None, name: str) -> tuple[int, int]:
    """First sample of a segment and the one after its last."""
    total_s = sound.frames / sound.samplerate
    if sound.frames == 0:
        raise AudioError(f"{name}: a header without any samples; {AGAIN}")
    end_s = total_s if end_s is None else end_s
    begin, end = (round(t * sound.samplerate) if math.isfinite(t) else -1 for t in (start_s, end_s))
    if not 0 <= begin < min(end, sound.frames) or end_s > total_s + MAX_OVERSHOOT_S:
        raise AudioError(
            f"{name}: asked for {start_s:g} s to {end_s:g} s, the audio lasts {total_s:.3f} s; "
            "check the segment's times"
        )
    return begin, min(end, sound.frames)


def _waveforms(
    sound: Sound, span: tuple[int, int], channel: int | None, name: str, size: int
) -> Iterator[np.ndarray]:
    """A span of a channel or of all channels together, (N,), ``size`` samples at a time.

    The windows in which channels are mixed count from the beginning of the file.
    """
    if channel is not None and not 1 <= channel <= sound.channels:
        raise AudioError(f"{name}: channel {channel}, expected 1 to {sound.channels}")
    begin, end = span
    first, last = begin, end
    mixer = Mixer(sound.samplerate, lambda: warn_once(name, channels.WARNING))
    if channel is None and sound.channels > 1:
        first, last = channels.whole_windows(begin, end, sound.samplerate)
    place = first
    for samples in _samples(sound, first, min(last, sound.frames), name, size):  # (N, channels)
        mixed = mixer.push(samples) if channel is None else samples[:, channel - 1]
        yield mixed[max(0, begin - place) : max(0, end - place)]
        place += len(mixed)
    if len(rest := mixer.close()):
        yield rest[max(0, begin - place) : max(0, end - place)]


def _samples(sound: Sound, begin: int, end: int, name: str, size: int) -> Iterator[np.ndarray]:
    """Samples ``begin`` to ``end`` of all channels, (N, channels), ``size`` at a time."""
    place = begin
    try:
        if begin:
            sound.seek(begin)
        while place < end:
            samples = sound.read(min(size, end - place))
            place += len(samples)
            if not is_sound(samples):
                raise AudioError(
                    f"{name}: samples that are not finite numbers, or beyond {LOUDEST:g} where "
                    "full scale is 1; make the file again"
                )
            yield samples
            if sound.reason or not len(samples):
                break
    except (soundfile.LibsndfileError, MediaError) as error:
        raise AudioError(
            f"{name}: cut short or damaged after {place} samples ({first_line(error)}); {AGAIN}"
        ) from error
    if place < end:  # of the file, or else damage in it
        check_missing((sound.frames - place) / sound.samplerate, sound, place, name)


def read_pipe(
    command: str,
    *,
    sample_rate: int = SAMPLE_RATE,
    start_s: float = 0.0,
    end_s: float | None = None,
    outputs: Outputs | None = None,
) -> np.ndarray:
    """Run a shell command that the user wrote into wav.scp and read its output as audio.

    Args:
        command: without the trailing ``|``; bash runs it.
        sample_rate: see :func:`read`, as for ``start_s`` and ``end_s``.
        outputs: of commands that were run for other segments; by default the command is run.

    Raises:
        AudioError: the command fails or its output is not audio.
    """
    output, said = (outputs or Outputs()).of(command)
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


def _run(command: str) -> tuple[bytes, str]:
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
    outputs: Outputs | None = None,
) -> np.ndarray:
    """Read the right-hand side of a wav.scp line: a path, or a command that ends in ``|``."""
    command = command_of(entry)
    if command is not None:
        return read_pipe(
            command, sample_rate=sample_rate, start_s=start_s, end_s=end_s, outputs=outputs
        )
    return read(path_of(entry), sample_rate=sample_rate, start_s=start_s, end_s=end_s)


def write_wav(path: str | Path, waveform: ArrayLike, sample_rate: int) -> Path:
    """Write a 16-bit wav file atomically; waveform (N,) with full scale 1."""
    buffer = io.BytesIO()
    soundfile.write(buffer, np.asarray(waveform), sample_rate, subtype="PCM_16", format="WAV")
    return write_atomically(path, lambda file: file.write(buffer.getbuffer()))


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
