"""Open sound for decoding: by libsndfile, or by PyAV where libsndfile cannot do it.

The length of a file comes from decoding wherever its header does not say it, or is wrong.
"""

import io
import os
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import soundfile

from asr.audio.formats import READABLE
from asr.audio.header import (
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
from asr.audio.memory import identity, remembered, warn_once
from asr.errors import AudioError, first_line

LOWEST_RATE, HIGHEST_RATE = 1000, 1_536_000  # in Hz; other rates are those of damaged headers
CONVERT = "convert it, for example: ffmpeg -i IN -ar 16000 -ac 1 OUT.wav"
AGAIN = "copy or record it again"
MISSING_S, MISSING_SHARE = 0.5, 0.2  # of a file that ends before its header says, and is read
_KNOWN_LAYOUTS = 10_000
_NO_LENGTH = 1 << 48  # samples: libsndfile says so many where the length is unknown
_COUNTED = 1 << 16  # samples that are decoded at a time to count them
_MP3_REACH = 32 * 1152  # samples: 511 bytes before a frame, in the smallest frames
_VORBIS_BLOCK = 8192  # samples, the largest
_READ = 1 << 22  # samples in one go; a damaged header may promise more than the memory holds


_KNOWN = (b"fLaC", b"NIST_1A", b"Creative Voice")
_layouts: dict[Hashable, Layout] = {}


class Sound(Protocol):
    """Samples of a file, as floats with full scale 1."""

    samplerate: int
    channels: int
    frames: int
    note: str
    """What people should know; may be empty."""

    @property
    def reason(self) -> str:
        """Why fewer samples came than were asked for; empty: it is the end."""

    def seek(self, frame: int) -> None:
        """Go to a sample, counted from 0."""

    def read(self, frames: int) -> np.ndarray:
        """The next samples, (frames, channels) float32; fewer at the end."""

    def close(self) -> None:
        """Close the file."""


# -- Decoders --------------------------------------------------------------------------------


class _SoundFile(soundfile.SoundFile):
    """A file that is read to its real end, whatever length libsndfile reports.

    The package soundfile would also go to the next sample after each reading, which for mp3 is
    another place in what the decoder remembers.
    """

    def seekable(self) -> bool:
        return False

    @property
    def goes_back(self) -> bool:
        return bool(super().seekable())


class Decoded:
    """Sound that libsndfile decodes.

    Args:
        opened: opens the file, or names it.
        key: under which its length is remembered, where it has to be counted.

    Raises:
        AudioError: the length is to be counted, and the file is damaged.
        soundfile.LibsndfileError: libsndfile does not know this kind of file.
    """

    note = ""

    def __init__(self, opened: Callable[[], Any], key: Hashable = None) -> None:
        self._opened, self._place, self.reason = opened, 0, ""
        self._last_page: int | None = None
        self._file = self._open()
        self.samplerate, self.channels = self._file.samplerate, self._file.channels
        self.frames = self._file.frames
        self.counted = self.frames >= _NO_LENGTH
        self._forward = self.counted or not self._file.goes_back
        if self.counted:
            self.frames = remembered(key, self._count)
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
        self._file, self._place = self._open(), 0

    def _count(self) -> int:
        """Decode to the end; what cannot be decoded there is a block that was cut."""
        self._restart()
        try:
            while len(self._file.read(_COUNTED, dtype="float32", always_2d=True)) == _COUNTED:
                pass
        except soundfile.LibsndfileError as error:
            if not self._at_end():
                raise AudioError(
                    f"cut short or damaged after {self._file.tell()} samples "
                    f"({first_line(error)}); {AGAIN}"
                ) from error
        return self._file.tell()

    def _at_end(self) -> bool:
        return self._source.tell() >= size_of(self._source)

    def seek(self, frame: int) -> None:
        """Go to a sample; by decoding up to it in files that cannot go back and forth."""
        if not self._forward:
            self._place = self._file.seek(self._safe_start(frame))
        elif frame < self._place:
            self._restart()
        while self._place < frame and len(self.read(min(frame - self._place, _COUNTED))):
            pass

    def _safe_start(self, frame: int) -> int:
        """Where to decode from, so that a sample is the same as when all is decoded."""
        if self._file.subtype.startswith("MPEG"):  # frames hold parts of those after them
            return max(0, frame - _MP3_REACH)
        if self._file.subtype == "VORBIS":  # libsndfile may be wrong by a block in the last page
            if self._last_page is None:
                self._last_page = self._find_last_page()
            return min(frame, self._last_page)
        return frame

    def _find_last_page(self) -> int:
        """A sample that lies before the last page of an ogg file."""
        with _readable(self._opened()) as stream:
            lengths = last_granules(stream)
        return max(0, self.frames - (lengths[-1] - lengths[0]) - _VORBIS_BLOCK) if lengths else 0

    def read(self, frames: int) -> np.ndarray:
        """The next samples, (frames, channels) float32; fewer at the end."""
        if self._forward:
            frames = min(frames, self.frames - self._place)
        parts = [self._block(min(frames, _READ))]
        while len(parts[-1]) == _READ:
            parts.append(self._block(min(frames - len(parts) * _READ, _READ)))
        return np.concatenate(parts) if len(parts) > 1 else parts[0]

    def _block(self, frames: int) -> np.ndarray:
        """The next samples, also those before damage; ``reason`` then says what it is."""
        samples = np.empty((frames, self.channels), np.float32)
        try:
            samples = self._file.read(out=samples) if frames else samples
        except soundfile.LibsndfileError as error:
            self.reason = first_line(error)
            samples = samples[: max(0, self._file.tell() - self._place)]
        self._place += len(samples)
        return samples

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self._close_source()


def _readable(source: Any) -> Any:
    """The bytes of what libsndfile gets."""
    return source if isinstance(source, io.IOBase) else open(source, "rb")


class Joined:
    """Several streams, one after the other, as one.

    Args:
        openers: of the streams.
        key: under which their lengths are remembered.

    Raises:
        AudioError: they differ in rate or channels.
    """

    def __init__(self, openers: list[Callable[[], Sound]], key: Hashable = None) -> None:
        self._openers, self._at = openers, 0
        self._ends: list[int] = []
        self._sound = openers[0]()
        self.note = self._sound.note
        self.samplerate, self.channels = self._sound.samplerate, self._sound.channels
        total = 0
        for index in range(len(openers)):
            total += remembered(key and (key, index), lambda: self._go_to(index))  # noqa: B023
            self._ends.append(total)
        self.frames = total
        self._go_to(0)

    def _go_to(self, index: int) -> int:
        """Open a stream; returns its samples."""
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
        """Go to a sample of one of the streams."""
        index = next((i for i, end in enumerate(self._ends) if frame < end), len(self._ends) - 1)
        self._go_to(index)
        self._sound.seek(frame - (self._ends[index - 1] if index else 0))

    @property
    def reason(self) -> str:
        """Why fewer samples came than were asked for."""
        return self._sound.reason

    def read(self, frames: int) -> np.ndarray:
        """The next samples, (frames, channels) float32; fewer at the end."""
        parts = [self._sound.read(frames)]
        frames -= len(parts[0])
        while frames > 0 and self._at + 1 < len(self._openers):
            self._go_to(self._at + 1)
            self._sound.seek(0)
            parts.append(self._sound.read(frames))
            frames -= len(parts[-1])
        return np.concatenate(parts) if len(parts) > 1 else parts[0]

    def close(self) -> None:
        """Close the stream that is open."""
        self._sound.close()


# -- Opening ---------------------------------------------------------------------------------


@contextmanager
def opened(source: str | Path | bytes, name: str, *, checked: bool = False) -> Iterator[Sound]:
    """Open audio for reading, or say why it cannot be read.

    Args:
        source: a file, or the bytes of one.
        name: how messages call it.
        checked: whether the length in the header of a flac file is compared with its end.

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
        self.begin = 0  # after tags that only mp3 should have
        with _as_audio_error(name):
            self.key = identity(source)
            with self.stream() as stream:
                self.head = stream.read(4096)
                self._refuse()
                if self.head.startswith(b"ID3") and not is_mp3(stream, self.head):
                    self.begin = after_tags(stream)
            with self.stream() as stream:
                self.head = stream.read(4096)
                self.layout = self._layout(stream)

    def stream(self) -> BinaryIO:
        """The bytes of a file, or those given."""
        if isinstance(self.source, bytes):
            return self._after_tags(io.BytesIO(self.source))
        with _as_audio_error(self.name):
            stream = open(self.source, "rb")  # noqa: SIM115 - the caller closes it
        if not stream.seekable():
            stream.close()
            raise AudioError(
                f"{self.name}: a pipe, which cannot be read twice; write it into a file first"
            )
        return self._after_tags(stream)

    def _after_tags(self, stream: BinaryIO) -> Any:
        return View(stream, Part(((self.begin, size_of(stream)),))) if self.begin else stream

    def _refuse(self) -> None:
        """Refuse empty files and compressed SPHERE."""
        if not self.head:
            raise AudioError(f"{self.name}: empty (0 bytes); {AGAIN}")
        if self.head.startswith(b"NIST_1A") and b"embedded-" in self.head:
            raise AudioError(
                f"{self.name}: compressed SPHERE; unpack it: sph2pipe -f wav IN OUT.wav"
            )

    def _layout(self, stream: BinaryIO) -> Layout:
        known = _layouts.get(self.key) if self.key else None
        layout = known or survey(stream, self.head)
        if layout.missing >= max(1, layout.present):
            raise self._cut(layout.missing)
        if self.key:
            if len(_layouts) >= _KNOWN_LAYOUTS:
                _layouts.clear()
            _layouts[self.key] = layout
        return layout

    def _cut(self, missing: int) -> AudioError:
        return AudioError(
            f"{self.name}: cut short: {missing} bytes fewer than its header promises; {AGAIN}"
        )

    def sound(self, checked: bool) -> Sound:
        """The samples of all streams."""
        try:
            sound = self._streams()
            if checked and self.head.startswith(b"fLaC") and not _reaches_its_end(sound):
                sound = self._counted(sound)
        except (soundfile.LibsndfileError, TypeError) as error:
            if self.layout.missing:
                raise self._cut(self.layout.missing) from error
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
            return Joined([partial(self._stream_of, part, None) for part in parts], self.key)
        return self._stream_of(parts[0] if parts else None, self.key)

    def _counted(self, sound: Sound) -> Sound:
        """Open a flac file again whose header is wrong about its length: it is counted."""
        sound.close()
        with self.stream() as stream:
            part = without_flac_length(self.head, size_of(stream))
        self.layout = replace(self.layout, promised=sound.frames)
        return self._stream_of(part, self.key)

    def _stream_of(self, part: Part | None, key: Hashable) -> Sound:
        """The sound of a part; None: of the whole file."""
        container = container_of(self.head)
        if container and container.alone and installed():
            return MediaFile(partial(self._view, part), container, key)
        if not part and not container and not self.head.startswith((b"\xff", b"ID3")):
            part = self._cut_out_mp3()  # libsndfile would believe the ending of its name
        try:
            return Decoded(partial(self._handed, part), key)
        except soundfile.LibsndfileError:
            if container and installed():
                with suppress(MediaError):
                    return MediaFile(partial(self._view, part), container, key)
            raise

    def _cut_out_mp3(self) -> Part | None:
        if self.head.startswith(_KNOWN):
            return None
        with self.stream() as stream:
            return cut_out_mp3(stream, self.head)

    def _view(self, part: Part | None) -> Any:
        stream = self.stream()
        return View(stream, part) if part else stream

    def _handed(self, part: Part | None) -> Any:
        """What libsndfile gets: the name of a file where that is enough."""
        if part or self.begin or isinstance(self.source, bytes):
            return self._view(part)
        # bytes: names are any bytes on Unix, also such as are no text
        return str(self.source) if os.name == "nt" else os.fsencode(self.source)

    def warn(self, sound: Sound) -> None:
        """Warn where the header differs from what is there, or raise an error."""
        layout, duration_s = self.layout, sound.frames / sound.samplerate
        missing_s = layout.promised / sound.samplerate - duration_s if layout.promised else 0.0
        if layout.missing:
            missing_s = layout.missing / layout.present * duration_s
        if layout.missing and not is_little(missing_s, duration_s):
            raise self._cut(layout.missing)
        check_missing(missing_s, sound, sound.frames, self.name)
        for note in filter(None, (layout.note, sound.note)):
            warn_once(self.name, note)


def is_little(missing_s: float, found_s: float) -> bool:
    """Whether so much may be missing at the end of a file, such as a block that was cut."""
    return missing_s <= min(MISSING_S, MISSING_SHARE * found_s)


def check_missing(missing_s: float, sound: Sound, found: int, name: str) -> None:
    """Say that a file ends a little before its header says; much is an error.

    Args:
        missing_s: how much earlier; 0 or less: not at all.
        sound: the file.
        found: samples of each channel that are there.
        name: how messages call the file.
    """
    if not is_little(missing_s, found / sound.samplerate):
        reason = f" ({sound.reason})" if sound.reason else ""
        raise AudioError(
            f"{name}: cut short or damaged: {found} samples where the header promises "
            f"{found + round(missing_s * sound.samplerate)}{reason}; {AGAIN}"
        )
    if missing_s > 0:
        warn_once(
            name,
            f"it ends {max(missing_s, 0.001):.3f} s before its header says; what is there is read",
        )


def _reaches_its_end(sound: Sound) -> bool:
    """Whether the last sample that a header promises is there."""
    if not isinstance(sound, Decoded) or sound.counted or not sound.frames:
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
    """Turn an error of the system into one of this source."""
    try:
        yield
    except IsADirectoryError:
        raise AudioError(f"{name}: a folder, expected an audio file") from None
    except (OSError, ValueError) as error:  # ValueError: a path that no system call takes
        reason = getattr(error, "strerror", None) or first_line(error)
        raise AudioError(f"{name}: cannot read ({reason}); check the path") from error


def _diagnosis(head: bytes) -> str:
    """Say why no decoder can read a file, and what to do."""
    container = container_of(head)
    codec = codec_of(head)
    if container and (container.alone or codec):
        kind = f"{codec} in {container.title}" if codec else f"a file of kind {container.title}"
        if installed():
            return f"{kind}: damaged, or of a codec that is not known here; {CONVERT}"
        return f"{kind}, for which PyAV is needed: {INSTALL}; or {CONVERT}"
    if head[:4] in (b"RIFF", b"RF64", b"fLaC", b"OggS", b"FORM", b"caff", b".snd"):
        return f"damaged audio; {AGAIN}"
    if head.startswith((b"NIST_1A", b"ID3", b"riff", b"\xff")):
        return f"damaged audio; {AGAIN}"
    printable = sum(32 <= byte < 127 or byte in b"\t\n\r" for byte in head)
    if printable > 0.95 * len(head):
        return f"a text file, {READABLE}; check the path"
    return f"not an audio format known here, {READABLE}; {CONVERT}"
