"""Clips: audio from files, bytes and commands, read as mono waveforms.

libsndfile reads wav, flac, ogg, opus, mp3, NIST SPHERE, aiff, au and others; PyAV, if installed,
reads m4a, mp4, webm and others (media.py). Channels are averaged or one is selected, and the audio
is resampled. Samples are float32 with full scale 1; those of float files may exceed it.
:func:`blocks` reads files of any length in bounded memory.
"""

import math
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile

from asr.audio import channels
from asr.audio.arrays import MAX_SAMPLE, is_valid
from asr.audio.channels import Mixer
from asr.audio.decode import AGAIN, Sound, check_missing, opened
from asr.audio.media import MediaError
from asr.audio.memory import warn_once
from asr.audio.resample import Resampler
from asr.errors import AudioError, EmptyAudioError, first_line

SAMPLE_RATE = 16000
BLOCK_S = 10.0  # of audio that is read at a time
MAX_OVERSHOOT_S = 0.5  # a segment may end this much after its recording (extract-segments)
_SHOWN = 100  # characters of a command in a message
_BLANKS = " \t"  # other white space belongs to the name of a file
_LOW_RATE = (
    "recorded at {} Hz, below {} Hz; it is converted, but its high frequencies are missing (this "
    "is printed once)"
)


@dataclass(frozen=True)
class AudioInfo:
    """Length and format of an audio file."""

    duration_s: float
    sample_rate: int
    channels: int
    samples: int
    """Samples of each channel."""


@dataclass(frozen=True)
class Clip:
    """A time span and channel of an audio file, which is read later.

    Example::

        Clip("talk.wav", 60.0, 90.0)        # the first half of the second minute
        Clip("call.wav", channel=2)         # the other speaker
    """

    source: str | Path | bytes
    """A file, or the bytes of one."""
    start_s: float = 0.0
    end_s: float | None = None
    """None: the end of the file, which it may exceed by 0.5 s as in Kaldi's extract-segments."""
    channel: int | None = None
    """Counted from 1; None averages all, but takes one where they cancel each other."""
    name: str = ""
    """Name in error messages; by default the path."""
    command: bool = False
    """The source is a command of a wav.scp; bash runs it, and its output is the audio."""

    @classmethod
    def of_entry(cls, entry: str, start_s: float = 0.0, end_s: float | None = None) -> "Clip":
        """Return the clip of a wav.scp entry: a path, or a command and ``|``."""
        command = command_of(entry)
        if command is not None:
            return cls(command, start_s, end_s, command=True)
        return cls(entry.strip(_BLANKS), start_s, end_s)


def command_of(entry: str) -> str | None:
    """Return the command of a wav.scp entry, without the ``|``, or None if the entry is a path."""
    entry = entry.strip(_BLANKS)
    return entry[:-1].strip(_BLANKS) if entry.endswith("|") else None


class CommandOutputs:
    """Keeps the output of the last command of wav.scp, for the segments of one recording.

    Make one for a list of segments and drop it afterwards: a command that is run again may write
    other audio.
    """

    def __init__(self) -> None:
        self.of: Callable[[str], tuple[bytes, str]] = lru_cache(maxsize=1)(_run)


def _run(command: str) -> tuple[bytes, str]:
    """Return what a command writes, and the last line of its standard error for messages."""
    call = ["bash", "-c", command]
    try:
        result = subprocess.run(call, capture_output=True, stdin=subprocess.DEVNULL)
    except (OSError, ValueError) as error:  # no bash, too long for it, or a zero byte
        found = f"pipe `{command[:_SHOWN]}`: cannot be run: {error}"
        raise AudioError(f"{found}; check the line of wav.scp") from error
    lines = result.stderr.decode(errors="replace").strip().splitlines()
    message = f"; standard error: {lines[-1]}" if lines else ""
    if result.returncode:
        raise AudioError(f"pipe `{command}`: exit code {result.returncode}{message}")
    return result.stdout, message


def info(source: str | Path | bytes) -> AudioInfo:
    """Read the length and format of an audio file, or of the bytes of one.

    A file whose header lacks the length, or states a wrong one, is decoded.

    Raises:
        AudioError: the file is missing, empty, or not audio.
    """
    with opened(source, _name_of(source), checked=True) as sound:
        duration_s = sound.frames / sound.samplerate
        return AudioInfo(duration_s, sound.samplerate, sound.channels, sound.frames)


def _name_of(source: str | Path | bytes) -> str:
    return "audio data" if isinstance(source, bytes) else str(source)


def read(
    source: str | Path | bytes | Clip,
    *,
    sample_rate: int = SAMPLE_RATE,
    outputs: CommandOutputs | None = None,
) -> np.ndarray:
    """Read audio as a mono waveform.

    Args:
        source: a clip, a file, or the bytes of one.
        sample_rate: rate of the result in Hz.
        outputs: see :func:`blocks`.

    Returns:
        (N,), float32.

    Raises:
        AudioError: the source is missing, empty, cut short, or not audio; a sample is not finite;
            the time span is outside the audio; or a command fails.
    """
    clip = source if isinstance(source, Clip) else Clip(source)
    return np.concatenate(list(blocks(clip, sample_rate=sample_rate, outputs=outputs)))


def blocks(
    clip: Clip,
    *,
    sample_rate: int = SAMPLE_RATE,
    block_s: float = BLOCK_S,
    outputs: CommandOutputs | None = None,
) -> Iterator[np.ndarray]:
    """Read audio of any length as a mono waveform, a block at a time.

    Args:
        clip: what to read.
        sample_rate: rate of the result in Hz.
        block_s: seconds of audio in memory at a time.
        outputs: keeps the output of a command for the next segment; by default the command is run.

    Yields:
        (N,), float32; concatenated, they equal the result of :func:`read`, except for rounding.

    Raises:
        AudioError: see :func:`read`; damage in the middle is reported when it is reached.
    """
    resampler = None
    for rate, waveform in recorded_blocks(clip, block_s=block_s, outputs=outputs):
        if resampler is None:
            if rate < sample_rate:
                warn_once(_name_of_clip(clip), _LOW_RATE.format(rate, sample_rate), key="low rate")
            resampler = Resampler(rate, sample_rate)
        yield resampler.push(waveform)
    if resampler is not None:
        yield resampler.close()


def recorded_blocks(
    clip: Clip, *, block_s: float = BLOCK_S, outputs: CommandOutputs | None = None
) -> Iterator[tuple[int, np.ndarray]]:
    """Read audio as :func:`blocks` does, but as it was recorded.

    Yields:
        the sample rate in Hz, and a waveform (N,), float32.

    Raises:
        AudioError: see :func:`read`.
    """
    source, message, name = clip.source, "", _name_of_clip(clip)
    if clip.command:
        source, message = (outputs or CommandOutputs()).of(str(clip.source))
    try:
        with opened(source, name) as sound:
            span = _span(sound, clip.start_s, clip.end_s, name)
            size = max(1, round(block_s * sound.samplerate))
            for waveform in _waveforms(sound, span, clip.channel, name, size):
                yield sound.samplerate, waveform
    except AudioError as error:
        raise type(error)(f"{error}{message}") from error


def _name_of_clip(clip: Clip) -> str:
    return clip.name or (f"output of `{clip.source!s}`" if clip.command else _name_of(clip.source))


def _span(sound: Sound, start_s: float, end_s: float | None, name: str) -> tuple[int, int]:
    """Return the first sample of a segment and the one after its last."""
    total_s = sound.frames / sound.samplerate
    if sound.frames == 0:
        raise EmptyAudioError(f"{name}: a header without any samples; {AGAIN}")
    end_s = total_s if end_s is None else end_s
    places = (t * sound.samplerate for t in (start_s, end_s))
    begin, end = (round(place) if math.isfinite(place) else -1 for place in places)
    if not 0 <= begin < min(end, sound.frames) or end_s > total_s + MAX_OVERSHOOT_S:
        raise AudioError(
            f"{name}: asked for {start_s:g} s to {end_s:g} s, the audio lasts {total_s:.3f} s; "
            "check the segment's times"
        )
    return begin, min(end, sound.frames)


def _waveforms(
    sound: Sound, span: tuple[int, int], channel: int | None, name: str, size: int
) -> Iterator[np.ndarray]:
    """Yield a span of one channel, or of all channels mixed, (N,), ``size`` samples at a time."""
    if channel is not None and not 1 <= channel <= sound.channels:
        raise AudioError(f"{name}: channel {channel}, expected 1 to {sound.channels}")
    begin, end = span
    first, last = begin, end
    mixer = Mixer(sound.samplerate, lambda: warn_once(name, channels.WARNING))
    if channel is None and sound.channels > 1:
        first, last = channels.whole_windows(begin, end, sound.samplerate)
    position = first
    for samples in _samples(sound, first, min(last, sound.frames), name, size):  # (N, channels)
        mixed = mixer.push(samples) if channel is None else samples[:, channel - 1]
        yield mixed[max(0, begin - position) : max(0, end - position)]
        position += len(mixed)
    if len(rest := mixer.close()):
        yield rest[max(0, begin - position) : max(0, end - position)]


def _samples(sound: Sound, begin: int, end: int, name: str, size: int) -> Iterator[np.ndarray]:
    """Yield samples ``begin`` to ``end`` of all channels, (N, channels), ``size`` at a time."""
    position = begin
    try:
        if begin:
            sound.seek(begin)
        while position < end:
            samples = sound.read(min(size, end - position))
            position += len(samples)
            if not is_valid(samples):
                raise AudioError(
                    f"{name}: samples that are not finite numbers, or beyond {MAX_SAMPLE:g} where "
                    "full scale is 1; make the file again"
                )
            yield samples
            if sound.reason or not len(samples):
                break
    except (soundfile.LibsndfileError, MediaError) as error:
        raise AudioError(
            f"{name}: cut short or damaged after {position} samples ({first_line(error)}); {AGAIN}"
        ) from error
    if position < end:  # the file ends early or is damaged
        check_missing((sound.frames - position) / sound.samplerate, sound, position, name)
