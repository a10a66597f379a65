"""Containers that do not run, removed together. Knows records and the storage driver's sizes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from jocker_protocol import types as t
from jocker_protocol.errors import InvalidState, NotFound

from ..filters import Filters
from ..house import House

_IDLE = ("created", "exited", "dead")


async def prune(
    house: House, wish: t.ContainerPrune, remove: Callable[[t.ContainerRemove], Awaitable[object]]
) -> t.ContainersPruned:
    """Remove them one by one; one that is started meanwhile stays."""
    filters = Filters(wish.filters, ("until", "label", "label!"))
    until = filters.time("until")
    wanted = [
        record.id
        for record in await house.store.containers(_IDLE)
        if record.created_at < until and filters.labels(record.config.labels)
    ]
    sizes = await house.drivers.storage.sizes() if wanted else {}
    gone = []
    for container in wanted:
        try:
            await remove(t.ContainerRemove(container=container))
        except (InvalidState, NotFound):
            continue
        gone.append(container)
    return t.ContainersPruned(
        containers=gone, space_reclaimed=sum(sizes.get(container, 0) for container in gone)
    )
