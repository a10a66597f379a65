"""Storage driver `copy`: every layer and every tree is a whole copy. Slow and large, but it works everywhere.

Files are shared by reflink where the file system can (btrfs, XFS, bcachefs), else copied, in a worker
process. Below ROOT/copy: layers/ID/root, trees/ID/root, beside the root files `parent` and `cloned`, and volumes/NAME.
What is being made or deleted is called .partial-ID: only a rename makes it count, so that a crash leaves
nothing that looks whole; the inventory has it by its id, so that destroying it, or making it again, takes it away.

Without root it works too: everything then belongs to the caller, whatever an archive says, and there are no
device nodes; `size` cannot see what reflinks share.
"""

from __future__ import annotations

import os

from ..commands import Commands, PlatformError
from ..interfaces import Change, Content, Inventory
from ..work import work
from .volumes import DirectoryVolumes

PARTIAL = ".partial-"
_CLONED = "cloned"
"""An empty file beside the root, written when the copy was whole: what is older has not been touched since."""


class CopyStorage(DirectoryVolumes):
    """See interfaces.Storage."""

    name = "copy"

    def __init__(self, root: str, commands: Commands) -> None:
        self._commands = commands
        self._layers, self._trees, volumes, snapshots, images = (
            os.path.join(root, "copy", kind) for kind in ("layers", "trees", "volumes", "snapshots", "images")
        )
        for directory in (self._layers, self._trees, volumes):
            os.makedirs(directory, mode=0o711, exist_ok=True)
        self._open_volumes(volumes, snapshots, images)

    async def import_tar(self, layer: str, tar: str) -> None:
        if self._has(self._layers, layer):
            return
        partial = await self._begin(self._layers, layer)
        root = _make(partial)
        os.mkdir(root, 0o755)
        await work(self._commands, "import_tar", tar=tar, target=root)
        await work(self._commands, "seal_tree", tree=partial, layer=os.path.join(self._layers, layer))

    async def clone(self, tree: str, parent: str | None, quota: int = 0) -> str:
        if quota:
            raise PlatformError("storage copy cannot hold a container's root to a size; overlay and zfs can")
        if self._has(self._trees, tree):
            return self._existing(self._trees, tree)
        old = self._existing(self._layers, parent) if parent else None
        partial = await self._begin(self._trees, tree)
        root = _make(partial, parent or "")
        if old is None:
            os.mkdir(root, 0o755)
        else:
            await work(self._commands, "copy_tree", source=old, target=root)
        open(os.path.join(partial, _CLONED), "w", encoding="ascii").close()
        os.rename(partial, os.path.join(self._trees, tree))
        return self._existing(self._trees, tree)

    async def mount(self, tree: str) -> str:
        return self._existing(self._trees, tree)

    async def unmount(self, tree: str) -> None:
        """Nothing is mounted."""

    async def seal(self, tree: str, layer: str) -> None:
        if self._has(self._layers, layer):
            await self.destroy_tree(tree)
            return
        self._existing(self._trees, tree)
        final = os.path.join(self._layers, layer)
        await work(self._commands, "seal_tree", tree=os.path.join(self._trees, tree), layer=final)

    async def destroy_tree(self, tree: str) -> None:
        await self._destroy(self._trees, tree)

    async def destroy_layer(self, layer: str) -> None:
        await self._destroy(self._layers, layer)

    async def diff(self, tree: str) -> list[Change]:
        root = self._existing(self._trees, tree)
        parent = _parent(os.path.dirname(root))
        old = self._existing(self._layers, parent) if parent else None
        result = await work(self._commands, "compare_trees", tree=root, parent=old)
        return [Change(kind, path) for kind, path in result["changes"]]

    async def content(self, name: str) -> Content:
        root = self._root(name)
        home = os.path.dirname(root)
        parent, cloned = _parent(home), os.path.join(home, _CLONED)
        below = (self._existing(self._layers, parent),) if parent else ()
        since = os.stat(cloned).st_mtime_ns if parent and os.path.exists(cloned) else 0
        return Content(root, below, since_ns=since)

    async def sizes(self) -> dict[str, int]:
        kinds = (self._layers, self._trees)
        paths = {name: os.path.join(kind, name, "root") for kind in kinds for name in os.listdir(kind)}
        sizes: dict[str, int] = (await work(self._commands, "tree_sizes", paths=paths))["sizes"]
        return sizes

    async def release(self, name: str) -> None:
        """Nothing is held."""

    async def size(self, name: str) -> int:
        result = await work(self._commands, "tree_size", path=self._root(name))
        size: int = result["bytes"]
        return size

    async def inventory(self) -> Inventory:
        return Inventory(_names(self._layers), _names(self._trees), self._volume_names())

    async def mounted(self) -> None:
        return None

    def _has(self, kind: str, name: str) -> bool:
        return os.path.isdir(os.path.join(kind, name))

    def _root(self, name: str) -> str:
        return self._existing(self._trees if self._has(self._trees, name) else self._layers, name)

    def _existing(self, kind: str, name: str) -> str:
        path = os.path.join(kind, name, "root")
        if not os.path.isdir(path):
            raise PlatformError(f"storage copy: {os.path.basename(kind)[:-1]} {name} is not there")
        return path

    async def _begin(self, kind: str, name: str) -> str:
        """A temporary name with nothing of that name."""
        partial = os.path.join(kind, PARTIAL + name)
        await work(self._commands, "remove_tree", path=partial)
        return partial

    async def _destroy(self, kind: str, name: str) -> None:
        partial = await self._begin(kind, name)
        try:
            os.rename(os.path.join(kind, name), partial)
        except FileNotFoundError:
            return
        await work(self._commands, "remove_tree", path=partial)


def _make(directory: str, parent: str = "") -> str:
    """The directory of a tree or layer, where its root will be; returns the path of that root."""
    os.mkdir(directory, 0o711)
    with open(os.path.join(directory, "parent"), "w", encoding="ascii") as file:
        file.write(parent)
    return os.path.join(directory, "root")


def _parent(directory: str) -> str:
    with open(os.path.join(directory, "parent"), encoding="ascii") as file:
        return file.read()


def _names(directory: str) -> frozenset[str]:
    return frozenset(name.removeprefix(PARTIAL) for name in os.listdir(directory))
