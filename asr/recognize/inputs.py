"""Inputs of a command line: files, folders, lists, standard input, data directories.

A folder is read as a data directory only with ``--data``, because its wav.scp may hold commands,
which a folder from elsewhere must not run.
"""

import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Literal

from asr.audio.clip import Clip, info
from asr.audio.folders import search
from asr.corpus.tables import read_clips
from asr.errors import InputError
from asr.formats import READABLE
from asr.terminal import note, warn
from asr.text.characters import spelled_on_disk

STDIN = "-"
Channels = Literal["mix", "each"]


@dataclass(frozen=True)
class Input:
    """Audio to transcribe, with its names."""

    clip: Clip
    label: str
    """Name in messages."""
    file: Path
    """Its stem is the name of the results."""
    data: Path | None = None
    """Data directory of the audio."""
    utterance: str = ""
    """Id in the data directory."""
    below: Path = Path()
    """Its folder below the folder that was named."""


def collect(
    names: Sequence[str],
    spool: Path,
    *,
    data: Sequence[str] = (),
    lists: Sequence[str] = (),
    recursive: bool = False,
    channels: Channels = "mix",
) -> list[Input]:
    """Return all inputs that a command line names, without decoding them.

    Args:
        names: files, folders, or ``-`` for standard input.
        spool: folder for a copy of standard input, which must exist as long as the inputs.
        data: Kaldi data directories, whose utterances come last; commands in wav.scp will be run.
        lists: text files with such a name in each line.
        recursive: whether to search the folders below a folder, too.
        channels: ``mix``: one input for all channels of a file; ``each``: one for every channel.

    Raises:
        InputError: no input is named, a folder holds no audio, a data directory or a list is
            damaged, or standard input is named twice.
    """
    names = [*names, *(name for path in lists for name in _lines(path))]
    if not (names or data):
        raise InputError("an input is required: audio files, folders, -, --list FILE or --data DIR")
    if "" in (*names, *data):
        raise InputError("an input has an empty name; name a file or a folder (. for this one)")
    if names.count(STDIN) > 1:
        raise InputError("- (standard input) is named twice; it can be read once")
    found = [item for name in names for item in _expand(name, spool, recursive)]
    found += [item for name in data for item in _data_directory(Path(name))]
    return found if channels == "mix" else [one for item in found for one in _each_channel(item)]


def _lines(path: str) -> list[str]:
    from asr.text.transcripts import read_lines

    names = [line.strip() for line in read_lines(path) if line.strip()]
    if not names:
        raise InputError(f"{path}: names no file, expected a path in each line")
    if STDIN in names:
        raise InputError(f"{path}: names - (standard input), which only the command line may name")
    return names


def _expand(name: str, spool: Path, recursive: bool) -> Iterable[Input]:
    path = Path(spelled_on_disk(name))
    if re.match(r"\w+://", name) and not probe(path.exists):
        raise InputError(f"{name}: an address, expected a file; download it first")
    if name == STDIN:
        return [_standard_input(spool)]
    if probe(path.is_fifo):  # such as <(command) of bash
        with open(path, "rb") as pipe:
            return [_spooled(pipe, spool, printable(name))]
    if probe(path.is_dir):
        files = _folder(path, recursive)
        return [replace(_file(file), below=file.parent.relative_to(path)) for file in files]
    return [_file(path)]


def probe(test: Callable[[], bool]) -> bool:
    """Return the result of a test of a path; False on an error, which reading will report."""
    try:
        return test()
    except (OSError, ValueError):
        return False


def printable(name: str) -> str:
    r"""Return a printable file name: ``\udcXX`` for bytes that are not UTF-8, ``\n`` and ``\t``."""
    text = name.encode("utf-8", "backslashreplace").decode()
    return text.replace("\n", "\\n").replace("\t", "\\t")


def _file(path: Path) -> Input:
    label = printable(str(path))
    return Input(Clip(path, name=label), label, path)


def _folder(path: Path, recursive: bool) -> list[Path]:
    folder = search(path, recursive=recursive)
    found, left_out = folder.audio, folder.left_out(len(folder.files) - len(folder.audio))
    if left_out:
        text = printable(f"{path}: left out: {left_out}")
        warn(text) if folder.broken else note(f"note: {text}")
    has_table = probe((path / "wav.scp").is_file)
    if not found:
        hint = "" if recursive else "; --recursive searches the folders below it"
        if has_table:
            hint += f"; --data {path} reads its wav.scp, and runs the commands in it"
        raise InputError(f"{path}: no audio file in it, {READABLE}{hint}")
    if has_table:
        note(
            f"note: {path}: its audio files are transcribed and its wav.scp is not read; --data "
            f"{path} reads it, and runs the commands in it"
        )
    return found


def _standard_input(spool: Path) -> Input:
    if sys.stdin is None or sys.stdin.isatty():
        raise InputError("- (standard input): nothing is piped in; name a file")
    return _spooled(sys.stdin.buffer, spool, "standard input", "stdin")


def _spooled(pipe: BinaryIO, spool: Path, label: str, stem: str = "") -> Input:
    """Copy a pipe into a file, because it may be long and is read twice.

    The results are named after ``stem``, or else after the pipe.
    """
    path = spool / (stem or f"pipe{len(list(spool.iterdir()))}")
    try:
        with open(path, "wb") as file:
            shutil.copyfileobj(pipe, file)
    except OSError as error:
        raise InputError(
            f"{label}: cannot be kept in {spool} ({error.strerror}); free some space there, or "
            "set TMPDIR to another folder"
        ) from error
    return Input(Clip(path, name=label), label, Path(stem or f"pipe{label.replace('/', '-')}"))


def _data_directory(path: Path) -> Iterator[Input]:
    """Yield the utterances of a Kaldi data directory: its segments, or else its recordings."""
    clips = read_clips(path)
    if not clips:
        raise InputError(f"{path / 'wav.scp'}: empty, expected lines <id> <path>")
    for name, clip in clips.items():
        file = Path(name.replace("/", "_") + ".wav")  # its stem is the id, which may hold dots
        yield Input(replace(clip, name=name), name, file, path, name)


def _each_channel(item: Input) -> Iterator[Input]:
    if item.clip.command:
        raise InputError(
            f"{item.label}: a command in wav.scp, whose channels are not known before it runs; "
            "omit --channels each, or write its output into a file"
        )
    try:
        count = info(item.clip.source).channels
    except InputError:  # reported when it is read
        yield item
        return
    for channel in range(1, count + 1):
        label = f"{item.label} channel {channel}"
        yield replace(
            item,
            clip=replace(item.clip, channel=channel, name=label),
            label=label,
            file=item.file.with_name(f"{item.file.stem}.ch{channel}{item.file.suffix or '.wav'}"),
        )
