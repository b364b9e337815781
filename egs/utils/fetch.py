"""Download archives and unpack them; bad networks and bad archives are handled.

usage: fetch.py URL FOLDER [--sha256 SUM | --md5 SUM]

A download is written to ``NAME.part`` and resumes where it broke off, in this run or a later one;
``NAME.part.json`` holds the version of the file. It is renamed to ``NAME`` when its size and
checksum are right. An archive is unpacked beside its destination and renamed, so that a folder
exists completely or not at all.
"""

import argparse
import errno
import filecmp
import hashlib
import http.client
import json
import lzma
import shutil
import sys
import tarfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from recipe import run

from asr.errors import InputError
from asr.files import check_folder, tar_members, write_json

CHUNK = 1 << 18
PATIENCE_S = 60.0
ATTEMPTS = 8  # in a row without a single new byte
BROKEN = (OSError, http.client.HTTPException)  # urllib's errors are OSErrors


@dataclass(frozen=True)
class Checksum:
    """The name of a hash function and the expected hexadecimal value."""

    kind: str
    value: str


class Progress:
    """A line with the progress and the remaining time of a download, every few seconds."""

    def __init__(self, name: str, begin: int, total: int | None) -> None:
        self.name, self.begin, self.total = name, begin, total
        self.start = self.shown = time.monotonic()
        self.terminal = sys.stderr.isatty()

    def show(self, done: int) -> None:
        """Print the line, unless the last one is too recent."""
        now = time.monotonic()
        if now - self.shown < (0.5 if self.terminal else 30.0):
            return
        self.shown = now
        rate = (done - self.begin) / (now - self.start)
        text = f"{self.name}: {done / 1e6:.0f} MB at {rate / 1e6:.1f} MB/s"
        if self.total and rate > 0:
            left = time.strftime("%H:%M:%S", time.gmtime((self.total - done) / rate))
            share, size = 100 * done / self.total, self.total / 1e6
            text = f"{self.name}: {share:.1f} % of {size:.0f} MB, {left} left"
        end = "\r" if self.terminal else "\n"
        print(f"{text:70}", end=end, file=sys.stderr, flush=True)


def fetch(
    url: str,
    path: Path,
    checksum: Checksum | None = None,
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> Path:
    """Download ``url`` to ``path``, unless the file exists already.

    Args:
        url: http, https or file.
        path: of the result; the unfinished download lies beside it.
        checksum: of the whole file; without one only the length is checked.
        sleep: waits between two attempts: 1, 2, 4, ..., at most 60 seconds.

    Raises:
        InputError: the file does not exist, the server cannot be reached after several
            attempts, the disk is full, or the checksum differs.
    """
    if path.exists():
        return path
    if not url.lower().startswith(("http://", "https://", "file://")):
        raise InputError(
            f"{url}: expected an address that begins with http://, https:// or file://"
        )
    check_folder(path.parent)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    failures = 0
    while True:
        size = _size(part)
        try:
            _continue(url, part)
            break
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code not in (408, 429):
                raise InputError(
                    f"{url}: {error.code} {error.reason}; check the address, "
                    "or choose another address"
                ) from error
            reason = f"{error.code} {error.reason}"
        except ValueError as error:
            raise InputError(f"{url}: {error}; check the address") from error
        except BROKEN as error:
            _refuse_full_disk(error, part)
            reason = str(error) or type(error).__name__
            if isinstance(error, http.client.InvalidURL) or url.startswith("file:"):
                raise InputError(f"{url}: {reason}; check the address") from error
        failures = 0 if _size(part) > size else failures + 1
        if failures >= ATTEMPTS:
            raise InputError(
                f"{url}: {reason}; gave up after {ATTEMPTS} attempts. The downloaded part is "
                "kept: run this again later, or choose another address"
            )
        wait_s = min(PATIENCE_S, 2.0**failures)
        print(f"{url}: {reason}; again in {wait_s:.0f} s", file=sys.stderr)
        sleep(wait_s)
    _check(part, checksum, url)
    _memory(part).unlink(missing_ok=True)
    return part.replace(path)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _memory(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _version(part: Path) -> str:
    """Return the server's name for the version of the part; empty if unknown."""
    try:
        return str(json.loads(_memory(part).read_text())["version"])
    except (OSError, ValueError, KeyError):
        return ""


def _continue(url: str, part: Path) -> None:
    """Fetch the missing rest of a file.

    The server is asked for the rest only if the file has not changed since (If-Range). It may
    send the whole file instead; then the download starts again.
    """
    begin, version = _size(part), _version(part)
    request = urllib.request.Request(url)
    if begin and version:
        request.add_header("Range", f"bytes={begin}-")
        request.add_header("If-Range", version)
    try:
        response = urllib.request.urlopen(request, timeout=PATIENCE_S)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # nothing follows our last byte: the part is complete or useless
            raise
        if error.headers.get("Content-Range", "") == f"bytes */{begin}":
            return
        part.unlink()
        raise OSError("the downloaded part does not fit the file; starting again") from error
    with response:
        if getattr(response, "status", None) != 206:
            begin = 0
            _note_version(response, part)
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {begin}-"):
            raise OSError("the server sent a range that was not asked for")
        _receive(response, part, begin)


def _note_version(response: http.client.HTTPResponse, part: Path) -> None:
    """Store the version of the file that is about to arrive; weak tags do not identify bytes."""
    tag = response.headers.get("ETag", "")
    if not tag or tag.startswith("W/"):
        tag = response.headers.get("Last-Modified", "")
    part.unlink(missing_ok=True)  # a part must never carry the name of another version
    write_json(_memory(part), {"version": tag})


def _receive(response: http.client.HTTPResponse, part: Path, begin: int) -> None:
    length = response.headers.get("Content-Length")
    total = begin + int(length) if length else None
    if total and total - begin > shutil.disk_usage(part.parent).free:
        raise InputError(
            f"{part.parent}: {(total - begin) / 1e9:.1f} GB are needed for {part.stem}, "
            "but less is free; free some space"
        )
    progress = Progress(part.stem, begin, total)
    with open(part, "ab" if begin else "wb") as file:
        while chunk := response.read(CHUNK):
            file.write(chunk)
            progress.show(file.tell())
    if total is not None and _size(part) != total:
        raise OSError(f"broke off after {_size(part) / 1e6:.1f} of {total / 1e6:.1f} MB")


def _refuse_full_disk(error: Exception, part: Path) -> None:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise InputError(f"{part}: the disk is full; free some space and run this again") from error


def _check(part: Path, checksum: Checksum | None, url: str) -> None:
    if checksum is None:
        print(
            f"{url}: no published checksum is known, only the length was checked", file=sys.stderr
        )
        return
    with open(part, "rb") as file:
        found = hashlib.file_digest(file, checksum.kind).hexdigest()
    if found != checksum.value:
        part.unlink()
        _memory(part).unlink(missing_ok=True)
        raise InputError(
            f"{url}: {checksum.kind} is {found}, expected {checksum.value}; the download was "
            "deleted: run this again, or choose another address"
        )


def unpack(archive: Path, folder: Path) -> list[Path]:
    """Unpack a tar archive into ``folder``, and return the files and folders at its top.

    Only files and folders that stay inside ``folder`` are accepted: an archive with links,
    devices, absolute paths or ``..`` is refused, and nothing from it is kept.

    Raises:
        InputError: the archive is damaged, or contains something that is refused.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tarfile.open(archive) as tar:
            for member in tar_members(tar):
                _extract(tar, member, folder, archive)
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        if isinstance(error, OSError):
            _refuse_full_disk(error, folder)
        raise InputError(
            f"{archive}: damaged ({error}); delete it and run this again to download it anew"
        ) from error
    return sorted(folder.iterdir())


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, archive: Path) -> None:
    parts = PurePosixPath(member.name).parts
    if member.name.startswith("/") or ".." in parts or "\\" in member.name:
        raise InputError(f"{archive}: {member.name!r} lies outside; this is not a corpus to trust")
    target = folder.joinpath(*parts)
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
    elif member.isfile():
        source = tar.extractfile(member)
        assert source is not None  # it is a regular file
        target.parent.mkdir(parents=True, exist_ok=True)
        with source, open(target, "wb") as file:
            shutil.copyfileobj(source, file, CHUNK)
    else:
        raise InputError(
            f"{archive}: {member.name!r} is a link or a device; this is not a corpus to trust"
        )


def install(archive: Path, folder: Path) -> list[Path]:
    """Unpack an archive and move its contents into ``folder``, each part at once.

    A folder that exists on both sides is merged one level down, because the archives of
    LibriSpeech share their top folder. What exists there already is kept, and reported unless it
    is the same file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    print(f"unpacking {archive}", file=sys.stderr)
    moved, temporary = [], folder / f".unpacking-{archive.name}"
    shutil.rmtree(temporary, ignore_errors=True)  # of a killed run
    temporary.mkdir()
    try:
        for top in unpack(archive, temporary):
            for new, old in _parts(top, folder / top.name):
                if not old.exists():
                    moved.append(new.replace(old))
                elif not _same_file(new, old):
                    print(f"{old} exists; remove it to unpack {archive} again", file=sys.stderr)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return moved


def _parts(source: Path, target: Path) -> Iterator[tuple[Path, Path]]:
    """Yield each file or folder that is moved as a whole, with its new place."""
    if source.is_dir() and target.is_dir():
        yield from ((part, target / part.name) for part in sorted(source.iterdir()))
    else:
        yield source, target


def _same_file(new: Path, old: Path) -> bool:
    """Whether two archives brought the same file, such as a README."""
    return new.is_file() and old.is_file() and filecmp.cmp(new, old, shallow=False)


def main(argv: list[str]) -> int:
    """``fetch.py URL FOLDER [--sha256 SUM | --md5 SUM]``."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("url", metavar="URL", help="of a tar archive")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where to unpack it")
    sums = parser.add_mutually_exclusive_group()
    sums.add_argument("--sha256", metavar="SUM")
    sums.add_argument("--md5", metavar="SUM")
    args = parser.parse_args(argv)
    kind = "md5" if args.md5 else "sha256"
    value = args.md5 or args.sha256
    archive = args.folder / args.url.rpartition("/")[2]
    fetch(args.url, archive, Checksum(kind, value.lower()) if value else None)
    for path in install(archive, args.folder):
        print(path)
    archive.unlink()
    return 0


if __name__ == "__main__":
    run(main)
