"""One container: an actor that owns its record, its shim's link, and everybody who waits for it.

A handler never waits for the process: tasks do, and cast back what happened (Started, NotStarted, Exited,
Gone). Only handlers change the state, along the lifecycle table, and only after it is on disk.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from typing import Any

import msgspec
import trio

from jocker_protocol import types as t
from jocker_protocol import wire
from jocker_protocol.errors import CannotStart, Conflict, InvalidState, JockerError

from ..clock import boot_id, new_id, now
from ..db import store as sql
from ..house import House
from ..otp import Actor, ActorDown, Reply, handles
from ..parting import say_last
from ..platform.interfaces import Isolation
from ..platform.rootfs import NoSuchUser
from ..platform.shims import ShimLink, ShimLost, ShimRefused, StartFailed, connect, read_status
from ..shim.launch import Launch, LogRequest
from . import lifecycle
from .names import check_name
from .signals import parse_signal
from .surroundings import argv, isolation, merge_env, process, write_files

KILLED = 137
"""Exit code of a process that KILL ended, and of one whose shim was lost."""


class Restart(msgspec.Struct, frozen=True):
    """`container.restart`."""

    container: str
    timeout: int | None


class CheckAttach(msgspec.Struct, frozen=True):
    """Whether Attach would be taken now; answered with the id."""

    container: str


class Attach(msgspec.Struct, frozen=True):
    """Join a client's socket to the main process, at its start if it has not begun. The actor takes `fd` over."""

    container: str
    fd: int
    framing: str
    stdin: bool
    logs: bool


class CheckExec(msgspec.Struct, frozen=True):
    """Whether Exec would be taken now; answered with the id."""

    container: str


class Exec(msgspec.Struct, frozen=True):
    """Start one more process, joined to a client's socket if there is one. The actor takes `fd` over."""

    container: str
    wish: t.ContainerExec
    fd: int = -1
    framing: str = "frames"


class Logs(msgspec.Struct, frozen=True):
    """Answered with (id, LogRequest) for the zygote."""

    container: str
    wish: t.ContainerLogs


class Started(msgspec.Struct, frozen=True):
    """The main process runs."""

    pid: int


class NotStarted(msgspec.Struct, frozen=True):
    """The main process could not be started."""

    exit_code: int
    error: str


class Exited(msgspec.Struct, frozen=True):
    """The main process ended, and what its run needed is taken down."""

    exit_code: int
    error: str
    finished_at: str


class Gone(msgspec.Struct, frozen=True):
    """Removing came to its end, good (None) or bad."""

    error: Any = None


_CANNOT_START = (JockerError, OSError, NoSuchUser, ShimRefused, ShimLost, ActorDown)
"""What stands in a start's way without being a bug."""


class Container(Actor):
    """See the module."""

    answers = (JockerError, OSError, sqlite3.Error)

    def __init__(self, house: House, container: str) -> None:
        self._house = house
        self._id = container
        self._link: ShimLink | None = None
        self._parked: list[tuple[int, str, bool]] = []
        self._starters: list[Reply] = []
        self._stoppers: list[Reply] = []
        self._waiters: list[Reply] = []
        self._removers: list[Reply] = []
        self._remove_at_exit: t.ContainerRemove | None = None
        self._execs: set[str] = set()
        self._exited = trio.Event()

    # --- life ---

    async def init(self) -> None:
        """Take up what the record says: a process to be found again, a removal to be finished."""
        record = await self._house.store.container(self._id)
        if record is None:
            raise InvalidState(f"container {self._id} has no record")
        self._record = record
        if record.state.status in lifecycle.ALIVE:
            self.spawn(self._adopt)
        elif record.state.status in ("creating", "removing"):
            await self._begin_removal(anonymous=record.auto_remove)

    async def terminate(self, reason: BaseException | None) -> None:
        for fd, _, _ in self._parked:
            os.close(fd)

    def detail(self) -> str:
        return f"{self._record.name} {self._record.state.status}"

    async def _follow(self, event: str, **changes: Any) -> None:
        """The next state, on disk before it is true here."""
        status = lifecycle.follow(self._record.state.status, event)
        state = msgspec.structs.replace(self._record.state, status=status, **changes)
        record = msgspec.structs.replace(self._record, state=state)
        await self._house.store.write(sql.update_container(record))
        self._record = record

    @property
    def _status(self) -> str:
        return self._record.state.status

    def _isolation(self, rootfs: str) -> Isolation:
        return isolation(self._record, self._house.layout, rootfs)

    # --- start ---

    @handles(t.ContainerStart)
    async def start(self, message: t.ContainerStart) -> t.Done:
        if self._status == "running":
            return t.Done()
        if self._status != "starting":
            if not lifecycle.allows(self._status, "start"):
                raise lifecycle.refusal(self._record.name, self._status, "start")
            await self._follow(
                "start", pid=0, exit_code=0, error="", started_at="", finished_at="", boot_id=boot_id()
            )
            self._exited = trio.Event()
            parked, self._parked = self._parked, []
            self.spawn(self._run, message.console_size, parked)
        self._starters.append(self.defer())
        return t.Done()

    async def _run(self, size: t.ConsoleSize | None, parked: list[tuple[int, str, bool]]) -> None:
        """From nothing to the end of the process."""
        try:
            try:
                launch = await self._launch(size)
                link = await self._house.shims.new(self._id[:12])
                try:
                    pid = await link.start(launch, parked)
                except BaseException:
                    with trio.CancelScope(shield=True):
                        await link.aclose()
                    raise
            except StartFailed as error:
                await self._take_down()
                self.ref.cast(NotStarted(error.exit_code, error.error))
                return
            except _CANNOT_START as error:
                for fd, framing, _ in parked:  # no shim will tell them
                    say_last(fd, framing, wire.RESULT, {"exit_code": 125, "error": str(error)})
                await self._take_down()
                self.ref.cast(NotStarted(125, str(error)))
                return
        finally:
            for fd, _, _ in parked:
                os.close(fd)
        self._link = link
        self.ref.cast(Started(pid))
        await self._watch(link)

    async def _launch(self, size: t.ConsoleSize | None) -> Launch:
        house, record = self._house, self._record
        rootfs = await house.drivers.storage.mount(record.id)
        write_files(house.layout.container(record.id), record.hostname)
        status = house.layout.container_status(record.id)
        if os.path.exists(status):
            os.unlink(status)
        main = process(
            record.config,
            record.hostname,
            tty=record.tty,
            rows=size.rows if size else 0,
            cols=size.cols if size else 0,
        )
        launch = await house.drivers.runtime.prepare(self._isolation(rootfs), main)
        return _with_stdio(
            launch,
            status=status,
            stdin=record.interactive,
            log=house.layout.container_log(record.id),
            log_max_size=house.config.container_log_max_size,
            log_max_files=house.config.container_log_max_files,
        )

    async def _watch(self, link: ShimLink) -> None:
        """Until the process has ended; then its surroundings are taken down before anybody is told."""
        try:
            exit_code, error = await link.wait(), ""
        except ShimLost:
            exit_code, error = self._from_status_file()
        finally:
            self._link = None
            with trio.CancelScope(shield=True):
                await link.aclose()
        await self._take_down()
        self.ref.cast(Exited(exit_code, error, now()))

    def _from_status_file(self) -> tuple[int, str]:
        status = read_status(self._house.layout.container_status(self._id))
        if status is not None and status.get("exit_code") is not None:
            return int(status["exit_code"]), str(status.get("error", ""))
        if self._record.state.boot_id != boot_id():
            return KILLED, "the machine was restarted"
        return KILLED, "shim lost"

    async def _take_down(self) -> None:
        house = self._house
        await house.drivers.runtime.kill_all(self._id, self._record.state.pid)
        rootfs = await house.drivers.storage.mount(self._id)
        await house.drivers.runtime.destroy(self._isolation(rootfs))
        await house.drivers.storage.unmount(self._id)

    async def _adopt(self) -> None:
        """After a restart of the engine or of this actor: the process may run, have ended, or never have begun."""
        link = None
        if self._record.state.boot_id == boot_id():
            link = await connect(self._house.layout.run, self._id[:12])
        if link is not None:
            try:
                pid = await link.watch()
            except ShimLost:
                pid = 0
            if pid:
                self._link = link
                if self._status == "starting":
                    self.ref.cast(Started(pid))
                await self._watch(link)
                return
            await link.aclose()  # a shim that was told nothing goes away
        status = read_status(self._house.layout.container_status(self._id))
        await self._take_down()
        if self._status == "starting" and status is None:
            self.ref.cast(NotStarted(125, "the engine was stopped before it could be started"))
            return
        exit_code, error = self._from_status_file()
        self.ref.cast(Exited(exit_code, error, str((status or {}).get("finished_at") or now())))

    @handles(Started)
    async def started(self, message: Started) -> None:
        await self._follow("started", pid=message.pid, started_at=now())
        _answer(self._starters, t.Done())
        if self._remove_at_exit is not None:
            self._kill_soon()

    @handles(NotStarted)
    async def not_started(self, message: NotStarted) -> None:
        await self._follow("not started", exit_code=message.exit_code, error=message.error)
        error = CannotStart(
            f"cannot start container {self._record.name}: {message.error}", exit_code=message.exit_code
        )
        _fail(self._starters, error)
        self._exited.set()
        await self._ended(t.ExitStatus(exit_code=message.exit_code, error=message.error))

    @handles(Exited)
    async def exited(self, message: Exited) -> None:
        await self._follow(
            "exited", pid=0, exit_code=message.exit_code, error=message.error, finished_at=message.finished_at
        )
        self._exited.set()
        _answer(self._starters, t.Done())
        await self._ended(t.ExitStatus(exit_code=message.exit_code, error=message.error))

    async def _ended(self, status: t.ExitStatus) -> None:
        _answer(self._stoppers, t.Done())
        _answer(self._waiters, status)
        wish = self._remove_at_exit
        if wish is not None or self._record.auto_remove:
            self._remove_at_exit = None
            await self._begin_removal(
                anonymous=self._record.auto_remove or (wish is not None and wish.volumes)
            )

    # --- stop, kill, wait ---

    @handles(t.ContainerStop)
    async def stop_process(self, message: t.ContainerStop) -> t.Done:
        if self._status not in lifecycle.ALIVE:
            return t.Done()
        if self._status == "starting":
            raise lifecycle.refusal(self._record.name, self._status, "stop")
        if self._status == "running":
            await self._follow("stop")
        timeout = self._record.stop_timeout if message.timeout is None else message.timeout
        self.spawn(self._stop, timeout)
        self._stoppers.append(self.defer())
        return t.Done()

    async def _stop(self, timeout: int) -> None:
        signum = parse_signal(self._record.config.stop_signal or "TERM")
        await self._house.drivers.runtime.signal(self._id, self._record.state.pid, signum)
        with trio.move_on_after(timeout if timeout >= 0 else float("inf")):
            await self._exited.wait()
            return
        await self._kill_all()

    async def _kill_all(self) -> None:
        await self._house.drivers.runtime.kill_all(self._id, self._record.state.pid)

    def _kill_soon(self) -> None:
        self.spawn(self._kill_all)

    @handles(t.ContainerKill)
    async def kill(self, message: t.ContainerKill) -> t.Done:
        signum = parse_signal(message.signal)
        if self._status not in ("running", "stopping"):
            raise lifecycle.refusal(self._record.name, self._status, "kill")
        self.answer_later(self._signal, signum)
        return t.Done()

    async def _signal(self, signum: int) -> t.Done:
        await self._house.drivers.runtime.signal(self._id, self._record.state.pid, signum)
        return t.Done()

    @handles(Restart)
    async def restart(self, message: Restart) -> None:
        self.answer_later(self._restart, message)

    async def _restart(self, message: Restart) -> t.Done:
        await self.ref.call(t.ContainerStop(container=self._id, timeout=message.timeout))
        await self.ref.call(t.ContainerStart(container=self._id))
        return t.Done()

    @handles(t.ContainerWait)
    async def wait(self, message: t.ContainerWait) -> t.ExitStatus:
        state = self._record.state
        status = t.ExitStatus(exit_code=state.exit_code, error=state.error)
        if message.condition == "removed":
            self._removers.append(self.defer())
        elif self._status in lifecycle.ALIVE:
            self._waiters.append(self.defer())
        return status

    # --- remove ---

    @handles(t.ContainerRemove)
    async def remove(self, message: t.ContainerRemove) -> t.Done:
        if self._status in lifecycle.ALIVE:
            if not message.force:
                raise lifecycle.refusal(self._record.name, self._status, "remove")
            self._remove_at_exit = message
            self._kill_soon()
        else:
            await self._begin_removal(anonymous=message.volumes or self._record.auto_remove)
        self._removers.append(self.defer())
        return t.Done()

    async def _begin_removal(self, *, anonymous: bool) -> None:
        if self._status == "removing" and hasattr(self, "_removing"):
            return
        self._removing = True
        await self._follow("remove")
        self.spawn(self._remove, anonymous)

    async def _remove(self, anonymous: bool) -> None:
        house, record = self._house, self._record
        try:
            rootfs = os.path.join(house.layout.container(record.id), "none")
            await house.drivers.runtime.kill_all(record.id, 0)
            await house.drivers.runtime.destroy(self._isolation(rootfs))
            await house.drivers.storage.destroy_tree(record.id)
            shutil.rmtree(house.layout.container(record.id), ignore_errors=False, onerror=_missing_is_fine)
            await house.store.write(sql.drop_container(record.id))
        except (JockerError, OSError, sqlite3.Error) as error:
            self.ref.cast(Gone(error))
            return
        if anonymous:
            for mount in record.mounts:
                if mount.anonymous:
                    await self._remove_volume(mount.source)
        self.ref.cast(Gone())

    async def _remove_volume(self, volume: str) -> None:
        try:
            await self.system.ref("volumes").call(t.VolumeRemove(volume=volume, force=True))
        except JockerError:
            pass  # another container uses it by now

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

    # --- clients of the process ---

    @handles(CheckAttach)
    async def check_attach(self, message: CheckAttach) -> str:
        if self._status not in ("created", "exited", "starting", "running", "stopping"):
            raise lifecycle.refusal(self._record.name, self._status, "attach")
        return self._id

    @handles(Attach)
    async def attach(self, message: Attach) -> t.Done:
        stdin = message.stdin and self._record.interactive
        if self._status in ("created", "exited"):
            self._parked.append((message.fd, message.framing, stdin))
            return t.Done()
        self.answer_later(self._attach, message, stdin)
        return t.Done()

    async def _attach(self, message: Attach, stdin: bool) -> t.Done:
        try:
            if self._link is None:
                raise lifecycle.refusal(self._record.name, self._status, "attach")
            await self._link.attach(message.fd, message.framing, stdin, message.logs)
        except (ShimRefused, ShimLost) as error:
            raise InvalidState(f"cannot attach to container {self._record.name}: {error}") from None
        finally:
            os.close(message.fd)
        return t.Done()

    @handles(CheckExec)
    async def check_exec(self, message: CheckExec) -> str:
        if self._status != "running":
            raise lifecycle.refusal(self._record.name, self._status, "exec")
        return self._id

    @handles(Exec)
    async def exec_(self, message: Exec) -> str:
        """Answered with the exec's id when its process runs; for a client also when it could not be started,
        which the shim tells it.
        """
        key = new_id()[:12]
        started = self.defer()
        self.spawn(self._exec, key, message, started)
        return key

    async def _exec(self, key: str, message: Exec, started: Reply) -> None:
        house, record, wish = self._house, self._record, message.wish
        self._execs.add(key)
        link = None
        try:
            try:
                if self._status != "running":
                    raise lifecycle.refusal(record.name, self._status, "exec")
                size = wish.console_size
                config = t.ImageConfig(
                    cmd=wish.cmd,
                    env=merge_env(record.config.env, wish.env),
                    working_dir=wish.working_dir or record.config.working_dir,
                    user=wish.user or record.config.user,
                )
                what = process(
                    config,
                    record.hostname,
                    tty=wish.tty,
                    rows=size.rows if size else 0,
                    cols=size.cols if size else 0,
                )
                rootfs = await house.drivers.storage.mount(self._id)
                launch = await house.drivers.runtime.launch_exec(self._isolation(rootfs), what, key)
                link = await house.shims.new(key)
                clients = [] if message.fd < 0 else [(message.fd, message.framing, wish.interactive)]
                await link.start(_with_stdio(launch, stdin=wish.interactive), clients)
            except StartFailed as error:
                if message.fd < 0:
                    started.fail(CannotStart(error.error, exit_code=error.exit_code))
                else:
                    started.send(key)
                return
            except _CANNOT_START as error:
                started.fail(
                    error if isinstance(error, JockerError) else CannotStart(str(error), exit_code=126)
                )
                return
            finally:
                if message.fd >= 0:
                    os.close(message.fd)
            started.send(key)
            try:
                await link.wait()
            except ShimLost:
                pass  # its client sees the end of the stream
        finally:
            self._execs.discard(key)
            if link is not None:
                with trio.CancelScope(shield=True):
                    await link.aclose()

    @handles(Logs)
    async def logs(self, message: Logs) -> tuple[str, LogRequest]:
        wish, layout = message.wish, self._house.layout
        alive = self._status in lifecycle.ALIVE
        return self._id, LogRequest(
            log=layout.container_log(self._id),
            follow=wish.follow and alive,
            tail=wish.tail,
            since=wish.since,
            until=wish.until,
            socket=os.path.join(layout.run, self._id[:12]) if alive else "",
        )

    # --- facts ---

    @handles(t.ContainerRename)
    async def rename(self, message: t.ContainerRename) -> t.Done:
        record = msgspec.structs.replace(self._record, name=check_name(message.name))
        try:
            await self._house.store.write(sql.update_container(record))
        except sqlite3.IntegrityError:
            raise Conflict(f"the name {message.name} is taken by another container; choose another") from None
        self._record = record
        return t.Done()

    @handles(t.ContainerRef)
    async def inspect(self, message: t.ContainerRef) -> t.ContainerDetail:
        record, house = self._record, self._house
        words = argv(record.config)
        return t.ContainerDetail(
            id=record.id,
            name=record.name,
            created_at=record.created_at,
            image=record.image,
            image_id=record.image_id,
            path=words[0],
            args=words[1:],
            state=record.state,
            config=record.config,
            tty=record.tty,
            interactive=record.interactive,
            auto_remove=record.auto_remove,
            hostname=record.hostname,
            network=record.network,
            mounts=[
                t.Mount(
                    type=mount.type,  # type: ignore[arg-type]
                    target=mount.target,
                    source=mount.source,
                    read_only=mount.read_only,
                )
                for mount in record.mounts
            ],
            log_path=house.layout.container_log(record.id),
            rootfs=await house.drivers.storage.mount(record.id) if self._status in lifecycle.ALIVE else "",
            platform=house.drivers.names(),
            stop_timeout=record.stop_timeout,
            exec_ids=sorted(self._execs),
        )


def _with_stdio(launch: Launch, **fields: Any) -> Launch:
    return Launch.from_json({**launch.to_json(), **fields})


def _answer(replies: list[Reply], value: Any) -> None:
    for reply in replies:
        reply.send(value)
    replies.clear()


def _fail(replies: list[Reply], error: BaseException) -> None:
    for reply in replies:
        reply.fail(error)
    replies.clear()


def _missing_is_fine(function: Callable[..., Any], path: str, info: Any) -> None:
    if not isinstance(info[1], FileNotFoundError):
        raise info[1]
