"""What the build cache knows a COPY by: each thing that must change it, and each that must not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from jocker_engine.platform.worker.digest import digest
from jocker_engine.platform.worker.sources import CopyError


@pytest.fixture
def context(tmp_path: Path) -> Path:
    root = tmp_path / "context"
    (root / "dir" / "sub").mkdir(parents=True)
    (root / "dir" / "file").write_text("content")
    (root / "dir" / "link").symlink_to("file")
    (root / "other").write_text("other")
    return root


def of(context: Path, *sources: str) -> str:
    return digest(str(context), list(sources))["digest"]


def test_it_is_a_sha256_and_stable(context: Path, tmp_path: Path) -> None:
    value = of(context, "dir")
    assert len(bytes.fromhex(value)) == 32
    shutil.copytree(context, tmp_path / "again", symlinks=True)
    for path in (tmp_path / "again").rglob("*"):
        os.utime(path, (1, 1), follow_symlinks=False)
    assert of(tmp_path / "again", "dir") == value


def relink(root: Path) -> None:
    (root / "dir" / "link").unlink()
    (root / "dir" / "link").symlink_to("sub")


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": lambda root: (root / "dir" / "file").write_text("CONTENT"),
    "mode": lambda root: (root / "dir" / "file").chmod(0o755),
    "mode of a directory": lambda root: (root / "dir" / "sub").chmod(0o700),
    "name": lambda root: (root / "dir" / "file").rename(root / "dir" / "file2"),
    "place": lambda root: (root / "dir" / "file").rename(root / "dir" / "sub" / "file"),
    "link": relink,
    "new file": lambda root: (root / "dir" / "new").touch(),
    "new directory": lambda root: (root / "dir" / "new").mkdir(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_it(context: Path, change: str) -> None:
    before, other = of(context, "dir"), of(context, "other")
    CHANGES[change](context)
    assert of(context, "dir") != before
    assert of(context, "other") == other
    assert of(context, ".") != before


def test_sources_count_in_order_and_by_name(context: Path) -> None:
    assert of(context, "dir", "other") != of(context, "other", "dir")
    assert of(context, "dir") == of(context, "./dir/")
    (context / "same").write_text("other")
    assert of(context, "same") != of(context, "other")
    (context / "name").symlink_to("other")
    assert of(context, "name") != of(context, "other")
    assert of(context, "o*") == of(context, "other")


def test_parts_cannot_run_into_each_other(tmp_path: Path) -> None:
    for name, files in (("a", {"x": "yz"}), ("b", {"xy": "z"})):
        (tmp_path / name).mkdir()
        for file, text in files.items():
            (tmp_path / name / file).write_text(text)
    assert of(tmp_path, "a") != of(tmp_path, "b")


def test_what_is_not_there(context: Path) -> None:
    with pytest.raises(CopyError, match="no such file in the build context: 'x'"):
        of(context, "x")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_owners_count_in_an_image(context: Path) -> None:
    before = [digest(str(context), ["dir"], owners=owners)["digest"] for owners in (False, True)]
    os.chown(context / "dir" / "file", 5, 6)
    after = [digest(str(context), ["dir"], owners=owners)["digest"] for owners in (False, True)]
    assert after[0] == before[0] and after[1] != before[1]
