"""Storage driver `overlay`: layers are directories, a tree is an overlay mount of them.

Below ROOT/overlay: layers/ID/{diff,parent} and trees/ID/{diff,work,merged,parent}; ROOT/volumes/NAME. The
upper directory of a tree is its `diff`, so that sealing is one rename: before it there is a tree, after it a
layer. What is being made or deleted is called .partial-ID; the inventory has it by its id, so that
destroying it, or making it again, takes it away.
"""

from __future__ import annotations

import os
import shutil
import tempfile

import trio

from ..commands import Commands, PlatformError
from ..interfaces import Change, Content, Inventory
from ..portable.volumes import DirectoryVolumes
from ..work import work
from ..worker.copytree import remove_tree, seal_tree, tree_size, walk
from .mounts import is_mounted, mount_overlay, unmount
from .quota import Images

MAX_DEPTH = 127
"""Layers in one chain, as Docker has it; the kernel's page of options has room for some 200."""

_PARTIAL = ".partial-"
_SMALL = 200
"""Entries up to which a tree is dealt with here: starting a worker would take longer."""


class OverlayStorage(DirectoryVolumes):
    """See interfaces.Storage."""

    name = "overlay"

    def __init__(self, root: str, commands: Commands) -> None:
        self._commands = commands
        root = os.path.realpath(root)
        base = os.path.join(root, "overlay")
        self._layers, self._trees, self._empty = (
            os.path.join(base, kind) for kind in ("layers", "trees", "empty")
        )
        volumes = os.path.join(root, "volumes")
        self._sized = Images(os.path.join(root, "images"), commands)
        self._open_volumes(volumes, os.path.join(root, "snapshots"), os.path.join(root, "images"))
        for directory in (base, self._layers, self._trees, self._empty, volumes):
            # No user of the host may get at what is inside: a container can make a set-uid program.
            os.makedirs(directory, mode=0o700, exist_ok=True)
            os.chmod(directory, 0o700)

    async def import_tar(self, layer: str, tar: str) -> None:
        final = os.path.join(self._layers, layer)
        if os.path.isdir(final):
            return
        partial = await self._begin(self._layers, layer)
        diff = _make(partial, None)
        await work(self._commands, "import_tar", tar=tar, target=diff)
        await trio.to_thread.run_sync(seal_tree, partial, final)

    async def clone(self, tree: str, parent: str | None, quota: int = 0) -> str:
        home = os.path.join(self._trees, tree)
        if not os.path.isdir(home) and not self._sized.has(_key(tree)):
            status = os.stat(self._diff(self._layers, parent)) if parent else None
            partial = await self._begin(self._trees, tree)
            if quota:
                await self._sized.prepare(_key(tree), quota)
                await self._sized.mount(_key(tree), partial, prepared=True)
            diff = _make(partial, parent)
            if status is not None:  # the root directory looks like that of the parent
                os.chown(diff, status.st_uid, status.st_gid)
                os.chmod(diff, status.st_mode & 0o7777)
            if quota:
                unmount(partial)
                os.rmdir(partial)
                self._sized.commit(_key(tree))
            else:
                os.rename(partial, home)
        return await self.mount(tree)

    async def mount(self, tree: str) -> str:
        await self._open(tree)
        diff = self._diff(self._trees, tree)
        home = os.path.dirname(diff)
        merged, scratch = os.path.join(home, "merged"), os.path.join(home, "work")
        if not is_mounted(merged):
            for directory in (merged, scratch):
                os.makedirs(directory, mode=0o700, exist_ok=True)
            lowers = [self._diff(self._layers, layer) for layer in self._chain(_parent(home))]
            mount_overlay(lowers or [self._empty], diff, scratch, merged)
        return merged

    async def unmount(self, tree: str) -> None:
        unmount(os.path.join(self._trees, tree, "merged"))

    async def seal(self, tree: str, layer: str) -> None:
        final = os.path.join(self._layers, layer)
        if os.path.isdir(final):
            await self.destroy_tree(tree)
            return
        home = os.path.dirname(self._diff(self._trees, tree))
        if len(self._chain(_parent(home))) >= MAX_DEPTH:
            raise PlatformError(f"an image has at most {MAX_DEPTH} layers; join some RUN or COPY steps")
        unmount(os.path.join(home, "merged"))
        for name in ("merged", "work"):
            if os.path.isdir(os.path.join(home, name)):
                shutil.rmtree(os.path.join(home, name))
        await trio.to_thread.run_sync(seal_tree, home, final)

    async def destroy_tree(self, tree: str) -> None:
        unmount(os.path.join(self._trees, tree, "merged"))
        unmount(os.path.join(self._trees, tree))
        await self._destroy(self._trees, tree)
        self._sized.remove(_key(tree))

    async def destroy_layer(self, layer: str) -> None:
        await self._destroy(self._layers, layer)

    async def diff(self, tree: str) -> list[Change]:
        await self._open(tree)
        upper = self._diff(self._trees, tree)
        chain = self._chain(_parent(os.path.dirname(upper)))
        lowers = [self._diff(self._layers, layer) for layer in chain]
        answer = await work(self._commands, "overlay_changes", upper=upper, lowers=lowers)
        return [Change(kind, path) for kind, path in answer["changes"]]

    async def content(self, name: str) -> Content:
        await self._open(name)
        root = self._diff(self._kind(name), name)
        below = [self._diff(self._layers, layer) for layer in self._chain(_parent(os.path.dirname(root)))]
        return Content(root, tuple(below), stacked=True)

    async def sizes(self) -> dict[str, int]:
        kinds = (self._layers, self._trees)
        paths = {name: os.path.join(kind, name, "diff") for kind in kinds for name in os.listdir(kind)}
        sizes: dict[str, int] = (await work(self._commands, "tree_sizes", paths=paths))["sizes"]
        return sizes

    async def release(self, name: str) -> None:
        """Nothing is held."""

    async def size(self, name: str) -> int:
        await self._open(name)
        path = self._diff(self._kind(name), name)
        answer = tree_size(path) if _is_small(path) else await work(self._commands, "tree_size", path=path)
        return int(answer["bytes"])

    async def inventory(self) -> Inventory:
        layers, trees = (
            {name.removeprefix(_PARTIAL) for name in os.listdir(kind)} for kind in (self._layers, self._trees)
        )
        sized = (key.removeprefix("tree-") for key in self._sized.all() if key.startswith("tree-"))
        return Inventory(frozenset(layers), frozenset(trees.union(sized)), self._volume_names())

    async def mounted(self) -> frozenset[str]:
        trees = os.listdir(self._trees)
        return frozenset(tree for tree in trees if is_mounted(os.path.join(self._trees, tree, "merged")))

    async def _open(self, tree: str) -> None:
        """A tree with a size of its own lies in an image, which stays mounted for as long as the tree is there."""
        if self._sized.has(_key(tree)):
            await self._sized.mount(_key(tree), os.path.join(self._trees, tree))

    def _kind(self, name: str) -> str:
        return self._trees if os.path.isdir(os.path.join(self._trees, name)) else self._layers

    def _diff(self, kind: str, name: str) -> str:
        path = os.path.join(kind, name, "diff")
        if not os.path.isdir(path):
            raise PlatformError(f"storage overlay: {os.path.basename(kind)[:-1]} {name} is not there")
        return path

    def _chain(self, layer: str) -> list[str]:
        """A layer and those below it, the topmost first."""
        chain = []
        while layer:
            chain.append(layer)
            layer = _parent(os.path.dirname(self._diff(self._layers, layer)))
        return chain

    async def _begin(self, kind: str, name: str) -> str:
        """A temporary name with nothing of that name."""
        partial = os.path.join(kind, _PARTIAL + name)
        await self._remove(partial)
        return partial

    async def _destroy(self, kind: str, name: str) -> None:
        partial = await self._begin(kind, name)
        try:
            os.rename(os.path.join(kind, name), partial)
        except FileNotFoundError:
            return
        await self._remove(partial)

    async def _remove(self, path: str) -> None:
        if not os.path.isdir(path):
            return
        unmount(path)
        if _is_small(path):
            remove_tree(path)
        else:
            await work(self._commands, "remove_tree", path=path)


def why_not(root: str) -> str:
    """Why overlay mounts cannot be used below this directory; "" if they can. Tried for real."""
    if os.geteuid() != 0:
        return "overlay mounts need root"
    with tempfile.TemporaryDirectory(dir=root, prefix=".probe-") as directory:
        lower, upper, scratch, merged = (
            os.path.join(directory, name) for name in ("lower", "upper", "work", "merged")
        )
        for path in (lower, upper, scratch, merged, os.path.join(lower, "removed")):
            os.mkdir(path)
        try:
            mount_overlay([lower], upper, scratch, merged)
            try:
                os.rmdir(os.path.join(merged, "removed"))
            finally:
                unmount(merged)
        except OSError as error:
            return f"an overlay mount below {root} is refused: {os.strerror(error.errno or 0)}"
    return ""


def _make(directory: str, parent: str | None) -> str:
    """The directory of a tree or layer; returns the path of its content, an empty directory."""
    os.makedirs(directory, 0o700, exist_ok=True)
    with open(os.path.join(directory, "parent"), "w", encoding="ascii") as file:
        file.write(parent or "")
    diff = os.path.join(directory, "diff")
    os.mkdir(diff)
    os.chmod(diff, 0o755)
    return diff


def _key(tree: str) -> str:
    return f"tree-{tree}"


def _parent(directory: str) -> str:
    with open(os.path.join(directory, "parent"), encoding="ascii") as file:
        return file.read()


def _is_small(path: str) -> bool:
    return all(index < _SMALL for index, _ in enumerate(walk(path)))
