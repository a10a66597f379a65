"""A whole engine on storage zfs: build, run, change, remove, crash; and base images of datasets."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import pools
from conftest import need, why_not
from engines import Engine


def zfs(*words: str) -> str:
    return subprocess.run(("zfs", *words), check=True, capture_output=True, text=True, timeout=60).stdout


@pytest.fixture
def engine(pool: str) -> Iterator[Engine]:
    reason = why_not("linux")
    need(not reason, reason)
    zfs("create", "-o", "mountpoint=none", f"{pool}/jocker")  # as `zfs create -p` would, but not mounted
    engine = Engine("linux")
    engine.configure(zroot=f"{pool}/jocker", base_layer_dataset=f"{pool}/userland")
    engine.start()
    engine.base()
    yield engine
    engine.close()
    pools.destroy(f"{pool}/jocker")


def datasets(pool: str) -> list[str]:
    """Of trees and volumes."""
    kinds = ("/container/", "/volumes/")
    return [
        name for name in zfs("list", "-H", "-r", "-o", "name", pool).split() if any(k in name for k in kinds)
    ]


def test_from_build_to_removal(engine: Engine, pool: str, tmp_path: Path) -> None:
    assert engine.rpc("engine.info")["platform"]["storage"] == "zfs"
    (tmp_path / "file").write_text("copied\n")
    (tmp_path / "Dockerfile").write_text(
        "FROM base\nRUN echo made > /made\nCOPY file /file\nCMD cat /made /file\n"
    )
    engine.jocker("build", "-t", "app", str(tmp_path))
    again = engine.jocker("build", "-t", "app", str(tmp_path))
    assert "2 of 2 steps cached" in again.stderr or again.stderr.count("CACHED") == 2, again.stderr
    assert engine.jocker("run", "--rm", "app").stdout == "made\ncopied\n"
    engine.jocker(
        "run", "--name", "one", "-v", "data:/data", "app", "sh", "-c", "echo kept > /data/f; echo x > /new"
    )
    engine.kill()
    engine.start()
    assert engine.jocker("system", "check").returncode == 0
    assert engine.jocker("run", "--rm", "-v", "data:/data", "app", "cat", "/data/f").stdout == "kept\n"
    engine.jocker("start", "one")
    engine.jocker("wait", "one")
    assert len(datasets(pool)) == 2
    used = engine.rpc("system.df")
    assert [item["name"] for item in used["volumes"]] == ["data"]
    assert all(item["size"] > 0 for item in [*used["containers"], *used["volumes"], *used["images"]])
    assert "(virtual" in engine.jocker("ps", "-as").stdout
    engine.jocker("rm", "one")
    engine.jocker("volume", "rm", "data")
    assert datasets(pool) == []
    engine.jocker("rmi", "app")
    assert zfs("list", "-H", "-r", "-o", "name", f"{pool}/jocker/layer").count("/layer/") == 1


def test_base_images_of_datasets(engine: Engine, pool: str, tmp_path: Path) -> None:
    userland = f"{pool}/userland"
    zfs("create", "-o", f"mountpoint={tmp_path}/u", userland)
    try:
        os.makedirs(tmp_path / "u" / "bin")
        for name in ("sh", "cat", "busybox"):
            shutil.copy("/bin/busybox", tmp_path / "u" / "bin" / name)
        (tmp_path / "u" / "word").write_text("first\n")
        zfs("snapshot", f"{userland}@first")
        (tmp_path / "u" / "word").write_text("second\n")
        for method, source, word in (
            ("zfs-copy", userland, "second\n"),
            ("zfs-clone", userland, "second\n"),
            ("zfs-copy", f"{userland}@first", "first\n"),
            ("zfs-clone", f"{userland}@first", "first\n"),
        ):
            engine.jocker("image", "create", "-t", "u", method, source)
            assert engine.jocker("run", "--rm", "u", "cat", "/word").stdout == word, (method, source)
            engine.jocker("rmi", "u")
        snapshots = zfs("list", "-H", "-t", "snapshot", "-o", "name").split()
        assert [name for name in snapshots if name.startswith(f"{userland}@")] == [f"{userland}@first"]
        (tmp_path / "Dockerfile").write_text("FROM scratch\nRUN echo third > /third\nCMD cat /word /third\n")
        engine.jocker("build", "-t", "app", str(tmp_path))
        assert engine.jocker("run", "--rm", "app").stdout == "second\nthird\n"
        assert "scratch" in engine.jocker("images").stdout
        engine.jocker("rmi", "app", "scratch")
        refused = engine.jocker("image", "create", "-t", "u", "zfs-copy", f"{pool}/none", check=False)
        assert refused.returncode == 1 and f"there is no dataset {pool}/none" in refused.stderr
        refused = engine.jocker("image", "create", "-t", "u", "zfs-clone", f"{userland}@none", check=False)
        assert refused.returncode == 1 and f"there is no snapshot {userland}@none" in refused.stderr
        assert engine.jocker("system", "check").returncode == 0
    finally:
        subprocess.run(("zfs", "destroy", "-R", userland), timeout=60)
