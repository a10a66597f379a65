"""Volumes as directories, for storage drivers without file systems of their own: snapshots are tars, a quota is an
image mounted in the directory's place (linux/quota.py).

VOLUMES/NAME is a volume. What takes its place is made as .partial-NAME; the change itself is two renames, between which
the old one is called .old-NAME. SNAPSHOTS/NAME/SNAPSHOT.tar, .partial-SNAPSHOT.tar while it is being made.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterable, Awaitable, Callable
from typing import TYPE_CHECKING

import trio

from ..commands import Commands, PlatformError
from ..work import work, work_streamed

if TYPE_CHECKING:
    from ..linux.quota import Images

_PARTIAL, _OLD = ".partial-", ".old-"
_CHUNK = 1 << 18


class DirectoryVolumes:
    """See interfaces.Volumes. A storage driver is one of these too."""

    _commands: Commands

    def _open_volumes(self, volumes: str, snapshots: str, images: str) -> None:
        self._volumes, self._snapshots = volumes, snapshots
        os.makedirs(snapshots, mode=0o700, exist_ok=True)
        self._images: Images | None = None
        if sys.platform == "linux":
            from ..linux.quota import Images

            self._images = Images(images, self._commands)

    async def create_volume(self, volume: str, quota: int = 0) -> str:
        path = self._volume(volume)
        if quota:
            if self._images is None:
                raise PlatformError(
                    "nothing can be held to a size here: it needs Linux, or the storage driver zfs"
                )
            await self._images.make(_key(volume), quota)
            await self._images.mount(_key(volume), path)
        os.makedirs(path, mode=0o755, exist_ok=True)
        return path

    async def destroy_volume(self, volume: str) -> None:
        for path in (self._volume(_PARTIAL + volume), self._volume(_OLD + volume), self._volume(volume)):
            await self._remove_place(path)
        if self._images is not None:
            self._images.remove(_key(volume))
        await work(self._commands, "remove_tree", path=os.path.join(self._snapshots, volume))

    # --- snapshots ---

    async def snapshot_volume(self, volume: str, snapshot: str) -> None:
        final = self._snapshot(volume, snapshot)
        os.makedirs(os.path.dirname(final), mode=0o700, exist_ok=True)
        partial = self._snapshot(volume, _PARTIAL + snapshot)
        _unlink(partial)
        try:
            await work(self._commands, "pack", root=self._volume(volume), output=partial)
            os.rename(partial, final)
            _sync_directory(os.path.dirname(final))
        except BaseException:
            _unlink(partial)
            raise

    async def destroy_snapshot(self, volume: str, snapshot: str) -> None:
        for name in (snapshot, _PARTIAL + snapshot):
            _unlink(self._snapshot(volume, name))
        directory = os.path.join(self._snapshots, volume)
        if os.path.isdir(directory) and not os.listdir(directory):
            os.rmdir(directory)

    async def snapshots(self) -> dict[str, frozenset[str]]:
        found = {}
        for volume in os.listdir(self._snapshots):
            names = os.listdir(os.path.join(self._snapshots, volume))
            found[volume] = frozenset(name.removeprefix(_PARTIAL).removesuffix(".tar") for name in names)
        return {volume: names for volume, names in found.items() if names}

    async def restore_volume(self, volume: str, snapshot: str) -> None:
        tar = self._snapshot(volume, snapshot)

        async def fill(target: str) -> None:
            await work(self._commands, "import_tar", tar=tar, target=target, max_entries=0, max_bytes=0)

        await self._replace(volume, fill)

    # --- tars that come and go ---

    async def export_volume(
        self, volume: str, snapshot: str, into: Callable[[bytes], Awaitable[None]]
    ) -> None:
        if not snapshot:
            await work_streamed(self._commands, "pack", into=into, root=self._volume(volume))
            return
        async with await trio.open_file(self._snapshot(volume, snapshot), "rb") as file:
            while data := await file.read(_CHUNK):
                await into(data)

    async def import_volume(self, volume: str, pieces: AsyncIterable[bytes]) -> None:
        async def fill(target: str) -> None:
            await work_streamed(self._commands, "unpack", pieces=pieces, target=target)

        await self._replace(volume, fill)

    # --- after a crash ---

    async def volume_faults(self) -> dict[str, str]:
        faults = {}
        for name in os.listdir(self._volumes):
            for prefix in (_PARTIAL, _OLD):
                if name.startswith(prefix):
                    faults[name.removeprefix(prefix)] = "putting something in its place was cut off"
        for key in self._images.all() if self._images is not None else ():
            volume = key.removeprefix("volume-")
            if key != volume and self._images is not None:
                if self._images.is_prepared(key):
                    faults[volume] = "putting something in its place was cut off"
                elif not self._is_mounted(self._volume(volume)):
                    faults[volume] = "it has a size of its own and is not mounted"
        return faults

    async def mend_volume(self, volume: str) -> None:
        path, old = self._volume(volume), self._volume(_OLD + volume)
        if os.path.isdir(old) and not os.path.isdir(path):
            os.rename(old, path)
        await self._remove_place(self._volume(_PARTIAL + volume))
        await self._remove_place(old)
        if self._images is not None:
            self._images.remove_prepared(_key(volume))
            if self._images.has(_key(volume)):
                await self._images.mount(_key(volume), path)

    # --- inside ---

    async def _replace(self, volume: str, fill: Callable[[str], Awaitable[None]]) -> None:
        """What `fill` puts into an empty directory becomes the volume, on disk. Before that nothing has changed."""
        partial = self._volume(_PARTIAL + volume)
        try:
            await self._remove_place(partial)
            if self._images is not None and self._images.has(_key(volume)):
                await self._replace_image(self._images, volume, partial, fill)
            else:
                await self._replace_directory(volume, partial, fill)
        except BaseException:
            with trio.CancelScope(shield=True):
                await self.mend_volume(volume)
            raise

    async def _replace_directory(
        self, volume: str, partial: str, fill: Callable[[str], Awaitable[None]]
    ) -> None:
        path, old = self._volume(volume), self._volume(_OLD + volume)
        status = os.stat(path)
        os.mkdir(partial, 0o700)
        if os.geteuid() == 0:
            os.chown(partial, status.st_uid, status.st_gid)
        os.chmod(partial, status.st_mode & 0o7777)
        await fill(partial)
        await work(self._commands, "sync_tree", path=partial)
        os.rename(path, old)
        os.rename(partial, path)
        with trio.CancelScope(shield=True):
            await work(self._commands, "sync_tree", path=self._volumes)
            await self._remove_place(old)

    async def _replace_image(
        self, images: Images, volume: str, partial: str, fill: Callable[[str], Awaitable[None]]
    ) -> None:
        key, path = _key(volume), self._volume(volume)
        await images.prepare(key, images.size(key))
        await images.mount(key, partial, prepared=True)
        await fill(partial)
        await work(self._commands, "sync_tree", path=partial)
        await self._remove_place(partial)
        with trio.CancelScope(shield=True):
            self._unmount(path)
            images.commit(key)
            await images.mount(key, path)

    async def _remove_place(self, path: str) -> None:
        self._unmount(path)
        if os.path.isdir(path):
            if os.path.basename(path).startswith((_PARTIAL, _OLD)):
                await work(self._commands, "remove_tree", path=path)
            else:
                doomed = os.path.join(os.path.dirname(path), _PARTIAL + os.path.basename(path))
                os.rename(path, doomed)
                await work(self._commands, "remove_tree", path=doomed)

    def _is_mounted(self, path: str) -> bool:
        if self._images is None:
            return False
        from ..linux.mounts import is_mounted

        return is_mounted(path)

    def _unmount(self, path: str) -> None:
        if self._is_mounted(path):
            from ..linux.mounts import unmount

            unmount(path)

    def _volume_names(self) -> frozenset[str]:
        names = {name.removeprefix(_PARTIAL).removeprefix(_OLD) for name in os.listdir(self._volumes)}
        keys = self._images.all() if self._images is not None else frozenset()
        return frozenset(names | {key.removeprefix("volume-") for key in keys if key.startswith("volume-")})

    def _volume(self, name: str) -> str:
        return os.path.join(self._volumes, name)

    def _snapshot(self, volume: str, snapshot: str) -> str:
        return os.path.join(self._snapshots, volume, f"{snapshot}.tar")


def _key(volume: str) -> str:
    return f"volume-{volume}"


def _sync_directory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
