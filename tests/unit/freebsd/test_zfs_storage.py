"""What the storage driver zfs does when zfs(8) refuses, on the words of a real FreeBSD; time is trio's mock clock."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
from real import said

from jocker_engine.platform.commands import Commands, Completed, PlatformError
from jocker_engine.platform.freebsd.zfs import ZfsStorage, claim, why_not

BUSY = said("zfs", "cd /jk/container/c1 && zfs destroy zroot/jk/container/c1")
ABSENT = said("zfs", "zfs list -Hp -o name zroot/jk/nosuch")
CLONES = said("zfs", "zfs destroy -nvp -r zroot/jk/layer/base1")

Answer = tuple[int, str, str]
DONE: Answer = (0, "", "")


class Script(Commands):
    """Answers by the beginning of the command line; the last answer of a list goes on."""

    def __init__(self, **answers: list[Answer]) -> None:
        super().__init__()
        self._answers = {key.replace("_", " "): value for key, value in answers.items()}
        self.ran: list[str] = []

    async def run(self, argv: Sequence[str], **options: Any) -> Completed:
        await trio.lowlevel.checkpoint()
        line = " ".join(argv)
        self.ran.append(line)
        for start, left in self._answers.items():
            if line.startswith(start):
                code, out, err = left.pop(0) if len(left) > 1 else left[0]
                if code and options.get("check", True):
                    raise PlatformError(err, argv=argv, exit_code=code, stderr=err)
                return Completed(tuple(argv), code, out, err)
        return Completed(tuple(argv), 0, "", "")


def storage(tmp_path: Path, script: Script) -> ZfsStorage:
    return ZfsStorage(str(tmp_path), script, "zroot/jk")


async def test_destroying_waits_while_it_is_busy(tmp_path: Path, autojump_clock: object) -> None:
    script = Script(zfs_destroy=[(1, "", BUSY)] * 4 + [DONE])
    began = trio.current_time()
    await storage(tmp_path, script).destroy_tree("c1")
    assert (
        script.ran == ["zfs destroy -r zroot/jk/container/c1"] + ["zfs destroy -rf zroot/jk/container/c1"] * 4
    )
    assert trio.current_time() - began == pytest.approx(0.05 + 0.1 + 0.2)


async def test_what_stays_busy_is_said_and_not_forgotten(tmp_path: Path, autojump_clock: object) -> None:
    script = Script(zfs_destroy=[(1, "", BUSY)])
    with pytest.raises(PlatformError, match="zroot/jk/container/c1 is busy and stays for now"):
        await storage(tmp_path, script).destroy_tree("c1")
    assert 5 < trio.current_time() < 10


async def test_destroying_what_is_gone(tmp_path: Path) -> None:
    script = Script(zfs_destroy=[(1, "", ABSENT)], zfs_get=[(1, "", ABSENT)])
    await storage(tmp_path, script).destroy_tree("c1")
    await storage(tmp_path, script).destroy_layer("b1")
    await storage(tmp_path, script).destroy_volume("v")


async def test_a_parent_that_must_go_first_is_taken_over(tmp_path: Path) -> None:
    listed = "zroot/jk/layer/b1\t-\nzroot/jk/container/c1\tzroot/jk/layer/b1@b1\n"
    script = Script(
        zfs_get=[(0, "zroot/jk/layer/b1\t-\n", "")],
        zfs_destroy=[(1, "", CLONES), DONE],
        zfs_list=[(0, listed, "")],
    )
    await storage(tmp_path, script).destroy_layer("b1")
    assert "zfs promote zroot/jk/container/c1" in script.ran
    assert script.ran[-1] == "zfs destroy -rf zroot/jk/layer/b1"


async def test_clones_of_others_are_left_alone(tmp_path: Path) -> None:
    script = Script(
        zfs_get=[(0, "zroot/jk/layer/b1\t-\n", "")],
        zfs_destroy=[(1, "", CLONES)],
        zfs_list=[(0, "zroot/jk/layer/b1\t-\n", "")],
    )
    with pytest.raises(
        PlatformError, match=r"datasets outside of zroot/jk are clones.*promote or destroy them"
    ):
        await storage(tmp_path, script).destroy_layer("b1")


async def test_sizes_are_asked_for_at_once(tmp_path: Path) -> None:
    rows = "zroot/jk\t9\nzroot/jk/layer\t8\nzroot/jk/layer/b1\t7\nzroot/jk/container/c1\t6\nzroot/jk/volumes/v\t5\n"
    script = Script(zfs_list=[(0, rows, "")], zfs_get=[(0, "zroot/jk/volumes\tfilesystem\n", "")])
    assert await storage(tmp_path, script).sizes() == {"b1": 7, "c1": 6, "v": 5}
    assert script.ran[-1] == "zfs list -Hp -r -t filesystem -o name,used zroot/jk"


async def test_what_is_missing_is_named_with_its_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    no_pool = Script(zfs_get=[(1, "", "cannot open 'zroot': dataset does not exist\n")])
    assert await why_not(no_pool, "zroot/jk") == (
        "there is no pool zroot",
        "zpool create zroot DISK, or set the key zroot to a dataset of a pool you have",
    )
    pool = (0, "zroot\tfilesystem\n", "")
    no_dataset = Script(zfs_get=[pool, (1, "", ABSENT)])
    assert await why_not(no_dataset, "zroot/jk") == ("there is no dataset zroot/jk", "zfs create -p zroot/jk")
    assert await why_not(Script(zfs_get=[pool, (0, "zroot/jk\tfilesystem\n", "")]), "zroot/jk") == ("", "")
    assert (await why_not(Script(zfs_get=[pool, (0, "zroot/jk\tvolume\n", "")]), "zroot/jk"))[0] == (
        "zroot/jk is not a file system"
    )
    assert "no dataset is configured" in (await why_not(Script(), ""))[0]
    assert "is no name of a dataset" in (await why_not(Script(), "zroot/a b"))[0]
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert "needs root" in (await why_not(Script(), "zroot/jk"))[0]


async def test_a_dataset_belongs_to_one_engine(tmp_path: Path) -> None:
    """Another one would take its layers for what a crash has left, and remove them."""
    mine, other = tmp_path / "mine", tmp_path / "other"
    other.mkdir()

    def script(owner: str) -> Script:
        said = {"zfs_get_-Hp_-o_name,value_jocker:root": [(0, f"zroot/jk\t{owner}\n", "")]}
        return Script(**said, zfs_get=[(0, "zroot/jk\tfilesystem\n", "")])

    for owner in ("-", str(mine), str(tmp_path / "gone")):
        assert await why_not(script(owner), "zroot/jk", str(mine)) == ("", "")
    why, mend = await why_not(script(str(other)), "zroot/jk", str(mine))
    assert why == f"dataset zroot/jk is that of the engine whose root is {other}"
    assert "`zfs inherit jocker:root zroot/jk`" in mend
    for owner in ("-", str(mine), str(tmp_path / "gone")):
        zfs = script(owner)
        await claim(zfs, str(mine), "zroot/jk", "")
        assert (f"zfs set jocker:root={mine} zroot/jk" in zfs.ran) is (owner != str(mine))
