"""Parts of files over http and https: range requests with time-outs and repeated tries."""

import functools
import random
import re
import ssl
import time
from http.client import HTTPException, HTTPResponse
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, OpenerDirector, Request, build_opener

from asr.config import ShardConfig
from asr.errors import InputError, first_line

TRIED_AGAIN = (408, 425, 429, 500, 502, 503, 504)
GONE = (404, 410)
FIRST_WAIT_S, LONGEST_WAIT_S = 0.25, 30.0
BLOCK = 1 << 16  # bytes that are read between two looks at the clock


class MissingFileError(InputError):
    """A file does not exist."""


class _FailedError(Exception):
    """A request failed in a way that may pass."""

    def __init__(self, reason: str, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


def is_remote(path: str) -> bool:
    """Whether a path is an http or https address."""
    return path.startswith(("http://", "https://"))


def fetch(url: str, start: int, size: int, config: ShardConfig) -> tuple[bytes, int]:
    """Read a part of a file; requests that fail are repeated, up to ``config.tries`` times.

    Args:
        url: address of the file, see :func:`is_remote`.
        start: first byte.
        size: number of bytes; fewer are returned only at the end of the file.
        config: time-out and number of tries.

    Returns:
        the bytes, and the size of the file.

    Raises:
        MissingFileError: the server does not have the file.
        InputError: the server refuses, does not know range requests, or every try failed.
    """
    reason = ""
    for number in range(config.tries):
        try:
            return _request(url, start, size, config.timeout_s)
        except _FailedError as error:
            reason = str(error)
            if number + 1 < config.tries:
                time.sleep(_wait_s(number, error.wait_s))
    raise InputError(
        f"{url}: failed {config.tries} times, the last time with: {reason}; check the server and "
        "the network, or raise shards.tries or shards.timeout_s"
    )


def _wait_s(number: int, asked_s: float) -> float:
    """Return the pause after a failure: twice as long each time, at random to spread processes."""
    wait_s = FIRST_WAIT_S * 2**number * random.uniform(1.0, 1.5)
    return min(LONGEST_WAIT_S, max(wait_s, asked_s))


def _request(url: str, start: int, size: int, timeout_s: float) -> tuple[bytes, int]:
    """Send one request; raise _FailedError if another one may succeed."""
    deadline = time.monotonic() + timeout_s
    asked = Request(url, headers={"Range": f"bytes={start}-{start + size - 1}"})
    try:
        with _opener().open(asked, timeout=timeout_s) as response:
            total = _total(url, response, start)
            size = min(size, total - start)
            return _body(response, size, deadline, timeout_s), total
    except HTTPError as error:
        error.close()
        raise _refusal(url, error) from error
    except URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise InputError(
                f"{url}: the certificate of the server is not trusted "
                f"({error.reason.verify_message}); if its CA is your own, set SSL_CERT_FILE to the "
                "file of the CA's certificate, and use the name that the certificate has"
            ) from error
        raise _FailedError(str(error.reason)) from error
    except (OSError, HTTPException) as error:
        raise _FailedError(first_line(error)) from error
    except ValueError as error:  # not a valid address
        raise InputError(f"{url}: {first_line(error)}; check the address") from error


def _refusal(url: str, error: HTTPError) -> Exception:
    """Return the exception for a status that is not a success."""
    if error.code in GONE:
        return MissingFileError(f"{url}: no such file on the server (status {error.code})")
    if error.code in TRIED_AGAIN:
        asked = error.headers.get("Retry-After", "")
        return _FailedError(f"status {error.code}", float(asked) if asked.isdigit() else 0.0)
    return InputError(
        f"{url}: refused (status {error.code}, {error.reason}); check the address and your rights"
    )


def _total(url: str, response: HTTPResponse, start: int) -> int:
    """Return the size of the file, which the answer to a range request states."""
    if response.status != 206:
        raise InputError(
            f"{url}: the server sent the whole file (status {response.status}) where a part was "
            "asked for; use a server that supports range requests, as nginx, Apache and object "
            "stores do (`python -m http.server` does not), or copy the files"
        )
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
    if found is None or int(found[1]) != start:
        raise _FailedError(f"Content-Range {response.headers.get('Content-Range')}, not {start}")
    return int(found[2])


def _body(response: HTTPResponse, size: int, deadline: float, timeout_s: float) -> bytes:
    """Read ``size`` bytes before the deadline."""
    parts, left = [], size
    while left > 0 and (part := response.read1(min(left, BLOCK))):
        parts.append(part)
        left -= len(part)
        if left and time.monotonic() > deadline:
            raise _FailedError(f"{size - left} of {size} bytes after {timeout_s:g} s")
    if left:
        raise _FailedError(f"broken off after {size - left} of {size} bytes")
    return b"".join(parts)


class _Redirects(HTTPRedirectHandler):
    """Follows redirects to https, and from http to http."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        """See urllib; raise InputError for another scheme."""
        allowed = ("https",) if req.type == "https" else ("http", "https")
        if newurl.partition(":")[0].lower() not in allowed:
            raise InputError(
                f"{req.full_url}: redirected to {newurl}; only {' and '.join(allowed)} are followed"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@functools.cache
def _opener() -> OpenerDirector:
    """Return urllib's opener, which a server cannot send to a local file or to another scheme."""
    return build_opener(_Redirects)
