"""Decoding of audio files by libsndfile, or by PyAV if libsndfile cannot read them.

A file is decoded to find its length if its header does not state the length, or a wrong one.
"""

import io
import os
from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cached_property, partial
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import soundfile

from asr.audio.header import (
    MOST_STREAMS,
    Layout,
    Part,
    View,
    after_tags,
    cut_out_mp3,
    is_mp3,
    last_granules,
    size_of,
    survey,
    without_flac_length,
)
from asr.audio.media import INSTALL, MediaError, MediaFile, codec_of, container_of, installed
from asr.audio.memory import cached, identity, lengths, warn_once
from asr.errors import AudioError, EmptyAudioError, first_line
from asr.formats import READABLE

LOWEST_RATE, HIGHEST_RATE = 1000, 1_536_000  # in Hz; a damaged header has other rates
CONVERT = "convert it, for example: ffmpeg -i IN -ar 16000 -ac 1 OUT.wav"
AGAIN = "copy or record it again"
MISSING_S, MISSING_SHARE = 0.5, 0.2  # if more is missing at its end, a file is refused
_NO_LENGTH = 1 << 48  # samples that libsndfile reports if the length is unknown
_COUNTED = 1 << 16  # samples that are decoded at a time to count or skip them
_MP3_REACH = 32 * 1152  # samples: 511 bytes before a frame, in the smallest frames
_VORBIS_BLOCK = 8192  # samples, the largest
_READ = 1 << 22  # samples at a time; a damaged header may promise more than fit into memory
_MAGIC = (b"RIFF", b"RF64", b"fLaC", b"OggS", b"FORM", b"caff", b".snd", b"riff")
_KNOWN = (b"fLaC", b"NIST_1A", b"Creative Voice")
_MAX_LAYOUTS = 10_000
_layouts: dict[Hashable, Layout] = {}


class Sound(Protocol):
    """An audio file that is being decoded, as floats with full scale 1."""

    samplerate: int
    channels: int
    frames: int
    note: str
    """A warning for the user; may be empty."""

    @property
    def reason(self) -> str:
        """Why :meth:`read` returned too few samples; empty at the end of the file."""

    def seek(self, frame: int) -> None:
        """Go to a sample, counted from 0."""

    def read(self, frames: int) -> np.ndarray:
        """Return the next samples, (frames, channels) float32; fewer at the end."""

    def close(self) -> None:
        """Close the file."""


class _SoundFile(soundfile.SoundFile):
    """A file that is read to its real end, whatever length libsndfile reports.

    soundfile seeks after each read of a seekable file, which resets libsndfile's mp3 decoder. Only
    ``soundfile.SoundFile.seekable`` tells whether it really can.
    """

    def seekable(self) -> bool:
        return False


class _LibsndfileSound:
    """An audio file that libsndfile decodes; ``opened`` returns the open file or its name.

    Raises:
        AudioError: the samples have to be counted, and the file is damaged.
        soundfile.LibsndfileError: libsndfile cannot read this kind of file.
    """

    note = ""

    def __init__(self, opened: Callable[[], Any], key: Hashable = None) -> None:
        self._opened, self._position, self.reason = opened, 0, ""
        self._file = self._open()
        self.samplerate, self.channels = self._file.samplerate, self._file.channels
        self.frames = self._file.frames
        self.counted = self.frames >= _NO_LENGTH
        self._forward = self.counted or not soundfile.SoundFile.seekable(self._file)
        if self.counted:
            self.frames = cached(lengths, key, self._count)
        if self._forward:
            self._restart()

    def _open(self) -> _SoundFile:
        self._source = self._opened()
        try:
            return _SoundFile(self._source)
        except BaseException:
            self._close_source()
            raise

    def _close_source(self) -> None:
        if isinstance(self._source, io.IOBase):
            self._source.close()

    def _restart(self) -> None:
        self.close()
        self._file, self._position = self._open(), 0

    def _count(self) -> int:
        """Decode the file to its end and count the samples; the last block may be incomplete."""
        self._restart()
        try:
            while len(self._file.read(_COUNTED, dtype="float32", always_2d=True)) == _COUNTED:
                pass
        except soundfile.LibsndfileError as error:
            if self._source.tell() < size_of(self._source):
                raise AudioError(
                    f"cut short or damaged after {self._file.tell()} samples "
                    f"({first_line(error)}); {AGAIN}"
                ) from error
        return self._file.tell()

    def seek(self, frame: int) -> None:
        """Go to a sample; files that libsndfile cannot seek in are decoded up to it."""
        if not self._forward:
            self._position = self._file.seek(self._safe_start(frame))
        elif frame < self._position:
            self._restart()
        while self._position < frame and len(self.read(min(frame - self._position, _COUNTED))):
            pass

    def _safe_start(self, frame: int) -> int:
        """Return where decoding has to start to give the samples of a decoding from 0."""
        if self._file.subtype.startswith("MPEG"):  # a frame holds parts of the next ones
            return max(0, frame - _MP3_REACH)
        if self._file.subtype == "VORBIS":  # libsndfile may be off by a block in the last page
            return min(frame, self._last_page)
        return frame

    @cached_property
    def _last_page(self) -> int:
        """A sample before the last page of an ogg file."""
        source = self._opened()
        stream: Any = source if isinstance(source, io.IOBase) else open(source, "rb")  # noqa: SIM115
        with stream:
            lengths = last_granules(stream)
        return max(0, self.frames - (lengths[-1] - lengths[0]) - _VORBIS_BLOCK) if lengths else 0

    def read(self, frames: int) -> np.ndarray:
        if self._forward:
            frames = min(frames, self.frames - self._position)
        parts = [self._block(min(frames, _READ))]
        while len(parts[-1]) == _READ:
            parts.append(self._block(min(frames - len(parts) * _READ, _READ)))
        return np.concatenate(parts) if len(parts) > 1 else parts[0]

    def _block(self, frames: int) -> np.ndarray:
        """Return the next samples, up to the first damage, which ``reason`` then describes."""
        samples = np.empty((frames, self.channels), np.float32)
        try:
            samples = self._file.read(out=samples) if frames else samples
        except soundfile.LibsndfileError as error:
            self.reason = first_line(error)
            samples = samples[: max(0, self._file.tell() - self._position)]
        self._position += len(samples)
        return samples

    def close(self) -> None:
        self._file.close()
        self._close_source()


class _ConcatenatedSound:
    """Several streams, one after the other, as one.

    Raises:
        AudioError: the streams differ in rate or channels.
    """

    def __init__(self, openers: Sequence[Callable[[], Sound]], key: Hashable = None) -> None:
        self._openers, self._at = openers, 0
        self._sound = openers[0]()
        self.note = self._sound.note
        self.samplerate, self.channels = self._sound.samplerate, self._sound.channels
        self._ends = list(
            accumulate(
                cached(lengths, key and (key, index), partial(self._go_to, index))
                for index in range(len(openers))
            )
        )
        self.frames = self._ends[-1]
        self._go_to(0)

    def _go_to(self, index: int) -> int:
        """Open a stream and return its number of samples."""
        if index != self._at:
            self._sound.close()
            self._sound, self._at = self._openers[index](), index
        if (self._sound.samplerate, self._sound.channels) != (self.samplerate, self.channels):
            raise AudioError(
                f"several streams of different kinds are joined: {self.samplerate} Hz with "
                f"{self.channels} channels, then {self._sound.samplerate} Hz with "
                f"{self._sound.channels}; cut or {CONVERT}"
            )
        return self._sound.frames

    def seek(self, frame: int) -> None:
        index = min(bisect_right(self._ends, frame), len(self._ends) - 1)
        self._go_to(index)
        self._sound.seek(frame - (self._ends[index - 1] if index else 0))

    @property
    def reason(self) -> str:
        return self._sound.reason

    def read(self, frames: int) -> np.ndarray:
        parts = [self._sound.read(frames)]
        frames -= len(parts[0])
        while frames > 0 and self._at + 1 < len(self._openers):
            self._go_to(self._at + 1)
            self._sound.seek(0)
            parts.append(self._sound.read(frames))
            frames -= len(parts[-1])
        return np.concatenate(parts) if len(parts) > 1 else parts[0]

    def close(self) -> None:
        self._sound.close()


@contextmanager
def opened(source: str | Path | bytes, name: str, *, checked: bool = False) -> Iterator[Sound]:
    """Open an audio file.

    Args:
        source: a file, or the bytes of one.
        name: of the source in messages.
        checked: whether to compare the length in a flac file's header with its end.

    Raises:
        AudioError: see :func:`asr.audio.clip.read`.
    """
    file = _File(source, name)
    sound = file.sound(checked)
    try:
        file.warn(sound)
        yield sound
    finally:
        sound.close()


class _File:
    """A file, or the bytes of one, with its layout; nothing is decoded yet."""

    def __init__(self, source: str | Path | bytes, name: str) -> None:
        self.source, self.name = source, name
        self.begin = 0  # after ID3 tags of a file that is not mp3
        with _as_audio_error(name):
            self.key = identity(source)
            with self.stream() as stream:
                self.head = stream.read(4096)
                self._refuse()
                if self.head.startswith(b"ID3") and not is_mp3(stream, self.head):
                    self.begin = after_tags(stream)
            with self.stream() as stream:
                self.head = stream.read(4096)
                if len(_layouts) >= _MAX_LAYOUTS:
                    _layouts.clear()
                self.layout = cached(_layouts, self.key, partial(survey, stream, self.head))
            if self.layout.missing >= max(1, self.layout.present):
                raise self._cut()
            if len(self.layout.parts) > MOST_STREAMS:
                raise AudioError(
                    f"{name}: more than {MOST_STREAMS} concatenated streams; cut it into files"
                )

    def stream(self) -> Any:
        """Open the file as a binary stream."""
        source = self.source
        with _as_audio_error(self.name):
            stream = io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb")  # noqa: SIM115
        if not stream.seekable():
            stream.close()
            raise AudioError(
                f"{self.name}: a pipe, which cannot be read twice; write it into a file first"
            )
        if self.begin or isinstance(source, bytes):  # BytesIO raises an error for a bad seek
            return View(stream, Part(((self.begin, size_of(stream)),)))
        return stream

    def _refuse(self) -> None:
        """Raise an error for an empty file or compressed SPHERE."""
        if not self.head:
            raise EmptyAudioError(f"{self.name}: empty (0 bytes); {AGAIN}")
        if self.head.startswith(b"NIST_1A") and b"embedded-" in self.head:
            raise AudioError(
                f"{self.name}: compressed SPHERE; unpack it: sph2pipe -f wav IN OUT.wav"
            )

    def _cut(self) -> AudioError:
        missing = f"{self.layout.missing} bytes fewer than its header promises"
        return AudioError(f"{self.name}: cut short: {missing}; {AGAIN}")

    def sound(self, checked: bool) -> Sound:
        """Open the sound of all streams."""
        try:
            sound = self._streams()
            if checked and self.head.startswith(b"fLaC") and not _reaches_its_end(sound):
                sound = self._counted(sound)
        except (soundfile.LibsndfileError, TypeError) as error:
            if self.layout.missing:
                raise self._cut() from error
            raise AudioError(f"{self.name}: {_diagnosis(self.head)}") from error
        except MediaError as error:
            raise AudioError(f"{self.name}: {error}; {AGAIN}") from error
        except AudioError as error:
            raise AudioError(f"{self.name}: {error}") from error
        if LOWEST_RATE <= sound.samplerate <= HIGHEST_RATE:
            return sound
        sound.close()
        raise AudioError(
            f"{self.name}: a rate of {sound.samplerate} Hz, expected {LOWEST_RATE} to "
            f"{HIGHEST_RATE}; its header is damaged, {AGAIN}"
        )

    def _streams(self) -> Sound:
        parts = self.layout.parts
        if len(parts) > 1:
            openers = [partial(self._stream_of, part, None) for part in parts]
            return _ConcatenatedSound(openers, self.key)
        return self._stream_of(parts[0] if parts else None, self.key)

    def _counted(self, sound: Sound) -> Sound:
        """Reopen a flac file whose header states a wrong length, and count its samples."""
        sound.close()
        with self.stream() as stream:
            part = without_flac_length(self.head, size_of(stream))
        self.layout = replace(self.layout, promised=sound.frames)
        return self._stream_of(part, self.key)

    def _stream_of(self, part: Part | None, key: Hashable) -> Sound:
        """Open the sound of a part, or of the whole file (None)."""
        container = container_of(self.head)
        if container and container.pyav_only and installed():
            return MediaFile(partial(self._view, part), container, key)
        if not part and not container and not self.head.startswith((b"\xff", b"ID3", *_KNOWN)):
            with self.stream() as stream:  # libsndfile would trust the extension
                part = cut_out_mp3(stream, self.head)
        try:
            return _LibsndfileSound(partial(self._soundfile_source, part), key)
        except soundfile.LibsndfileError:
            if container and installed():
                with suppress(MediaError):
                    return MediaFile(partial(self._view, part), container, key)
            raise

    def _view(self, part: Part | None) -> Any:
        stream = self.stream()
        return View(stream, part) if part else stream

    def _soundfile_source(self, part: Part | None) -> Any:
        """Return the file name if libsndfile may open the file itself, else the open stream."""
        if part or self.begin or isinstance(self.source, bytes):
            return self._view(part)
        # as bytes, because a name on Unix need not be text
        return str(self.source) if os.name == "nt" else os.fsencode(self.source)

    def warn(self, sound: Sound) -> None:
        """Warn if the header differs a little from the file; raise an error if it does much."""
        layout, duration_s = self.layout, sound.frames / sound.samplerate
        missing_s = layout.promised / sound.samplerate - duration_s if layout.promised else 0.0
        if layout.missing:
            missing_s = layout.missing / layout.present * duration_s
        check_missing(missing_s, sound, sound.frames, self.name)
        for note in filter(None, (layout.note, sound.note)):
            warn_once(self.name, note)


def check_missing(missing_s: float, sound: Sound, found: int, name: str) -> None:
    """Warn if some seconds are missing at the end of a file that has ``found`` samples.

    Raises:
        AudioError: a large part is missing.
    """
    if missing_s > min(MISSING_S, MISSING_SHARE * found / sound.samplerate):
        reason = f" ({sound.reason})" if sound.reason else ""
        raise AudioError(
            f"{name}: cut short or damaged: {found} samples where the header promises "
            f"{found + round(missing_s * sound.samplerate)}{reason}; {AGAIN}"
        )
    if missing_s > 0:
        ends = f"it ends {max(missing_s, 0.001):.3f} s before its header says"
        warn_once(name, f"{ends}; what is there is read")


def _reaches_its_end(sound: Sound) -> bool:
    """Return whether the file has the last sample that its header promises."""
    if not isinstance(sound, _LibsndfileSound) or sound.counted or not sound.frames:
        return True
    try:
        sound.seek(sound.frames - 1)
        return len(sound.read(1)) == 1
    except soundfile.LibsndfileError:
        return False
    finally:
        with suppress(soundfile.LibsndfileError):
            sound.seek(0)


@contextmanager
def _as_audio_error(name: str) -> Iterator[None]:
    """Turn errors of the operating system into AudioError."""
    try:
        yield
    except IsADirectoryError:
        raise AudioError(f"{name}: a folder, expected an audio file") from None
    except (OSError, ValueError) as error:  # ValueError: an invalid path
        reason = getattr(error, "strerror", None) or first_line(error)
        raise AudioError(f"{name}: cannot read ({reason}); check the path") from error


def _diagnosis(head: bytes) -> str:
    """Explain why no decoder can read a file, and what to do."""
    container = container_of(head)
    codec = codec_of(head)
    if container and (container.pyav_only or codec):
        kind = f"{codec} in {container.title}" if codec else f"a file of kind {container.title}"
        if installed():
            return f"{kind}: damaged, or of a codec that is not known here; {CONVERT}"
        return f"{kind}, for which PyAV is needed: {INSTALL}; or {CONVERT}"
    if head[:4] in _MAGIC or head.startswith((b"NIST_1A", b"ID3", b"\xff")):
        return f"damaged audio; {AGAIN}"
    printable = sum(32 <= byte < 127 or byte in b"\t\n\r" for byte in head)
    if printable > 0.95 * len(head):
        return f"a text file, {READABLE}; check the path"
    return f"not an audio format known here, {READABLE}; {CONVERT}"
