"""Decoding of m4a, mp4, webm and other files that libsndfile cannot read, by PyAV (optional).

PyAV's wheel contains FFmpeg's libraries. FFmpeg gets an open file and the name of its container,
so that nothing in the file can make it open other files.
"""

from collections.abc import Callable, Generator, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from asr.audio.header import is_wav
from asr.audio.memory import cached, lengths
from asr.errors import InputError, first_line

INSTALL = "pip install -e '.[media]' in the project's folder (or PyAV alone: pip install av)"
ENDS_EARLY_S = 0.5  # a track may be this much shorter than stated, because encoders pad
GAP_S = 0.1  # longer gaps are filled with silence
MOST_SILENCE_S = 1800.0  # in one file; more is damage
MICROSECONDS = 1_000_000  # in a second: FFmpeg's unit of a file's length
_BLOCK = 1 << 16  # samples of silence at a time


class MediaError(InputError):
    """A file that FFmpeg cannot decode, or that has no sound."""


@dataclass(frozen=True)
class Container:
    """A kind of file that FFmpeg reads."""

    name: str
    """FFmpeg's name."""
    title: str
    """Name in messages."""
    timed: bool = True
    """Whether its header states the length, and its packets have times."""
    pyav_only: bool = True
    """Whether libsndfile cannot read any such file."""


_BEGINNINGS = (
    (b"\x1a\x45\xdf\xa3", Container("matroska", "webm or mkv")),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", Container("asf", "wma or wmv")),
    (b"FLV\1", Container("flv", "flv")),
    (b"\0\0\1\xba", Container("mpeg", "mpeg")),
    (b"#!AMR", Container("amr", "amr", timed=False)),
    (b"\x0b\x77", Container("ac3", "ac3", timed=False)),
    (b"wvpk", Container("wv", "wv")),
    (b"MAC ", Container("ape", "ape")),
    (b"TTA1", Container("tta", "tta")),
    (b"OggS", Container("ogg", "ogg", pyav_only=False)),
    (b"caff", Container("caf", "caf", timed=False, pyav_only=False)),
    (b"FORM", Container("aiff", "aiff", timed=False, pyav_only=False)),
    (b".snd", Container("au", "au", timed=False, pyav_only=False)),
    (b"riff\x2e\x91\xcf\x11", Container("w64", "w64", timed=False, pyav_only=False)),
)
"""FFmpeg knows further containers, but some of them refer to other files."""

_WAV_CODECS = {
    **{0x0022: "TrueSpeech", 0x0042: "G.723.1", 0x0045: "G.726", 0x0064: "G.726", 0x0065: "G.722"},
    **{0x0050: "MP2", 0x0055: "MP3", 0x2000: "AC-3", 0x2001: "DTS", 0xA109: "Speex"},
    **dict.fromkeys((0x00FF, 0x1600, 0x1602, 0x1610, 0xA106), "AAC"),
    **{0x0160: "WMA 1", 0x0161: "WMA 2", 0x0162: "WMA Pro", 0x0163: "WMA Lossless"},
    **{0x028F: "G.722", 0xF1AC: "FLAC"},
}
_WAV_READ = (1, 2, 3, 6, 7, 0x11, 0x31, 0x38, 0x40, 0xFFFE)  # codecs in wav that libsndfile reads
_OGG_CODECS = ((b"Speex   ", "Speex"), (b"\x7fFLAC", "FLAC"), (b"\x80theora", "Theora"))


def container_of(head: bytes) -> Container | None:
    """Return the container of a file with these first bytes; None if it is not supported."""
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return Container("mp4", "mp4 or m4a")
    if is_wav(head):
        return Container("wav", "wav", timed=False, pyav_only=False)
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return Container("avi", "avi")
    if head.startswith(b"ID3") or (head[:1] == b"\xff" and head[1:2] and head[1] & 0xF6 == 0xF0):
        return Container("aac", "aac", timed=False, pyav_only=not head.startswith(b"ID3"))
    return next((found for magic, found in _BEGINNINGS if head.startswith(magic)), None)


def codec_of(head: bytes) -> str:
    """Return the codec of a wav, ogg or caf file that libsndfile cannot read; empty if unknown."""
    if head[:4] in (b"RIFF", b"RF64") and (position := head.find(b"fmt ")) > 0:
        tag = int.from_bytes(head[position + 8 : position + 10], "little")
        return "" if tag in _WAV_READ else _WAV_CODECS.get(tag, f"codec 0x{tag:04x}")
    if head.startswith(b"OggS"):
        return next((name for magic, name in _OGG_CODECS if magic in head[:200]), "")
    if head.startswith(b"caff") and head[8:12] == b"desc":
        codec = head[28:32]
        return "" if codec in (b"lpcm", b"alac", b"alaw", b"ulaw") else _printable(codec)
    return ""


def _printable(code: bytes) -> str:
    text = code.decode("ascii", "replace").strip()
    return text.upper() if text.isprintable() and text.isascii() else "an unknown codec"


def installed() -> bool:
    """Return whether PyAV is installed."""
    try:
        import av  # noqa: F401
    except ImportError:
        return False
    return True


class MediaFile:
    """The first sound track of a file, as :class:`asr.audio.decode.Sound`.

    Sample 0 is at the beginning of the file; silence fills the time before the sound, and gaps.
    The track is decoded once to count its samples, because containers state its length only
    roughly.

    Args:
        opened: opens the file.
        container: from :func:`container_of`.
        key: of the cached number of samples.

    Raises:
        MediaError: the file is damaged, cut short, or has no sound.
    """

    def __init__(
        self, opened: Callable[[], Any], container: Container, key: Hashable = None
    ) -> None:
        self._opened, self._container, self.reason = opened, container, ""
        self.samplerate, self.channels, self._origin_s = self._header()
        self.frames = cached(lengths, key, self._count)
        self._blocks = self._decode()
        self.seek(0)

    def close(self) -> None:
        """Close the file."""
        self._blocks.close()

    def seek(self, frame: int) -> None:
        """Go to a sample, counted from 0, by decoding up to it."""
        self.close()
        self._blocks = self._decode()
        self._rest = np.zeros((0, self.channels), np.float32)
        while frame > 0 and (skipped := len(self.read(min(frame, self.samplerate)))):
            frame -= skipped

    def read(self, frames: int) -> np.ndarray:
        """Return the next samples, (frames, channels) float32; fewer at the end."""
        parts, found = [self._rest], len(self._rest)
        while found < frames and (block := next(self._blocks, None)) is not None:
            parts.append(block)
            found += len(block)
        # The rest alone is not copied: each block would keep a copy of all of it alive.
        samples = np.concatenate(parts) if len(parts) > 1 else self._rest
        self._rest = samples[frames:]
        return samples[:frames]

    @contextmanager
    def _open(self) -> Iterator[Any]:
        """Open the container; FFmpeg's errors become MediaError."""
        import av

        try:
            with (
                self._opened() as file,
                av.open(file, format=self._container.name, metadata_errors="ignore") as container,
            ):
                if not container.streams.audio:
                    raise MediaError("no sound in it")
                yield container
        except (av.FFmpegError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or first_line(error)
            raise MediaError(f"damaged ({reason})") from error

    def _header(self) -> tuple[int, int, float]:
        """Return the rate and channels of the track, and the time at which the file begins."""
        with self._open() as file:
            track, tracks = file.streams.audio[0], len(file.streams.audio)
            self.note = f"it has {tracks} sound tracks; the first is read" if tracks > 1 else ""
            if track.codec_context is None or not (track.rate and track.channels):
                raise MediaError("damaged, or of an unknown codec")
            return track.rate, track.channels, (file.start_time or 0) / MICROSECONDS

    def _count(self) -> int:
        """Count the samples of a channel, including silence."""
        frames = sum(len(block) for block in self._decode())
        missing_s = self._missing_s(frames / self.samplerate) if self._container.timed else 0.0
        if missing_s > ENDS_EARLY_S:
            raise MediaError(f"cut short: the last {missing_s:.1f} s are missing")
        return frames

    def _missing_s(self, found_s: float) -> float:
        """Return how much earlier the sound ends than the file states.

        A file is complete if its picture or subtitles go on to its end.
        """
        with self._open() as file:
            track = file.streams.audio[0]
            if track.duration and track.time_base:  # of this track alone
                start_s = float((track.start_time or 0) * track.time_base) - self._origin_s
                return start_s + float(track.duration * track.time_base) - found_s
            missing_s = (file.duration or 0) / MICROSECONDS - found_s
            if missing_s <= ENDS_EARLY_S:
                return missing_s
            ends = [
                float((packet.pts + (packet.duration or 0)) * packet.time_base)
                for packet in file.demux()
                if packet.pts is not None and packet.time_base
            ]
            return missing_s - max(0.0, max(ends, default=0.0) - self._origin_s - found_s)

    def _decode(self) -> Generator[np.ndarray, None, None]:
        """Yield decoded samples (n, channels), with silence in gaps."""
        position, silent = 0, 0
        for time_s, block in self._frames():
            late = 0 if time_s is None else round((time_s - self._origin_s) * self.samplerate)
            gap = late - position if late - position > GAP_S * self.samplerate else 0
            silent += gap
            if silent > MOST_SILENCE_S * self.samplerate:
                raise MediaError(f"damaged (no sound for {gap / self.samplerate:.0f} s)")
            for start in range(0, gap, _BLOCK):
                yield np.zeros((min(_BLOCK, gap - start), self.channels), np.float32)
            yield block
            position += gap + len(block)

    def _frames(self) -> Iterator[tuple[float | None, np.ndarray]]:
        """Yield samples (n, channels) with their time; None: they follow those before."""
        import av

        with self._open() as file:
            track = file.streams.audio[0]
            layout, kind = track.layout, None
            floats: Any = None
            for frame in file.decode(track):
                time_s = frame.time if self._container.timed else None
                if kind != (kind := (frame.format.name, frame.layout.name, frame.sample_rate)):
                    for rest in floats.resample(None) if floats else ():
                        yield None, _samples(rest)
                    # Packed samples, because PyAV reads beyond the planes of 8 channels.
                    floats = av.AudioResampler("flt", layout, self.samplerate)
                for found in floats.resample(frame):
                    yield time_s, _samples(found)
                    time_s = None
            for rest in floats.resample(None) if floats else ():
                yield None, _samples(rest)


def _samples(frame: Any) -> np.ndarray:
    """Return the samples (n, channels) of a packed frame."""
    return frame.to_ndarray().reshape(frame.samples, -1)
