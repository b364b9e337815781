"""Writing files atomically, and checks of outputs before the work begins."""

import errno
import hashlib
import io
import json
import os
import re
import secrets
import stat
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from asr.errors import InputError

_TABLE = re.compile(r"text|segments|(wav|feats|vad|cmvn)\.scp|(utt|reco|spk)2\w+")
_READ_IN_FOLDERS = (
    *("text", "results.jsonl", "nbest.jsonl", "final.safetensors"),
    *("wav.scp", "segments", "utt2spk"),
)
_MARKS = ("wav.scp", "utt2spk", "segments")  # a folder with one of them is a data directory
_REMEDIES = {
    errno.ENOSPC: "free some space or choose another folder",
    errno.EDQUOT: "free some space or choose another folder",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EISDIR: "name a file",
    errno.EPIPE: "its reader has gone away",
}
_DESCRIPTORS = ("/dev/fd", "/proc/self/fd", f"/proc/{os.getpid()}/fd")
_LONGEST = 255  # bytes of a name, where the file system does not tell


def write_atomically(path: str | Path, write: Callable[[BinaryIO], object]) -> Path:
    """Let ``write`` fill a temporary file in the folder of ``path``, then rename it into place.

    Links are followed, so that they stay links. Devices, named pipes and open descriptors
    (``/dev/stdout``) cannot be replaced and are written to directly.

    Args:
        path: the file to make or to replace; its folder is made if need be.
        write: receives a file, opened for binary writing.

    Returns:
        ``path``.

    Raises:
        InputError: the disk is full or the folder cannot be written; whatever stood
            at ``path`` before is untouched and the temporary file is gone.
    """
    path = Path(path)
    if "\0" in str(path):
        raise InputError(f"{path}: a zero byte in the name, which no file has; choose another name")
    try:
        if _is_stream(path):
            _write_stream(path, write)
        else:
            _replace(_real(path), write)
    except (OSError, UnicodeError) as error:  # UnicodeError: half a surrogate
        raise InputError(_refusal(path, error)) from error
    return path


def _real(path: str | Path) -> Path:
    """Resolve links and ``..`` of a path that may not exist yet."""
    return Path(os.path.realpath(path))


def _refusal(path: Path, error: OSError | ValueError) -> str:
    code = getattr(error, "errno", None) or 0
    reason = getattr(error, "strerror", None) or str(error)
    remedy = _REMEDIES.get(code, "choose another folder")
    return f"{path}: cannot write ({reason}); {remedy}. What was there before is unchanged"


def _replace(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a new file under a random name, then rename it to ``path``."""
    before = _status(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:  # the file is made in here, so that an interruption at any time leaves none behind
        number = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        with open(number, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if before is not None:
            _keep_owner_and_mode(temporary, before)
        temporary.replace(path)
    finally:
        with suppress(OSError):  # it has its final name already
            temporary.unlink()


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _keep_owner_and_mode(temporary: Path, before: os.stat_result) -> None:
    with suppress(OSError):  # of another user's file in a folder that both may write
        os.chown(temporary, before.st_uid, before.st_gid)
    with suppress(OSError):
        temporary.chmod(stat.S_IMODE(before.st_mode) & 0o777)


def _is_stream(path: Path) -> bool:
    """Whether a path is a device, a pipe or an open descriptor."""
    if _descriptor(path) is not None:
        return True
    found = _status(_real(path))
    return found is not None and not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode))


def _descriptor(path: Path) -> int | None:
    """The open descriptor that a path such as /dev/stdout or /dev/fd/3 stands for."""
    for _ in range(40):  # links to links, as many as the system follows
        if str(path.parent) in _DESCRIPTORS and path.name.isdigit():
            return int(path.name)
        if not path.is_symlink():
            return None
        path = Path(os.path.normpath(path.parent / path.readlink()))
    return None


def _write_stream(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write everything at the end, so that an earlier failure leaves the stream untouched."""
    buffer = io.BytesIO()
    write(buffer)
    number = _descriptor(path)
    for stream in (sys.stdout, sys.stderr):
        if number is not None and stream is not None:
            stream.flush()  # what was printed before comes first
    with open(path if number is None else os.dup(number), "wb") as file:
        file.write(buffer.getbuffer())


def beside(path: Path, end: str) -> Path:
    """A file in the same folder with another end of its name, such as ``.json``."""
    return path.parent / f"{path.stem}{end}"


def check_outputs(targets: Iterable[str | Path], inputs: Iterable[str | Path | None] = ()) -> None:
    """Refuse, before the work, files that cannot be written or that must not be replaced.

    Args:
        targets: files that are going to be written.
        inputs: files that are read, and folders in which some are; empty names and None are
            passed over.

    Raises:
        InputError: a target cannot be written, is also read, or is a table of a data directory.
    """
    paths = [Path(target) for target in targets]
    if len(set(paths)) < len(paths):
        named = max(paths, key=paths.count)
        raise InputError(f"{named}: two results would have this name; choose another ending")
    check_not_read(paths, inputs)
    for target in paths:
        try:
            _check_output(target)
        except (OSError, ValueError) as error:
            raise InputError(_refusal(target, error)) from error


def check_not_read(targets: Iterable[str | Path], inputs: Iterable[str | Path | None] = ()) -> None:
    """Refuse, before the work, to write a file that is also read, under whatever name.

    Raises:
        InputError: a target is one of the inputs.
    """
    read = {key for name in inputs if name for key in _read_from(Path(name))}
    for target in targets:
        if read.intersection(_identity(Path(target))):
            raise InputError(f"{target}: is also read; write somewhere else")


def _check_output(path: Path) -> None:
    real = _real(path)
    if not path.name or real.is_dir():
        raise InputError(f"{path}: a folder, expected the name of a file to write")
    if _TABLE.fullmatch(real.name) and real.exists() and is_data_directory(real.parent):
        raise InputError(
            f"{path}: a table of a data directory, which stays as it is; name another file to write"
        )
    if _descriptor(path) is not None:
        return
    if real.exists() and not os.access(real, os.W_OK):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))
    if _is_stream(path):
        return
    folder = _existing(real.parent)
    if len(os.fsencode(path.name)) > longest_name(folder):
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    _check_folder(folder)


def check_folder(path: str | Path) -> None:
    """Refuse, before the work, a folder in which no file can be made.

    Raises:
        InputError: it has no name, or it, or the next one above that exists, is no folder or
            cannot be written.
    """
    if not str(path):
        raise InputError("the folder for the results has an empty name; name one, or . for this")
    try:
        if Path(path).is_symlink() and not Path(path).exists():
            raise OSError(errno.ENOENT, "a link to a folder that is not there")
        _check_folder(_existing(_real(path)))
    except (OSError, ValueError) as error:
        raise InputError(_refusal(Path(path), error)) from error


def _check_folder(folder: Path) -> None:
    code = 0 if os.access(folder, os.W_OK | os.X_OK) else errno.EACCES
    code = code if folder.is_dir() else errno.ENOTDIR
    if code:
        raise OSError(code, f"{folder}: {os.strerror(code)}")


def _identity(path: Path) -> list[tuple[int, int]]:
    """Device and inode of a file; empty if there is none."""
    with suppress(OSError, ValueError):
        found = _real(path).stat()
        return [(found.st_dev, found.st_ino)] if stat.S_ISREG(found.st_mode) else []
    return []


def _read_from(path: Path) -> list[tuple[int, int]]:
    """The identities of an input and, for a folder, of the files that are read in it."""
    inside = [path / name for name in _READ_IN_FOLDERS]
    return [key for each in (path, *inside) for key in _identity(each)]


def is_data_directory(folder: Path) -> bool:
    """Whether a folder holds a table that makes it a Kaldi data directory."""
    return any((folder / name).is_file() for name in _MARKS)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest parent that exists."""
    return next((each for each in (folder, *folder.parents) if each.exists()), folder)


def longest_name(folder: Path) -> int:
    """The most bytes that a name of a file may have in a folder, which may yet be made."""
    try:
        return os.pathconf(_existing(_real(folder)), "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):  # a system that cannot tell
        return _LONGEST


def fitting_name(stem: str, end: str, longest: int) -> str:
    """Return ``stem + end``; a stem that is too long is cut and its hash appended.

    Args:
        stem: of any length.
        end: is kept, such as ``.txt``.
        longest: bytes of the name, see :func:`longest_name`.
    """
    raw = os.fsencode(stem)
    if len(raw) + len(os.fsencode(end)) <= longest:
        return stem + end
    mark = f"-{hashlib.sha256(raw).hexdigest()[:12]}{end}"
    return raw[: longest - len(os.fsencode(mark))].decode("utf-8", "ignore") + mark


def write_text(path: str | Path, text: str) -> Path:
    """Write UTF-8 text atomically; lines end in ``\\n`` on every system."""
    return write_atomically(path, lambda file: file.write(text.encode("utf-8")))


def write_json(path: str | Path, value: Any) -> Path:
    """Write a value as indented JSON, atomically."""
    return write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
