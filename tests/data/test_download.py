"""Downloads, against a server in this process: whole, interrupted, resumed, refused, and without a network."""

from __future__ import annotations

import hashlib
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lookbehind.data import DataError, download
from lookbehind.data.download import File, obtain
from tests.data import formats

CONTENT = formats.pictures(0, 1_000_003).tobytes()


class Server:
    """A server with one file, and faults to choose from."""

    def __init__(self) -> None:
        self.content = CONTENT
        self.ranges = True
        self.status = 0  # to answer with, instead of the file
        self.break_after: int | None = None  # bytes of an answer
        self.declare: int | None = None  # the length in the header
        self.shift = 0  # of a range
        self.slow = 0.0
        self.asked: list[str | None] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.handle_error = lambda *_: None  # clients that hang up are meant to
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        asked = request.headers["Range"]
        self.asked.append(asked)
        if self.status:
            request.send_error(self.status)
            return
        body, start = self.content, 0
        if asked and self.ranges:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(body):
                request.send_error(416)
                return
            start += self.shift
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            request.send_response(200)
        body = body[start:]
        if self.declare != -1:
            request.send_header("Content-Length", str(len(body) if self.declare is None else self.declare))
        request.end_headers()
        time.sleep(self.slow)
        request.wfile.write(body[: self.break_after])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_address[1]}/data.bin"

    def file(self, **changes: Any) -> File:
        return File(**({"name": "data.bin", "url": self.url, "size": len(CONTENT), "sha256": SUM} | changes))


SUM = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()
    server.thread.join()


def get(file: File, folder: Path, *, wanted: bool = True) -> Path:
    return obtain("The data", [file], [folder], download=wanted) / file.name


def left(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.name != ".downloading")


def test_whole(server: Server, tmp_path: Path) -> None:
    assert get(server.file(), tmp_path / "new" / "folder").read_bytes() == CONTENT
    get(server.file(), tmp_path / "new" / "folder")
    assert server.asked == [None]  # what is there is not asked for again
    assert left(tmp_path / "new" / "folder") == ["data.bin"]


@pytest.mark.parametrize("declare", [None, -1])
def test_interrupted_and_resumed(server: Server, tmp_path: Path, declare: int | None) -> None:
    server.break_after, server.declare = 300_000, declare
    for part in (300_000, 600_000, 900_000):
        with pytest.raises(DataError, match=r"what has arrived is kept, and running again goes on from there\): put"):
            get(server.file(), tmp_path)
        assert (tmp_path / "data.bin.part").read_bytes() == CONTENT[:part]
        assert left(tmp_path) == ["data.bin.part"]
    assert get(server.file(), tmp_path).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-", "bytes=600000-", "bytes=900000-"]
    assert left(tmp_path) == ["data.bin"]


def test_killed_before_the_check(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data.bin.part").write_bytes(CONTENT)
    assert get(server.file(), tmp_path).read_bytes() == CONTENT
    assert server.asked == []


def test_a_server_that_ignores_ranges(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data.bin.part").write_bytes(CONTENT[:1000])
    server.ranges = False
    assert get(server.file(), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("part", [b"x" * 1000, b"x" * len(CONTENT), CONTENT + b"x"])
def test_another_file_under_the_temporary_name(server: Server, tmp_path: Path, part: bytes) -> None:
    (tmp_path / "data.bin.part").write_bytes(part)
    if len(part) <= len(CONTENT):
        with pytest.raises(DataError, match="sent another file, with SHA-256"):
            get(server.file(), tmp_path)
        assert left(tmp_path) == []  # and running again helps
    assert get(server.file(), tmp_path).read_bytes() == CONTENT


def test_wrong_checksum(server: Server, tmp_path: Path) -> None:
    server.content = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    with pytest.raises(DataError, match=f"{server.url} sent another file, with SHA-256"):
        get(server.file(), tmp_path)
    assert left(tmp_path) == []


@pytest.mark.parametrize("declare", [None, -1])
@pytest.mark.parametrize("content", [CONTENT + b"more", CONTENT * 3, b"<html>please log in</html>"])
def test_another_length(server: Server, tmp_path: Path, declare: int | None, content: bytes) -> None:
    (tmp_path / "data.bin.part").write_bytes(CONTENT[:10])
    server.content, server.declare, server.ranges = content, declare, False
    with pytest.raises(DataError, match=r"offers another file, of|sent another file|ended after 26 of"):
        get(server.file(), tmp_path)
    assert "data.bin" not in left(tmp_path)
    if declare is None:
        assert (tmp_path / "data.bin.part").read_bytes() == CONTENT[:10]  # nothing lost to a log-in page


def test_no_more_is_read_than_expected(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.content, server.declare = CONTENT * 20, -1
    sizes = []
    monkeypatch.setattr(download, "sha256", lambda path: sizes.append(path.stat().st_size) or "0")
    with pytest.raises(DataError):
        get(server.file(), tmp_path)
    assert sizes[0] <= len(CONTENT) + download.BLOCK


def test_the_wrong_range(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data.bin.part").write_bytes(CONTENT[:1000])
    server.shift = 5
    with pytest.raises(DataError, match="sent other bytes than those that were asked for"):
        get(server.file(), tmp_path)
    assert get(server.file(), tmp_path).read_bytes() == CONTENT


def test_a_range_that_is_not_there(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data.bin.part").write_bytes(CONTENT[:1000])
    server.content = CONTENT[:500]
    with pytest.raises(DataError, match="answered 416"):
        get(server.file(), tmp_path)
    assert left(tmp_path) == []
    server.content = CONTENT
    assert get(server.file(), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("status", [404, 403, 500, 503])
def test_refused(server: Server, tmp_path: Path, status: int) -> None:
    (tmp_path / "data.bin.part").write_bytes(CONTENT[:1000])
    server.status = status
    with pytest.raises(DataError, match=f"could not be downloaded \\({server.url} answered {status} "):
        get(server.file(), tmp_path)
    assert left(tmp_path) == ["data.bin.part"]


def test_the_sentence_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    files = [
        File(name, f"http://127.0.0.1:{port}/{name}", size, sha)
        for name, size, sha in [("a", 12345, "aa"), ("b", 9, "bb")]
    ]
    folder = tmp_path / "x"
    with pytest.raises(DataError) as caught:
        obtain("CIFAR-1", files, [folder], download=True)
    sentence = str(caught.value)
    assert sentence.startswith(f"CIFAR-1 is missing from {folder} and could not be downloaded (no connection: ")
    assert sentence.endswith(
        f"): put there a (12,345 bytes, SHA-256 aa, from http://127.0.0.1:{port}/a), b (9 bytes, SHA-256 bb, from "
        f"http://127.0.0.1:{port}/b), or name another root folder, as an argument or in LOOKBEHIND_DATA"
    )
    assert "\n" not in sentence
    assert left(folder) == []


def test_a_server_that_falls_silent(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TIMEOUT", 0.05)
    server.slow = 0.5
    with pytest.raises(DataError, match="TimeoutError; what has arrived is kept"):
        get(server.file(), tmp_path)


def test_not_wanted(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"could not be downloaded \(downloading is turned off\): put there data.bin"):
        get(server.file(), tmp_path / "x", wanted=False)
    assert server.asked == []
    assert not (tmp_path / "x").exists()


def test_a_damaged_file_of_the_user_stays(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(b"mine")
    with pytest.raises(DataError, match=re.escape(str(tmp_path / "data.bin")) + " has 4 bytes and SHA-256 .*delete it"):
        get(server.file(), tmp_path)
    assert (tmp_path / "data.bin").read_bytes() == b"mine"
    assert server.asked == []


def test_another_packing_of_the_same_content(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(b"mine")
    get(server.file(repacked=hashlib.sha256(b"mine").hexdigest()), tmp_path)


def test_files_may_be_elsewhere(server: Server, tmp_path: Path) -> None:
    elsewhere, root = tmp_path / "elsewhere", tmp_path / "root"
    elsewhere.mkdir()
    (elsewhere / "data.bin").write_bytes(CONTENT)
    assert obtain("The data", [server.file()], [root, elsewhere], download=True) == elsewhere
    get(server.file(), root)
    assert obtain("The data", [server.file()], [root, elsewhere], download=True) == root


def test_only_what_is_missing_is_downloaded(server: Server, tmp_path: Path) -> None:
    (tmp_path / "first").write_bytes(b"mine")
    first = server.file(name="first", sha256=hashlib.sha256(b"mine").hexdigest())
    obtain("The data", [first, server.file()], [tmp_path], download=True)
    assert len(server.asked) == 1
    assert left(tmp_path) == ["data.bin", "first"]


def test_a_folder_that_cannot_be_made(server: Server, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("a file")
    with pytest.raises(DataError, match=r"could not be downloaded \(.*File exists"):
        get(server.file(), tmp_path / "x")


def test_two_at_once(server: Server, tmp_path: Path) -> None:
    server.slow = 0.2
    with ThreadPoolExecutor(4) as pool:  # flock holds between open files, so threads stand for processes
        paths = list(pool.map(lambda _: get(server.file(), tmp_path), range(4)))
    assert server.asked == [None]
    assert paths[0].read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("terminal", "patience", "seen"), [(True, 0.0, True), (True, 60.0, False), (False, 0.0, False)]
)
def test_progress(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    terminal: bool,
    patience: float,
    seen: bool,
) -> None:
    monkeypatch.setattr(download, "PATIENCE", patience)
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    monkeypatch.setenv("TERM", "xterm")
    get(server.file(), tmp_path)
    output = capsys.readouterr()
    assert ("data.bin" in output.err) == seen
    assert not output.out


def test_without_rich(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PATIENCE", 0.0)
    monkeypatch.setattr(download, "find_spec", lambda name: None)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr(download, "_bar", None)
    assert get(server.file(), tmp_path).exists()
