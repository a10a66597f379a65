"""One container: an actor that owns its record, its shim's link, and everybody who waits for it.

A handler never waits for the process: tasks do, and cast back what happened (Started, NotStarted, Exited,
Gone). Only handlers change the state, along the lifecycle table, and only after it is on disk.
"""

from __future__ import annotations

import logging
import sqlite3
from typing import Any

import msgspec
import trio

from jocker_protocol import types as t
from jocker_protocol.errors import CannotStart, Conflict, InvalidState, JockerError

from ..clock import boot_id, now, seconds_between
from ..db import statements as sql
from ..db.database import Statement
from ..house import House
from ..otp import ActorDown, Reply, handles
from ..volumes.manager import Sweep
from . import health, journal, lifecycle, links, restarts
from .clients import Clients
from .copying import Opened
from .detail import describe
from .messages import (
    Again,
    Exited,
    Found,
    Gone,
    NotStarted,
    Probed,
    Quit,
    Restart,
    StartByPolicy,
    Started,
    StartUp,
)
from .names import check_name
from .removal import remove
from .run import Run
from .signals import parse_signal
from .upkeep import Upkeep

_WRITE_AGAIN = 1.0
"""Seconds between attempts to write what a full disk did not take."""

log = logging.getLogger("jocker.containers")


class Container(Upkeep, Clients, Opened):
    """See the module."""

    answers = (JockerError, OSError, sqlite3.Error, ActorDown)

    def __init__(self, house: House, container: str) -> None:
        super().__init__()
        self._house = house
        self._id = container
        self._starters: list[Reply] = []
        self._stoppers: list[Reply] = []
        self._waiters: list[Reply] = []
        self._removers: list[Reply] = []
        self._remove_at_exit: t.ContainerRemove | None = None
        self._stop_at_start: t.ContainerStop | None = None
        self._exited = trio.Event()
        self._settled = trio.Event()
        """It is known what became of the process of an earlier life."""
        self._by_policy = False
        """The run was begun by the restart policy, so that a failing start is one more end of it."""
        self._held = False
        """The machine is being shut down: no restarts."""
        self._backoff = restarts.Backoff()
        self._delays = 0
        self._monitor: health.Monitor | None = None
        self._probing = trio.CancelScope()

    # --- life ---

    async def init(self) -> None:
        """Take up what the record says: a process to be found again, a removal to be finished."""
        record = await self._house.store.container(self._id)
        if record is None:
            raise InvalidState(f"container {self._id} has no record")
        self._record = record
        status = record.state.status
        self._by_policy = record.state.restart_count > 0
        self._run = Run(self._house, record, self.ref.cast, self.system.ref("volumes"))
        if status in lifecycle.ALIVE:
            self.spawn(self._run.adopt)
            return
        self._settled.set()
        if status in ("creating", "removing"):
            await self._begin_removal(volumes=status == "creating")
        elif status == "restarting":
            self._start_after(self._backoff.next(0))

    def detail(self) -> str:
        return f"{self._record.name} {self._record.state.status}"

    async def _follow(self, event: str, *events: Statement, **changes: Any) -> None:
        """The next state, on disk before it is true here, and with it the events that tell of it."""
        await self._note(*events, status=lifecycle.follow(self._status, event), **changes)

    async def _note(self, *events: Statement, fact: bool = False, **changes: Any) -> None:
        """A wish that cannot be written is refused. A fact is true without that, and is written when it can be."""
        state = msgspec.structs.replace(self._record.state, **changes)
        record = msgspec.structs.replace(self._record, state=state)
        try:
            await self._house.store.write(sql.update_container(record), *events)
        except sqlite3.OperationalError as error:
            if not fact:
                raise
            log.warning("container %s is %s, which cannot be written: %s", record.name, state.status, error)
            self.spawn(self._write_later, events)
        self._record = record

    async def _write_later(self, events: tuple[Statement, ...]) -> None:
        while True:
            await trio.sleep(_WRITE_AGAIN)
            try:
                await self._house.store.write(sql.update_container(self._record), *events)
                return
            except sqlite3.OperationalError:
                continue

    def _event(self, action: str, **facts: str) -> Statement:
        return journal.event(self._record, action, **facts)

    # --- start ---

    @handles(t.ContainerStart)
    async def start(self, message: t.ContainerStart) -> t.Done:
        if self._status == "running":
            return t.Done()
        if self._status != "starting":
            if not lifecycle.allows(self._status, "start"):
                raise lifecycle.refusal(self._record.name, self._status, "start")
            self._backoff.reset()
            self._by_policy = False
            await self._begin(message.console_size, restart_count=0)
        self._starters.append(self.defer())
        return t.Done()

    async def _begin(self, size: t.ConsoleSize | None = None, **changes: Any) -> None:
        await self._follow(
            "start",
            pid=0,
            exit_code=0,
            error="",
            started_at="",
            finished_at="",
            boot_id=boot_id(),
            stopped=False,
            health=None,
            oom_killed=False,
            **changes,
        )
        self._exited = trio.Event()
        parked, self._parked = self._parked, []
        self._run = Run(self._house, self._record, self.ref.cast, self.system.ref("volumes"))
        self.spawn(self._run.begin, size, parked)

    @handles(Started)
    async def started(self, message: Started) -> None:
        await self._follow(
            "started",
            self._event("start"),
            fact=True,
            pid=message.pid,
            started_at=now(),
            health=t.Health(status="starting") if self._check else None,
        )
        self._settled.set()
        _answer(self._starters, t.Done())
        self._begin_probing()
        if self._remove_at_exit is not None:
            self.spawn(self._run.kill)
        elif self._stop_at_start is not None:
            wish, self._stop_at_start = self._stop_at_start, None
            await self._begin_stop(wish.timeout)

    @handles(Found)
    async def found(self, message: Found) -> None:
        self._settled.set()
        if self._status in ("running", "paused"):
            self.spawn(self._align)
            if self._status == "running":
                self._begin_probing()
            self.spawn(links.finish, self._house, self._record)
        else:
            self.spawn(self._stop, self._record.stop_timeout)  # the task that did so has died with its engine

    @handles(NotStarted)
    async def not_started(self, message: NotStarted) -> None:
        facts: dict[str, Any] = {"pid": 0, "exit_code": message.exit_code, "error": message.error}
        again = self._by_policy and self._may_restart(message.exit_code)
        event = "ends for now" if again else "exited" if self._by_policy else "not started"
        if self._by_policy:
            facts["finished_at"] = now()
        await self._follow(event, fact=True, **facts)
        error = CannotStart(
            f"cannot start container {self._record.name}: {message.error}", exit_code=message.exit_code
        )
        _fail(self._starters, error)
        await self._ended(t.ExitStatus(exit_code=message.exit_code, error=message.error), again, 0)

    @handles(Exited)
    async def exited(self, message: Exited) -> None:
        ran = seconds_between(self._record.state.started_at, message.finished_at)
        rebooted = self._record.state.boot_id != boot_id()  # then it is the start of the engine that decides
        again = self._status != "stopping" and not rebooted and self._may_restart(message.exit_code)
        events = [self._event("die", exitCode=str(message.exit_code))]
        if message.oom_kills:
            events.insert(0, self._event("oom"))
        if self._status == "stopping":
            events.append(self._event("stop"))
        await self._follow(
            "ends for now" if again else "exited",
            *events,
            fact=True,
            pid=0,
            exit_code=message.exit_code,
            error=message.error,
            finished_at=message.finished_at,
            health=None,
            oom_killed=message.oom_kills > 0,
        )
        _answer(self._starters, t.Done())
        await self._ended(t.ExitStatus(exit_code=message.exit_code, error=message.error), again, ran)

    def _may_restart(self, exit_code: int) -> bool:
        if self._held or self._remove_at_exit is not None or self._stop_at_start is not None:
            return False
        return restarts.again(self._record.restart_policy, self._record.state, exit_code)

    async def _ended(self, status: t.ExitStatus, again: bool, ran: float) -> None:
        """A run is over; `again`: its policy begins the next one."""
        self._exited.set()
        self._settled.set()
        self._end_probing()
        self._stop_at_start = None
        if again:
            self._start_after(self._backoff.next(ran))
            return
        _answer(self._stoppers, t.Done())
        _answer(self._waiters, status)
        wish = self._remove_at_exit
        if wish is not None or self._record.auto_remove:
            self._remove_at_exit = None
            await self._begin_removal(volumes=wish is not None and wish.volumes)

    # --- by policy ---

    def _start_after(self, delay: float) -> None:
        self._delays += 1
        self.spawn(self._delay, delay, self._delays)

    async def _delay(self, delay: float, number: int) -> None:
        await trio.sleep(delay)
        self.ref.cast(Again(number))

    @handles(Again)
    async def again(self, message: Again) -> None:
        if self._status == "restarting" and message.number == self._delays:
            self._by_policy = True
            await self._begin(restart_count=self._record.state.restart_count + 1)

    @handles(StartUp)
    async def start_up(self, message: StartUp) -> None:
        self.answer_later(self._start_up)

    async def _start_up(self) -> None:
        await self._settled.wait()
        await self.ref.call(StartByPolicy())

    @handles(StartByPolicy)
    async def start_by_policy(self, message: StartByPolicy) -> None:
        record = self._record
        wanted = restarts.at_startup(record.restart_policy, record.state)
        if self._held or not wanted or self._status not in ("created", "exited"):
            return
        self._by_policy = True
        await self._begin(restart_count=0)
        self._starters.append(self.defer())

    # --- health ---

    @property
    def _check(self) -> t.Healthcheck | None:
        check = self._record.config.healthcheck
        return check if check is not None and check.test != ["NONE"] else None

    def _begin_probing(self) -> None:
        """Where the record says it was: an engine that took over goes on with the status it found."""
        if self._check is not None:
            monitor = health.Monitor(self._check, trio.current_time(), self._record.state.health)
            self._monitor, self._probing = monitor, trio.CancelScope()
            self.spawn(self._probe, monitor)

    def _end_probing(self) -> None:
        self._probing.cancel()
        self._monitor = None

    async def _probe(self, monitor: health.Monitor) -> None:
        with self._probing:
            await health.watch(self._house, self._record, monitor, lambda probe: self.ref.cast(Probed(probe)))

    @handles(Probed)
    async def probed(self, message: Probed) -> None:
        """Only a change is worth a commit; the log of probes is in memory."""
        if self._monitor is None:
            return
        changed = self._monitor.record(message.probe, trio.current_time())
        found = self._monitor.health
        if changed:
            await self._note(self._event(f"health_status: {found.status}"), fact=True, health=found)
        else:
            self._record.state.health = found

    # --- stop, kill, wait ---

    @handles(t.ContainerStop)
    async def stop_process(self, message: t.ContainerStop) -> t.Done:
        return await self._stop_by(message, stopped=True)

    @handles(Quit)
    async def quit(self, message: Quit) -> t.Done:
        self._held = True
        wish = t.ContainerStop(container=self._id, timeout=message.timeout)
        return await self._stop_by(wish, stopped=self._record.state.stopped)

    async def _stop_by(self, message: t.ContainerStop, *, stopped: bool) -> t.Done:
        if self._status == "restarting":
            await self._follow("exited", stopped=stopped)
            state = self._record.state
            await self._ended(t.ExitStatus(exit_code=state.exit_code, error=state.error), False, 0)
            return t.Done()
        if self._status not in lifecycle.ALIVE:
            return t.Done()
        if stopped != self._record.state.stopped:
            await self._note(stopped=stopped)
        if self._status == "starting":
            self._stop_at_start = message
        else:
            await self._begin_stop(message.timeout)
        self._stoppers.append(self.defer())
        return t.Done()

    async def _begin_stop(self, timeout: int | None) -> None:
        if self._status in ("running", "paused"):
            await self._follow("stop")
        self.spawn(self._stop, self._record.stop_timeout if timeout is None else timeout)

    async def _stop(self, timeout: int) -> None:
        run = self._run
        with trio.move_on_after(timeout if timeout >= 0 else float("inf")):
            await run.stop(parse_signal(self._stop_signal))
            await self._house.drivers.runtime.resume(self._id)  # it may be paused
            await self._exited.wait()
            return
        await run.kill()

    @property
    def _stop_signal(self) -> str:
        return self._record.config.stop_signal or "TERM"

    @handles(t.ContainerKill)
    async def kill(self, message: t.ContainerKill) -> t.Done:
        signum = parse_signal(message.signal)
        if self._status not in ("running", "paused", "stopping"):
            raise lifecycle.refusal(self._record.name, self._status, "kill")
        ends_it = signum in (9, parse_signal(self._stop_signal))
        await self._note(
            self._event("kill", signal=str(signum)), stopped=self._record.state.stopped or ends_it
        )
        self.answer_later(self._signal, signum)
        return t.Done()

    async def _signal(self, signum: int) -> t.Done:
        await self._run.signal(signum)
        return t.Done()

    @handles(Restart)
    async def restart(self, message: Restart) -> None:
        self.answer_later(self._restart, message)

    async def _restart(self, message: Restart) -> t.Done:
        await self.ref.call(t.ContainerStop(container=self._id, timeout=message.timeout))
        await self.ref.call(t.ContainerStart(container=self._id))
        await self._house.store.write(self._event("restart"))
        return t.Done()

    @handles(t.ContainerWait)
    async def wait(self, message: t.ContainerWait) -> t.ExitStatus:
        state = self._record.state
        status = t.ExitStatus(exit_code=state.exit_code, error=state.error)
        if message.condition == "removed":
            self._removers.append(self.defer())
        elif self._status in lifecycle.UNFINISHED:
            self._waiters.append(self.defer())
        return status

    # --- remove ---

    @handles(t.ContainerRemove)
    async def remove(self, message: t.ContainerRemove) -> t.Done:
        if self._status in lifecycle.UNFINISHED and not message.force:
            raise lifecycle.refusal(self._record.name, self._status, "remove")
        if self._status in lifecycle.ALIVE:
            self._remove_at_exit = message
            self.spawn(self._run.kill)
        else:
            await self._begin_removal(volumes=message.volumes)
        self._removers.append(self.defer())
        return t.Done()

    async def _begin_removal(self, *, volumes: bool) -> None:
        """`volumes`: its anonymous ones go with it, as they do with --rm; the record remembers that."""
        if self._status == "removing" and hasattr(self, "_removing"):
            return
        self._removing = True
        if volumes:
            self._record = msgspec.structs.replace(self._record, auto_remove=True)
        await self._follow("remove")
        self.spawn(self._remove)

    async def _remove(self) -> None:
        try:
            own = await remove(self._house, self._record)
        except (JockerError, OSError, sqlite3.Error) as error:
            self.ref.cast(Gone(error))
            return
        try:
            await self.system.ref("volumes").call(Sweep(own))
        except (ActorDown, JockerError, OSError, sqlite3.Error) as error:
            log.warning("container %s: its volumes are doomed, and still there: %s", self._record.name, error)
        self.ref.cast(Gone())

    @handles(Gone)
    async def gone(self, message: Gone) -> None:
        if message.error is not None:
            del self._removing
            _fail(self._removers, message.error)
            return
        state = self._record.state
        for reply in self._removers:
            # Waiters for the removal and removers alike: the answer that both understand is the exit status.
            reply.send(t.ExitStatus(exit_code=state.exit_code, error=state.error))
        self._removers.clear()
        self.stop()

    # --- facts ---

    @handles(t.ContainerRename)
    async def rename(self, message: t.ContainerRename) -> t.Done:
        record = msgspec.structs.replace(self._record, name=check_name(message.name))
        try:
            await self._house.store.write(
                sql.update_container(record), journal.event(record, "rename", oldName=self._record.name)
            )
        except sqlite3.IntegrityError:
            raise Conflict(f"the name {message.name} is taken by another container; choose another") from None
        self._record = record
        self.answer_later(self._tell_name)
        return t.Done()

    async def _tell_name(self) -> t.Done:
        await self._house.networks.renamed()
        return t.Done()

    @handles(t.NetworkConnect)
    async def connect(self, message: t.NetworkConnect) -> None:
        self.answer_later(links.connect, self._house, self._record, message, lambda: self._status)

    @handles(t.NetworkDisconnect)
    async def disconnect(self, message: t.NetworkDisconnect) -> None:
        self.answer_later(links.disconnect, self._house, self._record, message, lambda: self._status)

    @handles(t.ContainerRef)
    async def inspect(self, message: t.ContainerRef) -> t.ContainerDetail:
        alive = self._status in lifecycle.ALIVE
        rootfs = await self._house.drivers.storage.mount(self._id) if alive else ""
        return await describe(self._house, self._record, rootfs, sorted(self._execs))


def _answer(replies: list[Reply], value: Any) -> None:
    for reply in replies:
        reply.send(value)
    replies.clear()


def _fail(replies: list[Reply], error: BaseException) -> None:
    for reply in replies:
        reply.fail(error)
    replies.clear()
