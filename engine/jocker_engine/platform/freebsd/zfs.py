"""Storage driver `zfs`: layers, trees and volumes are datasets; a tree is a clone of a layer's snapshot.

Below the dataset ROOT: ROOT/layer/ID with the snapshot ID, ROOT/container/ID, and volumes below a dataset of their
own. All have canmount=noauto and a mount point below the engine's root, and are mounted when they are used. A layer
without its snapshot is half made. zfs writes what it has done to disk before it says so; nothing needs syncing.

Runs wherever there is a zfs(8): FreeBSD, OpenZFS on Linux, and zfs-fuse, which is old.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import trio

from ..commands import Busy, Commands, Completed, PlatformError
from ..interfaces import Change, Content, Inventory
from ..work import work
from . import datasets as zfs
from .zfsvolumes import ZfsVolumes

PATIENCE = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
"""Seconds between attempts while a dataset is busy: unmounting ends a moment after umount(8) does."""


class ZfsStorage(ZfsVolumes):
    """See interfaces.Storage."""

    name = "zfs"

    def __init__(self, root: str, commands: Commands, dataset: str, volumes: str = "") -> None:
        """`dataset` is there; what it holds is made. `volumes`: a dataset for volumes, if not one below it."""
        self._commands = commands
        mounts = os.path.join(os.path.realpath(root), "zfs")
        self._names = zfs.Names(dataset, volumes or f"{dataset}/volumes", mounts)
        self._homes: set[str] = set()
        self._held: dict[str, int] = {}
        """Layers that are mounted to be read, and how many read them."""
        self._read: dict[str, list[str]] = {}
        """Layer or tree -> the layers that its content is in."""
        self._holding = trio.Lock()
        self._readers = set()
        # No user of the host may get at what is inside: a container can make a set-uid program.
        os.makedirs(mounts, mode=0o700, exist_ok=True)
        os.chmod(mounts, 0o700)

    # --- layers ---

    async def import_tar(self, layer: str, tar: str) -> None:
        if await self._sealed(layer):
            return
        path = await self._begin(layer)
        await work(self._commands, "import_tar", tar=tar, target=path)
        await self._finish(layer)

    async def import_dataset(self, layer: str, dataset: str, *, copy: bool) -> None:
        """Make a base layer of a dataset, or of a snapshot of it: a copy, or a clone that goes on standing on it.

        Raises PlatformError: there is no such dataset; what zfs refuses.
        """
        if await self._sealed(layer):
            return
        await self._home(zfs.LAYER)
        await self._destroy(self._names.layer(layer))
        origin = dataset if "@" in dataset else f"{dataset}@{_ours(layer)}"
        if origin != dataset and await self._run("zfs", "snapshot", origin, fine=("exists",)) == "absent":
            raise PlatformError(
                f"storage zfs: there is no dataset {dataset}; `zfs list` shows those there are"
            )
        if copy:
            await self._copy(origin, layer)
            if origin != dataset:
                await self._destroy(origin)
            return
        made = await self._run(*zfs.clone(origin, self._names.layer(layer), self._path(zfs.LAYER, layer)))
        if made == "absent":
            raise PlatformError(
                f"storage zfs: there is no snapshot {origin}; `zfs list -t snapshot` shows those there are"
            )
        await self._must("zfs", "snapshot", self._names.sealed(layer))

    async def _copy(self, origin: str, layer: str) -> None:
        """What was received is whole, and a layer from the moment that its snapshot has its name."""
        target = self._names.layer(layer)
        for receive in (zfs.receive(target), zfs.receive(target, mount=True)):
            done = await work(self._commands, "pipe", first=zfs.send(origin), second=receive)
            if not any(done["codes"]):
                break
            said = " ".join(" ".join(done["said"]).split())
            if zfs.problem(done["said"][0]) == "absent":
                raise PlatformError(
                    f"storage zfs: there is no snapshot {origin}; `zfs list -t snapshot` shows those there are"
                )
            if zfs.problem(done["said"][1]) != "old":
                raise PlatformError(f"storage zfs: copying {origin} failed: {said}")
        for property in zfs.own(self._path(zfs.LAYER, layer)):
            await self._must("zfs", "set", property, target)
        received = f"{target}@{origin.partition('@')[2]}"
        await self._unmount(target, self._path(zfs.LAYER, layer))
        await self._must("zfs", "rename", received, self._names.sealed(layer))

    async def _begin(self, layer: str) -> str:
        """An empty file system for a layer, mounted; what was half made of it is gone."""
        await self._home(zfs.LAYER)
        await self._destroy(self._names.layer(layer))
        await self._must(*zfs.make(self._names.layer(layer), self._path(zfs.LAYER, layer)))
        return await self._mount(self._names.layer(layer), zfs.LAYER, layer)

    async def _finish(self, layer: str) -> None:
        await self._must("zfs", "snapshot", self._names.sealed(layer))
        await self._unmount(self._names.layer(layer), self._path(zfs.LAYER, layer))

    async def seal(self, tree: str, layer: str) -> None:
        await self._home(zfs.LAYER)
        dataset, path = self._names.tree(tree), self._path(zfs.CONTAINER, tree)
        if await self._run("zfs", "snapshot", f"{dataset}@{layer}", fine=("exists",)) == "absent":
            raise PlatformError(f"storage zfs: tree {tree} is not there")
        await self._unmount(dataset, path)
        rename = ("zfs", "rename", dataset, self._names.layer(layer))
        if await self._run(*rename, fine=()) != "exists":
            return
        if await self._sealed(layer):  # a crash came before the confirmation
            await self.destroy_tree(tree)
            return
        await self._destroy(self._names.layer(layer))
        await self._must(*rename)

    async def _sealed(self, layer: str) -> bool:
        said = await self._run("zfs", "list", "-H", "-t", "snapshot", "-o", "name", self._names.sealed(layer))
        return said == ""

    async def destroy_layer(self, layer: str) -> None:
        dataset = self._names.layer(layer)
        origin = await self._get("origin", dataset)
        await self._destroy(dataset, self._path(zfs.LAYER, layer))
        if origin and origin.endswith("@" + _ours(layer)):
            await self._destroy(origin)

    # --- trees ---

    async def clone(self, tree: str, parent: str | None, quota: int = 0) -> str:
        await self._home(zfs.CONTAINER)
        dataset, path = self._names.tree(tree), self._path(zfs.CONTAINER, tree)
        argv = (
            zfs.clone(self._names.sealed(parent), dataset, path, quota)
            if parent
            else zfs.make(dataset, path, quota)
        )
        if await self._run(*argv, fine=("exists",)) == "absent":
            raise PlatformError(f"storage zfs: layer {parent} is not there")
        return await self._mount(dataset, zfs.CONTAINER, tree)

    async def mount(self, tree: str) -> str:
        return await self._mount(self._names.tree(tree), zfs.CONTAINER, tree)

    async def unmount(self, tree: str) -> None:
        await self._unmount(self._names.tree(tree), self._path(zfs.CONTAINER, tree))

    async def destroy_tree(self, tree: str) -> None:
        await self._destroy(self._names.tree(tree), self._path(zfs.CONTAINER, tree))

    async def mounted(self) -> frozenset[str]:
        directory = os.path.join(self._names.mounts, zfs.CONTAINER)
        names = os.listdir(directory) if os.path.isdir(directory) else []
        return frozenset(name for name in names if os.path.ismount(os.path.join(directory, name)))

    async def size(self, name: str) -> int:
        if os.path.ismount(self._path(zfs.CONTAINER, name)):  # what is written counts when it is on disk
            await self._sync(self._names.tree(name))
        argv = zfs.get("used", self._names.tree(name), self._names.layer(name))
        done = await self._commands.run(argv, check=False)
        found = zfs.used(done.stdout)
        if not found:
            raise PlatformError(f"storage zfs: layer {name} is not there")
        return next(iter(found.values()))

    async def _sync(self, dataset: str) -> None:
        """What was written is on disk, and counted."""
        done = await self._commands.run(("zpool", "sync", self._names.pool), timeout=300, check=False)
        if done.exit_code != 0 and zfs.problem(done.stderr) == "old":
            await self._must("zfs", "inherit", "jocker:nothing", dataset)  # any change waits for the disk

    async def sizes(self) -> dict[str, int]:
        await self._home("")
        done = await self._commands.run(zfs.list_used(*self._roots()), check=False)
        if done.exit_code != 0 and zfs.problem(done.stderr) == "old":
            done = await self._commands.run(zfs.get_used(*self._roots()), check=False)
        if done.exit_code != 0:
            raise _failed(done)
        found = zfs.used(done.stdout)
        homes = (self._names.home(zfs.LAYER), self._names.home(zfs.CONTAINER), self._names.volumes)
        return {
            name.removeprefix(home + "/"): size
            for name, size in found.items()
            for home in homes
            if name.startswith(home + "/") and "/" not in name.removeprefix(home + "/")
        }

    # --- what changed ---

    async def diff(self, tree: str) -> list[Change]:
        dataset, path = self._names.tree(tree), self._path(zfs.CONTAINER, tree)
        origin = await self._get("origin", dataset)
        if origin is None:
            raise PlatformError(f"storage zfs: tree {tree} is not there")
        mounted = os.path.ismount(path)
        await self._mount(dataset, zfs.CONTAINER, tree)
        try:
            if origin == "-":
                return await self._compared(path, None)
            done = await self._commands.run(zfs.diff(origin, dataset), timeout=600, check=False)
            if done.exit_code == 0:
                try:
                    return await self._told(done.stdout, path)
                except zfs.Inexact:
                    pass
            elif zfs.problem(done.stderr) != "old":
                raise _failed(done)
            if not self._names.is_layer(origin):
                raise PlatformError(
                    f"storage zfs: the layer below {tree} was removed; what changed cannot be told"
                )
            parent = origin.rpartition("@")[2]
            below = await self._hold(parent)
            try:
                return await self._compared(path, below)
            finally:
                with trio.CancelScope(shield=True):
                    await self._let_go(parent)
        finally:
            if not mounted:
                with trio.CancelScope(shield=True):
                    await self._unmount(dataset, path)

    async def _told(self, stdout: str, path: str) -> list[Change]:
        """By `zfs diff`; of a directory that was renamed, all that is in it is new at its place."""
        found, moved = zfs.changes(stdout, path)
        if not moved:
            return found
        kinds = {change.path: change.kind for change in found}
        for directory in moved:
            for change in await self._compared(os.path.join(path, directory[1:]), None):
                kinds[directory + change.path] = "A"
        return [Change(kind, name) for name, kind in sorted(kinds.items())]

    async def _compared(self, path: str, parent: str | None) -> list[Change]:
        answer = await work(self._commands, "compare_trees", tree=path, parent=parent)
        return [Change(kind, name) for kind, name in answer["changes"]]

    async def content(self, name: str) -> Content:
        tree = os.path.ismount(self._path(zfs.CONTAINER, name))
        dataset = self._names.tree(name) if tree else self._names.layer(name)
        origin = await self._get("origin", dataset)
        if origin is None:
            raise PlatformError(f"storage zfs: layer {name} is not there")
        parent = origin.rpartition("@")[2] if self._names.is_layer(origin) else ""
        wanted = [layer for layer in ("" if tree else name, parent) if layer]
        paths = [await self._hold(layer) for layer in wanted]
        self._read[name] = wanted
        root = self._path(zfs.CONTAINER, name) if tree else paths[0]
        if not parent:  # of a dataset that is not ours all is the layer's own
            return Content(root)
        created = int(await self._get("creation", dataset) or 0)
        return Content(root, (paths[-1],), since_ns=created * 10**9)

    async def release(self, name: str) -> None:
        for layer in self._read.get(name, ()):
            await self._let_go(layer)

    async def _hold(self, layer: str) -> str:
        """Mount a layer, to be read only, for as long as anybody needs it; returns its path."""
        async with self._holding:
            dataset, path = self._names.layer(layer), self._path(zfs.LAYER, layer)
            if not os.path.ismount(path):  # its mount point is still that of the tree that it was
                if await self._run("zfs", "set", f"mountpoint={path}", dataset) == "absent":
                    raise PlatformError(f"storage zfs: layer {layer} is not there")
                await self._must("zfs", "mount", "-o", "ro", dataset, fine=("mounted",))
            self._held[dataset] = self._held.get(dataset, 0) + 1
            return path

    async def _let_go(self, layer: str) -> None:
        async with self._holding:
            dataset = self._names.layer(layer)
            self._held[dataset] = self._held.get(dataset, 0) - 1
            if self._held[dataset] <= 0:
                del self._held[dataset]
                await self._unmount(dataset, self._path(zfs.LAYER, layer))

    # --- all ---

    async def inventory(self) -> Inventory:
        await self._home("")
        names = [row[0] for row in zfs.table(await self._out(*zfs.list_names(*self._roots())))]
        below = self._names.below
        return Inventory(
            below(self._names.home(zfs.LAYER), names),
            below(self._names.home(zfs.CONTAINER), names),
            below(self._names.volumes, names),
        )

    def _roots(self) -> list[str]:
        """The datasets to list from."""
        apart = not self._names.volumes.startswith(self._names.root + "/")
        return [self._names.root, *([self._names.volumes] if apart else [])]

    # --- datasets ---

    def _path(self, kind: str, name: str) -> str:
        return os.path.join(self._names.mounts, kind, name)

    async def _home(self, kind: str) -> None:
        """The parent of a kind ("" for volumes) is there."""
        dataset = self._names.home(kind) if kind else self._names.volumes
        if dataset not in self._homes:
            if await self._get("type", dataset) is None:
                await self._must(*zfs.make_home(dataset), fine=("exists",))
            self._homes.add(dataset)

    async def _mount(self, dataset: str, kind: str, name: str) -> str:
        """No error when it is mounted already. Raises PlatformError when it is not there."""
        path = self._path(kind, name)
        if not os.path.ismount(path):
            said = await self._run("zfs", "mount", dataset, fine=("mounted",))
            if said == "absent":
                what = {zfs.CONTAINER: "tree", zfs.LAYER: "layer"}.get(kind, "volume")
                raise PlatformError(f"storage zfs: {what} {name} is not there")
        return path

    async def _unmount(self, dataset: str, path: str) -> None:
        if os.path.ismount(path):
            argv = ("zfs", "unmount", dataset)
            if await self._run(*argv, fine=("unmounted", "absent"), patient=False) == "busy":
                await self._must("zfs", "unmount", "-f", dataset, fine=("unmounted", "absent"))
        _remove_mount_point(path)

    async def _destroy(self, dataset: str, path: str = "") -> None:
        """Until it is gone: again while it is busy, and after what stands on it has been made to stand alone.

        Raises PlatformError when it stays busy; it is whole then, and still in the inventory.
        """
        said = await self._run(*zfs.destroy(dataset), fine=("absent",), patient=False)
        while said in ("busy", "clones"):
            if said == "clones":
                await self._promote_one(dataset)
            said = await self._run(*zfs.destroy(dataset, force="@" not in dataset), fine=("absent",))
            if said == "busy":
                raise Busy(
                    f"storage zfs: {dataset} is busy and stays for now; stop what uses it "
                    f"(`fstat -f {path or dataset}` or `fuser -vm` tells), and remove it again"
                )
        if path:
            _remove_mount_point(path)

    async def _promote_one(self, dataset: str) -> None:
        """The parent must go first: a clone takes over its snapshots. The others then stand on that one."""
        listed = await self._out(*zfs.list_origins(self._names.root))
        standing = zfs.clones(listed, dataset)
        if not standing:
            raise PlatformError(
                f"storage zfs: datasets outside of {self._names.root} are clones of {dataset}; "
                f"`zfs destroy -nr {dataset}` names them: promote or destroy them first"
            )
        await self._must("zfs", "promote", standing[0])

    async def _get(self, property: str, dataset: str) -> str | None:
        """A property; None when there is no such dataset."""
        done = await self._commands.run(zfs.get(property, dataset), check=False)
        if done.exit_code == 0:
            return zfs.table(done.stdout)[0][1]
        if zfs.problem(done.stderr) == "absent":
            return None
        raise _failed(done)

    async def _out(self, *argv: str) -> str:
        done = await self._commands.run(argv)
        return done.stdout

    async def _must(self, *argv: str, fine: Sequence[str] = ()) -> None:
        """Raises PlatformError for all that is not fine."""
        said = await self._run(*argv, fine=fine)
        if said:
            raise PlatformError(f"storage zfs: `{' '.join(argv)}` is refused: {said}", argv=argv)

    async def _run(self, *argv: str, fine: Sequence[str] = (), patient: bool = True) -> str:
        """ "" when it is done or `fine`; else the kind of problem. Raises PlatformError for those without a kind.

        While the dataset is busy it is tried again, if `patient`.
        """
        for pause in (*PATIENCE, None) if patient else (None,):
            done = await self._commands.run(argv, timeout=300, check=False)
            said = "" if done.exit_code == 0 else zfs.problem(done.stderr)
            if said != "busy" or pause is None:
                break
            await trio.sleep(pause)
        if done.exit_code == 0 or said in fine:
            return ""
        if said in ("", "full", "quota", "old"):
            raise _failed(done)
        return said


def _failed(done: Completed) -> PlatformError:
    said = " ".join(done.stderr.split()) or "it said nothing"
    return PlatformError(
        f"storage zfs: `{' '.join(done.argv)}` failed: {said}",
        argv=done.argv,
        exit_code=done.exit_code,
        stderr=done.stderr,
    )


def _ours(layer: str) -> str:
    """The snapshot of a dataset of somebody else's that a base layer was taken from."""
    return f"jocker-{layer}"


def _remove_mount_point(path: str) -> None:
    """zfs makes it when it mounts, and does not always remove it."""
    if not os.path.ismount(path):
        try:
            os.rmdir(path)
        except FileNotFoundError:
            pass


_OWNER = "jocker:root"
"""User property of a dataset: the root of the engine that keeps its own there. Another one would remove it as strays."""


async def claim(commands: Commands, root: str, *datasets: str) -> None:
    """Say that these are the engine's that has this root; those that are not there are passed over."""
    for dataset in datasets:
        if dataset and await _owner(commands, dataset) not in (None, os.path.realpath(root)):
            await commands.run(("zfs", "set", f"{_OWNER}={os.path.realpath(root)}", dataset))


async def _owner(commands: Commands, dataset: str) -> str | None:
    """The root of the engine that it belongs to, "-" where there is none; None without such a dataset."""
    done = await commands.run(zfs.get(_OWNER, dataset), timeout=20, check=False)
    return zfs.table(done.stdout)[0][1] if done.exit_code == 0 else None


async def why_not(commands: Commands, dataset: str, root: str = "", volumes: str = "") -> tuple[str, str]:
    """Why this dataset cannot be used, and the command that mends it; ("", "") if it can. Changes nothing.

    With a `root` also when the engine of another root has it, or the dataset for volumes, and is still there.
    """
    install = "" if sys.platform.startswith("freebsd") else "install OpenZFS (zfsutils-linux)"
    try:
        await commands.run(("zfs", "list", "-H", "-o", "name"), timeout=20)
    except PlatformError as error:
        if error.exit_code is None:
            return "there is no zfs command", install or "freebsd-update, or boot a system with ZFS"
        return (
            f"zfs does not work: {' '.join(error.stderr.split())}",
            install or "kldload zfs; sysrc zfs_enable=YES",
        )
    if not dataset:
        return "no dataset is configured for it", "set the key zroot to a dataset, such as POOL/jocker"
    try:
        zfs.check_name(dataset)
    except zfs.BadName as error:
        return f"key zroot: {error}", "correct the key zroot in the configuration"
    if os.geteuid() != 0:
        return "mounting datasets needs root, also where they are delegated (zfs allow)", "run as root"
    pool = dataset.partition("/")[0]
    done = await commands.run(zfs.get("type", pool), timeout=20, check=False)
    if zfs.problem(done.stderr) == "absent":
        return (
            f"there is no pool {pool}",
            f"zpool create {pool} DISK, or set the key zroot to a dataset of a pool you have",
        )
    done = await commands.run(zfs.get("type", dataset), timeout=20, check=False)
    if zfs.problem(done.stderr) == "absent":
        return f"there is no dataset {dataset}", f"zfs create -p {dataset}"
    if done.exit_code != 0:
        return f"{dataset}: {' '.join(done.stderr.split())}", "zpool status -x"
    if [row[1] for row in zfs.table(done.stdout)] != ["filesystem"]:
        return f"{dataset} is not a file system", "set the key zroot to a file system"
    for each in (dataset, volumes) if root else ():
        other = each and await _owner(commands, each)
        if other and other not in ("-", os.path.realpath(root)) and os.path.isdir(other):
            return (
                f"dataset {each} is that of the engine whose root is {other}",
                f"name another in the configuration, or, if that engine is no more, run `zfs inherit {_OWNER} {each}`",
            )
    return "", ""
