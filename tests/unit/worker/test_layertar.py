"""The tar of a layer: the same bytes for the same changes, from a stack and from whole trees alike."""

from __future__ import annotations

import io
import os
import shutil
import stat
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from conftest import need
from jocker_engine.platform.linux import overlay
from jocker_engine.platform.linux.mounts import mount_overlay, unmount
from jocker_engine.platform.worker import layertar, recipe, tarwriter
from jocker_engine.platform.worker.copytree import copy_tree

OLD = 1_000_000_000


def populate(root: Path) -> None:
    """What the parent has."""
    for name in (
        "dir/kept",
        "dir/changed",
        "dir/gone",
        "full/a",
        "full/b/c",
        "again/old",
        "again/same",
        "same",
    ):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (root / "link").symlink_to("dir")
    os.link(root / "same", root / "name of same")
    for path in [root, *root.rglob("*")]:
        os.utime(path, (OLD, OLD), follow_symlinks=False)


def change(root: Path) -> None:
    (root / "dir/changed").write_text("changed")
    (root / "dir/gone").unlink()
    (root / "dir/kept").open("a").close()  # a stack copies it, and nothing is changed
    os.utime(root / "dir/kept", (OLD, OLD))
    (root / "same").chmod(0o600)
    (root / "same").chmod(0o644)
    shutil.rmtree(root / "full")
    (root / "full").write_text("a file now")
    shutil.rmtree(root / "again")
    (root / "again").mkdir()
    (root / "again/same").write_text("again/same")
    os.utime(root / "again/same", (OLD, OLD))
    (root / "link").unlink()
    (root / "link").symlink_to("elsewhere")
    (root / "new/deep").mkdir(parents=True)
    (root / "new/deep/file").write_text("x" * 1000)
    os.link(root / "new/deep/file", root / "new/name")
    os.mkfifo(root / "new/fifo", 0o640)
    (root / ("long" * 40)).write_text("long")
    (root / "naïve").write_text("é")
    os.utime(root / "naïve", (1, 1))
    if hasattr(os, "setxattr"):
        os.setxattr(root / "new/name", "user.a", b"\0\xff")
    for path in (root / "new", root / "dir", root):  # after what is in them
        os.utime(path, (OLD + 5, OLD + 5))
    for path in root.rglob("*"):
        if path.lstat().st_mtime > OLD + 10:
            os.utime(path, (OLD + 9, OLD + 9), follow_symlinks=False)


def made(tmp_path: Path, content: dict[str, Any], name: str = "recipe") -> tuple[bytes, dict[str, Any]]:
    output = tmp_path / f"{name}.tar"
    result = layertar.layer_tar(content, str(tmp_path / name), str(output))
    return output.read_bytes(), result


@pytest.fixture
def stacked(tmp_path: Path) -> dict[str, Any]:
    lower, upper, work, merged = (tmp_path / name for name in ("lower", "upper", "work", "merged"))
    reason = overlay.why_not(str(tmp_path))
    need(not reason, reason)
    for path in (lower, upper, work, merged):
        path.mkdir()
    populate(lower)
    os.utime(upper, (OLD, OLD))
    mount_overlay([str(lower)], str(upper), str(work), str(merged))
    change(merged)
    unmount(str(merged))
    return {"root": str(upper), "below": [str(lower)], "stacked": True, "since_ns": 0}


@pytest.fixture
def whole(tmp_path: Path) -> dict[str, Any]:
    parent, root = tmp_path / "parent", tmp_path / "root"
    parent.mkdir()
    populate(parent)
    copy_tree(str(parent), str(root))
    (tmp_path / "cloned").touch()
    since = (tmp_path / "cloned").stat().st_mtime_ns
    change(root)
    return {"root": str(root), "below": [str(parent)], "stacked": False, "since_ns": since}


EXPECTED = [
    "again", "again/.wh.old", "dir", "dir/.wh.gone", "dir/changed", "full", "link", "long" * 40, "naïve", "new",
    "new/deep", "new/deep/file", "new/fifo", "new/name",
]  # fmt: skip


def test_the_changes_of_whole_trees(whole: dict[str, Any], tmp_path: Path) -> None:
    tar, result = made(tmp_path, whole)
    assert result["bytes"] == len(tar)
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        members = {member.name: member for member in archive}
        assert list(members) == EXPECTED
        assert members["new/name"].islnk() and members["new/name"].linkname == "new/deep/file"
        assert members["full"].isreg() and archive.extractfile("full").read() == b"a file now"  # type: ignore[union-attr]
        assert members["link"].linkname == "elsewhere"
        assert (members["naïve"].mtime, members["dir"].mtime) == (1, OLD + 5)
        assert members["new/fifo"].isfifo() and members["new/fifo"].mode == 0o640
        assert all(member.uname == member.gname == "" for member in members.values())
    # Without knowing when it was copied it is the same, only slower.
    assert made(tmp_path, {**whole, "since_ns": 0}, "slow")[0] == tar


@pytest.mark.skipif(sys.platform != "linux", reason="overlayfs is Linux's")
def test_a_stack_gives_the_same_tar(whole: dict[str, Any], stacked: dict[str, Any], tmp_path: Path) -> None:
    assert made(tmp_path, stacked, "a")[0] == made(tmp_path, whole, "b")[0]


def test_a_recipe_gives_the_tar_again(whole: dict[str, Any], tmp_path: Path) -> None:
    tar, _ = made(tmp_path, whole)
    assert b"".join(recipe.replay(str(tmp_path / "recipe"), whole["root"])) == tar
    assert (tmp_path / "recipe").stat().st_size < len(tar) / 10
    with open(tmp_path / "recipe", "r+b") as file:
        file.truncate(20)
    with pytest.raises(recipe.RecipeError):
        list(recipe.replay(str(tmp_path / "recipe"), whole["root"]))


def test_a_whole_base(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir(mode=0o750)
    populate(root)
    content = {"root": str(root), "below": [], "stacked": False, "since_ns": 0}
    tar, _ = made(tmp_path, content)
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        names = archive.getnames()
        assert names[0] == "." and archive.getmember(".").mode == 0o750
        assert names[1:] == sorted(names[1:], key=lambda name: name.split("/"))
        assert archive.getmember("same").linkname == "name of same"


def test_a_change_of_content_alone_is_seen(tmp_path: Path) -> None:
    """Size and time are as they were: clamped times make that common."""
    parent, root = tmp_path / "parent", tmp_path / "root"
    parent.mkdir()
    (parent / "file").write_text("one")
    os.utime(parent / "file", (OLD, OLD))
    copy_tree(str(parent), str(root))
    (tmp_path / "cloned").touch()
    since = (tmp_path / "cloned").stat().st_mtime_ns
    (root / "file").write_text("two")
    os.utime(root / "file", (OLD, OLD))
    content = {"root": str(root), "below": [str(parent)], "stacked": False, "since_ns": since}
    assert b"two" in made(tmp_path, content)[0]


def test_times_are_clamped_where_something_changed(whole: dict[str, Any], tmp_path: Path) -> None:
    root = Path(whole["root"])
    layertar.clamp_times(whole, str(root), OLD + 7)
    assert (root / "new/name").stat().st_mtime == OLD + 7
    assert (root / "dir").stat().st_mtime == OLD + 5
    assert (root / "link").lstat().st_mtime == OLD + 7


def test_headers_that_ustar_has_no_room_for(tmp_path: Path) -> None:
    data = tarwriter.plain(
        b"n" * 300, mode=0o755, uid=3_000_000, gid=2, size=0, mtime=-5, xattrs={"user.x": b"\xff=\n"}
    )
    assert len(data) % tarwriter.BLOCK == 0
    with tarfile.open(fileobj=io.BytesIO(data + tarwriter.END)) as archive:
        (member,) = archive.getmembers()
    assert (member.name, member.uid, member.gid, member.mtime) == ("n" * 300, 3_000_000, 2, -5)
    assert member.mode == 0o755 and stat.S_IFMT(member.mode) == 0
    value = member.pax_headers["SCHILY.xattr.user.x"].encode(errors="surrogateescape")
    assert value == b"\xff=\n"
