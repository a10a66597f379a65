"""Words to zfs(8) and from it, on what FreeBSD 15 printed."""

from __future__ import annotations

import pytest
from real import said

from jocker_engine.platform.freebsd import datasets as zfs

NAMES = zfs.Names("zroot/jk", "zroot/jk/volumes", "/jk")


def test_names() -> None:
    assert NAMES.pool == "zroot"
    assert NAMES.sealed("b1") == "zroot/jk/layer/b1@b1"
    assert NAMES.is_layer("zroot/jk/layer/b1@b1")
    assert not NAMES.is_layer("zroot/jk/container/c1@b1")
    assert not NAMES.is_layer("-")


def test_commands_as_they_were_run() -> None:
    """The transcripts' own command lines, from our builders."""
    assert zfs.diff("zroot/jk/layer/base1@layer", "zroot/jk/container/c1") == (
        "zfs diff -FHh zroot/jk/layer/base1@layer zroot/jk/container/c1".split()
    )
    assert zfs.receive("zroot/c/containers/copy") == "zfs receive -u zroot/c/containers/copy".split()
    assert zfs.destroy("zroot/c/containers/t1", force=True) == "zfs destroy -rf zroot/c/containers/t1".split()
    assert zfs.clone("a/layer/b@b", "a/container/c", "/jk/container/c", 5) == (
        "zfs clone -o canmount=noauto -o mountpoint=/jk/container/c -o quota=5 a/layer/b@b a/container/c".split()
    )
    assert (
        zfs.make("a/container/c", "/x")
        == "zfs create -o canmount=noauto -o mountpoint=/x a/container/c".split()
    )


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        ("zfs destroy zroot/jk/layer/base1@layer", "clones"),
        ("zfs destroy -nvp -r zroot/jk/layer/base1", "clones"),
        ("cd /jk/container/c1 && zfs unmount", "busy"),
        ("cd /jk/container/c1 && zfs destroy zroot/jk/container/c1", "busy"),
        ("zfs list -Hp -o name zroot/jk/nosuch", "absent"),
        ("zfs clone zroot/jk/layer/base1@nosuch", "absent"),
        ("zfs create zroot/jk/layer/base1", "exists"),
        ("zfs rename zroot/jk/container/nosuch", "absent"),
        ("zfs promote zroot/jk/container/c2", ""),
    ],
)
def test_problems(command: str, kind: str) -> None:
    assert zfs.problem(said("zfs", command)) == kind


def test_more_problems() -> None:
    trace = "trace-zfs-jail-lifecycle"
    assert zfs.problem(said(trace, "zfs set 'quota=10m' zroot/c/containers/copy")) == "quota"
    assert zfs.problem(said(trace, "zfs destroy zroot/c/images/base@v1")) == "clones"
    assert zfs.problem("cannot mount 'x': filesystem already mounted\n") == "mounted"
    assert zfs.problem("cannot unmount 'x': not currently mounted\n") == "unmounted"
    assert zfs.problem("unrecognized command 'diff'\nusage: ...") == "old"
    assert zfs.problem("cannot rename 'x': dataset is busy\n") == "busy"
    assert zfs.problem("cannot create 'p/x': no such pool 'p'\n") == "absent"


def test_clones_by_their_origin() -> None:
    listed = "\n".join(
        "\t".join((row[0], row[3]))
        for row in zfs.table(said("zfs", "zfs list -Hp -r -t filesystem,snapshot -o name,used"))
    )
    assert zfs.clones(listed, "zroot/jk/layer/base1") == ["zroot/jk/container/c1"]
    assert zfs.clones(listed, "zroot/jk/layer/base") == []
    assert zfs.clones(listed, "zroot/jk/container/c1") == []


def test_used_by_all_of_them() -> None:
    rows = zfs.table(said("zfs", "zfs list -Hp -r -t filesystem,snapshot -o name,used"))
    listed = "\n".join("\t".join(row[:2]) for row in rows if "@" not in row[0])
    assert zfs.used(listed)["zroot/jk/layer/base1"] == 32347648
    names = [row[0] for row in rows]
    assert NAMES.below(NAMES.home("layer"), names) == {"base1", "base1@layer"}
    assert NAMES.below(NAMES.home("container"), [*names, "zroot/jk/container/c1/inside"]) == {"c1"}


def test_diff() -> None:
    found, moved = zfs.changes(said("zfs", "zfs diff -FHh"), "/jk/container/c1")
    assert found == sorted(found, key=lambda change: change.path)
    assert {(change.kind, change.path) for change in found} == {
        *(("A", path) for path in ("/d", "/etc/hosts2", "/etc/rc.conf", "/root/new")),
        *(("C", path) for path in ("/etc", "/root")),
        *(("D", path) for path in ("/etc/hosts", "/etc/motd.template")),
    }
    assert moved == []


def changes(text: str) -> str:
    found, moved = zfs.changes(text, "/m")
    return " ".join(
        [*(f"{change.kind}{change.path}" for change in found), *(f"moved:{path}" for path in moved)]
    )


def test_diff_of_what_was_made_anew() -> None:
    gone = "-\t/\t/m/dir\n-\tF\t/m/dir/file\n-\t/\t/m/dir/sub\n-\tF\t/m/dir/sub/deep\n"
    assert changes(gone) == "D/dir"
    assert changes(gone + "+\tF\t/m/dir\n") == "C/dir"
    assert changes(gone + "+\t/\t/m/dir\n+\tF\t/m/dir/file\n") == "C/dir C/dir/file D/dir/sub"
    assert changes("M\t/\t/m/dir\n-\tF\t/m/dir/file\n") == "C/dir D/dir/file"


def test_directories_on_the_way_are_changed_too() -> None:
    assert changes("M\tF\t/m/a/b/c\n") == "C/a C/a/b C/a/b/c"
    assert changes("+\t/\t/m/a/new\n+\tF\t/m/a/new/c\n") == "C/a A/a/new A/a/new/c"


def test_diff_of_renamed_directories_and_odd_names() -> None:
    assert changes("R\t/\t/m/a\t/m/b\n") == "D/a A/b moved:/b"
    assert changes("R\tF\t/m/a\tb\t/m/c\td\n") == "D/a\tb A/c\td"
    assert changes("+\tF\t/m/two\nlines\nM\t/\t/m/\n") == "A/two\nlines"
    assert changes("+\tF\t/m/a b\\c\n+\t@\t/m/caf\u00e9\n") == "A/a b\\c A/caf\u00e9"
    assert changes("-\tF\t/m(on_delete_queue)\nM\tF\t/m/f/<xattrdir>/x\n") == ""


def test_diff_of_hard_links_is_not_enough() -> None:
    with pytest.raises(zfs.Inexact):
        zfs.changes("M\t/\t/m/\nM\tF\t/m/file\t(+1)\n", "/m")


@pytest.mark.parametrize("name", ["", "/x", "a b/c", "a@b", "a//b", "-a", "a/" + "b" * 130, "a;b", "a/b/"])
def test_bad_names(name: str) -> None:
    with pytest.raises(zfs.BadName):
        zfs.check_name(name)


def test_good_names() -> None:
    for name in ("zroot", "zroot/jocker", "tank/a_b-c.d:e"):
        assert zfs.check_name(name) == name
