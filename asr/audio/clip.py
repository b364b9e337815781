"""What can be read as audio: a file, bytes or a command, and a stretch or a channel of it."""

from dataclasses import dataclass
from pathlib import Path

from asr.audio.entry import command_of, path_of
from asr.errors import InputError


class AudioError(InputError):
    """Audio that cannot be read, or is not what its header promises."""


class MediaError(InputError):
    """A file that FFmpeg cannot decode, or without sound."""


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
