"""Paths in a root that somebody else changes: nothing outside is ever opened, read or written."""

from __future__ import annotations

import ctypes
import errno
import io
import os
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import pytest

from jocker_engine.platform.work import package_paths
from jocker_engine.platform.worker.inside import Inside


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "f").write_text("inside")
    (root / "d" / "e").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "f").write_text("outside")
    for name, target in (
        ("abs", "/etc/f"), ("up", "../../../../../etc/f"), ("d/rel", "../etc"), ("loop", "loop"), ("out", str(tmp_path / "outside")),
    ):  # fmt: skip
        (root / name).symlink_to(target)
    return root


def content(root: Path, path: str) -> str:
    with Inside(str(root)) as inside:
        fd = inside.open(path)
        try:
            with open(f"/proc/self/fd/{fd}", encoding="utf-8") as file:
                return file.read()
        finally:
            os.close(fd)


@pytest.mark.skipif(sys.platform != "linux", reason="reads through /proc")
def test_every_way_ends_inside(root: Path) -> None:
    for path in ("/etc/f", "etc/f", "abs", "up", "d/rel/f", "/d/../../../etc/f", "d/e/../../abs"):
        assert content(root, path) == "inside", path
    for path, number in (
        ("/out/f", errno.ENOENT),
        ("loop", errno.ELOOP),
        ("etc/f/", errno.ENOTDIR),
        ("etc/f/x", errno.ENOTDIR),
        ("nope", errno.ENOENT),
    ):
        with Inside(str(root)) as inside, pytest.raises(OSError) as raised:
            inside.open(path)
        assert raised.value.errno == number, path
    with Inside(str(root)) as inside:
        fd = inside.open("abs", follow=False)
        assert os.readlink("", dir_fd=fd) == "/etc/f"
        os.close(fd)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        content(root, "d/rel/f")
    assert len(os.listdir("/proc/self/fd")) == before


def test_another_root_in_its_place_is_told(root: Path, tmp_path: Path) -> None:
    with pytest.raises(OSError) as raised:
        Inside(str(tmp_path / "outside"), same_as=str(root))
    assert raised.value.errno == errno.ESTALE


def worker(operation: str, data: bytes, **params: object) -> subprocess.CompletedProcess[bytes]:
    import json

    start = f"import sys; sys.path[:0] = {package_paths()!r}; from jocker_engine.platform.worker.__main__ import main; main()"
    argv = [sys.executable, "-I", "-S", "-c", start, operation, json.dumps(params)]
    return subprocess.run(argv, input=data, capture_output=True, check=True, timeout=60)


def tar(*names: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 5
            archive.addfile(info, io.BytesIO(b"taken"))
    return out.getvalue()


@pytest.mark.skipif(sys.platform != "linux", reason="renameat2 is Linux's")
def test_a_race_cannot_lead_outside(root: Path, tmp_path: Path) -> None:
    """A directory that becomes a link to the outside and back, as fast as can be, while files go into it and out."""
    ended = threading.Event()
    (root / "swap").mkdir()

    def swap() -> None:
        (root / "link").symlink_to(tmp_path / "outside")
        rename = ctypes.CDLL(None).renameat2  # RENAME_EXCHANGE: at every instant one of the two is there
        paths = os.fsencode(root / "swap"), os.fsencode(root / "link")
        while not ended.is_set():
            assert rename(-100, paths[0], -100, paths[1], 2) == 0

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        names = [f"swap/f{number}" for number in range(300)]
        for _ in range(3):
            worker("place", tar(*names), root=str(root), path="/")
            worker("place", tar("a", "b", "c"), root=str(root), path="/swap")
            packed = worker("pack", b"", root=str(root), path="/").stdout
            assert b"outside" not in packed.replace(os.fsencode(str(tmp_path / "outside")), b"")
    finally:
        ended.set()
        thread.join()
    assert os.listdir(tmp_path / "outside") == ["f"]
    assert (tmp_path / "outside" / "f").read_text() == "outside"
