"""The storage driver `overlay`, beyond what tests/platform asks of every driver: crashes, odd paths, privacy."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from conftest import need
from jocker_engine.platform.commands import Commands, PlatformError
from jocker_engine.platform.interfaces import Change, Inventory
from jocker_engine.platform.linux import overlay
from jocker_engine.platform.linux.mounts import is_mounted, mount_overlay, unmount
from jocker_engine.platform.linux.overlay import OverlayStorage
from jocker_engine.platform.worker.overlaydiff import overlay_changes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="overlayfs is Linux's")

NOTHING: frozenset[str] = frozenset()


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[OverlayStorage]:
    reason = overlay.why_not(str(tmp_path))
    need(not reason, reason)
    made = OverlayStorage(str(tmp_path), Commands())
    yield made
    for tree in (await made.inventory()).trees:
        await made.destroy_tree(tree)


def mounts(path: Path) -> list[str]:
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        return [line for line in file if str(path) in line]


async def test_nobody_else_gets_at_a_tree(storage: OverlayStorage, tmp_path: Path) -> None:
    """A container can make a set-uid program of root's: no user of the host may run it."""
    os.umask(os.umask(0))
    tree = await storage.clone("a1", None)
    volume = await storage.create_volume("v")
    for path in (tree, volume):
        modes = [
            stat.S_IMODE(above.stat().st_mode) for above in Path(path).parents if tmp_path in above.parents
        ]
        assert any(mode & 0o077 == 0 for mode in modes)
    assert stat.S_IMODE(os.stat(tree).st_mode) == 0o755


async def test_a_path_with_what_options_are_made_of(storage: OverlayStorage, tmp_path: Path) -> None:
    """Commas and colons separate mount options and layers."""
    root = tmp_path / "a,b:c\\d e"
    root.mkdir()
    odd = OverlayStorage(str(root), Commands())
    Path(await odd.clone("a1", None), "one").touch()
    await odd.seal("a1", "b1")
    assert os.listdir(await odd.clone("a2", "b1")) == ["one"]
    await odd.destroy_tree("a2")
    assert mounts(tmp_path) == []


async def test_a_seal_that_was_cut_off(storage: OverlayStorage, tmp_path: Path) -> None:
    """It is one rename: before it there is the tree with all it holds, also without what a mount needs."""
    Path(await storage.clone("a1", None), "file").write_text("kept")
    await storage.unmount("a1")
    home = tmp_path / "overlay" / "trees" / "a1"
    (home / "merged").rmdir()
    assert await storage.inventory() == Inventory(NOTHING, frozenset({"a1"}), NOTHING)
    assert Path(await storage.mount("a1"), "file").read_text() == "kept"
    await storage.seal("a1", "b1")
    assert sorted(os.listdir(tmp_path / "overlay" / "layers" / "b1")) == ["diff", "parent"]
    assert os.listdir(tmp_path / "overlay" / "trees") == []


async def test_what_was_half_made_is_listed_and_goes(storage: OverlayStorage, tmp_path: Path) -> None:
    """So that reconciliation, which destroys what nobody knows, takes it away."""
    base = tmp_path / "overlay"
    (base / "layers" / ".partial-b1" / "diff" / "half").mkdir(parents=True)
    (base / "trees" / ".partial-a1" / "diff").mkdir(parents=True)
    (tmp_path / "volumes" / ".partial-v").mkdir()
    assert await storage.inventory() == Inventory(frozenset({"b1"}), frozenset({"a1"}), frozenset({"v"}))
    with pytest.raises(PlatformError, match="layer b1 is not there"):
        await storage.clone("a2", "b1")
    assert os.listdir(await storage.clone("a1", None)) == []
    await storage.destroy_tree("a1")
    await storage.destroy_layer("b1")
    await storage.destroy_volume("v")
    assert await storage.inventory() == Inventory(NOTHING, NOTHING, NOTHING)
    assert mounts(tmp_path) == []


async def test_mounts_on_top_of_each_other_all_go(storage: OverlayStorage, tmp_path: Path) -> None:
    merged = await storage.clone("a1", None)
    for name in ("lower", "upper", "work"):
        (tmp_path / name).mkdir()
    mount_overlay([str(tmp_path / "lower")], str(tmp_path / "upper"), str(tmp_path / "work"), merged)
    assert len(mounts(tmp_path)) == 2
    await storage.destroy_tree("a1")
    assert mounts(tmp_path) == []
    assert not is_mounted(merged)
    unmount(merged)


async def test_a_layer_lower_down_with_links_out(storage: OverlayStorage, tmp_path: Path) -> None:
    """The comparison reads layers from outside, where links of an image lead to the host's own files."""
    (tmp_path / "host").mkdir()
    (tmp_path / "host" / "file").touch()
    Path(await storage.clone("a1", None), "dir").symlink_to(tmp_path / "host")
    await storage.seal("a1", "b1")
    tree = Path(await storage.clone("a2", "b1"))
    (tree / "dir").unlink()
    (tree / "dir").mkdir()
    (tree / "dir" / "file").touch()
    assert await storage.diff("a2") == [Change("C", "/dir"), Change("A", "/dir/file")]


def test_opaque_and_deleted_directories_between_layers(tmp_path: Path) -> None:
    """upper / top (dir opaque) / middle (gone is a whiteout) / bottom."""
    need(os.geteuid() == 0, "whiteouts need root")
    upper, top, middle, bottom = (tmp_path / name for name in ("upper", "top", "middle", "bottom"))
    for path in ("upper/dir", "upper/gone", "top/dir", "middle", "bottom/dir", "bottom/gone"):
        (tmp_path / path).mkdir(parents=True)
    for path in ("upper/dir/file", "upper/gone/file", "bottom/dir/file", "bottom/gone/file", "top/dir/other"):
        (tmp_path / path).touch()
    os.setxattr(top / "dir", "trusted.overlay.opaque", b"y")
    os.mknod(middle / "gone", stat.S_IFCHR, 0)
    os.mknod(upper / "never", stat.S_IFCHR, 0)
    os.mknod(upper / "dir" / "other", stat.S_IFCHR, 0)
    found = overlay_changes(str(upper), [str(top), str(middle), str(bottom)])["changes"]
    assert found == [
        ["C", "/dir"],
        ["A", "/dir/file"],
        ["D", "/dir/other"],
        ["A", "/gone"],
        ["A", "/gone/file"],
    ]


async def test_why_not(storage: OverlayStorage, tmp_path: Path) -> None:
    """An overlay's upper directory cannot be on another overlay, as in a container of Docker's."""
    tree = await storage.clone("a1", None)
    why = overlay.why_not(tree)
    assert why == f"an overlay mount below {tree} is refused: Invalid argument"
    assert os.listdir(tree) == []
