"""What every storage driver must do. Each driver that can run here runs the whole of it for real."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import stat
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from pathlib import Path

import pytest
import trio

import pools
from conftest import need
from jocker_engine.platform.commands import Commands, PlatformError
from jocker_engine.platform.freebsd.zfs import ZfsStorage
from jocker_engine.platform.interfaces import Change, Inventory, Storage
from jocker_engine.platform.portable.copytree import CopyStorage
from jocker_engine.platform.worker.layertar import layer_tar
from jocker_engine.platform.worker.recipe import replay

ROOT = os.geteuid() == 0
MAX_DEPTH = 127
"""Layers in a chain of `overlay`."""
NOTHING: frozenset[str] = frozenset()

Opener = Callable[[], Storage]


@pytest.fixture(params=["overlay", "copy", "zfs"])
async def opener(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Opener]:
    """Makes a driver on this test's root; a second one is what the next engine finds."""
    make = {"copy": _copy, "overlay": _overlay, "zfs": _zfs}[request.param](request, str(tmp_path))
    yield make
    storage = make()
    there = await storage.inventory()
    for tree in there.trees:
        await storage.destroy_tree(tree)
    for layer in there.layers:
        await storage.destroy_layer(layer)
    for volume in there.volumes:
        await storage.destroy_volume(volume)
    assert await storage.inventory() == Inventory(NOTHING, NOTHING, NOTHING)
    assert str(tmp_path) not in mounts()
    left = [path for path in tmp_path.rglob("*") if not path.is_dir() and "input" not in path.parts]
    assert left == []


def _copy(request: pytest.FixtureRequest, root: str) -> Opener:
    return lambda: CopyStorage(root, Commands())


def _overlay(request: pytest.FixtureRequest, root: str) -> Opener:
    if sys.platform != "linux":
        pytest.skip("overlay mounts are Linux's")
    from jocker_engine.platform.linux import overlay

    reason = overlay.why_not(root)
    need(not reason, reason)
    return lambda: overlay.OverlayStorage(root, Commands())


def _zfs(request: pytest.FixtureRequest, root: str) -> Opener:
    dataset = f"{request.getfixturevalue('pool')}/{os.urandom(4).hex()}"
    subprocess.run(("zfs", "create", "-o", "mountpoint=none", dataset), check=True)
    request.addfinalizer(lambda: pools.destroy(dataset))
    return lambda: ZfsStorage(root, Commands(), dataset)


def mounts() -> str:
    """All that is mounted here."""
    return subprocess.run("mount", capture_output=True, text=True, check=True).stdout


def old_zfs(storage: Storage) -> bool:
    """Whether this is zfs-fuse, of 2010."""
    return storage.name == "zfs" and pools.flavour() == "zfs-fuse"


@pytest.fixture
def storage(opener: Opener) -> Storage:
    return opener()


def tar(path: Path, *entries: tuple[tarfile.TarInfo, bytes], mode: str = "w") -> str:
    """A tar file of these entries."""
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, mode, format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload]
        for info, content in entries:
            archive.addfile(info, io.BytesIO(content))
    return str(path)


def entry(name: str, content: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = len(content), 0o644, 1_000_000_000
    for key, value in fields.items():
        setattr(info, key, value)
    return info, content


async def test_an_empty_tree(storage: Storage) -> None:
    path = await storage.clone("a1", None)
    assert os.path.isabs(path)
    assert os.listdir(path) == []
    status = os.stat(path)
    assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o755, os.geteuid())
    assert await storage.diff("a1") == []
    assert await storage.inventory() == Inventory(NOTHING, frozenset({"a1"}), NOTHING)


async def test_trees_of_one_layer_are_apart(storage: Storage) -> None:
    base = Path(await storage.clone("a1", None))
    (base / "dir").mkdir()
    (base / "dir" / "file").write_text("base")
    (base / "gone").write_text("base")
    await storage.seal("a1", "b1")
    assert await storage.inventory() == Inventory(frozenset({"b1"}), NOTHING, NOTHING)
    one, two = Path(await storage.clone("a2", "b1")), Path(await storage.clone("a3", "b1"))
    (one / "dir" / "file").write_text("one")
    (one / "gone").unlink()
    (one / "new").touch()
    assert (two / "dir" / "file").read_text() == "base"
    assert sorted(os.listdir(two)) == ["dir", "gone"]
    assert sorted(os.listdir(one)) == ["dir", "new"]
    # The layer itself has not changed either, nor do its children change each other when sealed.
    await storage.seal("a2", "b2")
    three, four = Path(await storage.clone("a4", "b1")), Path(await storage.clone("a5", "b2"))
    assert (three / "dir" / "file").read_text() == "base"
    assert sorted(os.listdir(four)) == ["dir", "new"]
    assert (four / "dir" / "file").read_text() == "one"


async def test_a_layer_keeps_what_files_are(storage: Storage) -> None:
    tree = Path(await storage.clone("a1", None))
    tree.chmod(0o1711)
    (tree / "program").write_text("#!/bin/sh\n")
    (tree / "program").chmod(0o4755)
    os.link(tree / "program", tree / "hard")
    (tree / "link").symlink_to("/nowhere")
    os.mkfifo(tree / "fifo")
    (tree / "closed").mkdir(0o700)
    (tree / "sparse").touch()
    os.truncate(tree / "sparse", 1 << 30)
    os.utime(tree / "program", ns=(1, 1_234_567_890_123_456_789))
    if ROOT:
        os.mknod(tree / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.chown(tree / "closed", 1000, 1001)
        os.lchown(tree / "link", 7, 8)
    await storage.seal("a1", "b1")
    tree = Path(await storage.clone("a2", "b1"))
    assert stat.S_IMODE(tree.stat().st_mode) == 0o1711
    program = (tree / "program").stat()
    assert (stat.S_IMODE(program.st_mode), program.st_nlink) == (0o4755, 2)
    if not old_zfs(storage):  # it has seconds only
        assert program.st_mtime_ns == 1_234_567_890_123_456_789
    assert (tree / "hard").samefile(tree / "program")
    assert os.readlink(tree / "link") == "/nowhere"
    assert stat.S_ISFIFO((tree / "fifo").stat().st_mode)
    assert (tree / "sparse").stat().st_size == 1 << 30
    assert (tree / "sparse").stat().st_blocks < 1 << 11
    if ROOT:
        assert stat.S_ISCHR((tree / "null").stat().st_mode)
        assert ((tree / "closed").stat().st_uid, (tree / "closed").stat().st_gid) == (1000, 1001)
        assert (tree / "link").lstat().st_uid == 7


def nothing(_: Path) -> None:
    pass


def add(tree: Path) -> None:
    (tree / "new").mkdir()
    (tree / "new" / "file").touch()
    (tree / "dir" / "more").symlink_to("file")


def change(tree: Path) -> None:
    (tree / "dir" / "sub" / "deep").write_text("changed")


def chmod(tree: Path) -> None:
    (tree / "top").chmod(0o600)


def delete(tree: Path) -> None:
    (tree / "dir" / "file").unlink()


def delete_directory(tree: Path) -> None:
    shutil.rmtree(tree / "dir")


def directory_to_file(tree: Path) -> None:
    shutil.rmtree(tree / "dir")
    (tree / "dir").write_text("a file now")


def file_to_directory(tree: Path) -> None:
    (tree / "top").unlink()
    (tree / "top").mkdir()
    (tree / "top" / "inside").touch()


def link_to_directory(tree: Path) -> None:
    """What is below a link in the parent is not below the directory that took its place."""
    (tree / "link").unlink()
    (tree / "link").mkdir()
    (tree / "link" / "file").touch()


def make_anew(tree: Path) -> None:
    shutil.rmtree(tree / "dir")
    (tree / "dir").mkdir()
    (tree / "dir" / "file").write_text("anew")


def make_deeper_anew(tree: Path) -> None:
    shutil.rmtree(tree / "dir" / "sub")
    (tree / "dir" / "sub").mkdir()
    (tree / "dir" / "sub" / "other").touch()


def rename(tree: Path) -> None:
    (tree / "top").rename(tree / "dir" / "top")


def make_and_delete(tree: Path) -> None:
    (tree / "temporary").touch()
    (tree / "temporary").unlink()


def odd_names(tree: Path) -> None:
    Path(os.fsdecode(os.fsencode(tree) + b"/\xff\xfe")).touch()
    (tree / "two\nlines").touch()


DIFFS: list[tuple[Callable[[Path], None], str]] = [
    (nothing, ""),
    (add, "C /dir, A /dir/more, A /new, A /new/file"),
    (change, "C /dir, C /dir/sub, C /dir/sub/deep"),
    (chmod, "C /top"),
    (delete, "C /dir, D /dir/file"),
    (delete_directory, "D /dir"),
    (directory_to_file, "C /dir"),
    (file_to_directory, "C /top, A /top/inside"),
    (link_to_directory, "C /link, A /link/file"),
    (make_anew, "C /dir, C /dir/file, D /dir/sub"),
    (make_deeper_anew, "C /dir, C /dir/sub, D /dir/sub/deep, A /dir/sub/other"),
    (rename, "C /dir, A /dir/top, D /top"),
    (make_and_delete, ""),
    (odd_names, "A /two\nlines, A /\udcff\udcfe"),
]


@pytest.mark.parametrize(("work", "expected"), DIFFS, ids=[work.__name__ for work, _ in DIFFS])
async def test_diff(storage: Storage, work: Callable[[Path], None], expected: str) -> None:
    """Against a parent that is itself two layers, with something deleted and made again between them."""
    tree = Path(await storage.clone("a1", None))
    (tree / "dir" / "sub").mkdir(parents=True)
    (tree / "dir" / "sub" / "deep").touch()
    (tree / "dir" / "long-gone").touch()
    (tree / "top").touch()
    (tree / "link").symlink_to("dir")
    await storage.seal("a1", "b1")
    tree = Path(await storage.clone("a2", "b1"))
    (tree / "dir" / "long-gone").unlink()
    (tree / "dir" / "file").touch()
    await storage.seal("a2", "b2")
    tree = Path(await storage.clone("a3", "b2"))
    work(tree)
    found = await storage.diff("a3")
    assert ", ".join(f"{change.kind} {change.path}" for change in found) == expected
    await storage.unmount("a3")
    assert await storage.diff("a3") == found
    await storage.mount("a3")


async def test_diff_of_a_whole_tree(storage: Storage) -> None:
    tree = Path(await storage.clone("a1", None))
    (tree / "a").mkdir()
    (tree / "a" / "b").touch()
    assert await storage.diff("a1") == [Change("A", "/a"), Change("A", "/a/b")]


async def test_a_long_chain(storage: Storage) -> None:
    """As long as the driver says that it can be; a copy of copies is only slower."""
    depth = MAX_DEPTH if storage.name == "overlay" else 8
    parent = None
    for number in range(depth):
        tree = Path(await storage.clone("a1", parent))
        (tree / f"file{number}").write_text(str(number))
        (tree / "last").write_text(str(number))
        if number:
            (tree / f"file{number - 1}").unlink()
        parent = f"b{number}"
        await storage.seal("a1", parent)
    tree = Path(await storage.clone("a1", parent))
    assert sorted(os.listdir(tree)) == [f"file{depth - 1}", "last"]
    assert (tree / "last").read_text() == str(depth - 1)
    (tree / "last").unlink()
    assert await storage.diff("a1") == [Change("D", "/last")]
    if storage.name == "overlay":
        with pytest.raises(PlatformError, match=f"an image has at most {depth} layers"):
            await storage.seal("a1", "cc")
        assert os.listdir(await storage.mount("a1")) == [f"file{depth - 1}"]


async def test_what_was_done_already_is_done(storage: Storage) -> None:
    path = await storage.clone("a1", None)
    Path(path, "file").touch()
    assert await storage.clone("a1", None) == await storage.mount("a1") == path
    assert os.listdir(path) == ["file"]
    for _ in range(2):
        await storage.unmount("a1")
    assert await storage.mount("a1") == path
    await storage.seal("a1", "b1")
    again = await storage.clone("a1", None)
    Path(again, "other").touch()
    await storage.seal("a1", "b1")  # as after a crash before the confirmation: the layer stays as it is
    assert await storage.inventory() == Inventory(frozenset({"b1"}), NOTHING, NOTHING)
    assert os.listdir(await storage.clone("a2", "b1")) == ["file"]
    for _ in range(2):
        await storage.destroy_tree("a2")
        await storage.destroy_layer("b1")
        await storage.destroy_volume("v")
        await storage.unmount("a2")


async def test_the_next_engine_finds_everything(opener: Opener) -> None:
    """Also after a reboot, when nothing is mounted."""
    storage = opener()
    await storage.clone("a1", None)
    await storage.seal("a1", "b1")
    path = await storage.clone("a2", "b1")
    Path(path, "file").write_text("kept")
    volume = await storage.create_volume("v")
    await storage.unmount("a2")
    after = opener()
    assert await after.inventory() == Inventory(frozenset({"b1"}), frozenset({"a2"}), frozenset({"v"}))
    assert await after.mount("a2") == path
    assert Path(path, "file").read_text() == "kept"
    assert await after.create_volume("v") == volume
    assert [change.path for change in await after.diff("a2")] == ["/file"]


async def test_destroying_a_tree_in_use(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process may still stand in it."""
    if old_zfs(storage):
        pytest.skip("zfs-fuse hangs when what is in use is unmounted by force")
    path = await storage.clone("a1", None)
    Path(path, "file").write_text("open")
    with open(os.path.join(path, "file"), encoding="utf-8") as file:
        if storage.name != "zfs":
            await storage.destroy_tree("a1")
            assert not os.path.exists(path)
            assert file.read() == "open"
        elif sys.platform == "linux":  # nobody is thrown out: it stays, whole and known
            monkeypatch.setattr("jocker_engine.platform.freebsd.zfs.PATIENCE", (0.01, 0.1))
            with pytest.raises(PlatformError, match="is busy and stays for now"):
                await storage.destroy_tree("a1")
            assert (await storage.inventory()).trees == {"a1"}
    await storage.destroy_tree("a1")
    assert await storage.inventory() == Inventory(NOTHING, NOTHING, NOTHING)


async def test_a_big_tree_is_destroyed(storage: Storage) -> None:
    tree = Path(await storage.clone("a1", None))
    for number in range(300):
        (tree / str(number)).mkdir()
        (tree / str(number) / "closed").mkdir(0)
    size = await storage.size("a1")
    assert size > 0
    await storage.seal("a1", "b1")
    assert abs(await storage.size("b1") - size) < 1 << 16
    await storage.destroy_layer("b1")
    assert await storage.inventory() == Inventory(NOTHING, NOTHING, NOTHING)


async def test_size(storage: Storage) -> None:
    tree = Path(await storage.clone("a1", None))
    empty = await storage.size("a1")
    (tree / "file").write_bytes(os.urandom(1 << 20))
    os.link(tree / "file", tree / "link")
    os.sync()  # blocks are given at the latest now
    more = 1 << 18 if storage.name == "zfs" else 1 << 16  # zfs keeps what it notes of blocks twice
    assert 1 << 20 <= await storage.size("a1") - empty < (1 << 20) + more
    await storage.seal("a1", "b1")
    assert await storage.size("b1") >= 1 << 20


async def test_what_is_not_there_is_one_line(storage: Storage) -> None:
    for call in (
        storage.mount("aa"),
        storage.diff("aa"),
        storage.seal("aa", "bb"),
        storage.size("aa"),
        storage.clone("cc", "aa"),
    ):
        with pytest.raises(PlatformError, match=rf"^storage {storage.name}: (tree|layer) aa is not there$"):
            await call
    assert await storage.inventory() == Inventory(NOTHING, NOTHING, NOTHING)


def fill(path: str, text: str) -> None:
    """Something to tell one state of a volume from another by."""
    for name in os.listdir(path):
        os.unlink(os.path.join(path, name))
    for name, content in (("f", text), (f"only-{text}", "")):
        with open(os.path.join(path, name), "w", encoding="utf-8") as file:
            file.write(content)
    os.chmod(os.path.join(path, "f"), 0o640)


async def test_snapshots_of_volumes(storage: Storage) -> None:
    path = await storage.create_volume("v")
    for text in ("one", "two"):
        fill(path, text)
        await storage.snapshot_volume("v", text)
    fill(path, "three")
    assert await storage.snapshots() == {"v": {"one", "two"}}
    for text in ("two", "one", "two"):
        await storage.restore_volume("v", text)
        assert sorted(os.listdir(path)) == ["f", f"only-{text}"]
        with open(os.path.join(path, "f"), encoding="utf-8") as file:
            assert file.read() == text
        assert os.stat(os.path.join(path, "f")).st_mode & 0o777 == 0o640
        assert await storage.snapshots() == {"v": {"one", "two"}}
    for _ in range(2):
        await storage.destroy_snapshot("v", "one")
    assert await storage.snapshots() == {"v": {"two"}}
    assert await storage.volume_faults() == {}
    await storage.destroy_volume("v")
    assert await storage.snapshots() == {}


async def exported(storage: Storage, volume: str, snapshot: str = "") -> bytes:
    pieces: list[bytes] = []

    async def into(data: bytes) -> None:
        pieces.append(data)

    await storage.export_volume(volume, snapshot, into)
    return b"".join(pieces)


async def one_by_one(data: bytes, end: BaseException | None = None) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 1000):
        yield data[start : start + 1000]
    if end is not None:
        raise end


async def test_volumes_as_tars(storage: Storage) -> None:
    path = await storage.create_volume("v")
    other = await storage.create_volume("w")
    fill(path, "one")
    os.link(os.path.join(path, "f"), os.path.join(path, "g"))
    await storage.snapshot_volume("v", "s")
    os.symlink("f", os.path.join(path, "link"))
    with tarfile.open(fileobj=io.BytesIO(await exported(storage, "v", "s"))) as archive:
        assert sorted(archive.getnames()) == [".", "./f", "./g", "./only-one"]
    fill(other, "old")
    data = await exported(storage, "v")
    await storage.import_volume("w", one_by_one(data))
    assert sorted(os.listdir(other)) == ["f", "g", "link", "only-one"]
    assert os.path.samefile(os.path.join(other, "f"), os.path.join(other, "g"))
    for broken, error in (
        (one_by_one(data[:1500]), PlatformError),
        (one_by_one(b"no tar" * 500), PlatformError),
        (one_by_one(data[:600], KeyError("cut off")), KeyError),
    ):
        with pytest.raises(error):
            await storage.import_volume("w", broken)
        assert sorted(os.listdir(other)) == ["f", "g", "link", "only-one"]
        assert await storage.volume_faults() == {}
    await storage.destroy_volume("v")
    await storage.destroy_volume("w")


async def test_a_quota_holds(storage: Storage) -> None:
    """Of a volume, after it was restored too, and of a tree; or it is refused."""
    if storage.name != "zfs" and (os.geteuid() != 0 or sys.platform != "linux"):
        with pytest.raises(PlatformError, match="held to a size here"):
            await storage.create_volume("v", 1 << 23)
        await storage.destroy_volume("v")
        return
    path = await storage.create_volume("v", 1 << 23)
    assert os.listdir(path) == []
    await storage.snapshot_volume("v", "empty")
    for _ in range(2):
        with pytest.raises(OSError, match=r"space|[Qq]uota"), open(os.path.join(path, "f"), "wb") as file:
            for _ in range(16):
                file.write(os.urandom(1 << 20))
                file.flush()
                os.fsync(file.fileno())
        await storage.restore_volume("v", "empty")
        assert os.listdir(path) == []
    await storage.destroy_volume("v")
    if storage.name == "copy":
        with pytest.raises(PlatformError, match="overlay and zfs can"):
            await storage.clone("a1", None, 1 << 23)
        return
    path = await storage.clone("a1", None, 1 << 23)
    await storage.unmount("a1")
    assert await storage.mount("a1") == path
    with pytest.raises(OSError, match=r"space|[Qq]uota"), open(os.path.join(path, "f"), "wb") as file:
        for _ in range(16):
            file.write(os.urandom(1 << 20))
            file.flush()
            os.fsync(file.fileno())
    assert (await storage.inventory()).trees == {"a1"}


async def test_volumes(storage: Storage) -> None:
    path = await storage.create_volume("data")
    assert os.path.isabs(path)
    assert os.listdir(path) == []
    Path(path, "file").touch()
    assert await storage.create_volume("data") == path
    assert os.listdir(path) == ["file"]
    assert (await storage.inventory()).volumes == {"data"}
    await storage.destroy_volume("data")
    assert not os.path.exists(path)
    assert (await storage.inventory()).volumes == NOTHING


async def test_many_at_once(storage: Storage) -> None:
    await storage.clone("a0", None)
    await storage.seal("a0", "b1")

    async def life(number: int) -> None:
        path = await storage.clone(f"c{number}", "b1")
        Path(path, "mine").write_text(str(number))
        await trio.lowlevel.checkpoint()
        assert Path(path, "mine").read_text() == str(number)
        await storage.destroy_tree(f"c{number}")

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(life, number)
    assert (await storage.inventory()).trees == NOTHING


@pytest.mark.parametrize("compression", ["", "gz", "bz2", "xz"])
async def test_import(storage: Storage, tmp_path: Path, compression: str) -> None:
    path = tar(
        tmp_path / "input" / "base",
        entry("./", type=tarfile.DIRTYPE, mode=0o751),
        entry("./bin/", type=tarfile.DIRTYPE, mode=0o1755, mtime=5),
        entry("./bin/su", b"program", mode=0o4711),
        entry("./bin/link", type=tarfile.SYMTYPE, linkname="/bin/su"),
        entry("./bin/hard", type=tarfile.LNKTYPE, linkname="./bin/su"),
        entry("./implied/dir/file", b"text", uid=1000, gid=1001),
        entry("./fifo", type=tarfile.FIFOTYPE),
        mode=f"w:{compression}",
    )
    await storage.import_tar("b1", path)
    await storage.import_tar("b1", path)
    assert await storage.inventory() == Inventory(frozenset({"b1"}), NOTHING, NOTHING)
    tree = Path(await storage.clone("a1", "b1"))
    assert sorted(os.listdir(tree)) == ["bin", "fifo", "implied"]
    assert stat.S_IMODE(tree.stat().st_mode) == 0o751
    assert (tree / "bin").stat().st_mtime == 5
    assert stat.S_IMODE((tree / "bin").stat().st_mode) == 0o1755
    assert (tree / "bin" / "su").read_bytes() == b"program"
    assert stat.S_IMODE((tree / "bin" / "su").stat().st_mode) == 0o4711
    assert (tree / "bin" / "su").stat().st_mtime == 1_000_000_000
    assert (tree / "bin" / "hard").samefile(tree / "bin" / "su")
    assert os.readlink(tree / "bin" / "link") == "/bin/su"
    if ROOT:
        assert (tree / "implied" / "dir" / "file").stat().st_uid == 1000
        assert (tree / "implied" / "dir" / "file").stat().st_gid == 1001


async def test_import_of_devices_and_xattrs(storage: Storage, tmp_path: Path) -> None:
    need(ROOT, "device nodes need root")
    path = tar(
        tmp_path / "input" / "base",
        entry("dev/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
        entry("ping", b"x", pax_headers={"SCHILY.xattr.user.note": "täg"}),
    )
    await storage.import_tar("b1", path)
    tree = Path(await storage.clone("a1", "b1"))
    assert stat.S_ISCHR((tree / "dev" / "null").stat().st_mode)
    if sys.platform == "linux":  # numbers of devices mean nothing to FreeBSD; Python has no xattrs there
        assert (tree / "dev" / "null").stat().st_rdev == os.makedev(1, 3)
        assert os.getxattr(tree / "ping", "user.note") == "täg".encode()


async def test_import_writes_nothing_outside(storage: Storage, tmp_path: Path) -> None:
    outside = tmp_path / "input" / "outside"
    outside.mkdir(parents=True)
    up = "../" * 40
    path = tar(
        tmp_path / "input" / "base",
        entry(f"{up}{str(outside)[1:]}/one", b"x"),
        entry(f"{outside}/two", b"x"),
        entry("out", type=tarfile.SYMTYPE, linkname=str(outside)),
        entry("out/three", b"x"),
        entry("up", type=tarfile.SYMTYPE, linkname=f"{up}{str(outside)[1:]}"),
        entry("up/four", b"x"),
        entry("file", type=tarfile.SYMTYPE, linkname=f"{outside}/five"),
        entry("file", b"x"),
    )
    await storage.import_tar("b1", path)
    assert os.listdir(outside) == []
    tree = Path(await storage.clone("a1", "b1"))
    inside = Path(f"{tree}{outside}")
    assert sorted(os.listdir(inside)) == ["four", "one", "three", "two"]
    assert not (tree / "file").is_symlink()


@pytest.mark.parametrize("content", [b"", b"this is no archive", b"\x1f\x8b\x08" + b"\0" * 600])
async def test_import_of_what_is_no_tar(storage: Storage, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "input" / "base"
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(PlatformError, match="not a tar archive"):
        await storage.import_tar("b1", str(path))
    with pytest.raises(PlatformError, match="layer b1 is not there"):
        await storage.clone("a1", "b1")
    await storage.destroy_layer("b1")
    assert await storage.inventory() == Inventory(NOTHING, NOTHING, NOTHING)


async def test_a_layer_is_the_same_tar_whatever_the_driver(storage: Storage, tmp_path: Path) -> None:
    def settle(tree: Path) -> None:
        for path in [*tree.rglob("*"), tree]:
            os.utime(path, (1_000_000_000, 1_000_000_000), follow_symlinks=False)

    tree = Path(await storage.clone("a1", None))
    (tree / "dir").mkdir()
    for name in ("dir/kept", "dir/gone", "dir/changed"):
        (tree / name).write_text(name)
    settle(tree)
    await storage.seal("a1", "b1")
    tree = Path(await storage.clone("a2", "b1"))
    if old_zfs(storage):
        await trio.sleep(1.1)  # it has whole seconds only, and inodes of clones are the same
    (tree / "dir" / "gone").unlink()
    (tree / "dir" / "changed").write_text("CHANGED....")
    (tree / "new").symlink_to("dir")
    (tree / "dir" / "kept").chmod(0o644)
    settle(tree)
    (tmp_path / "input").mkdir()
    unsealed = layer_tar(asdict(await storage.content("a2")), str(tmp_path / "input" / "recipe"))
    await storage.seal("a2", "b2")
    sealed = layer_tar(asdict(await storage.content("b2")), str(tmp_path / "input" / "recipe"))
    assert sealed == unsealed
    content = await storage.content("b2")
    again = b"".join(replay(str(tmp_path / "input" / "recipe"), content.root))
    assert f"sha256:{hashlib.sha256(again).hexdigest()}" == sealed["diff_id"]
    with tarfile.open(fileobj=io.BytesIO(again)) as archive:
        assert archive.getnames() == ["dir", "dir/.wh.gone", "dir/changed", "new"]
    if ROOT:
        assert sealed["diff_id"].startswith("sha256:e46b3e003545ee0b17f1ab697c87a573")
