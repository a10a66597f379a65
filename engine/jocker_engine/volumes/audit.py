"""Where the records of volumes and the storage driver differ."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial

from ..differences import Found
from ..house import House

Drop = Callable[[str, str], Awaitable[None]]
"""Of a volume, a snapshot."""


async def faults(house: House, known: Collection[str]) -> list[Found]:
    """Volumes that are there and not as they should be; what nobody knows is destroyed, not mended."""
    return [
        Found("storage", name, f"volume {name}: {problem}", "put it right",
              partial(house.drivers.storage.mend_volume, name))
        for name, problem in sorted((await house.drivers.storage.volume_faults()).items()) if name in known
    ]  # fmt: skip


async def strays(
    known: Mapping[str, bool],
    held: Collection[str],
    there: Collection[str],
    destroy: Callable[[str], Awaitable[None]],
) -> list[Found]:
    """What is half made, and what no record explains."""
    return [
        *(
            Found("record", name, "the volume was half made or half removed", "finish removing it",
                  partial(destroy, name))
            for name, ready in known.items() if not ready and name not in held
        ),
        *(
            Found("storage", name, "there is a volume that has no record", "remove it", partial(destroy, name))
            for name in sorted(set(there) - known.keys())
        ),
    ]  # fmt: skip


async def snapshots(house: House, busy: Collection[str], drop: Drop) -> list[Found]:
    """Snapshots that are half made or half removed, and those that no record has."""
    records = {record.name: record for record in await house.store.volumes()}
    there = await house.drivers.storage.snapshots()
    found = []
    for volume in sorted(records.keys() | there.keys()):
        if volume in busy or volume not in records:
            continue
        known = {each.name: each.ready for each in records[volume].snapshots}
        for name in sorted(known.keys() | there.get(volume, frozenset())):
            if not known.get(name, False):
                problem = "is half made or half removed" if name in known else "has no record"
                found.append(
                    Found("storage", f"{volume}@{name}", f"snapshot {name} of volume {volume} {problem}",
                          "remove it", partial(drop, volume, name))
                )  # fmt: skip
    return found


async def losses(house: House, busy: Collection[str], forget: Drop) -> list[Found]:
    """Volumes and snapshots that should be there and are not."""
    storage = house.drivers.storage
    volumes, kept = (await storage.inventory()).volumes, await storage.snapshots()
    found = []
    for record in await house.store.volumes():
        name = record.name
        if name in busy:
            continue
        if name not in volumes:
            found.append(
                Found("storage", name, "the volume's directory is gone, with what was in it", "make an empty one",
                      partial(storage.create_volume, name, record.quota))
            )  # fmt: skip
        found += [
            Found("storage", f"{name}@{each.name}", f"snapshot {each.name} of volume {name} is gone", "forget it",
                  partial(forget, name, each.name))
            for each in record.snapshots if each.ready and each.name not in kept.get(name, frozenset())
        ]  # fmt: skip
    return found
