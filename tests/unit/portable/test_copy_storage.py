"""The storage driver `copy`, beyond what tests/platform asks of every driver: crashes in the middle."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jocker_engine.platform.commands import Commands, PlatformError
from jocker_engine.platform.interfaces import Change, Inventory
from jocker_engine.platform.portable.copytree import CopyStorage

NOTHING: frozenset[str] = frozenset()


@pytest.fixture
def storage(tmp_path: Path) -> CopyStorage:
    return CopyStorage(str(tmp_path), Commands())


async def test_layers_and_trees(storage: CopyStorage, tmp_path: Path) -> None:
    tree = await storage.clone("a1", None)
    assert os.stat(tree).st_mode & 0o777 == 0o755
    Path(tree, "file").write_text("one")
    await storage.seal("a1", "b1")
    assert await storage.inventory() == Inventory(frozenset({"b1"}), NOTHING, NOTHING)
    second = await storage.clone("a2", "b1")
    Path(second, "file").write_text("two!")
    Path(second, "new").touch()
    assert await storage.diff("a2") == [Change("C", "/file"), Change("A", "/new")]
    assert await storage.size("a2") > 0
    third = await storage.clone("a3", "b1")
    assert Path(third, "file").read_text() == "one"
    assert await storage.diff("a3") == []
    await storage.destroy_layer("b1")
    await storage.destroy_tree("a2")
    assert await storage.inventory() == Inventory(NOTHING, frozenset({"a3"}), NOTHING)
    assert sorted(os.listdir(tmp_path / "copy" / "trees")) == ["a3"]


async def test_what_was_done_already_is_done(storage: CopyStorage) -> None:
    tree = await storage.clone("a1", None)
    Path(tree, "file").touch()
    assert await storage.clone("a1", None) == await storage.mount("a1") == tree
    assert Path(tree, "file").exists()
    await storage.seal("a1", "b1")
    await storage.clone("a1", None)
    await storage.seal("a1", "b1")  # as after a crash between the rename and its confirmation
    assert await storage.inventory() == Inventory(frozenset({"b1"}), NOTHING, NOTHING)
    for _ in range(2):
        await storage.destroy_layer("b1")
        await storage.destroy_tree("a1")
        await storage.destroy_volume("v")
    await storage.unmount("a1")


async def test_a_crash_leaves_nothing_that_looks_whole(storage: CopyStorage, tmp_path: Path) -> None:
    """A clone or a deletion broken off leaves a .partial-, listed, which the next try or a destroy takes away."""
    trees = tmp_path / "copy" / "trees"
    (trees / ".partial-a1" / "root" / "half").mkdir(parents=True)
    (tmp_path / "copy" / "layers" / ".partial-b1" / "root").mkdir(parents=True)
    (tmp_path / "copy" / "volumes" / ".partial-v").mkdir()
    found = Inventory(frozenset({"b1"}), frozenset({"a1"}), frozenset({"v"}))
    assert await storage.inventory() == found
    with pytest.raises(PlatformError, match="layer b1 is not there"):
        await storage.clone("a2", "b1")
    tree = await storage.clone("a1", None)
    assert os.listdir(tree) == []
    assert os.listdir(trees) == ["a1"]
    await storage.destroy_layer("b1")
    await storage.destroy_volume("v")
    assert os.listdir(tmp_path / "copy" / "layers") == os.listdir(tmp_path / "copy" / "volumes") == []


async def test_what_is_not_there_is_one_line(storage: CopyStorage) -> None:
    for call in (storage.mount("aa"), storage.diff("aa"), storage.seal("aa", "bb"), storage.size("aa")):
        with pytest.raises(PlatformError, match=r"storage copy: (tree|layer) aa is not there"):
            await call


async def test_volumes(storage: CopyStorage) -> None:
    path = await storage.create_volume("v")
    Path(path, "file").touch()
    assert await storage.create_volume("v") == path
    assert Path(path, "file").exists()
    assert (await storage.inventory()).volumes == {"v"}
    await storage.destroy_volume("v")
    assert not os.path.exists(path)
