"""Downloads that break off, and archives that should not be trusted."""

import gzip
import hashlib
import io
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import fetch
import pytest

from asr.errors import InputError

CONTENT = bytes(range(256)) * 4000  # about 1 MB
SHA256 = hashlib.sha256(CONTENT).hexdigest()
CHECKSUM = fetch.Checksum("sha256", SHA256)


class Server(ThreadingHTTPServer):
    """Serves ``content`` at every address and misbehaves as it is told."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.tag = '"1"'
        self.ranges = True
        self.break_after: list[int] = []  # bytes until the line breaks, for each answer
        self.codes: list[int] = []  # answers with an error first
        self.seen: list[str] = []  # the Range of each request

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/corpus.tar.gz"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        wanted = self.headers.get("Range", "")
        server.seen.append(wanted)
        if server.codes:
            self.send_error(server.codes.pop(0))
            return
        begin = 0
        if wanted and server.ranges and self.headers.get("If-Range") == server.tag:
            begin = int(wanted.removeprefix("bytes=").removesuffix("-"))
        size = len(server.content)
        if begin >= size:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{size}")
            self.end_headers()
            return
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{size - 1}/{size}")
        self.send_header("ETag", server.tag)
        self.send_header("Content-Length", str(size - begin))
        self.end_headers()
        end = begin + server.break_after.pop(0) if server.break_after else size
        self.wfile.write(server.content[begin:end])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield running
        running.shutdown()


def get(server, path, checksum=CHECKSUM):
    waits: list[float] = []
    fetch.fetch(server.url, path, checksum, sleep=waits.append)
    return waits


def test_whole_file(server, tmp_path):
    path = tmp_path / "new" / "a.tar.gz"
    assert get(server, path) == []
    assert path.read_bytes() == CONTENT
    assert [p.name for p in path.parent.iterdir()] == ["a.tar.gz"]
    get(server, path)  # it is there: no second request
    assert server.seen == [""]


def test_goes_on_where_the_line_broke(server, tmp_path):
    server.break_after = [300_000, 200_000]
    waits = get(server, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert server.seen == ["", "bytes=300000-", "bytes=500000-"]
    assert waits == [1.0, 1.0]  # each attempt brought something: no growing pauses


def test_a_later_run_goes_on(server, tmp_path):
    server.break_after = [300_000]

    def interrupt(_seconds):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch.fetch(server.url, tmp_path / "a", CHECKSUM, sleep=interrupt)
    assert (tmp_path / "a.part").stat().st_size == 300_000
    get(server, tmp_path / "a")
    assert server.seen == ["", "bytes=300000-"]
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_server_without_ranges_starts_over(server, tmp_path):
    server.ranges = False
    server.break_after = [300_000]
    get(server, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_changed_file_is_not_joined_to_the_old_part(server, tmp_path):
    (tmp_path / "a.part").write_bytes(b"old" * 1000)
    (tmp_path / "a.part.json").write_text('{"version": "\\"0\\""}')
    get(server, tmp_path / "a")
    assert server.seen == ["bytes=3000-"]
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_complete_part_is_recognised(server, tmp_path):
    (tmp_path / "a.part").write_bytes(CONTENT)
    (tmp_path / "a.part.json").write_text('{"version": "\\"1\\""}')
    get(server, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_busy_server_is_asked_again(server, tmp_path):
    server.codes = [503, 500, 429]
    assert get(server, tmp_path / "a") == [2.0, 4.0, 8.0]


def test_gives_up_and_keeps_the_part(server, tmp_path):
    server.break_after = [1000] + [0] * fetch.ATTEMPTS
    with pytest.raises(InputError, match=r"gave up after 8 attempts.*run this again"):
        get(server, tmp_path / "a")
    assert (tmp_path / "a.part").stat().st_size == 1000


def test_missing_file_is_not_asked_for_again(server, tmp_path):
    server.codes = [404]
    with pytest.raises(InputError, match="404 Not Found; check the address"):
        get(server, tmp_path / "a")
    assert server.seen == [""]


@pytest.mark.parametrize(
    "url", ["file:///none/a.tgz", "http://127.0.0.1:9/a b.tgz", "http://[bad/a"]
)
def test_what_cannot_get_better_is_not_tried_again(tmp_path, url):
    with pytest.raises(InputError, match="check the address"):
        fetch.fetch(url, tmp_path / "a", CHECKSUM)


def test_an_address_without_a_scheme(tmp_path):
    with pytest.raises(InputError, match=r"mirror/12: expected an address that begins with http"):
        fetch.fetch("mirror/12", tmp_path / "a", CHECKSUM)


def test_wrong_checksum(server, tmp_path):
    server.content = CONTENT[:-1] + b"?"
    with pytest.raises(InputError, match=f"expected {SHA256}; the download was deleted"):
        get(server, tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def archive(path, *members):
    """A tar.gz of (name, content) files, or of TarInfo objects as they are."""
    with tarfile.open(path, "w:gz") as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            tar.addfile(info, io.BytesIO(member[1]))
    return path


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = target
    return info


@pytest.mark.parametrize(
    "member",
    [
        ("/tmp/outside", b""),
        ("../outside", b""),
        ("corpus/../../outside", b""),
        special("corpus/link", tarfile.SYMTYPE, "/etc/passwd"),
        special("corpus/link", tarfile.LNKTYPE, "corpus/a"),
        special("corpus/device", tarfile.CHRTYPE),
        special("corpus/pipe", tarfile.FIFOTYPE),
    ],
    ids=lambda m: m[0] if isinstance(m, tuple) else m.name + m.type.decode(),
)
def test_evil_archives_are_refused_whole(tmp_path, member):
    path = archive(tmp_path / "evil.tar.gz", ("corpus/a", b"1"), member)
    with pytest.raises(InputError, match="not a corpus to trust"):
        fetch.install(path, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    assert not (tmp_path / "outside").exists()


def test_archives_that_share_a_folder_are_joined(tmp_path):
    first = archive(tmp_path / "1", ("LS/README", b"1"), ("LS/dev/x", b"x"))
    second = archive(tmp_path / "2", ("LS/README", b"2"), ("LS/test/y", b"y"))
    out = tmp_path / "out"
    (out / ".unpacking-1" / "of a killed run").mkdir(parents=True)
    fetch.install(first, out)
    fetch.install(second, out)
    files = {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    assert files == {"LS/README": b"1", "LS/dev/x": b"x", "LS/test/y": b"y"}
    assert [path.name for path in out.iterdir()] == ["LS"]


def test_what_is_there_is_kept_and_told(tmp_path, capsys):
    """Unless it is the same file, which archives of LibriSpeech share."""
    first = archive(tmp_path / "1", ("an4/README", b"1"), ("an4/wav/x", b"x"))
    second = archive(tmp_path / "2", ("an4/README", b"1"), ("an4/wav/x", b"y"), ("top", b"1"))
    out = tmp_path / "out"
    fetch.install(first, out)
    assert "exists" not in capsys.readouterr().err
    assert fetch.install(second, out) == [out / "top"]
    assert (out / "an4/wav/x").read_bytes() == b"x"
    said = capsys.readouterr().err.splitlines()
    assert said[1:] == [f"{out}/an4/wav exists; remove it to unpack {second} again"]


def changed(place):
    """A change of one byte of the tar archive inside a tar.gz."""

    def damage(content):
        tar = bytearray(gzip.decompress(content))
        tar[place] ^= 1
        return gzip.compress(bytes(tar))

    return damage


def wrong_checksum(content):
    """What one wrong byte of the audio in the archive does: the checksum of gzip is another one."""
    return content[:-8] + bytes([content[-8] ^ 1]) + content[-7:]


SECOND = 512 + len(CONTENT) + -len(CONTENT) % 512  # place of the header of the second file
DAMAGES = {
    "cut": lambda b: b[: len(b) // 2],
    "page": lambda b: b"<html>",
    "empty": lambda b: b"",
    "first header": changed(0),
    "second header": changed(SECOND),
    "cut at a header": lambda b: gzip.compress(gzip.decompress(b)[:SECOND]),
    "checksum": wrong_checksum,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damaged_archive_leaves_nothing(tmp_path, damage):
    path = archive(tmp_path / "a.tar.gz", ("LS/dev/x", CONTENT), ("LS/dev/y", CONTENT))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match="damaged"):
        fetch.install(path, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.fixture
def download(load_script):
    return load_script("librispeech/local/download.py")


def test_librispeech_from_a_mirror(server, tmp_path, monkeypatch, download):
    tar = archive(
        tmp_path / "x", ("LibriSpeech/SPEAKERS.TXT", b""), ("LibriSpeech/dev-clean-2/1", b"")
    )
    server.content = tar.read_bytes()
    server.break_after = [50]
    monkeypatch.setitem(download.MD5, "dev-clean-2", hashlib.md5(server.content).hexdigest())
    monkeypatch.setattr(fetch.fetch, "__kwdefaults__", {"sleep": lambda _: None})
    arguments = ["--mirror", server.url.rpartition("/")[0], str(tmp_path / "d"), "dev-clean-2"]
    assert download.main(arguments) == 0
    assert len(server.seen) == 2
    assert (tmp_path / "d" / "LibriSpeech" / "dev-clean-2" / "1").exists()
    assert not list((tmp_path / "d").glob("*.tar.gz*"))
    assert download.main(arguments) == 0
    assert len(server.seen) == 2  # it is there


def test_unknown_set(download):
    with pytest.raises(InputError, match="dev-cleen: no such set; expected one of dev-clean"):
        download.main(["downloads", "dev-cleen"])


def test_archive_without_a_known_checksum(server, tmp_path, capsys):
    server.content = archive(tmp_path / "x", ("an4/etc/an4.dic", b"A")).read_bytes()
    out = tmp_path / "downloads"
    assert fetch.main([server.url, str(out)]) == 0
    said = capsys.readouterr()
    assert "no published checksum is known, only the length was checked" in said.err
    assert said.out == f"{out}/an4\n"
    assert (out / "an4/etc/an4.dic").read_bytes() == b"A"
    assert [p.name for p in out.iterdir()] == ["an4"]
