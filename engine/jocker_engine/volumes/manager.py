"""Volumes: directories that outlast containers. One actor; its state is in the database and on the disk.

What takes long (snapshots, restoring, importing) are tasks; meanwhile the volume is busy, and nothing else of the kind
is begun with it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterable, Awaitable, Callable

import msgspec
import trio

from jocker_protocol import types as t
from jocker_protocol.errors import Conflict, InUse, InvalidState, JockerError, NotFound

from ..clock import new_id, now
from ..db import statements as sql
from ..db.database import Statement
from ..db.records import SnapshotRecord, VolumeRecord
from ..differences import Found, mend, report
from ..filters import Filters
from ..house import House
from ..otp import Actor, handles
from ..platform.work import work
from . import audit
from .names import check_name, time_name

_RUNNING = ("starting", "running", "paused", "stopping")


class UseVolumes(msgspec.Struct, frozen=True):
    """A container that uses these is about to start: they are mounted, and held still by nobody. Raises InvalidState."""

    names: list[str]


class ExportVolume(msgspec.Struct, frozen=True):
    """`volume.export`; `into` takes the tar, piece by piece."""

    wish: t.VolumeExport
    into: Callable[[bytes], Awaitable[None]]


class ImportVolume(msgspec.Struct, frozen=True):
    """`volume.import`; answered with the Volume."""

    wish: t.VolumeImport
    pieces: AsyncIterable[bytes]


class EnsureVolume(msgspec.Struct, frozen=True):
    """Give this volume, made if it is not there; answered with (record, whether it is new)."""

    name: str
    labels: dict[str, str] = {}
    quota: int = 0
    anonymous: bool = False
    owned: bool = False
    """It is for a container that is being made: until that one's record takes it (sql.add_container) it is not
    ready, and without such a record it is destroyed.
    """


class Sweep(msgspec.Struct, frozen=True):
    """Destroy those of these volumes that were doomed with their container, or never got one."""

    names: list[str]


class VolumesManager(Actor):
    """Answers volume.* and makes volumes for containers."""

    answers = (JockerError, OSError, sqlite3.Error)

    def __init__(self, house: House) -> None:
        self._house = house
        self._held: set[str] = set()
        """Volumes that wait for their container's record, or their first content."""
        self._busy: dict[str, str] = {}
        """Volume -> what is being done to it: "restored"."""

    async def init(self) -> None:
        """Finish what was half done: rows without `ready` were being made or destroyed."""
        await mend(await self._strays())

    async def _strays(self) -> list[Found]:
        """Nothing else makes or destroys volumes while this actor looks."""
        house = self._house
        known = await house.store.volume_names()
        self._held = {name for name in self._held if not known.get(name, True)}
        return [
            *await audit.faults(house, known.keys() - self._busy.keys() - self._held),
            *await audit.strays(
                known, self._held, (await house.drivers.storage.inventory()).volumes, self._destroy
            ),
            *await audit.snapshots(house, self._busy.keys(), self._drop_snapshot),
        ]

    async def _losses(self) -> list[Found]:
        return await audit.losses(self._house, self._busy.keys(), self._forget_snapshot)

    async def _destroy(self, name: str) -> None:
        self._held.discard(name)
        await self._house.drivers.storage.destroy_volume(name)
        await self._house.store.write(sql.drop_volume(name))

    @handles(t.Check)
    async def check(self, message: t.Check) -> list[t.Difference]:
        return await report([*await self._strays(), *await self._losses()], repair=message.repair)

    @handles(Sweep)
    async def sweep(self, message: Sweep) -> None:
        known = await self._house.store.volume_names()
        for name in message.names:
            if not known.get(name, True):
                await self._destroy(name)

    @handles(EnsureVolume)
    async def ensure(self, message: EnsureVolume) -> tuple[VolumeRecord, bool]:
        name = message.name or new_id()
        check_name(name, "volume")
        found = await self._house.store.volume(name)
        if found is not None:
            return found, False
        if name in await self._house.store.volume_names():
            raise Conflict(f"volume {name} is being made or removed; try again")
        record = VolumeRecord(
            name=name,
            path="",
            created_at=now(),
            labels=message.labels,
            anonymous=message.anonymous,
            quota=message.quota,
        )
        await self._house.store.write(sql.add_volume(record), grows=True)
        try:
            path = await self._house.drivers.storage.create_volume(name, message.quota)
        except (JockerError, OSError):
            await self._destroy(name)
            raise
        record = msgspec.structs.replace(record, path=path)
        if message.owned:
            self._held.add(name)
            return record, True
        await self._house.store.write(
            sql.confirm_volume(record), sql.happened(now(), "volume", "create", name, self._facts())
        )
        return record, True

    @handles(t.VolumeCreate)
    async def create(self, message: t.VolumeCreate) -> t.Volume:
        wish = EnsureVolume(message.name, message.labels, message.quota, anonymous=not message.name)
        record, new = await self.ensure(wish)
        if not new and message.quota not in (0, record.quota):
            raise Conflict(
                f"volume {record.name} is there already, with another quota; remove it, or choose another name"
            )
        return self._show(record, [])

    @handles(t.VolumeList)
    async def list_(self, message: t.VolumeList) -> t.Volumes:
        filters = Filters(message.filters, ("name", "label", "dangling", "driver"))
        users = await self._house.store.volume_users()
        shown = [
            self._show(record, users.get(record.name, []))
            for record in await self._house.store.volumes()
            if filters.contains("name", record.name)
            and filters.labels(record.labels)
            and filters.flag("dangling", record.name not in users)
            and filters.equals("driver", self._house.drivers.storage.name, "local")
        ]
        return t.Volumes(volumes=shown)

    @handles(t.VolumeRef)
    async def inspect(self, message: t.VolumeRef) -> t.Volume:
        record = await self._find(message.volume)
        return self._show(record, (await self._house.store.volume_users()).get(record.name, []))

    @handles(t.VolumeRemove)
    async def remove(self, message: t.VolumeRemove) -> t.Done:
        try:
            record = await self._find(message.volume)
        except NotFound:
            if message.force:
                return t.Done()
            raise
        if users := await self._users(record.name):
            raise InUse(f"volume {record.name} is in use by {users}; remove what uses it first")
        self._refuse_busy(record.name)
        await self._remove(record)
        return t.Done()

    async def _remove(self, record: VolumeRecord) -> None:
        await self._house.store.write(sql.doom_volume(record.name))
        await self._house.drivers.storage.destroy_volume(record.name)
        await self._house.store.write(
            sql.drop_volume(record.name), sql.happened(now(), "volume", "destroy", record.name, self._facts())
        )

    @handles(t.VolumePrune)
    async def prune(self, message: t.VolumePrune) -> None:
        filters = Filters(message.filters, ("label", "label!"))
        self.answer_later(self._prune, filters, message.all)

    async def _prune(self, filters: Filters, everything: bool) -> t.VolumesPruned:
        """One by one, through the mailbox: what is taken into use meanwhile stays."""
        users = await self._house.store.volume_users()
        pruned, space = [], 0
        for record in await self._house.store.volumes():
            if record.name in users or record.name in self._busy or not (everything or record.anonymous):
                continue
            if not filters.labels(record.labels):
                continue
            try:
                size = (await work(self._house.commands, "tree_size", path=record.path))["bytes"]
                await self.ref.call(t.VolumeRemove(volume=record.name))
            except (InUse, InvalidState, NotFound, FileNotFoundError):
                continue
            pruned.append(record.name)
            space += int(size)
        return t.VolumesPruned(volumes=pruned, space=space)

    # --- snapshots, restoring, tars ---

    @handles(UseVolumes)
    async def use(self, message: UseVolumes) -> None:
        """Who restores looks for containers that run after it has made the volume busy, and a container that starts
        has said so in its record before it asks here: one of the two sees the other.
        """
        for name in message.names:
            if (doing := self._busy.get(name)) in ("restored", "imported"):
                raise InvalidState(f"volume {name} is being {doing}; start the container when that is done")

    @handles(t.VolumeSnapshot)
    async def snapshot(self, message: t.VolumeSnapshot) -> t.Snapshot:
        record = await self._find(message.volume)
        name = check_name(message.snapshot or time_name(), "snapshot")
        if any(each.name == name for each in record.snapshots):
            raise Conflict(f"volume {record.name} has a snapshot {name} already; choose another name")
        made = SnapshotRecord(name=name, created_at=now())
        self._make_busy(record.name, "kept in a snapshot")
        self.answer_later(self._snapshot, record, made)
        return t.Snapshot(name=name, created_at=made.created_at)

    async def _snapshot(self, record: VolumeRecord, made: SnapshotRecord) -> t.Snapshot:
        try:
            with_it = msgspec.structs.replace(record, snapshots=[*record.snapshots, made])
            await self._house.store.write(sql.update_volume(with_it), grows=True)
            try:
                await self._house.drivers.storage.snapshot_volume(record.name, made.name)
            except BaseException:
                with trio.CancelScope(shield=True):
                    await self._drop_snapshot(record.name, made.name)
                raise
            ready = msgspec.structs.replace(made, ready=True)
            done = msgspec.structs.replace(record, snapshots=[*record.snapshots, ready])
            await self._house.store.write(sql.update_volume(done), self._event(record, "snapshot", made.name))
        finally:
            del self._busy[record.name]
        return t.Snapshot(name=made.name, created_at=made.created_at)

    @handles(t.VolumeSnapshotRemove)
    async def remove_snapshot(self, message: t.VolumeSnapshotRemove) -> t.Done:
        record, snapshot = await self._find_snapshot(message.volume, message.snapshot)
        self._make_busy(record.name, "rid of a snapshot")
        self.answer_later(self._remove_snapshot, record, snapshot)
        return t.Done()

    async def _remove_snapshot(self, record: VolumeRecord, snapshot: SnapshotRecord) -> t.Done:
        try:
            doomed = msgspec.structs.replace(snapshot, ready=False)
            rest = [doomed if each.name == snapshot.name else each for each in record.snapshots]
            await self._house.store.write(sql.update_volume(msgspec.structs.replace(record, snapshots=rest)))
            await self._drop_snapshot(record.name, snapshot.name)
        finally:
            del self._busy[record.name]
        return t.Done()

    async def _drop_snapshot(self, volume: str, snapshot: str) -> None:
        await self._house.drivers.storage.destroy_snapshot(volume, snapshot)
        await self._forget_snapshot(volume, snapshot)

    async def _forget_snapshot(self, volume: str, snapshot: str) -> None:
        record = await self._house.store.volume(volume)
        if record is not None:
            rest = [each for each in record.snapshots if each.name != snapshot]
            await self._house.store.write(sql.update_volume(msgspec.structs.replace(record, snapshots=rest)))

    @handles(t.VolumeRestore)
    async def restore(self, message: t.VolumeRestore) -> t.Done:
        record, snapshot = await self._find_snapshot(message.volume, message.snapshot)
        self._make_busy(record.name, "restored")
        self.answer_later(self._restore, record, snapshot.name)
        return t.Done()

    async def _restore(self, record: VolumeRecord, snapshot: str) -> t.Done:
        try:
            await self._refuse_running(record.name, "restored")
            await self._house.drivers.storage.restore_volume(record.name, snapshot)
            await self._house.store.write(self._event(record, "restore", snapshot))
        finally:
            del self._busy[record.name]
        return t.Done()

    @handles(ExportVolume)
    async def export(self, message: ExportVolume) -> t.Done:
        wish = message.wish
        record = await self._find(wish.volume)
        if wish.snapshot:
            await self._find_snapshot(wish.volume, wish.snapshot)
        if self._busy.get(record.name) in ("restored", "imported"):
            self._refuse_busy(record.name)
        self.answer_later(self._export, record, message)
        return t.Done()

    async def _export(self, record: VolumeRecord, message: ExportVolume) -> t.Done:
        storage = self._house.drivers.storage
        await storage.export_volume(record.name, message.wish.snapshot, message.into)
        return t.Done()

    @handles(ImportVolume)
    async def import_(self, message: ImportVolume) -> None:
        name = message.wish.volume
        self._refuse_busy(name)
        record, new = await self.ensure(EnsureVolume(name, owned=True))
        self._make_busy(name, "imported")
        self.answer_later(self._import, record, new, message.pieces)

    async def _import(self, record: VolumeRecord, new: bool, pieces: AsyncIterable[bytes]) -> t.Volume:
        """A new one is not ready before it has its content."""
        try:
            if not new:
                await self._refuse_running(record.name, "imported into")
            await self._house.drivers.storage.import_volume(record.name, pieces)
            events = [self._event(record, "import", "")]
            if new:
                created = sql.happened(now(), "volume", "create", record.name, self._facts())
                await self._house.store.write(sql.confirm_volume(record), created, *events)
                self._held.discard(record.name)
            else:
                await self._house.store.write(*events)
        except BaseException:
            if new:
                with trio.CancelScope(shield=True):
                    await self._destroy(record.name)
            raise
        finally:
            del self._busy[record.name]
        return self._show(record, [])

    # --- inside ---

    def _make_busy(self, volume: str, what: str) -> None:
        self._refuse_busy(volume)
        self._busy[volume] = what

    def _refuse_busy(self, volume: str) -> None:
        if volume in self._busy:
            raise InvalidState(f"volume {volume} is being {self._busy[volume]}; try again when that is done")

    async def _refuse_running(self, volume: str, wish: str) -> None:
        running = [record.id for record in await self._house.store.containers(_RUNNING)]
        if users := await self._users(volume, running):
            raise InUse(f"volume {volume} cannot be {wish} while it is used by {users}; stop that first")

    async def _users(self, volume: str, among: list[str] | None = None) -> str:
        """Names of the containers that hold it, for a message."""
        held = (await self._house.store.volume_users()).get(volume, [])
        found = [await self._house.store.container(id) for id in held if among is None or id in among]
        return ", ".join(f"container {record.name}" for record in found if record is not None)

    async def _find_snapshot(self, volume: str, snapshot: str) -> tuple[VolumeRecord, SnapshotRecord]:
        record = await self._find(volume)
        for each in record.snapshots:
            if each.name == snapshot and each.ready:
                return record, each
        raise NotFound(
            f"volume {volume} has no snapshot {snapshot}; `jocker volume snapshots {volume}` lists them"
        )

    def _event(self, record: VolumeRecord, action: str, snapshot: str) -> Statement:
        facts = {**self._facts(), **({"snapshot": snapshot} if snapshot else {})}
        return sql.happened(now(), "volume", action, record.name, facts)

    async def _find(self, name: str) -> VolumeRecord:
        record = await self._house.store.volume(name)
        if record is None:
            raise NotFound(f"no such volume: {name}; `jocker volume ls` lists them")
        return record

    def _facts(self) -> dict[str, str]:
        return {"driver": self._house.drivers.storage.name}

    def _show(self, record: VolumeRecord, users: list[str]) -> t.Volume:
        return t.Volume(
            name=record.name,
            driver=self._house.drivers.storage.name,
            mountpoint=record.path,
            created_at=record.created_at,
            labels=record.labels,
            anonymous=record.anonymous,
            used_by=users,
            quota=record.quota,
            snapshots=[
                t.Snapshot(name=each.name, created_at=each.created_at)
                for each in record.snapshots
                if each.ready
            ],
        )
