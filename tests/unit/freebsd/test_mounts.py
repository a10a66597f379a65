"""What is mounted in a jail's root, in which order; the mount table as FreeBSD prints it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from real import said

from jocker_engine.platform.commands import PlatformError
from jocker_engine.platform.freebsd.mounts import (
    Mount,
    Mounted,
    below,
    covered,
    make_point,
    parse_table,
    plan,
)
from jocker_engine.platform.interfaces import Bind


def real_table() -> list[Mounted]:
    """The transcript shows the first 600 bytes: the last entry is cut off."""
    text = said("vnet-pf-mounts", "mount -p | head -20; mount --libxo:J").splitlines()[-1]
    whole = text[: text.rindex(", {")] + "]}}"
    return parse_table(whole)


def test_the_mount_table() -> None:
    table = real_table()
    assert table[0] == Mounted("/dev/vtbd0p2", "/", "ufs")
    assert Mounted("fdescfs", "/dev/fd", "fdescfs") in table
    assert below(table, "/dev") == ["/dev/fd"]
    assert below(table, "/jk/") == []


def test_the_order(tmp_path: Path) -> None:
    root, volume, file = tmp_path / "root", tmp_path / "volume", tmp_path / "one"
    for path in (root, volume):
        path.mkdir()
    file.write_text("")
    (root / "etc").mkdir()
    (root / "deep").symlink_to("/var/deep")
    mounts = plan(
        str(root),
        (Bind(str(volume), "/deep/inner", read_only=True), Bind(str(volume), "/deep"), Bind("", "/scratch")),
        {"/etc/hosts": str(file)},
        [
            Mounted("x", f"{volume}/child", "zfs"),
            Mounted("x", f"{volume}/dev", "devfs"),
            Mounted("x", "/", "ufs"),
        ],
        ruleset="4",
        fdescfs=True,
        procfs=True,
    )
    assert [each.argv()[1:] for each in mounts] == [
        ["-t", "devfs", "-o", "ruleset=4", "devfs", f"{root}/dev"],
        ["-t", "fdescfs", "fdescfs", f"{root}/dev/fd"],
        ["-t", "procfs", "procfs", f"{root}/proc"],
        ["-t", "nullfs", str(volume), f"{root}/var/deep"],
        ["-t", "nullfs", f"{volume}/child", f"{root}/var/deep/child"],
        ["-t", "tmpfs", "-o", "mode=1777,nosuid,noexec", "tmpfs", f"{root}/scratch"],
        ["-t", "nullfs", str(file), f"{root}/etc/hosts"],
        ["-t", "nullfs", "-o", "ro", str(volume), f"{root}/var/deep/inner"],
        ["-t", "nullfs", "-o", "ro", f"{volume}/child", f"{root}/var/deep/inner/child"],
    ]
    assert os.path.isfile(root / "etc" / "hosts")
    assert os.path.isdir(root / "scratch")
    assert plan(str(root), (), {}, [], ruleset="4", devfs=False) == []


def test_options_of_a_tmpfs(tmp_path: Path) -> None:
    bind = Bind("", "/t", options=("size=16m", "mode=700", "exec", "nodev", "noatime"))
    assert plan(str(tmp_path), (bind,), {}, [], ruleset="4", devfs=False) == [
        Mount("tmpfs", "tmpfs", f"{tmp_path}/t", ("nosuid", "size=16m", "mode=700"))
    ]


@pytest.mark.parametrize(
    ("bind", "why"),
    [
        (Bind("/nowhere/at/all", "/x"), "it is not there"),
        (Bind("/etc", "/dev/x"), "devfs"),
        (Bind("/etc", "/"), "root directory"),
        (Bind("/etc", "/a/.."), "root directory"),
        (Bind("/etc", "/file/x"), "cannot mount at"),
    ],
)
def test_refused(bind: Bind, why: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PlatformError, match=why):
        plan(str(tmp_path), (bind,), {}, [], ruleset="4")


def test_a_mount_in_a_mount(tmp_path: Path) -> None:
    """Its point is made again, where something was mounted over the one that the plan made."""
    root, outer, inner = (Mount("nullfs", "/s", target) for target in ("/r", "/r/a", "/r/a/b"))
    assert covered(inner, [root, outer], "/r") and not covered(outer, [root], "/r")
    assert not covered(Mount("nullfs", "/s", "/r/ab"), [outer], "/r")
    (tmp_path / "f").write_text("")
    make_point(Mount("nullfs", str(tmp_path / "f"), str(tmp_path / "deep" / "file")))
    make_point(Mount("nullfs", str(tmp_path), str(tmp_path / "deep" / "directory")))
    make_point(Mount("tmpfs", "tmpfs", str(tmp_path / "t")))
    assert (tmp_path / "deep" / "file").is_file() and (tmp_path / "deep" / "directory").is_dir()
    assert (tmp_path / "t").is_dir()
    (tmp_path / "link").symlink_to("/etc")
    with pytest.raises(PlatformError, match="a link in a volume leads elsewhere"):
        make_point(Mount("tmpfs", "tmpfs", str(tmp_path / "link")))
    with pytest.raises(PlatformError, match=r"cannot mount at .*: Not a directory"):
        make_point(Mount("tmpfs", "tmpfs", str(tmp_path / "f" / "x")))
