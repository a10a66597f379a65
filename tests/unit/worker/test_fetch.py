"""ADD of URLs, from a server on the loopback interface."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from jocker_engine.platform.worker.fetch import FetchError, fetch, file_name

CONTENT = b"content\n" * 1000
SUM = hashlib.sha256(CONTENT).hexdigest()


class Server(BaseHTTPRequestHandler):
    """Paths say what happens."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/missing":
            self.send_error(404)
        elif path.startswith("/to/"):
            self.send_response(302)
            self.send_header(
                "Location", {"file": "file:///etc/passwd", "loop": "/to/loop"}.get(path[4:], "/f.txt")
            )
            self.end_headers()
        else:
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT) + (path == "/short")))
            if path != "/undated":
                self.send_header(
                    "Last-Modified", "Fri, 13 Feb 2009 23:31:30 GMT" if path != "/odd" else "yesterday"
                )
            self.end_headers()
            self.wfile.write(CONTENT)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as http:
        thread = Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def test_a_file_its_mode_and_its_time(server: str, tmp_path: Path) -> None:
    urls = [f"{server}/d/f.txt?x=1#y", f"{server}/", f"{server}/to/g.txt", f"{server}/odd"]
    assert fetch(urls, str(tmp_path)) == {"digests": [SUM] * 4}
    assert sorted(os.listdir(tmp_path)) == ["__unnamed__", "f.txt", "g.txt", "odd"]
    status = (tmp_path / "f.txt").stat()
    assert stat.S_IMODE(status.st_mode) == 0o600 and status.st_mtime == 1234567890
    assert (tmp_path / "g.txt").read_bytes() == CONTENT


def test_check_sums(server: str, tmp_path: Path) -> None:
    long = hashlib.sha512(CONTENT).hexdigest()
    for checksum in (f"sha256:{SUM}", f"sha512:{long}"):
        assert fetch([f"{server}/f"], str(tmp_path), checksum) == {"digests": [SUM]}
    with pytest.raises(FetchError, match=f"its sha256 is {SUM}, not {'0' * 64}"):
        fetch([f"{server}/f"], str(tmp_path), "sha256:" + "0" * 64)


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("/missing", "HTTP status 404"), ("/to/file", "not allowed"), ("/to/loop", "302"),
        ("/short", "ended after"),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_one_line(server: str, tmp_path: Path, path: str, what: str) -> None:
    with pytest.raises(FetchError, match=what) as caught:
        fetch([server + path], str(tmp_path))
    assert str(caught.value).startswith(server + path) and "\n" not in str(caught.value)


def test_limits(server: str, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="longer than 100 bytes"):
        fetch([f"{server}/f"], str(tmp_path), max_bytes=100)
    with pytest.raises(FetchError, match="takes too long"):
        fetch([f"{server}/f"], str(tmp_path), max_seconds=0)
    with pytest.raises(FetchError, match="refused"):
        fetch(["http://127.0.0.1:1/f"], str(tmp_path))


def test_a_name_is_no_path() -> None:
    names = {
        "http://h/a/..": "__unnamed__",
        "http://h/%2e%2e%2fx": "x",
        "http://h": "__unnamed__",
        "http://h/a%2fb": "b",
    }
    assert {url: file_name(url) for url in names} == names


def test_a_password_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"^http://127.0.0.1:1/f: "):
        fetch(["http://me:secret@127.0.0.1:1/f"], str(tmp_path))
