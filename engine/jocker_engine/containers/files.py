"""What a container has made of its file system: compared with its image, and committed. Its processes are left alone."""

from __future__ import annotations

import posixpath
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from jocker_protocol import types as t

from ..db.records import ContainerRecord
from ..house import House
from ..images.manager import Commit
from ..otp import System
from .surroundings import argv

_MOUNT_POINTS = frozenset(
    {"/dev", "/proc", "/sys", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/dev/shm", "/dev/console"}
)
"""What runtimes mount in every container: that these are there is no change of the container's."""


async def diff(house: House, record: ContainerRecord) -> t.Changed:
    """Without mount points, and directories that have changed only by them."""
    mounted = _MOUNT_POINTS | {mount.target for mount in record.mounts}
    found = await house.drivers.storage.diff(record.id)
    shown = [change for change in found if not (change.kind == "A" and change.path in mounted)]
    hidden = {posixpath.dirname(change.path) for change in found} - {
        posixpath.dirname(change.path) for change in shown
    }
    return t.Changed(
        changes=[
            t.ChangedPath(kind=change.kind, path=change.path)  # type: ignore[arg-type]
            for change in shown
            if not (change.kind == "C" and change.path in hidden)
        ]
    )


async def commit(house: House, system: System, record: ContainerRecord, wish: t.ContainerCommit) -> t.Created:
    """Its processes stand still meanwhile, if that is wished and can be done."""
    message = Commit(wish, record, " ".join(argv(record.config)))
    async with _still(house, record, wish.pause):
        created: t.Created = await system.ref("images").call(message)
    return created


@asynccontextmanager
async def _still(house: House, record: ContainerRecord, wanted: bool) -> AsyncIterator[None]:
    if not wanted or record.state.status != "running":
        yield
        return
    await house.drivers.runtime.pause(record.id)
    try:
        yield
    finally:
        with trio.CancelScope(shield=True):
            await house.drivers.runtime.resume(record.id)
