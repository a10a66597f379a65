"""The events actor: what happened, from the journal, for those who ask what comes next.

Managers write an event in the transaction of the change that it tells of (db/store.py); so the journal has all
that happened, in order, and a follower is one who asks again and again for what comes after the last it saw. A
slow one delays nobody and needs no queue.
"""

from __future__ import annotations

import sqlite3

import msgspec
import trio

from jocker_protocol import types as t
from jocker_protocol.errors import InvalidParams

from .clock import canonical, now, seconds_between
from .db.statements import trim_events
from .db.store import Grown, Store
from .filters import Filters
from .otp import Actor, handles

KEEP = 10_000
"""Events in the journal; older ones are forgotten."""
_BATCH = 500
_LATE = 0.05
"""Seconds after `until` in which an event of before it may still be written."""


class Next(msgspec.Struct, frozen=True):
    """Events after this number, as many as one batch has; answered when there is at least one."""

    after: int
    since: str = ""


class Journal(Actor):
    """See the module."""

    answers = (sqlite3.Error,)

    def __init__(self, store: Store) -> None:
        self._store = store
        self._grown = trio.Event()
        self._told = 0

    async def init(self) -> None:
        await self._trim()

    def detail(self) -> str:
        return f"{self._told} writes"

    @handles(Next)
    async def next(self, message: Next) -> None:
        self.answer_later(self._next, message)

    async def _next(self, message: Next) -> list[t.Event]:
        while True:
            grown = self._grown
            found = await self._store.events(message.after, message.since, _BATCH)
            if found:
                return found
            await grown.wait()

    @handles(Grown)
    async def grown(self, message: Grown) -> None:
        bell, self._grown = self._grown, trio.Event()
        bell.set()
        self._told += 1
        if self._told % (KEEP // 10) == 0:
            await self._trim()

    async def _trim(self) -> None:
        if await self._store.last_event() > KEEP:
            await self._store.write(trim_events(KEEP))


class Wanted:
    """Which events a client wants. Raises InvalidParams."""

    def __init__(self, params: t.Events) -> None:
        self._filters = Filters(
            params.filters, ("type", "action", "event", "container", "image", "volume", "network", "label")
        )
        self.since, self.until = (_time(name, getattr(params, name)) for name in ("since", "until"))

    def patience(self) -> float:
        """Seconds until `until`, and a little for the last event to be written."""
        if not self.until:
            return float("inf")
        return seconds_between(now(), self.until) + _LATE

    def matches(self, event: t.Event) -> bool:
        """Whether it goes through the filters. An action with a detail ("health_status: healthy") has two names."""
        filters, facts = self._filters, event.attributes
        short = event.action.partition(":")[0]
        return (
            filters.equals("type", event.type)
            and all(filters.equals(key, event.action, short) for key in ("action", "event"))
            and self._about(event, "container", event.id, event.id[:12], facts.get("name", ""))
            and ("image" not in filters or filters.equals("image", *_names(event)))
            and self._about(event, "volume", event.id)
            and self._about(event, "network", event.id, event.id[:12], facts.get("name", ""))
            and filters.labels(facts)
        )

    def _about(self, event: t.Event, kind: str, *names: str) -> bool:
        if kind not in self._filters:
            return True
        return event.type == kind and self._filters.equals(kind, *names)


def _names(event: t.Event) -> tuple[str, ...]:
    """What its image is called."""
    if event.type == "image":
        name = event.attributes.get("name", "")
        return event.id, name, name.removesuffix(":latest")
    name = event.attributes.get("image", "")
    return name, name.removesuffix(":latest")


def _time(name: str, text: str) -> str:
    try:
        return canonical(text) if text else ""
    except ValueError as error:
        raise InvalidParams(f"{name}: {error}") from None
