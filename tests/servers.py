"""A server of files that fails on request, for tests of reading from servers."""

import contextlib
import re
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Server(ThreadingHTTPServer):
    """A server of a folder with range requests; ``faults`` lists what goes wrong, in order."""

    scheme = "http"

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.requests, self.faults, self.every = folder, 0, [], 0
        self.dropped = 0  # requests that the client gave up
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_port}"

    def encrypt(self, certificate: Path, key: Path) -> None:
        """Speak https from now on."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.socket, self.scheme = context.wrap_socket(self.socket, server_side=True), "https"

    def handle_error(self, *args: object) -> None:
        """Say nothing of clients that refuse the certificate."""

    def fault(self) -> str:
        with self.lock:
            self.requests += 1
            if self.every and self.requests % self.every == 0:
                return "503"
            return self.faults.pop(0) if self.faults else ""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        fault, path = self.server.fault(), self.server.folder / self.path.strip("/")
        if fault.isdigit():
            return self.send_error(int(fault))
        if not path.is_file():
            return self.send_error(404)
        if fault.startswith("to "):
            self.send_response(302)
            self.send_header("Location", fault[3:] + self.path)
            return self.end_headers()
        content = path.read_bytes()
        first, last = map(int, re.findall(r"\d+", self.headers["Range"]))
        part = content[first : last + 1]
        self.send_response(200 if fault == "whole" else 206)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.end_headers()
        if fault == "slow":  # answer only when the client has given up
            self.connection.settimeout(60)
            with contextlib.suppress(TimeoutError):
                self.server.dropped += self.connection.recv(1) == b""
        with contextlib.suppress(OSError):  # nobody waits any more
            self.wfile.write(part[: len(part) // 2] if fault == "short" else part)


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """Serve a folder."""
    with Server(folder) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def make_certificate(folder: Path) -> tuple[Path, Path, Path]:
    """Return the certificates of a new CA and of 127.0.0.1, which it has signed, and the key."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2")
    openssl(*new, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=CA of a test")
    openssl(
        *new, "-keyout", "key.pem", "-out", "server.pem", "-subj", "/CN=127.0.0.1",
        "-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "subjectAltName=IP:127.0.0.1",
        "-addext", "basicConstraints=critical,CA:FALSE",
    )  # fmt: skip
    return folder / "ca.pem", folder / "server.pem", folder / "key.pem"
