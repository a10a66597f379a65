"""Copying, comparing, measuring, removing trees: what a copy keeps, as root and not."""

from __future__ import annotations

import os
import socket
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from conftest import need
from jocker_engine.platform.worker import copytree
from jocker_engine.platform.worker.copytree import (
    compare_trees,
    copy_tree,
    make_node,
    remove_tree,
    seal_tree,
    tree_size,
)

ROOT = os.geteuid() == 0


def facts(root: Path) -> dict[str, tuple[object, ...]]:
    """All that a copy must keep."""
    found: dict[str, tuple[object, ...]] = {}
    for path in [root, *root.rglob("*")]:
        status = path.lstat()
        content: object = None
        if stat.S_ISREG(status.st_mode):
            content = path.read_bytes()
        elif stat.S_ISLNK(status.st_mode):
            content = os.readlink(path)
        xattrs = {
            name: os.getxattr(path, name, follow_symlinks=False)
            for name in (os.listxattr(path, follow_symlinks=False) if sys.platform == "linux" else ())
        }
        found[str(path.relative_to(root))] = (
            status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, status.st_rdev, content, xattrs,
        )  # fmt: skip
    return found


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    (root / "dir" / "sub").mkdir(parents=True)
    (root / "dir" / "file").write_text("content")
    (root / "dir" / "sub" / "program").write_text("#!/bin/sh\n")
    (root / "dir" / "sub" / "program").chmod(0o4755)
    os.link(root / "dir" / "file", root / "hard")
    (root / "link").symlink_to("dir/file")
    (root / "dangling").symlink_to("/nowhere")
    os.mkfifo(root / "fifo", 0o640)
    (root / "closed").mkdir()
    (root / "closed" / "deep").mkdir()
    (root / "closed" / "deep" / "secret").write_text("x")
    (root / "closed" / "deep" / "secret").chmod(0)
    (root / "empty").touch()
    os.utime(root / "dir" / "file", ns=(1, 1_000_000_007))
    os.utime(root / "dangling", ns=(1, 2_000_000_009), follow_symlinks=False)
    (root / "closed").chmod(0o500 if ROOT else 0)
    (root / "dir").chmod(0o1777)
    os.utime(root / "dir", ns=(1, 3_000_000_001))
    return root


def test_a_fifo_has_no_device_number(tmp_path: Path) -> None:
    """On FreeBSD st_rdev of what is no device is NODEV, -1 in Python."""
    status = SimpleNamespace(st_mode=stat.S_IFIFO | 0o644, st_rdev=-1)
    assert make_node(str(tmp_path / "fifo"), cast("os.stat_result", status))
    assert stat.S_ISFIFO(os.stat(tmp_path / "fifo").st_mode)


def test_a_copy_keeps_everything(source: Path, tmp_path: Path) -> None:
    if ROOT:
        os.mknod(source / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.chown(source / "dir" / "file", 1000, 1001)
        os.chown(source / "dir" / "sub" / "program", 0, 42)
        (source / "dir" / "sub" / "program").chmod(0o4755)
        os.lchown(source / "link", 7, 8)
    before = facts(source)
    count = copy_tree(str(source), str(tmp_path / "copy"))
    assert facts(tmp_path / "copy") == before
    assert facts(source) == before
    assert (tmp_path / "copy" / "hard").samefile(tmp_path / "copy" / "dir" / "file")
    assert count["links"] == 1
    assert count["directories"] == 5


@pytest.mark.skipif(sys.platform != "linux", reason="of other systems none are kept")
def test_xattrs_are_kept(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    file = tmp_path / "source" / "file"
    file.touch()
    try:
        os.setxattr(file, "user.colour", b"red")
    except OSError as error:
        need(False, f"no xattrs here: {error.strerror}")
    # cap_net_raw=ep, as on ping: VFS_CAP_REVISION_2
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    if ROOT:
        os.setxattr(file, "security.capability", capability)
    copy_tree(str(tmp_path / "source"), str(tmp_path / "copy"))
    copied = tmp_path / "copy" / "file"
    assert os.getxattr(copied, "user.colour") == b"red"
    if ROOT:
        assert os.getxattr(copied, "security.capability") == capability


def test_holes_stay_holes_and_data_is_whole(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    with open(tmp_path / "source" / "sparse", "wb") as file:
        file.write(b"begin")
        file.seek(8 << 20)
        file.write(b"middle")
        file.truncate(16 << 20)
    copytree.copy_tree(str(tmp_path / "source"), str(tmp_path / "copy"))
    old, new = (tmp_path / name / "sparse" for name in ("source", "copy"))
    assert new.read_bytes() == old.read_bytes()
    assert new.stat().st_blocks <= old.stat().st_blocks + 16


def test_the_plain_copy_is_right_too(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no copy_file_range, as on other systems."""

    def refuse(*_: object) -> int:
        raise OSError(38, "not here")

    monkeypatch.setattr(os, "copy_file_range", refuse, raising=False)
    big = os.urandom(3 << 20)
    (source / "big").write_bytes(big)
    copy_tree(str(source), str(tmp_path / "copy"))
    assert (tmp_path / "copy" / "big").read_bytes() == big


def test_a_target_that_exists_is_refused(source: Path, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    with pytest.raises(FileExistsError):
        copy_tree(str(source), str(tmp_path / "copy"))


def test_reflinks_are_used_where_the_file_system_has_them(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "file").write_bytes(b"x" * 100_000)
    first = copy_tree(str(tmp_path / "source"), str(tmp_path / "copy"))
    if not first["clones"]:
        pytest.skip("this file system has no reflinks")
    assert (tmp_path / "copy" / "file").read_bytes() == b"x" * 100_000


def add(root: Path) -> None:
    (root / "new").mkdir()
    (root / "new" / "file").touch()


def rewrite(root: Path) -> None:
    (root / "dir" / "file").write_text("CONTENT")


def dir_to_file(root: Path) -> None:
    remove_tree(str(root / "dir"))
    (root / "dir").touch()


CHANGES: list[tuple[Callable[[Path], object], list[list[str]]]] = [
    (lambda root: None, []),
    (add, [["A", "/new"], ["A", "/new/file"]]),
    (rewrite, [["C", "/dir"], ["C", "/dir/file"], ["C", "/hard"]]),
    (
        lambda root: (root / "dir" / "sub" / "program").unlink(),
        [["C", "/dir"], ["C", "/dir/sub"], ["D", "/dir/sub/program"]],
    ),
    (lambda root: remove_tree(str(root / "dir")), [["D", "/dir"]]),
    (dir_to_file, [["C", "/dir"]]),
    (lambda root: (root / "empty").chmod(0o600), [["C", "/empty"]]),
    (lambda root: (root / "dir").chmod(0o700), [["C", "/dir"]]),
    (lambda root: ((root / "link").unlink(), (root / "link").symlink_to("dir/other")), [["C", "/link"]]),
]  # fmt: skip


@pytest.mark.parametrize(("change", "expected"), CHANGES)
def test_changes(
    source: Path, tmp_path: Path, change: Callable[[Path], object], expected: list[list[str]]
) -> None:
    copy_tree(str(source), str(tmp_path / "copy"))
    change(tmp_path / "copy")
    assert compare_trees(str(tmp_path / "copy"), str(source)) == {"changes": expected}


def test_a_tree_without_parent_is_all_new(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "file").touch()
    assert compare_trees(str(tmp_path / "t"), None) == {"changes": [["A", "/file"]]}


def test_size_counts_hard_links_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(os.urandom(1 << 20))
    once = tree_size(str(tmp_path))["bytes"]
    os.link(tmp_path / "file", tmp_path / "again")
    assert tree_size(str(tmp_path))["bytes"] == once >= 1 << 20


def test_remove_takes_all_and_nothing_else(source: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    (source / "out").symlink_to(outside)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(source / "s"))
    remove_tree(str(source))
    assert not source.exists()
    assert (outside / "file").exists()
    assert remove_tree(str(source)) == {"removed": 0}


def test_seal_renames(source: Path, tmp_path: Path) -> None:
    seal_tree(str(source), str(tmp_path / "layer"))
    assert (tmp_path / "layer" / "hard").read_text() == "content"
    assert not source.exists()


def test_without_root_a_copy_belongs_to_the_caller(source: Path, tmp_path: Path) -> None:
    """As an ordinary user: unreadable directories and files of one's own are copied, nothing fails."""
    need(ROOT and sys.platform == "linux", "needs root, to become somebody else")
    for path in [tmp_path, source, *source.rglob("*")]:
        os.lchown(path, 4242, 4242)
    (source / "closed").chmod(0)
    os.mknod(source / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.chown(source / "empty", 1, 1)
    before = facts(source)
    for above in (tmp_path.parent, tmp_path.parent.parent):
        above.chmod(0o755)
    if (child := os.fork()) == 0:
        status = 1
        try:
            os.setgroups([])
            os.setgid(4242)
            os.setuid(4242)
            copy_tree(str(source), str(tmp_path / "copy"))
            copy_tree(str(tmp_path / "copy"), str(tmp_path / "gone"))
            changes = compare_trees(str(tmp_path / "copy"), str(tmp_path / "gone"))
            remove_tree(str(tmp_path / "gone"))
            status = 0 if changes == {"changes": []} else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert facts(source) == before
    del before["null"]
    after = facts(tmp_path / "copy")
    assert after.pop("empty")[1:3] == (4242, 4242)
    del before["empty"]
    assert after == before
    assert not (tmp_path / "gone").exists()
