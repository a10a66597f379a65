"""Volumes: directories that outlast containers. One actor; its state is in the database and on the disk."""

from __future__ import annotations

import re
import sqlite3
from functools import partial

import msgspec

from jocker_protocol import types as t
from jocker_protocol.errors import InUse, InvalidParams, JockerError, NotFound

from ..clock import new_id, now
from ..db import store as sql
from ..db.records import VolumeRecord
from ..differences import Found, mend, report
from ..filters import Filters
from ..house import House
from ..otp import Actor, handles

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}")


class EnsureVolume(msgspec.Struct, frozen=True):
    """Give this volume, made if it is not there; answered with (record, whether it is new)."""

    name: str
    labels: dict[str, str] = {}
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
        """Volumes that wait for their container's record."""

    async def init(self) -> None:
        """Finish what was half done: rows without `ready` were being made or destroyed."""
        await mend(await self._strays())

    async def _strays(self) -> list[Found]:
        """Nothing else changes volumes while this actor looks."""
        house = self._house
        there = (await house.drivers.storage.inventory()).volumes
        known = await house.store.volume_names()
        self._held = {name for name in self._held if not known.get(name, True)}
        return [
            *(
                Found("record", name, "the volume was half made or half removed", "finish removing it",
                      partial(self._destroy, name))
                for name, ready in known.items() if not ready and name not in self._held
            ),
            *(
                Found("storage", name, "there is a volume that has no record", "remove it",
                      partial(self._destroy, name))
                for name in sorted(there - known.keys())
            ),
        ]  # fmt: skip

    async def _losses(self) -> list[Found]:
        there = (await self._house.drivers.storage.inventory()).volumes
        return [
            Found("storage", name, "the volume's directory is gone, with what was in it", "make an empty one",
                  partial(self._house.drivers.storage.create_volume, name))
            for name, ready in (await self._house.store.volume_names()).items() if ready and name not in there
        ]  # fmt: skip

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
        if not _NAME.fullmatch(name):
            raise InvalidParams(
                f"name: {name!r} is no name for a volume: letters, digits, `_`, `.`, `-`, the first a letter or digit"
            )
        found = await self._house.store.volume(name)
        if found is not None:
            return found, False
        record = VolumeRecord(
            name=name, path="", created_at=now(), labels=message.labels, anonymous=message.anonymous
        )
        await self._house.store.write(sql.add_volume(record), grows=True)
        try:
            path = await self._house.drivers.storage.create_volume(name)
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
        record, _ = await self.ensure(EnsureVolume(message.name, message.labels, anonymous=not message.name))
        return self._show(record, [])

    @handles(t.VolumeList)
    async def list_(self, message: t.VolumeList) -> t.Volumes:
        filters = Filters(message.filters, ("name", "label", "dangling"))
        users = await self._house.store.volume_users()
        shown = [
            self._show(record, users.get(record.name, []))
            for record in await self._house.store.volumes()
            if filters.contains("name", record.name)
            and filters.labels(record.labels)
            and filters.flag("dangling", record.name not in users)
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
        users = (await self._house.store.volume_users()).get(record.name)
        if users:
            held = ", ".join(user[:12] for user in users)
            raise InUse(f"volume {record.name} is in use by {held}; remove what uses it first")
        await self._house.store.write(sql.doom_volume(record.name))
        await self._house.drivers.storage.destroy_volume(record.name)
        await self._house.store.write(
            sql.drop_volume(record.name), sql.happened(now(), "volume", "destroy", record.name, self._facts())
        )
        return t.Done()

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
        )
