"""What is done to a container while it is there: limits changed, pause, its processes shown. Half of its actor.

Pausing and limits are acts on the platform; while one is under way no other is begun.
"""

from __future__ import annotations

import abc
import logging
import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec

from jocker_protocol import types as t
from jocker_protocol.errors import InvalidParams, InvalidState, JockerError
from jocker_protocol.limits import Limits

from ..db import statements as sql
from ..db.database import Statement
from ..otp import handles
from . import lifecycle, restarts
from .messages import Held, Limited
from .part import Part
from .surroundings import isolation

_LIMITS = ("memory", "memory_swap", "memory_reservation", "cpus", "cpu_shares", "cpuset_cpus", "pids")
_CHANGEABLE = ("created", "running", "paused", "exited", "restarting")

log = logging.getLogger("jocker.containers")


class Upkeep(Part):
    """See the module."""

    _busy = ""
    """What is under way: "paused", "unpaused", "updated"."""

    @abc.abstractmethod
    async def _follow(self, event: str, *events: Statement, **changes: Any) -> None: ...

    @abc.abstractmethod
    def _event(self, action: str, **facts: str) -> Statement: ...

    @abc.abstractmethod
    def _begin_probing(self) -> None: ...

    @abc.abstractmethod
    def _end_probing(self) -> None: ...

    def _begin_act(self, what: str) -> None:
        if self._busy:
            raise InvalidState(f"container {self._record.name} is being {self._busy}; try again")
        self._busy = what

    # --- pause ---

    @handles(t.ContainerPause)
    async def pause(self, message: t.ContainerPause) -> t.Done:
        return self._hold("pause")

    @handles(t.ContainerUnpause)
    async def unpause(self, message: t.ContainerUnpause) -> t.Done:
        return self._hold("unpause")

    def _hold(self, wish: str) -> t.Done:
        if not lifecycle.allows(self._status, wish):
            raise lifecycle.refusal(self._record.name, self._status, wish)
        self._begin_act(f"{wish}d")
        self.answer_later(self._pause_or_resume, wish == "pause")
        return t.Done()

    async def _pause_or_resume(self, paused: bool) -> t.Done:
        runtime = self._house.drivers.runtime
        try:
            await (runtime.pause if paused else runtime.resume)(self._id)
            await self.ref.call(Held(paused))
        finally:
            self._busy = ""
        return t.Done()

    @handles(Held)
    async def held(self, message: Held) -> None:
        wish = "pause" if message.paused else "unpause"
        if not lifecycle.allows(self._status, wish):  # it was stopped meanwhile, or has ended
            if message.paused and self._status in lifecycle.ALIVE:
                self.spawn(self._house.drivers.runtime.resume, self._id)
            raise lifecycle.refusal(self._record.name, self._status, wish)
        await self._follow(wish, self._event(wish))
        if message.paused:
            self._end_probing()
        else:
            self._begin_probing()

    async def _align(self) -> None:
        """A container found again is paused, and limited, as its record says."""
        runtime, wanted = self._house.drivers.runtime, self._status == "paused"
        try:
            if await runtime.is_paused(self._id) != wanted:
                await (runtime.pause if wanted else runtime.resume)(self._id)
            if self._record.limits_pending:
                await runtime.update(isolation(self._record, self._house.layout, ""))
                self.ref.cast(Limited(self._record.limits))
        except (JockerError, OSError) as error:
            log.warning("container %s was found, and is not as it should be: %s", self._record.name, error)

    # --- limits ---

    @handles(t.ContainerUpdate)
    async def update(self, message: t.ContainerUpdate) -> t.Done:
        """The wish is on disk before it is done: a new engine that finds the container goes on with it."""
        record, old = self._record, self._record.limits
        if self._status not in _CHANGEABLE:
            raise lifecycle.refusal(record.name, self._status, "update")
        given = {name: value for name in _LIMITS if (value := getattr(message, name)) is not None}
        limits = msgspec.structs.replace(old, **given)
        if (
            old.memory_swap > 0
            and "memory" in given
            and "memory_swap" not in given
            and limits.memory > old.memory_swap
        ):
            raise InvalidParams("memory: more than memory and swap together; give --memory-swap too")
        self._house.drivers.runtime.check(limits, record.security)
        policy = record.restart_policy
        if message.restart_policy is not None:
            policy = restarts.check(message.restart_policy, auto_remove=record.auto_remove)
        live = limits != old and self._status in ("running", "paused")
        if live:
            self._begin_act("updated")
        try:
            await self._keep(limits, live, restart_policy=policy)
        except BaseException:
            self._busy = ""
            raise
        if live:
            self.answer_later(self._apply, old)
        return t.Done()

    async def _keep(self, limits: Limits, pending: bool, *events: Statement, **changes: Any) -> None:
        record = msgspec.structs.replace(self._record, limits=limits, limits_pending=pending, **changes)
        told: Sequence[Statement] = events or ([] if pending else [self._event("update")])
        await self._house.store.write(sql.update_container(record), *told)
        self._record = record

    async def _apply(self, old: Limits) -> t.Done:
        try:
            await self._house.drivers.runtime.update(isolation(self._record, self._house.layout, ""))
            await self.ref.call(Limited(old))
        except (JockerError, OSError) as error:
            await self.ref.call(Limited(old, error))
        finally:
            self._busy = ""
        return t.Done()

    @handles(Limited)
    async def limited(self, message: Limited) -> None:
        if message.error is None:
            await self._keep(self._record.limits, False)
            return
        try:
            await self._keep(message.old, False, self._event("update_failed"))
        except sqlite3.OperationalError as error:
            log.warning("container %s: the limits it kept cannot be written: %s", self._record.name, error)
        raise message.error

    # --- processes ---

    @handles(t.ContainerTop)
    async def top(self, message: t.ContainerTop) -> t.Top:
        if self._status not in ("running", "paused", "stopping"):
            raise lifecycle.refusal(self._record.name, self._status, "top")
        self.answer_later(self._top, message.ps_args or ["-ef"])
        return t.Top(titles=[], processes=[])

    async def _top(self, arguments: list[str]) -> t.Top:
        done = await self._house.commands.run(["ps", *arguments], check=False)
        if done.exit_code != 0:
            said = " ".join(done.stderr.split()[:12]) or f"exit status {done.exit_code}"
            raise InvalidParams(f"ps_args: ps {' '.join(arguments)}: {said}")
        header, *lines = done.stdout.splitlines() or [""]
        titles = header.split()
        if "PID" not in titles:
            raise InvalidParams("ps_args: PID must be among what ps shows")
        column = titles.index("PID")
        own = set(map(str, await self._house.drivers.runtime.processes(self._id, self._record.state.pid)))
        rows = [line.split(None, len(titles) - 1) for line in lines]
        return t.Top(
            titles=titles, processes=[row for row in rows if len(row) > column and row[column] in own]
        )
