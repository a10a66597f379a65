"""Storage driver `overlay`: layers are directories, a tree is an overlay mount of them.

Below ROOT/overlay: layers/ID/{diff,parent}, l/NAME -> ../layers/ID/diff, trees/ID/{upper,work,merged,parent},
volumes/NAME, and an empty directory for trees without a parent. The kernel takes a page of mount options, so the
lower directories are named through /proc/self/fd/N of the directory l: 120 layers fit.
"""

from __future__ import annotations

import os
import tempfile

import trio

from ..commands import Commands, PlatformError
from ..interfaces import Change, Inventory
from ..work import work
from ..worker.copytree import sync_file_system
from .mounts import is_mounted, mount, unmount

MAX_DEPTH = 120
"""Layers in one chain; Docker has 127."""


class OverlayStorage:
    """See interfaces.Storage."""

    name = "overlay"

    def __init__(self, root: str, commands: Commands) -> None:
        self._commands = commands
        self._base = os.path.join(os.path.realpath(root), "overlay")
        self._layers, self._trees, self._links, self._volumes, self._empty = (
            os.path.join(self._base, kind) for kind in ("layers", "trees", "l", "volumes", "empty")
        )
        for directory in (self._layers, self._trees, self._links, self._volumes, self._empty):
            os.makedirs(directory, mode=0o711, exist_ok=True)

    async def import_tar(self, layer: str, tar: str) -> None:
        if os.path.isdir(self._layer(layer)):
            return
        partial = os.path.join(self._layers, f".partial-{layer}")
        await self._remove(partial)
        os.makedirs(os.path.join(partial, "diff"), mode=0o755)
        await work(self._commands, "import_tar", tar=tar, target=os.path.join(partial, "diff"))
        await self._finish(partial, layer, None)

    async def clone(self, tree: str, parent: str | None) -> str:
        home = os.path.join(self._trees, tree)
        if not os.path.isdir(home):
            if parent is not None and len(self._chain(parent)) >= MAX_DEPTH:
                raise PlatformError(
                    f"layer {parent[:12]} has {MAX_DEPTH} layers already; join some RUN steps"
                )
            partial = os.path.join(self._trees, f".partial-{tree}")
            await self._remove(partial)
            os.mkdir(partial, 0o711)
            os.mkdir(os.path.join(partial, "upper"))
            for name in ("work", "merged"):
                os.mkdir(os.path.join(partial, name), 0o755)
            top = os.path.join(self._layer(parent), "diff") if parent else self._empty
            _copy_mode(top if parent else "", os.path.join(partial, "upper"))
            _write(os.path.join(partial, "parent"), parent or "")
            os.rename(partial, home)
        return await self.mount(tree)

    async def mount(self, tree: str) -> str:
        home = os.path.join(self._trees, tree)
        merged = os.path.join(home, "merged")
        if not os.path.isdir(merged):
            raise PlatformError(f"storage overlay: tree {tree} is not there")
        if not is_mounted(merged):
            links = os.open(self._links, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                lower = ":".join(
                    f"/proc/self/fd/{links}/{layer[:12]}" for layer in self._chain(_read_parent(home))
                )
                options = f"lowerdir={lower or self._empty},upperdir={home}/upper,workdir={home}/work"
                mount("overlay", merged, "overlay", options)
            finally:
                os.close(links)
        return merged

    async def unmount(self, tree: str) -> None:
        unmount(os.path.join(self._trees, tree, "merged"))

    async def seal(self, tree: str, layer: str) -> None:
        home = os.path.join(self._trees, tree)
        if os.path.isdir(self._layer(layer)):
            await self.destroy_tree(tree)
            return
        unmount(os.path.join(home, "merged"))
        parent = _read_parent(home)
        partial = os.path.join(self._layers, f".partial-{layer}")
        await self._remove(partial)
        os.mkdir(partial, 0o711)
        os.rename(os.path.join(home, "upper"), os.path.join(partial, "diff"))
        await self._finish(partial, layer, parent)
        await self._remove(home)

    async def _finish(self, partial: str, layer: str, parent: str | None) -> None:
        """On disk first, then by its name."""
        _write(os.path.join(partial, "parent"), parent or "")
        await trio.to_thread.run_sync(sync_file_system, partial)
        link = os.path.join(self._links, layer[:12])
        if os.path.lexists(link):
            os.unlink(link)
        os.symlink(os.path.join("..", "layers", layer, "diff"), link)
        os.rename(partial, self._layer(layer))

    async def destroy_tree(self, tree: str) -> None:
        home = os.path.join(self._trees, tree)
        unmount(os.path.join(home, "merged"))
        await self._destroy(home)

    async def destroy_layer(self, layer: str) -> None:
        link = os.path.join(self._links, layer[:12])
        if os.path.lexists(link):
            os.unlink(link)
        await self._destroy(self._layer(layer))

    async def diff(self, tree: str) -> list[Change]:
        home = os.path.join(self._trees, tree)
        lowers = [os.path.join(self._layer(layer), "diff") for layer in self._chain(_read_parent(home))]
        answer = await work(
            self._commands, "overlay_changes", upper=os.path.join(home, "upper"), lowers=lowers
        )
        return [Change(kind, path) for kind, path in answer["changes"]]

    async def size(self, name: str) -> int:
        tree = os.path.join(self._trees, name, "upper")
        path = tree if os.path.isdir(tree) else os.path.join(self._layer(name), "diff")
        answer = await work(self._commands, "tree_size", path=path)
        return int(answer["bytes"])

    async def create_volume(self, volume: str) -> str:
        path = os.path.join(self._volumes, volume)
        os.makedirs(path, mode=0o755, exist_ok=True)
        return path

    async def destroy_volume(self, volume: str) -> None:
        await self._destroy(os.path.join(self._volumes, volume))

    async def inventory(self) -> Inventory:
        for kind in (self._layers, self._trees, self._volumes):
            for name in os.listdir(kind):
                if name.startswith("."):
                    await self._remove(os.path.join(kind, name))
        return Inventory(
            *(frozenset(os.listdir(kind)) for kind in (self._layers, self._trees, self._volumes))
        )

    def _layer(self, layer: str) -> str:
        return os.path.join(self._layers, layer)

    def _chain(self, layer: str | None) -> list[str]:
        """A layer and those below it, the topmost first."""
        chain = []
        while layer:
            chain.append(layer)
            layer = _read_parent(self._layer(layer))
        return chain

    async def _destroy(self, path: str) -> None:
        """Gone by its name at once, from the disk soon after."""
        directory, name = os.path.split(path)
        partial = os.path.join(directory, f".gone-{name}")
        await self._remove(partial)
        if os.path.lexists(path):
            os.rename(path, partial)
            await self._remove(partial)

    async def _remove(self, path: str) -> None:
        if os.path.lexists(path):
            await work(self._commands, "remove_tree", path=path)


def why_not(root: str) -> str:
    """Why overlay mounts cannot be used below this directory; "" if they can. Tried for real."""
    if os.geteuid() != 0:
        return "overlay mounts need root"
    with tempfile.TemporaryDirectory(dir=root, prefix=".probe-") as directory:
        for name in ("lower", "upper", "work", "merged"):
            os.mkdir(os.path.join(directory, name))
        merged = os.path.join(directory, "merged")
        options = ",".join(f"{key}dir={directory}/{key}" for key in ("lower", "upper", "work"))
        try:
            mount("overlay", merged, "overlay", options)
        except OSError as error:
            return f"an overlay mount below {root} is refused: {os.strerror(error.errno or 0)}"
        unmount(merged)
    return ""


def _read_parent(home: str) -> str | None:
    try:
        with open(os.path.join(home, "parent"), encoding="ascii") as file:
            return file.read() or None
    except FileNotFoundError:
        raise PlatformError(f"storage overlay: {os.path.basename(home)} is not there") from None


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def _copy_mode(source: str, target: str) -> None:
    """The root directory of a tree looks like that of its parent; 755 and root's without one."""
    if not source:
        os.chmod(target, 0o755)
        return
    status = os.stat(source)
    os.chown(target, status.st_uid, status.st_gid)
    os.chmod(target, status.st_mode & 0o7777)
