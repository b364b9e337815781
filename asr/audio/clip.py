"""Clips: audio from files, bytes and commands, read as mono waveforms.

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
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import ArrayLike

from asr.audio import channels
from asr.audio.arrays import LOUDEST, is_sound
from asr.audio.channels import Mixer
from asr.audio.decode import AGAIN, Sound, check_missing, opened
from asr.audio.media import MediaError
from asr.audio.memory import warn_once
from asr.audio.resample import Resampler
from asr.errors import AudioError, first_line
from asr.files import write_atomically

SAMPLE_RATE = 16000
BLOCK_S = 10.0  # of audio that is read at a time
MAX_OVERSHOOT_S = 0.5  # a segment may end this much after its recording (extract-segments)


@dataclass(frozen=True)
class AudioInfo:
    """Length and format of an audio file."""

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
    """What stands before is not decoded."""
    end_s: float | None = None
    """None: the end of the file, which it may exceed by 0.5 s as in Kaldi's extract-segments."""
    channel: int | None = None
    """Counted from 1; None averages all, but takes one where they cancel each other."""
    name: str = ""
    """How error messages call it; by default its path."""
    command: bool = False
    """The source is a command out of a wav.scp, which bash runs; what it writes is the audio."""

    @classmethod
    def of_entry(cls, entry: str, start_s: float = 0.0, end_s: float | None = None) -> "Clip":
        """The clip of the right-hand side of a wav.scp line: a path, or a command and ``|``."""
        command = command_of(entry)
        if command is not None:
            return cls(command, start_s, end_s, command=True)
        return cls(_stripped(entry), start_s, end_s)


def command_of(entry: str) -> str | None:
    """Return the command of an entry of wav.scp, without the ``|``; None where it is a path.

    Spaces and tabs around it do not count, as in the tables; other white space belongs to the name
    of a file.
    """
    entry = _stripped(entry)
    return _stripped(entry[:-1]) if entry.endswith("|") else None


def _stripped(entry: str) -> str:
    return entry.strip(" \t")


class Outputs:
    """Keeps the audio of the last command that was run, for the segments of one recording.

    Make one for a list of segments, and drop it at the end: a command that is run later may write
    something else.
    """

    def __init__(self) -> None:
        self._command, self._output = "", (b"", "")

    def of(self, command: str) -> tuple[bytes, str]:
        """What a command writes, and what it said to standard error, for messages."""
        if command != self._command:
            self._output = _run(command)
            self._command = command
        return self._output


def _run(command: str) -> tuple[bytes, str]:
    """What a command of wav.scp writes, and what it said to standard error, for messages."""
    result = subprocess.run(["bash", "-c", command], capture_output=True, stdin=subprocess.DEVNULL)
    lines = result.stderr.decode(errors="replace").strip().splitlines()
    said = f"; it said: {lines[-1]}" if lines else ""
    if result.returncode:
        raise AudioError(f"pipe `{command}`: exit code {result.returncode}{said}")
    return result.stdout, said


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
    source: str | Path | bytes | Clip,
    *,
    sample_rate: int = SAMPLE_RATE,
    outputs: Outputs | None = None,
) -> np.ndarray:
    """Read audio as a mono waveform.

    Args:
        source: a clip, a file, or the bytes of one.
        sample_rate: rate of the result in Hz.
        outputs: see :func:`blocks`.

    Returns:
        (N,), float32.

    Raises:
        AudioError: the source is missing, empty, cut short, not audio, holds numbers that
            are not finite, or has nothing in its stretch; or a command fails.
    """
    clip = source if isinstance(source, Clip) else Clip(source)
    return np.concatenate(list(blocks(clip, sample_rate=sample_rate, outputs=outputs)))


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
