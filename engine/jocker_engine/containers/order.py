"""Containers in order of dependency (`--depends-on`), side by side where there is none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import trio

from ..db.records import ContainerRecord

Act = Callable[[str], Awaitable[None]]


async def dependencies_first(records: Sequence[ContainerRecord], act: Act) -> None:
    """`act` on each id, after those that it depends on."""
    await _in_order({record.id: set(record.depends_on) for record in records}, act)


async def dependents_first(records: Sequence[ContainerRecord], act: Act) -> None:
    """`act` on each id, after those that depend on it."""
    waits: dict[str, set[str]] = {record.id: set() for record in records}
    for record in records:
        for dependency in waits.keys() & set(record.depends_on):
            waits[dependency].add(record.id)
    await _in_order(waits, act)


async def _in_order(waits: dict[str, set[str]], act: Act) -> None:
    """A dependency is made before what depends on it, so there are no cycles."""
    done = {id: trio.Event() for id in waits}

    async def one(id: str) -> None:
        for other in waits[id] & done.keys():
            await done[other].wait()
        try:
            await act(id)
        finally:
            done[id].set()

    async with trio.open_nursery() as nursery:
        for id in waits:
            nursery.start_soon(one, id)
