"""`jocker image create` from archives: a real engine, a real HTTP server on loopback, a small base.txz."""

from __future__ import annotations

import functools
import hashlib
import http.server
import os
import shutil
import signal
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engines import Engine


class Handler(http.server.SimpleHTTPRequestHandler):
    """Quiet; /slow/... never gets to its end."""

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == "/slow/base.txz":
            self.send_response(200)
            self.send_header("Content-Length", "100000000")
            self.end_headers()
            self.wfile.write(b"x" * (3 << 20))
            self.wfile.flush()
            self.connection.settimeout(60)
            self.rfile.read(1)  # until the other side hangs up
            return
        super().do_GET()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A directory, and the URL that serves it."""
    directory = tmp_path_factory.mktemp("site")
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(directory))
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    for name in ("good", "damaged", "alone", "slow"):
        make(directory / name)
    manifest(directory / "good")
    manifest(directory / "slow")
    manifest(directory / "damaged", digest="0" * 64)
    yield directory, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def make(directory: Path) -> None:
    """base.txz: a shell and a few files, one with an absolute link to another."""
    root = directory / "root"
    (root / "bin").mkdir(parents=True)
    (root / "etc").mkdir()
    (root / "etc" / "motd").write_text("hello from base\n")
    shutil.copy("/bin/busybox", root / "bin" / "busybox")
    for name in ("sh", "cat", "ls"):
        (root / "bin" / name).symlink_to("/bin/busybox")
    with tarfile.open(directory / "base.txz", "w:xz", preset=0) as archive:
        archive.add(root, ".")
    shutil.rmtree(root)


def manifest(directory: Path, digest: str = "") -> None:
    """As FreeBSD's release has it."""
    digest = digest or hashlib.sha256((directory / "base.txz").read_bytes()).hexdigest()
    (directory / "MANIFEST").write_text(
        "base-dbg.txz\t" + "1" * 64 + '\t5\tbase_dbg\t"Base system (Debugging)"\toff\n'
        f'base.txz\t{digest}\t4\tbase\t"Base system (MANDATORY)"\ton\n'
    )


def leaves_nothing(engine: Engine) -> None:
    """No image, no layer, no half of a download."""
    assert os.listdir(os.path.join(engine.data, "uploads")) == []
    assert engine.jocker("system", "check").returncode == 0


def test_fetch(shared: Engine, site: tuple[Path, str]) -> None:
    directory, url = site
    for source in (
        f"{url}/good/base.txz",
        str(directory / "good" / "base.txz"),
        f"file://{directory}/good/base.txz",
    ):
        made = shared.jocker("image", "create", "-t", "fetched:1", "fetch", source)
        assert made.stdout.startswith("sha256:")
        assert "unpacking" in made.stderr
        script = "cat /etc/motd; cat /etc/resolv.conf | grep -c ."
        assert shared.jocker("run", "--rm", "fetched:1", "sh", "-c", script).stdout.startswith(
            "hello from base\n"
        )
        history = shared.rpc("image.inspect", image="fetched:1")["history"]
        assert history[0]["created_by"] == f"jocker image create fetch {source}"
        shared.jocker("rmi", "fetched:1")
    leaves_nothing(shared)


def test_what_of_the_host_is_copied_in(shared: Engine, site: tuple[Path, str]) -> None:
    source = f"{site[1]}/good/base.txz"
    shared.jocker("image", "create", "-t", "with", "fetch", source)
    shared.jocker("image", "create", "-q", "--no-dns", "--no-localtime", "-t", "without", "fetch", source)
    listed = [
        shared.jocker("run", "--rm", name, "sh", "-c", "ls /etc").stdout.split()
        for name in ("with", "without")
    ]
    host = {name for name in ("localtime",) if os.path.isfile(f"/etc/{name}")}
    assert set(listed[0]) - set(listed[1]) == host
    shared.jocker("rmi", "with", "without")


def test_what_cannot_be_verified_is_refused(shared: Engine, site: tuple[Path, str]) -> None:
    directory, url = site
    refusals = {
        f"{url}/damaged/base.txz": f"{'0' * 64}",
        str(directory / "damaged" / "base.txz"): "the file is damaged",
        f"{url}/alone/base.txz": "404",
        str(directory / "alone" / "base.txz"): "there is no MANIFEST beside it; --force takes it as it is",
        f"{url}/none/base.txz": "404",
        f"{url}/": "name an archive",
        str(directory / "none.txz"): "No such file",
        "http://127.0.0.1:1/base.txz": "refused",
        "ftp://127.0.0.1/base.txz": "ftp",
    }
    for source, reason in refusals.items():
        if source.endswith("none.txz"):
            (directory / "MANIFEST").write_text("none.txz\t" + "0" * 64 + "\n")
        refused = shared.jocker("image", "create", "-t", "no", "fetch", source, check=False)
        assert refused.returncode == 1, source
        assert reason in refused.stderr, refused.stderr
        assert len(refused.stderr.strip().splitlines()) <= 2, refused.stderr
    leaves_nothing(shared)
    forced = shared.jocker("image", "create", "-f", "-t", "forced", "fetch", f"{url}/alone/base.txz")
    assert forced.stdout.startswith("sha256:")
    shared.jocker("rmi", "forced")
    damaged = shared.jocker(
        "image", "create", "-f", "-t", "no", "fetch", f"{url}/damaged/base.txz", check=False
    )
    assert damaged.returncode == 1


def test_a_download_that_is_given_up_leaves_nothing(shared: Engine, site: tuple[Path, str]) -> None:

    client = shared.popen(
        "image", "create", "-t", "no", "fetch", f"{site[1]}/slow/base.txz", stderr=subprocess.DEVNULL
    )
    uploads = Path(shared.data, "uploads")
    for _ in range(200):
        if any(path.stat().st_size >= 1 << 20 for path in uploads.rglob("base.txz")):
            break
        time.sleep(0.05)
    else:
        raise AssertionError("the download does not begin")
    client.send_signal(signal.SIGINT)
    assert client.wait(30) == 130
    for _ in range(200):
        if not list(uploads.iterdir()):
            break
        time.sleep(0.05)
    leaves_nothing(shared)


def test_methods_that_this_machine_has_not(shared: Engine) -> None:
    for words, reason in (
        (("fetch-auto",), "which this is not: use fetch URL"),
        (("-t", "no", "zfs-copy", "pool/base"), "needs storage zfs"),
        (("-t", "no", "zfs-clone", "pool/a b"), "is no name of a dataset"),
    ):
        refused = shared.jocker("image", "create", *words, check=False)
        assert refused.returncode == 1
        assert reason in refused.stderr
    leaves_nothing(shared)
