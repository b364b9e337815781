"""Sound of m4a, mp4, webm and mkv files, through the optional package PyAV.

PyAV's wheel carries FFmpeg's libraries, so that no program has to be installed. A file is handed
over as bytes with its container named: nothing in it can make FFmpeg open other files.
"""

import io
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from asr.errors import InputError, first_line

INSTALL = "pip install 'asr-las[media]' (or PyAV alone: pip install av)"
ENDS_EARLY_S = 0.5  # a track may be so much shorter than its file says: encoders pad
MICROSECONDS = 1_000_000  # FFmpeg counts the length of a file in them


def container_of(head: bytes) -> str:
    """FFmpeg's name of the container that a file begins with; empty: none of these."""
    if head[4:8] == b"ftyp":
        return "mp4"
    return "matroska" if head[:4] == b"\x1a\x45\xdf\xa3" else ""


def installed() -> bool:
    """Whether such files can be read here."""
    try:
        import av  # noqa: F401
    except ImportError:
        return False
    return True


_counted: dict[Hashable, int] = {}  # samples of the files that were opened before


class MediaError(InputError):
    """A file that FFmpeg cannot decode, or without sound."""


class MediaFile:
    """The first sound track of a file, with the methods of ``soundfile.SoundFile``.

    Containers do not say to the sample how long a track is: it is decoded once to count.

    Args:
        source: the file or its bytes.
        container: from :func:`container_of`.

    Raises:
        MediaError: the file is damaged, cut short, or has no sound.
    """

    def __init__(self, source: str | Path | bytes, container: str) -> None:
        self.source, self.container = source, container
        self.samplerate, self.channels, promised = self._header()
        self.frames = self._count()
        missing_s = promised - self.frames / self.samplerate
        if missing_s > ENDS_EARLY_S:
            raise MediaError(f"cut short: the last {missing_s:.1f} s are missing")
        self.seek(0)

    def __enter__(self) -> "MediaFile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._blocks.close()  # type: ignore[attr-defined]

    def seek(self, frame: int) -> None:
        """Go to a sample, counted from 0, by decoding up to it."""
        self._blocks = self._decode()
        self._rest = np.zeros((0, self.channels), np.float32)
        while frame > 0 and (skipped := len(self.read(min(frame, self.samplerate)))):
            frame -= skipped

    def read(self, frames: int, **_: Any) -> np.ndarray:
        """The next samples, (frames, channels) float32; fewer at the end."""
        parts, found = [self._rest], len(self._rest)
        while found < frames and (block := next(self._blocks, None)) is not None:
            parts.append(block)
            found += len(block)
        samples = np.concatenate(parts)
        self._rest = samples[frames:]
        return samples[:frames]

    @contextmanager
    def _open(self) -> Iterator[Any]:
        """The container, with what FFmpeg says about damage as the project's error."""
        import av

        source = self.source
        try:
            with (
                io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as file,
                av.open(file, format=self.container, metadata_errors="ignore") as container,
            ):
                if not container.streams.audio:
                    raise MediaError("no sound in it")
                yield container
        except (av.FFmpegError, ValueError) as error:
            reason = getattr(error, "strerror", None) or first_line(error)
            raise MediaError(f"damaged ({reason})") from error

    def _header(self) -> tuple[int, int, float]:
        """Rate, channels and the seconds that the file promises; 0: it does not say."""
        with self._open() as file:
            track = file.streams.audio[0]
            return track.rate, track.channels, (file.duration or 0) / MICROSECONDS

    def _count(self) -> int:
        """Samples of a channel; files that did not change since are not counted again."""
        key: Hashable = None
        if not isinstance(self.source, bytes):
            state = Path(self.source).stat()
            key = (str(Path(self.source).resolve()), state.st_size, state.st_mtime_ns)
        if key not in _counted:
            frames = sum(len(block) for block in self._decode())
            if key is None:
                return frames
            _counted[key] = frames
        return _counted[key]

    def _decode(self) -> Iterator[np.ndarray]:
        """Samples (n, channels) as they are decoded."""
        import av

        with self._open() as file:
            track = file.streams.audio[0]
            floats = av.AudioResampler("fltp", track.layout, track.rate)
            for frame in file.decode(track):
                yield from (f.to_ndarray().T for f in floats.resample(frame))
            yield from (f.to_ndarray().T for f in floats.resample(None))
