"""Volumes of the storage driver `zfs`: datasets with snapshots of their own.

A snapshot that is read is cloned as ROOT/reading/VOLUME:RANDOM for as long as that takes. What replaces a volume's
content does so in place, with a snapshot BEFORE it: until that one is destroyed, going back to it undoes all.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import trio

from ..commands import Commands
from ..work import work, work_streamed
from . import datasets as zfs

_BEFORE = "jocker:before"
_PASSING = "jocker:reading:"
"""Names of snapshots of ours begin so; a user's cannot, for the colon."""
_READING = "reading"
_CUT_OFF = "putting something in its place was cut off"


class ZfsVolumes:
    """See interfaces.Volumes."""

    _commands: Commands
    _names: zfs.Names
    _readers: set[str]
    """Random parts of names of what is being read now."""

    async def create_volume(self, volume: str, quota: int = 0) -> str:
        await self._home("")
        dataset = self._names.volume(volume)
        await self._must(*zfs.make(dataset, self._path("volumes", volume), quota), fine=("exists",))
        return await self._mount(dataset, "volumes", volume)

    async def destroy_volume(self, volume: str) -> None:
        await self._destroy(self._names.volume(volume), self._path("volumes", volume))

    async def snapshot_volume(self, volume: str, snapshot: str) -> None:
        await self._must("zfs", "snapshot", self._at(volume, snapshot), fine=("exists",))

    async def destroy_snapshot(self, volume: str, snapshot: str) -> None:
        await self._must("zfs", "destroy", self._at(volume, snapshot), fine=("absent",))

    async def restore_volume(self, volume: str, snapshot: str) -> None:
        """The newest is rolled back to; before an older one the others would be destroyed, so it is copied."""
        if (await self._snapshots_of(volume))[-1:] == [snapshot]:
            await self._must("zfs", "rollback", self._at(volume, snapshot))
            await self._mount(self._names.volume(volume), "volumes", volume)
            return
        async with self._read_snapshot(volume, snapshot) as source:

            async def fill(target: str) -> None:
                await work(self._commands, "fill_volume", rootfs=source, path="/", volume=target)

            await self._replace(volume, fill)

    async def export_volume(
        self, volume: str, snapshot: str, into: Callable[[bytes], Awaitable[None]]
    ) -> None:
        async with self._read_snapshot(volume, snapshot) as source:
            await work_streamed(self._commands, "pack", into=into, root=source)

    async def import_volume(self, volume: str, pieces: AsyncIterable[bytes]) -> None:
        async def fill(target: str) -> None:
            await work_streamed(self._commands, "unpack", pieces=pieces, target=target)

        await self._replace(volume, fill)

    async def snapshots(self) -> dict[str, frozenset[str]]:
        found: dict[str, set[str]] = {}
        for volume, snapshot in await self._all_snapshots():
            if ":" not in snapshot:
                found.setdefault(volume, set()).add(snapshot)
        return {volume: frozenset(names) for volume, names in found.items()}

    async def volume_faults(self) -> dict[str, str]:
        faults = {}
        names = [row[0] for row in zfs.table(await self._out(*zfs.list_names(*self._roots())))]
        for volume in self._names.below(self._names.volumes, names):
            if not os.path.ismount(self._path("volumes", volume)):
                faults[volume] = "it is not mounted"
        for clone in self._names.below(self._names.home(_READING), names):
            volume, _, token = clone.partition(":")
            if token not in self._readers:
                faults[volume] = "reading a snapshot was cut off"
        for volume, snapshot in await self._all_snapshots():
            if snapshot == _BEFORE:
                faults[volume] = _CUT_OFF
            elif snapshot.startswith(_PASSING) and snapshot.removeprefix(_PASSING) not in self._readers:
                faults[volume] = "reading it was cut off"
        return faults

    async def mend_volume(self, volume: str) -> None:
        names = [row[0] for row in zfs.table(await self._out(*zfs.list_names(*self._roots())))]
        for clone in self._names.below(self._names.home(_READING), names):
            owner, _, token = clone.partition(":")
            if owner == volume and token not in self._readers:
                await self._destroy(f"{self._names.home(_READING)}/{clone}", self._path(_READING, clone))
        for snapshot in await self._snapshots_of(volume):
            if snapshot == _BEFORE:
                await self._undo(volume)
            elif snapshot.startswith(_PASSING) and snapshot.removeprefix(_PASSING) not in self._readers:
                await self.destroy_snapshot(volume, snapshot)
        await self._mount(self._names.volume(volume), "volumes", volume)

    # --- inside ---

    async def _replace(self, volume: str, fill: Callable[[str], Awaitable[None]]) -> None:
        await self._must("zfs", "snapshot", self._at(volume, _BEFORE))
        try:
            path = await self._mount(self._names.volume(volume), "volumes", volume)
            await work(self._commands, "empty_tree", path=path)
            await fill(path)
            await work(self._commands, "sync_tree", path=path)
        except BaseException:
            with trio.CancelScope(shield=True):
                await self._undo(volume)
            raise
        await self.destroy_snapshot(volume, _BEFORE)

    async def _undo(self, volume: str) -> None:
        await self._must("zfs", "rollback", self._at(volume, _BEFORE))
        await self.destroy_snapshot(volume, _BEFORE)

    @asynccontextmanager
    async def _read_snapshot(self, volume: str, snapshot: str) -> AsyncIterator[str]:
        """Where its content is mounted; "" takes one of now, that goes afterwards."""
        token = secrets.token_hex(6)
        self._readers.add(token)
        clone = f"{volume}:{token}"
        dataset, path = f"{self._names.home(_READING)}/{clone}", self._path(_READING, clone)
        try:
            await self._home(_READING)
            source = self._at(volume, snapshot or _PASSING + token)
            if not snapshot:
                await self._must("zfs", "snapshot", source)
            await self._must(*zfs.clone(source, dataset, path))
            yield await self._mount(dataset, _READING, clone)
        finally:
            with trio.CancelScope(shield=True):
                await self._destroy(dataset, path)
                if not snapshot:
                    await self.destroy_snapshot(volume, _PASSING + token)
                self._readers.discard(token)

    async def _all_snapshots(self) -> list[tuple[str, str]]:
        """(volume, snapshot) of all, the oldest first."""
        await self._home("")
        argv = (
            "zfs",
            "list",
            "-H",
            "-r",
            "-t",
            "snapshot",
            "-o",
            "name",
            "-s",
            "creation",
            self._names.volumes,
        )
        prefix = self._names.volumes + "/"
        pairs = [row[0].removeprefix(prefix).partition("@") for row in zfs.table(await self._out(*argv))]
        return [(volume, snapshot) for volume, _, snapshot in pairs if "/" not in volume]

    async def _snapshots_of(self, volume: str) -> list[str]:
        return [snapshot for owner, snapshot in await self._all_snapshots() if owner == volume]

    def _at(self, volume: str, snapshot: str) -> str:
        return f"{self._names.volume(volume)}@{snapshot}"

    # --- of the driver ---

    def _roots(self) -> list[str]:
        raise NotImplementedError

    def _path(self, kind: str, name: str) -> str:
        raise NotImplementedError

    async def _home(self, kind: str) -> None:
        raise NotImplementedError

    async def _mount(self, dataset: str, kind: str, name: str) -> str:
        raise NotImplementedError

    async def _destroy(self, dataset: str, path: str = "") -> None:
        raise NotImplementedError

    async def _out(self, *argv: str) -> str:
        raise NotImplementedError

    async def _must(self, *argv: str, fine: Sequence[str] = ()) -> None:
        raise NotImplementedError
