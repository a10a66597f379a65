"""The first difference of two layers."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import need
from jocker_engine.platform.worker.comparelayers import compare_layers
from jocker_engine.platform.worker.layertar import layer_tar


def made(path: Path, change: Callable[[Path], object] | None = None) -> dict[str, str]:
    root = path / "root"
    (root / "dir").mkdir(parents=True)
    for name in ("dir/file", "other"):
        (root / name).write_text(name)
    (root / "link").symlink_to("other")
    if change is not None:
        change(root)
    for each in [root, *root.rglob("*")]:
        if each.name != "touched":
            os.utime(each, (9, 9), follow_symlinks=False)
    layer_tar({"root": str(root), "below": [], "stacked": False, "since_ns": 0}, str(path / "recipe"))
    return {"recipe": str(path / "recipe"), "root": str(root)}


CHANGES: list[tuple[Callable[[Path], object], str, str]] = [
    (lambda root: (root / "dir/file").write_text("DIR/FILE"), "/dir/file", "content"),
    (lambda root: (root / "dir/file").write_text("longer than that"), "/dir/file", "content"),
    (lambda root: (root / "other").chmod(0o600), "/other", "mode"),
    (lambda root: (root / "dir").rename(root / "dirs"), "/dir", "presence"),
    (lambda root: (root / "more").touch(), "/more", "presence"),
    (lambda root: ((root / "link").unlink(), (root / "link").symlink_to("dir")), "/link", "content"),
    (lambda root: ((root / "link").unlink(), (root / "link").mkdir()), "/link", "type"),
    (lambda root: os.setxattr(root / "other", "user.a", b"b"), "/other", "xattr"),
    (lambda root: os.chown(root / "other", 5, 6), "/other", "owner"),
]


@pytest.mark.parametrize(("change", "path", "what"), CHANGES)
def test_the_first_difference(tmp_path: Path, change: Callable[[Path], object], path: str, what: str) -> None:
    if what == "owner":
        need(os.geteuid() == 0, "owners are root's to change")
    if what == "xattr":
        need(hasattr(os, "setxattr"), "Python has no xattrs here")
    found = compare_layers(made(tmp_path / "one"), made(tmp_path / "two", change))
    assert (found["path"], found["what"]) == (path, what)
    assert found["how"] and "\n" not in found["how"]


def test_no_difference(tmp_path: Path) -> None:
    assert compare_layers(made(tmp_path / "one"), made(tmp_path / "two"))["path"] == ""
