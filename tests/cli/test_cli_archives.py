"""The command, for real: images and containers as files, and other programs that read and write them."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import http.server
import io
import json
import os
import pty
import shutil
import signal
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import need
from engines import Engine

DOCKERFILE = """\
FROM base
RUN echo hi > /hello && busybox ln /hello /same && busybox mkdir /d && busybox ln -s /hello /d/link
RUN busybox rm -r /var && busybox rm /same && echo y > /d/y
RUN busybox rm -r /d && busybox mkdir /d && echo z > /d/z
LABEL a=b
ENV A=b
EXPOSE 80
CMD ["sh", "-c", "cat /hello /d/*; ls -d /var /same 2>/dev/null || echo gone"]
"""
SAID = "hi\nz\ngone\n"


def build(engine: Engine, tag: str, text: str = DOCKERFILE) -> str:
    return engine.jocker("build", "-q", "-t", tag, "-", input=text).stdout.strip()


@pytest.fixture(scope="module")
def app(shared: Engine) -> Iterator[str]:
    """The id of the image app:1, which is there while this module runs."""
    yield build(shared, "app:1")
    shared.jocker("rmi", "-f", "app:1")


def anew(engine: Engine, *load: str, **options: Any) -> list[str]:
    """What `load` says of an archive whose image is not there: what it loads is the same."""
    engine.jocker("rmi", "app:1")
    said = engine.jocker("load", *load, **options).stdout.splitlines()
    assert engine.jocker("run", "--rm", "app:1").stdout == SAID
    return said


def ids(engine: Engine, name: str = "app:1") -> str:
    return str(json.loads(engine.jocker("image", "inspect", name).stdout)[0]["Id"])


def test_an_image_goes_out_and_comes_back(shared: Engine, app: str, tmp_path: Path) -> None:
    whole = tmp_path / "app.tar"
    shared.jocker("save", "-o", str(whole), "app:1")
    assert os.listdir(tmp_path) == ["app.tar"]
    with tarfile.open(whole) as archive:
        names = archive.getnames()
        index = json.load(archive.extractfile("index.json"))  # type: ignore[arg-type]
        listed = json.load(archive.extractfile("manifest.json"))  # type: ignore[arg-type]
        for name in names:
            if (member := archive.extractfile(name)) is not None and name.startswith("blobs/"):
                assert hashlib.sha256(member.read()).hexdigest() == os.path.basename(name)
    assert listed[0]["RepoTags"] == ["app:1"] and listed[0]["Config"] == f"blobs/sha256/{app[7:]}"
    assert index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"] == "app:1"
    assert anew(shared, "-i", str(whole)) == ["Loaded image: app:1"]
    assert ids(shared) == app
    # What was loaded is the same archive again, bit for bit, and so is what standard output gets.
    again = subprocess.run(
        [shared.jocker_path, "save", "app:1"], env=shared.env, stdout=subprocess.PIPE, check=True
    ).stdout
    assert again == whole.read_bytes()
    packed = tmp_path / "app.tar.gz"
    packed.write_bytes(gzip.compress(again, 1))
    with packed.open("rb") as file:
        assert anew(shared, stdin=file) == ["Loaded image: app:1"]


@pytest.mark.parametrize("form", ["docker-archive", "oci-dir", "gzip", "zstd"])
def test_other_forms(shared: Engine, app: str, tmp_path: Path, form: str) -> None:
    path = str(tmp_path / "app")
    options = ("--compress", form) if form in ("gzip", "zstd") else ("--format", form)
    shared.jocker("save", *options, "-o", path, "app:1")
    assert anew(shared, "-i", path) == ["Loaded image: app:1"]
    assert ids(shared) == app


def test_images_share_layers(shared: Engine, app: str, tmp_path: Path) -> None:
    path = str(tmp_path / "all.tar")
    shared.jocker("tag", "app:1", "app:2")
    shared.jocker("save", "-o", path, "app", "base", app)
    with tarfile.open(path) as archive:
        names = archive.getnames()
        listed = json.load(archive.extractfile("manifest.json"))  # type: ignore[arg-type]
    assert len(names) == len(set(names))
    assert [each["RepoTags"] for each in listed] == [["app:1", "app:2"], ["base:latest"]]
    shared.jocker("rmi", "app:2")
    layers = shared.rpc("image.inspect", image="base")["layers"]
    assert "Loaded image: app:2" in anew(shared, "-i", path)
    # What was there is not unpacked again: it is the same layer.
    assert shared.rpc("image.inspect", image="app:1")["layers"][0] == layers[0]
    shared.jocker("rmi", "app:2")


def skopeo(*words: str) -> str:
    need(shutil.which("skopeo"), "skopeo is not installed")
    done = subprocess.run(["skopeo", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_skopeo_reads_what_save_writes(shared: Engine, app: str, tmp_path: Path) -> None:
    oci, docker = str(tmp_path / "oci.tar"), str(tmp_path / "docker.tar")
    shared.jocker("save", "-o", oci, "app:1")
    shared.jocker("save", "--format", "docker-archive", "-o", docker, "app:1")
    diff_ids = shared.rpc("image.inspect", image="app:1")["root_fs"]["layers"]
    for source in (f"oci-archive:{oci}", f"docker-archive:{oci}", f"docker-archive:{docker}"):
        config = json.loads(skopeo("inspect", "--config", source))
        assert config["rootfs"]["diff_ids"] == diff_ids
        assert config["config"]["Env"][1:] == ["A=b"] and config["config"]["ExposedPorts"] == {"80/tcp": {}}
        target = tmp_path / "dir"
        skopeo("copy", source, f"dir:{target}")
        manifest = json.loads((target / "manifest.json").read_text())
        assert manifest["config"]["digest"] == app
        shutil.rmtree(target)


@pytest.mark.parametrize(
    "target", ["oci:{}:app:1", "docker-archive:{}:app:1", "oci-archive:{}:app:1", "dir:{}"]
)
def test_load_reads_what_skopeo_writes(shared: Engine, app: str, tmp_path: Path, target: str) -> None:
    mine, theirs = str(tmp_path / "mine"), str(tmp_path / "theirs")
    shared.jocker("save", "-o", mine, "app:1")
    zstd = () if "docker" in target else ("--dest-compress", "--dest-compress-format", "zstd")
    skopeo("copy", *zstd, f"oci-archive:{mine}", target.format(theirs))
    shared.jocker("rmi", "app:1")
    said = shared.jocker("load", "-i", theirs).stdout
    assert said == (f"Loaded image ID: {app}\n" if target == "dir:{}" else "Loaded image: app:1\n")
    assert shared.jocker("run", "--rm", app).stdout == SAID
    shared.jocker("tag", app, "app:1")


def test_nothing_is_left_of_what_was_cut_off(shared: Engine, app: str, tmp_path: Path) -> None:
    command = [shared.jocker_path, "save", "app:1"]
    closed = subprocess.Popen(command, env=shared.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert closed.stdout is not None and closed.stderr is not None
    closed.stdout.read(10)
    closed.stdout.close()
    assert closed.wait(20) == 141
    assert closed.stderr.read() == b""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)
        loading = shared.popen("load", "-i", str(fifo), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        with fifo.open("wb") as file:
            file.write(bytes(1 << 20))
            file.flush()
            for _ in range(20):  # one that comes just before a read begins is seen only after it (PEP 475)
                loading.send_signal(signum)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    loading.wait(1)
                    break
            assert loading.poll() is not None
        fifo.unlink()
    for _ in range(100):
        left = os.listdir(os.path.join(shared.root, "uploads"))
        if not left:
            break
        time.sleep(0.05)
    assert left == []
    assert shared.jocker("save", "-o", str(tmp_path), "app:1", check=False).returncode == 1
    missing = shared.jocker("save", "-o", str(tmp_path / "no" / "x"), "app:1", check=False)
    assert missing.returncode == 1 and "there is no directory" in missing.stderr
    shared.jocker("save", "-o", str(tmp_path / "x"), "nowhere", check=False)
    assert os.listdir(tmp_path) == []


def test_a_terminal_gets_no_archive(shared: Engine, app: str) -> None:
    main, end = pty.openpty()
    try:
        for command in (("save", "app:1"), ("export", "x"), ("load",), ("import", "-")):
            done = subprocess.run(
                [shared.jocker_path, *command], env=shared.env, stdin=end, stdout=end, stderr=subprocess.PIPE,
                text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 1 and "terminal" in done.stderr and done.stderr.count("\n") == 1
    finally:
        os.close(main)
        os.close(end)


def tar(*entries: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in entries:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def test_what_cannot_be_loaded_is_one_line(shared: Engine, app: str, tmp_path: Path) -> None:
    whole = tmp_path / "app.tar"
    shared.jocker("save", "-o", str(whole), "app:1")
    good = whole.read_bytes()
    before = shared.jocker("images", "-q", "--no-trunc").stdout
    shared.jocker("tag", "app:1", "kept:1")  # so that its layers are there; damage is found all the same
    with tarfile.open(whole) as archive:
        blobs = [member for member in archive if member.name.startswith("blobs/sha256/")]
        big = max(blobs, key=lambda member: member.size)
    spoilt = bytearray(good)
    spoilt[big.offset_data + 1000] ^= 1
    cases = {
        b"": "nothing was sent",
        b"garbage": "no image archive",
        tar(("a", b"b")): "jocker import",
        tar(("index.json", b"{")): "not JSON",
        tar(("manifest.json", b'[{"Config": "x", "Layers": []}]')): "x is missing",
        good[: len(good) // 2]: "",
        bytes(spoilt): "digest",
    }
    for data, why in cases.items():
        whole.write_bytes(data)
        refused = shared.jocker("load", "-i", str(whole), check=False)
        assert refused.returncode == 1 and why in refused.stderr, refused
        assert refused.stderr.count("\n") == 1 and refused.stderr.startswith("jocker: ")
    assert shared.jocker("images", "-q", "--no-trunc").stdout.split() == sorted(
        {*before.split()}, key=before.split().index
    )
    shared.jocker("rmi", "kept:1")
    assert shared.rpc("system.check")["differences"] == []
    assert os.listdir(os.path.join(shared.root, "uploads")) == []


def test_what_a_container_has_made(shared: Engine, app: str, tmp_path: Path) -> None:
    script = "echo new > /new; busybox rm /hello; busybox mkdir -p /vol/x /a/b; echo ready; busybox sleep 100"
    shared.jocker("run", "-d", "--name", "maker", "-v", "/vol", "app:1", "sh", "-c", script)
    for _ in range(100):
        if shared.jocker("logs", "maker").stdout:
            break
        time.sleep(0.05)
    assert shared.jocker("diff", "maker").stdout == "A /a\nA /a/b\nD /hello\nA /new\n"
    assert json.loads(shared.jocker("diff", "--format", "json", "maker").stdout)[2] == {
        "Kind": "D",
        "Path": "/hello",
    }
    change = ("-c", 'CMD ["cat", "/new"]', "-c", "ENV B=c")
    made = shared.jocker("commit", "-a", "me", "-m", "said", *change, "maker", "made:1").stdout.strip()
    assert shared.jocker("exec", "maker", "sh", "-c", "echo goes on").stdout == "goes on\n"
    detail = json.loads(shared.jocker("image", "inspect", "made:1").stdout)[0]
    assert (detail["Id"], detail["Author"], detail["Comment"]) == (made, "me", "said")
    assert detail["RepoTags"] == ["made:1"] and detail["Created"] == detail["CreatedAt"]
    assert detail["Config"]["Env"][-1] == "B=c" and len(detail["RootFS"]["Layers"]) == 5
    assert shared.jocker("run", "--rm", "made:1").stdout == "new\n"
    steps = shared.jocker("history", "--format", "{{.Comment}}|{{.Size}}", "made:1").stdout.splitlines()
    assert steps[0].startswith("said|") and len(steps) == 9

    archive = tmp_path / "maker.tar"
    shared.jocker("export", "-o", str(archive), "maker")
    with tarfile.open(archive) as exported:
        names = exported.getnames()
    assert "new" in names and "a/b" in names and "hello" not in names and "vol/x" not in names
    imported = shared.jocker(
        "import", "-m", "said", "-c", "CMD cat /new", str(archive), "made:2"
    ).stdout.strip()
    assert shared.jocker("run", "--rm", "made:2").stdout == "new\n"
    assert ids(shared, "made:2") == imported
    assert shared.jocker("history", "--format", "{{.Comment}}", "made:2").stdout == "said\n"
    shared.jocker("rm", "-f", "-v", "maker")
    for wrong in ("RUN x", "NONSENSE", "ENV"):
        refused = shared.jocker("import", "-c", wrong, str(archive), check=False)
        assert refused.returncode == 1 and refused.stderr.count("\n") == 1, refused
    shared.jocker("rmi", "made:1", "made:2")


class _Site(http.server.BaseHTTPRequestHandler):
    """Wants a password; /good is an archive, /moved leads there, /away to another scheme, /short ends too early."""

    archive = b""

    def do_GET(self) -> None:
        self.send_response(
            302 if self.path in ("/moved", "/away") else 200 if self.path in ("/good", "/short") else 404
        )
        self.send_header("Location", "/good" if self.path == "/moved" else "ftp://127.0.0.1/x")
        wanted = f"Basic {base64.b64encode(b'me:s@crt').decode()}"
        assert self.path == "/good" or self.headers["Authorization"] == wanted
        body = self.archive if self.path in ("/good", "/short") else b""
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: 100 if self.path == "/short" else None])

    def log_message(self, *_: object) -> None:
        pass


def test_import_of_a_url(shared: Engine, app: str, tmp_path: Path) -> None:
    shared.jocker("create", "--name", "source", "app:1")
    shared.jocker("export", "-o", str(tmp_path / "tree"), "source")
    shared.jocker("rm", "-v", "source")
    handler = type("Site", (_Site,), {"archive": gzip.compress((tmp_path / "tree").read_bytes(), 1)})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        user = url.replace("//", "//me:s%40crt@")
        shared.jocker("import", "-c", "CMD cat /hello", f"{user}/moved", "fetched:1")
        assert shared.jocker("run", "--rm", "fetched:1").stdout == "hi\n"
        comment = shared.jocker("history", "--format", "{{.Comment}}", "fetched:1").stdout
        assert comment == f"Imported from {url}/moved\n"
        before = shared.jocker("images", "-aq").stdout
        for source, why in (
            (f"{user}/away", "neither http nor https"),
            (f"{user}/short", "ended after 100 of"),
            (f"{user}/nothing", "HTTP status 404"),
            ("ftp://127.0.0.1/x", "only http:// and https://"),
            ("http://127.0.0.1:1/x", "Connection refused"),
            ("http://:x/", ""),
        ):
            refused = shared.jocker("import", source, "not:1", check=False)
            assert refused.returncode == 1 and why in refused.stderr and refused.stderr.count("\n") == 1, (
                refused
            )
            assert "crt" not in refused.stderr
        assert shared.jocker("images", "-aq").stdout == before
        server.shutdown()
    shared.jocker("rmi", "fetched:1")


def test_history_and_what_nobody_needs(shared: Engine, app: str) -> None:
    rows = shared.jocker("history", "app:1").stdout.splitlines()
    assert rows[0].split() == ["IMAGE", "CREATED", "CREATED", "BY", "SIZE", "COMMENT"]
    assert rows[1].startswith(app[7:19]) and len(rows) == 9
    whole = shared.jocker("history", "--no-trunc", "-q", "app:1").stdout.splitlines()
    assert whole[0] == app and whole[-1] == shared.rpc("image.inspect", image="app:1")["layers"][0]
    assert shared.jocker("run", "--rm", whole[-3], "cat", "/hello").stdout == "hi\n"  # a step can be run
    shared.jocker("image", "prune", "-f")
    before = shared.jocker("images", "-q").stdout
    nameless = build(shared, "for-a-moment", "FROM base\nLABEL some=thing\nRUN echo > /nameless\n")
    shared.jocker("tag", "app:1", "for-a-moment")
    assert "say so with --force" in shared.jocker("image", "prune", check=False).stderr
    shared.jocker("image", "prune", "-f", "--filter", "until=1h")
    shared.jocker("image", "prune", "-f", "--filter", "label=other")
    shared.jocker("image", "prune", "-f", "--filter", "label!=some=thing")
    assert nameless[7:19] in shared.jocker("images", "-q").stdout
    assert f"deleted: {nameless}" in shared.jocker("image", "prune", "-f").stdout
    shared.jocker("rmi", "for-a-moment")
    assert shared.jocker("images", "-q").stdout == before
    wrong = shared.jocker("image", "prune", "-f", "--filter", "until=soon", check=False)
    assert wrong.returncode == 1 and "24h" in wrong.stderr
