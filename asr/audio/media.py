"""Sound of m4a, mp4, webm and other files that libsndfile cannot read, through PyAV (optional).

PyAV's wheel carries FFmpeg's libraries, so that no program has to be installed. A file is handed
over as bytes with its container named: nothing in it can make FFmpeg open other files.
"""

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from asr.audio.memory import remembered
from asr.errors import InputError, first_line

INSTALL = "pip install 'asr-las[media]' (or PyAV alone: pip install av)"
ENDS_EARLY_S = 0.5  # a track may be so much shorter than its file says: encoders pad
GAP_S = 0.1  # from here on, times without sound are filled with silence
MOST_SILENCE_S = 1800.0  # in one file; more comes from damage
MICROSECONDS = 1_000_000  # FFmpeg counts the length of a file in them
_BLOCK = 1 << 16  # samples of silence at a time


class MediaError(InputError):
    """A file that FFmpeg cannot decode, or without sound."""


@dataclass(frozen=True)
class Container:
    """A kind of file that FFmpeg reads."""

    name: str
    """What FFmpeg calls it."""
    title: str
    """What people call it."""
    timed: bool = True
    """Whether its header says how long it is, and its packets when they are heard."""
    alone: bool = True
    """Whether libsndfile reads no such file."""


_ASF = b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"
_BEGINNINGS = (
    (b"\x1a\x45\xdf\xa3", Container("matroska", "webm or mkv")),
    (_ASF, Container("asf", "wma or wmv")),
    (b"FLV\1", Container("flv", "flv")),
    (b"\0\0\1\xba", Container("mpeg", "mpeg")),
    (b"#!AMR", Container("amr", "amr", timed=False)),
    (b"\x0b\x77", Container("ac3", "ac3", timed=False)),
    (b"wvpk", Container("wv", "wv")),
    (b"MAC ", Container("ape", "ape")),
    (b"TTA1", Container("tta", "tta")),
    (b"OggS", Container("ogg", "ogg", alone=False)),
    (b"caff", Container("caf", "caf", timed=False, alone=False)),
    (b"FORM", Container("aiff", "aiff", timed=False, alone=False)),
    (b".snd", Container("au", "au", timed=False, alone=False)),
    (b"riff\x2e\x91\xcf\x11", Container("w64", "w64", timed=False, alone=False)),
)
"""The containers that are opened; FFmpeg knows others, some of which name further files."""

_WAV_CODECS = {
    0x0022: "TrueSpeech",
    0x0042: "G.723.1",
    0x0045: "G.726",
    0x0050: "MP2",
    0x0055: "MP3",
    0x0064: "G.726",
    0x0065: "G.722",
    0x00FF: "AAC",
    0x0160: "WMA 1",
    0x0161: "WMA 2",
    0x0162: "WMA Pro",
    0x0163: "WMA Lossless",
    0x028F: "G.722",
    0x1600: "AAC",
    0x1602: "AAC",
    0x1610: "AAC",
    0x2000: "AC-3",
    0x2001: "DTS",
    0xA106: "AAC",
    0xA109: "Speex",
    0xF1AC: "FLAC",
}
_WAV_READ = (1, 2, 3, 6, 7, 0x11, 0x31, 0x38, 0x40, 0xFFFE)  # by libsndfile
_OGG_CODECS = ((b"Speex   ", "Speex"), (b"\x7fFLAC", "FLAC"), (b"\x80theora", "Theora"))


def container_of(head: bytes) -> Container | None:
    """The container that a file begins with; None: none of those that FFmpeg is asked to open."""
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return Container("mp4", "mp4 or m4a")
    if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
        return Container("wav", "wav", timed=False, alone=False)
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return Container("avi", "avi")
    if head.startswith(b"ID3") or (head[:1] == b"\xff" and head[1:2] and head[1] & 0xF6 == 0xF0):
        return Container("aac", "aac", timed=False, alone=not head.startswith(b"ID3"))
    return next((found for magic, found in _BEGINNINGS if head.startswith(magic)), None)


def codec_of(head: bytes) -> str:
    """The codec of a wav, ogg, caf or aiff file that libsndfile cannot read; empty: not known."""
    if head[:4] in (b"RIFF", b"RF64") and (place := head.find(b"fmt ")) > 0:
        tag = int.from_bytes(head[place + 8 : place + 10], "little")
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
    """Whether PyAV is installed."""
    try:
        import av  # noqa: F401
    except ImportError:
        return False
    return True


class MediaFile:
    """The first sound track of a file, with the methods of :class:`asr.audio.decode.Decoded`.

    Its first sample is heard when the file begins: silence stands where the sound begins later,
    or is interrupted. Containers do not say to the sample how long a track is: it is decoded
    once to count.

    Args:
        opened: opens the file.
        container: from :func:`container_of`.
        key: under which the number of samples is remembered.

    Raises:
        MediaError: the file is damaged, cut short, or has no sound.
    """

    def __init__(
        self, opened: Callable[[], Any], container: Container, key: Hashable = None
    ) -> None:
        self._opened, self._container, self.reason = opened, container, ""
        self.samplerate, self.channels, self._origin_s = self._header()
        self.frames = remembered(key, self._count)
        self.seek(0)

    def close(self) -> None:
        """Close the file."""
        self._blocks.close()  # type: ignore[attr-defined]

    def seek(self, frame: int) -> None:
        """Go to a sample, counted from 0, by decoding up to it."""
        if hasattr(self, "_blocks"):
            self.close()
        self._blocks = self._decode()
        self._rest = np.zeros((0, self.channels), np.float32)
        while frame > 0 and (skipped := len(self.read(min(frame, self.samplerate)))):
            frame -= skipped

    def read(self, frames: int) -> np.ndarray:
        """The next samples, (frames, channels) float32; fewer at the end."""
        parts, found = [self._rest], len(self._rest)
        while found < frames and (block := next(self._blocks, None)) is not None:
            parts.append(block)
            found += len(block)
        # Blocks of one array share its memory; a copy for each would keep the whole array alive.
        samples = np.concatenate(parts) if len(parts) > 1 else self._rest
        self._rest = samples[frames:]
        return samples[:frames]

    @contextmanager
    def _open(self) -> Iterator[Any]:
        """The container, with what FFmpeg says about damage as the project's error."""
        import av

        try:
            with (
                self._opened() as file,
                av.open(file, format=self._container.name, metadata_errors="ignore") as container,
            ):
                if not container.streams.audio:
                    raise MediaError("no sound in it")
                yield container
        except (av.FFmpegError, ValueError) as error:
            reason = getattr(error, "strerror", None) or first_line(error)
            raise MediaError(f"damaged ({reason})") from error

    def _header(self) -> tuple[int, int, float]:
        """Rate and channels of the track, and the time at which the file begins."""
        with self._open() as file:
            track, tracks = file.streams.audio[0], len(file.streams.audio)
            self.note = f"it has {tracks} sound tracks; the first is read" if tracks > 1 else ""
            if track.codec_context is None or not (track.rate and track.channels):
                raise MediaError("damaged, or of a codec that is not known here")
            return track.rate, track.channels, (file.start_time or 0) / MICROSECONDS

    def _count(self) -> int:
        """Samples of a channel, silence included."""
        frames = sum(len(block) for block in self._decode())
        missing_s = self._missing_s(frames / self.samplerate) if self._container.timed else 0.0
        if missing_s > ENDS_EARLY_S:
            raise MediaError(f"cut short: the last {missing_s:.1f} s are missing")
        return frames

    def _missing_s(self, found_s: float) -> float:
        """How much earlier the sound ends than the file promises.

        A file whose picture or subtitles go on to its end is whole, though its sound ends before.
        """
        with self._open() as file:
            track = file.streams.audio[0]
            if track.duration and track.time_base:  # what the file says of this track alone
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

    def _decode(self) -> Iterator[np.ndarray]:
        """Samples (n, channels) as they are decoded, with silence where there is no sound."""
        place, silent = 0, 0
        for time_s, block in self._frames():
            late = 0 if time_s is None else round((time_s - self._origin_s) * self.samplerate)
            gap = late - place if late - place > GAP_S * self.samplerate else 0
            silent += gap
            if silent > MOST_SILENCE_S * self.samplerate:
                raise MediaError(f"damaged (no sound for {gap / self.samplerate:.0f} s)")
            for start in range(0, gap, _BLOCK):
                yield np.zeros((min(_BLOCK, gap - start), self.channels), np.float32)
            yield block
            place += gap + len(block)

    def _frames(self) -> Iterator[tuple[float | None, np.ndarray]]:
        """Samples (n, channels), and when the first is heard; None: with those before."""
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
                    # One plane for all channels: PyAV reads beyond the planes of 8 channels.
                    floats = av.AudioResampler("flt", layout, self.samplerate)
                for found in floats.resample(frame):
                    yield time_s, _samples(found)
                    time_s = None
            for rest in floats.resample(None) if floats else ():
                yield None, _samples(rest)


def _samples(frame: Any) -> np.ndarray:
    """Samples (n, channels) of a frame that holds them channel by channel."""
    return frame.to_ndarray().reshape(frame.samples, -1)
