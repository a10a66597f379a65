"""One run of a container's main process: started or found again, watched to its end, taken down.

Tasks of the container's actor; what happens is cast to it as a message (Started, NotStarted, Found, Exited).
"""

from __future__ import annotations

import logging
import os
import signal
import sqlite3
from collections.abc import Callable
from typing import Any

import trio

from jocker_protocol import types as t
from jocker_protocol import wire
from jocker_protocol.errors import JockerError

from ..clock import boot_id, now
from ..db.records import ContainerRecord
from ..house import House
from ..otp import ActorDown, Ref
from ..parting import say_last
from ..platform.shims import ShimLink, ShimLost, ShimRefused, StartFailed, connect, read_status
from ..shim.launch import Launch
from ..volumes.manager import UseVolumes
from .messages import Exited, Found, NotStarted, Started
from .surroundings import CANNOT_START, isolation, process, with_stdio, write_files

KILLED = 137
"""Exit code of a process that KILL ended, and of one whose shim was lost."""

log = logging.getLogger("jocker.containers")


class Run:
    """`record` is the container's as it was at the start; `tell` casts to its actor; `volumes` is their manager."""

    def __init__(
        self, house: House, record: ContainerRecord, tell: Callable[[Any], None], volumes: Ref
    ) -> None:
        self._house = house
        self._volumes = volumes
        self._record = record
        self._id = record.id
        self._tell = tell
        self._pid = record.state.pid
        self._link: ShimLink | None = None
        self._status_file = house.layout.container_status(record.id)

    # --- for the actor ---

    async def begin(self, size: t.ConsoleSize | None, parked: list[tuple[int, str, bool]]) -> None:
        """From nothing to the end of the process; its first clients' descriptors are closed here."""
        try:
            try:
                launch = await self._launch(size)
                self._link = link = await self._house.shims.new(self._id[:12])
                try:
                    self._pid = await link.start(launch, parked)
                except BaseException:
                    self._link = None
                    with trio.CancelScope(shield=True):
                        await link.aclose()
                    raise
            except StartFailed as error:
                await self._take_down()
                self._tell(NotStarted(error.exit_code, error.error))
                return
            except CANNOT_START as error:
                for fd, framing, _ in parked:  # no shim will tell them
                    say_last(fd, framing, wire.RESULT, {"exit_code": 125, "error": str(error)})
                await self._take_down()
                self._tell(NotStarted(125, str(error)))
                return
        finally:
            for fd, _, _ in parked:
                os.close(fd)
        self._tell(Started(self._pid))
        await self._watch(link)

    async def adopt(self) -> None:
        """After a restart of the engine or of the actor: the process may run, have ended, or never have begun."""
        starting = self._record.state.status == "starting"
        link = None
        if self._record.state.boot_id == boot_id():
            link = await connect(self._house.layout.run, self._id[:12])
        if link is not None:
            try:
                self._pid = await link.watch()
            except (ShimLost, StartFailed):
                self._pid = 0
            if self._pid:
                self._link = link
                self._tell(Started(self._pid) if starting else Found())
                await self._watch(link)
                return
            await link.aclose()  # a shim that was told nothing goes away
        status = read_status(self._status_file)
        oom_kills = await self._oom_kills()
        await self._take_down()
        if starting and status is None:
            self._tell(NotStarted(125, "the engine was stopped before it could be started"))
            return
        exit_code, error = self._from_status_file()
        self._tell(Exited(exit_code, error, str((status or {}).get("finished_at") or now()), oom_kills))

    async def attach(self, fd: int, framing: str, *, stdin: bool, logs: bool) -> None:
        """Hand a client's socket over to the shim. Raises ShimRefused, ShimLost."""
        if self._link is None:
            raise ShimLost("it has no shim now")
        await self._link.attach(fd, framing, stdin, logs)

    async def signal(self, signum: int) -> None:
        """To the main process; no error if it is gone."""
        await self._house.drivers.runtime.signal(self._id, self._pid, signum)

    async def stop(self, signum: int) -> None:
        """Ask the main process to end; no error if it is gone."""
        await self._house.drivers.runtime.stop(self._id, self._pid, signum)

    async def kill(self) -> None:
        """All processes; also a runtime's command that hangs in the start."""
        if self._link is not None and not self._pid:
            try:
                await self._link.signal(signal.SIGKILL)
            except (ShimLost, ShimRefused):
                pass  # it has just started, or failed to
        await self._house.drivers.runtime.kill_all(self._id, self._pid)

    # --- inside ---

    async def _launch(self, size: t.ConsoleSize | None) -> Launch:
        house, record = self._house, self._record
        if used := [mount.source for mount in record.mounts if mount.type == "volume"]:
            await self._volumes.call(UseVolumes(used))
        rootfs = await house.drivers.storage.mount(record.id)
        own_stack = record.network != "host"
        write_files(
            house.layout.container(record.id),
            record.hostname,
            record.networking,
            own_stack=own_stack,
            own_names=own_stack,
        )
        network = await house.networks.attach(record)
        if os.path.exists(self._status_file):
            os.unlink(self._status_file)
        main = process(
            record.config,
            record.hostname,
            tty=record.tty,
            rows=size.rows if size else 0,
            cols=size.cols if size else 0,
        )
        launch = await house.drivers.runtime.prepare(isolation(record, house.layout, rootfs, network), main)
        await house.networks.ready(record.id)
        return with_stdio(
            launch,
            status=self._status_file,
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
        oom_kills = await self._oom_kills()
        await self._take_down()
        self._tell(Exited(exit_code, error, now(), oom_kills))

    async def _oom_kills(self) -> int:
        try:
            return await self._house.drivers.runtime.oom_kills(self._id)
        except (JockerError, OSError) as error:
            log.warning(
                "container %s: whether it ran out of memory is not known: %s", self._record.name, error
            )
            return 0

    def _from_status_file(self) -> tuple[int, str]:
        status = read_status(self._status_file)
        if status is not None and status.get("exit_code") is not None:
            return int(status["exit_code"]), str(status.get("error", ""))
        if self._record.state.boot_id != boot_id():
            return KILLED, "the machine was restarted"
        return KILLED, "shim lost"

    async def _take_down(self) -> None:
        """What cannot be taken down now is a difference that `system check` shows; the next start tries again."""
        house = self._house
        try:
            await house.drivers.runtime.kill_all(self._id, self._pid)
            rootfs = await house.drivers.storage.mount(self._id)
            await house.drivers.runtime.destroy(isolation(self._record, house.layout, rootfs))
            await house.networks.detach(self._id)
            await house.drivers.storage.unmount(self._id)
        except (JockerError, OSError, ActorDown, sqlite3.Error) as error:
            log.warning("container %s ended, but something of it is left: %s", self._record.name, error)
