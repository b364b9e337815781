"""Write files atomically, and check outputs before the work begins."""

import errno
import fcntl
import hashlib
import io
import json
import math
import os
import re
import secrets
import stat
import sys
import tarfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from asr.errors import InputError
from asr.formats import AUDIO_SUFFIXES
from asr.terminal import warn

_TABLE = re.compile(
    r"text|segments|(wav|feats|vad|cmvn)\.scp|(utt|reco|spk)2\w+|cmvn\.ark|features\.json"
)
_OF_TRAINING = {"final.safetensors", "config.yaml", "train.jsonl", "tokens.txt"}
_MARKS = ("wav.scp", "utt2spk", "segments")  # a folder with one of them is a data directory
RESULTS = "results.jsonl"  # of ``asr decode``
SUMMARY = "decode.json"  # of its results
PARTIAL = "partial.jsonl"  # the same while it decodes, or after an interruption
_READ_IN_FOLDERS = (*_MARKS, "text", RESULTS, SUMMARY, "final.safetensors")
_REMEDIES = {
    errno.ENOSPC: "free some space or choose another folder",
    errno.EDQUOT: "free some space or choose another folder",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EISDIR: "name a file",
    errno.EPIPE: "its reader has gone away",
}
_DESCRIPTORS = ("/dev/fd", "/proc/self/fd", f"/proc/{os.getpid()}/fd")
_TOKEN = 8  # bytes of the random name of a temporary file
_LONGEST = 255  # bytes of a file name, if the file system does not report its limit


def write_atomically(
    path: str | Path,
    write: Callable[[BinaryIO], object],
    before_rename: Callable[[], None] = lambda: None,
) -> Path:
    """Let ``write`` fill a temporary file in the folder of ``path``, then rename it.

    Symbolic links are followed. Devices, named pipes and open descriptors (``/dev/stdout``) are
    written to directly.

    Args:
        path: the file to create or replace; its folder is created if it does not exist.
        write: receives a file that is open for binary writing.
        before_rename: called when the new file is complete on disk, before it replaces the old one.

    Returns:
        ``path``.

    Raises:
        InputError: the file cannot be written; a previous file is unchanged, and the temporary
            file is removed.
    """
    path = Path(path)
    if "\0" in str(path):
        raise InputError(f"{path}: a zero byte in the name, which no file has; choose another name")
    try:
        if _is_stream(path):
            _write_stream(path, write)
        else:
            _replace(_real(path), write, before_rename)
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


def _replace(
    path: Path,
    write: Callable[[BinaryIO], object],
    before_rename: Callable[[], None] = lambda: None,
) -> None:
    """Write a new file under a random name, then rename it to ``path``."""
    before = None
    with suppress(FileNotFoundError):  # also of a link to nothing
        before = path.stat()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{secrets.token_hex(_TOKEN)}.tmp")
    try:  # an interruption at any time leaves no temporary file behind
        number = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        with open(number, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if before is not None:
            _keep_owner_and_mode(temporary, before)
        before_rename()
        temporary.replace(path)
    finally:
        with suppress(OSError):  # it has its final name already
            temporary.unlink()


def detach(path: Path) -> None:
    """Replace a symbolic link by a copy of its file, so that the file can be written anew alone.

    Raises:
        InputError: the copy cannot be made.
    """
    if path.is_symlink():
        try:
            content = path.read_bytes() if path.is_file() else b""
            _replace(path, lambda file: file.write(content))
        except OSError as error:
            raise InputError(_refusal(path, error)) from error


def remove_temporaries(folder: Path) -> None:
    """Remove the temporary files that killed processes have left; nobody else may write there."""
    for path in folder.glob(f".{'[0-9a-f]' * 2 * _TOKEN}.tmp"):
        with suppress(OSError):
            path.unlink()


def _keep_owner_and_mode(temporary: Path, before: os.stat_result) -> None:
    with suppress(OSError):  # the file of another user, in a folder that both may write
        os.chown(temporary, before.st_uid, before.st_gid)
    with suppress(OSError):
        temporary.chmod(stat.S_IMODE(before.st_mode) & 0o777)


def _is_stream(path: Path) -> bool:
    """Whether a path is a device, a pipe or an open descriptor."""
    real = _real(path)
    return _descriptor(path) is not None or (
        real.exists() and not (real.is_file() or real.is_dir())
    )


def _descriptor(path: Path) -> int | None:
    """Return the descriptor that a path such as /dev/stdout or /dev/fd/3 names, or None."""
    for _ in range(40):  # the system follows as many links
        if str(path.parent) in _DESCRIPTORS and path.name.isdigit():
            return int(path.name)
        if not path.is_symlink():
            return None
        path = Path(os.path.normpath(path.parent / path.readlink()))
    return None


def _write_stream(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write to a stream when all content is there, so that an error leaves it untouched."""
    buffer = io.BytesIO()
    write(buffer)
    number = _descriptor(path)
    for stream in (sys.stdout, sys.stderr):
        if number is not None and stream is not None:
            stream.flush()  # printed text comes first
    with open(path if number is None else os.dup(number), "wb") as file:
        file.write(buffer.getbuffer())


def beside(path: Path, end: str) -> Path:
    """Return a path in the same folder with another suffix, such as ``.json``.

    Raises:
        InputError: the path is a device or an open descriptor, beside which nothing may be written.
    """
    if _is_stream(path):
        raise InputError(f"{path}: not a file, beside which {end} could be written; name a file")
    return path.parent / f"{path.stem}{end}"


def check_outputs(targets: Iterable[str | Path], inputs: Iterable[str | Path | None] = ()) -> None:
    """Check, before the work, that files can be written and may be replaced.

    Args:
        targets: the files to write.
        inputs: files that are read, and folders of such files; empty names and None are skipped.

    Raises:
        InputError: a target cannot be written, is also read, or is a recording, a table of a data
            directory or a file of a training.
    """
    paths = [Path(target) for target in targets]
    if len(set(paths)) < len(paths):
        twice = max(paths, key=paths.count)
        raise InputError(f"{twice}: two results would have this name; choose another ending")
    check_not_read(paths, inputs)
    for target in paths:
        try:
            _check_output(target)
        except (OSError, ValueError) as error:
            raise InputError(_refusal(target, error)) from error


def check_not_read(targets: Iterable[str | Path], inputs: Iterable[str | Path | None] = ()) -> None:
    """Check, before the work, that no file to write is also read, under any name.

    Raises:
        InputError: a target is one of the inputs.
    """
    read = {key for name in inputs if name for key in _identities(Path(name))}
    for target in targets:
        if read.intersection(_identity(Path(target))):
            raise InputError(f"{target}: is also read; write somewhere else")


def _check_output(path: Path) -> None:
    if str(path) == "-":
        raise InputError("-: expected the name of a file; /dev/stdout is standard output")
    real = _real(path)
    if not path.name or real.is_dir():
        raise InputError(f"{path}: a folder, expected the name of a file to write")
    if _TABLE.fullmatch(real.name) and real.exists() and is_data_directory(real.parent):
        raise InputError(
            f"{path}: a table of a data directory, which is not replaced; name another file"
        )
    if _is_of_training(real):
        raise InputError(f"{path}: a file of a training, which is not replaced; name another")
    if real.suffix.lower() in AUDIO_SUFFIXES and real.is_file():
        raise InputError(f"{path}: a recording, which is not replaced; name another file")
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


def _is_of_training(real: Path) -> bool:
    inside = real.parent.name == "checkpoints"
    folder = real.parent.parent if inside else real.parent
    known = inside or real.name in _OF_TRAINING
    return known and real.exists() and (folder / "train.jsonl").exists()


def check_folder(path: str | Path) -> None:
    """Check, before the work, that files can be created in a folder, which need not exist yet.

    Raises:
        InputError: the name is empty or "-", or the folder cannot be created or written.
    """
    if str(path) == "-":
        raise InputError("-: expected the name of a folder, not standard output")
    if not str(path):
        raise InputError("the folder for the results has an empty name; name one, or . for this")
    try:
        if Path(path).is_symlink() and not Path(path).exists():
            raise OSError(errno.ENOENT, "a link to a folder that does not exist")
        _check_folder(_existing(_real(path)))
    except (OSError, ValueError) as error:
        raise InputError(_refusal(Path(path), error)) from error


def _check_folder(folder: Path) -> None:
    code = 0 if os.access(folder, os.W_OK | os.X_OK) else errno.EACCES
    code = code if folder.is_dir() else errno.ENOTDIR
    if code:
        raise OSError(code, f"{folder}: {os.strerror(code)}")


def _identity(path: Path) -> list[tuple[int, int]]:
    """Return device and inode of a file; an empty list if it does not exist."""
    with suppress(OSError, ValueError):
        found = _real(path).stat()
        return [(found.st_dev, found.st_ino)] if stat.S_ISREG(found.st_mode) else []
    return []


def _identities(path: Path) -> list[tuple[int, int]]:
    """Return the identities of an input and, for a folder, of the files that are read in it."""
    inside = [path / name for name in _READ_IN_FOLDERS]
    return [key for each in (path, *inside) for key in _identity(each)]


def is_data_directory(folder: Path) -> bool:
    """Whether a folder is a Kaldi data directory."""
    return any((folder / name).is_file() for name in _MARKS)


def _existing(folder: Path) -> Path:
    """Return the folder or its nearest parent that exists."""
    return next((each for each in (folder, *folder.parents) if each.exists()), folder)


def longest_name(folder: Path) -> int:
    """Return the most bytes of a file name in a folder, which need not exist yet."""
    try:
        return os.pathconf(_existing(_real(folder)), "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):  # the system does not report it
        return _LONGEST


def fitting_name(stem: str, end: str, longest: int) -> str:
    """Return ``stem + end``; a stem that is too long is cut, and its hash is appended.

    Args:
        stem: a name of any length.
        end: the end of the name, such as ``.txt``.
        longest: most bytes of the name, see :func:`longest_name`.
    """
    raw = os.fsencode(stem)
    if len(raw) + len(os.fsencode(end)) <= longest:
        return stem + end
    tail = f"-{hashlib.sha256(raw).hexdigest()[:12]}{end}"
    return raw[: longest - len(os.fsencode(tail))].decode("utf-8", "ignore") + tail


def write_text(path: str | Path, text: str) -> Path:
    """Write UTF-8 text atomically; lines end in ``\\n`` on every system."""
    return write_atomically(path, lambda file: file.write(text.encode("utf-8")))


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a folder against a second process that would write the same files.

    Raises:
        InputError: such a process is at work.
    """
    try:
        number = os.open(folder, os.O_RDONLY)
    except OSError:  # it may be written, but not read
        yield
        return
    try:
        lock(number, folder)
        yield
    finally:
        os.close(number)


def lock(number: int, folder: Path) -> None:
    """Lock a folder by a descriptor of itself or of a file in it, until that is closed.

    Raises:
        InputError: another process has locked it.
    """
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InputError(
            f"{folder}: another process is writing into this folder; wait for it, stop it, or name "
            "another folder"
        ) from error
    except OSError as error:  # some network file systems
        warn(f"{folder} cannot be locked ({error.strerror})")


def plain(value: Any) -> Any:
    """Return a value for JSON: None in place of numbers that are not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def write_json(path: str | Path, value: Any) -> Path:
    """Write a value as indented JSON, atomically."""
    return write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def tar_members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the members of a tar archive; tarfile itself ends silently at a damaged header.

    Raises:
        tarfile.ReadError: the archive is cut short or damaged.
    """
    yield from tar
    assert tar.fileobj is not None  # it is open
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError(f"cut short or damaged at byte {tar.offset}")
    while tar.fileobj.read(1 << 20):  # a compressed file has its checksum at its end
        pass
