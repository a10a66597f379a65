"""Who talks to a container's processes: clients attached to the main one, execs, readers of the log. A part of its actor."""

from __future__ import annotations

import os

from jocker_protocol import types as t
from jocker_protocol.errors import InvalidState

from ..clock import new_id
from ..otp import Reply, handles
from ..platform.shims import ShimLost, ShimRefused
from ..shim.launch import LogRequest
from . import execs, lifecycle
from .messages import Attach, CheckAttach, CheckExec, Exec, Logs
from .part import Part
from .run import Run


class Clients(Part):
    """See the module."""

    _run: Run

    def __init__(self) -> None:
        self._parked: list[tuple[int, str, bool]] = []
        """Descriptor, framing and whether it has the stdin of those that wait for the start."""
        self._execs: set[str] = set()

    async def terminate(self, reason: BaseException | None) -> None:
        for fd, _, _ in self._parked:
            os.close(fd)

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
            await self._run.attach(message.fd, message.framing, stdin=stdin, logs=message.logs)
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
        if self._status != "running":
            if message.fd >= 0:
                os.close(message.fd)
            raise lifecycle.refusal(self._record.name, self._status, "exec")
        self.spawn(self._exec, key, message, self.defer())
        return key

    async def _exec(self, key: str, message: Exec, started: Reply) -> None:
        self._execs.add(key)
        try:
            await execs.run(self._house, self._record, key, message, started)
        finally:
            self._execs.discard(key)

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
