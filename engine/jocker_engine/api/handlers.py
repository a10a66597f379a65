"""The catalogue's methods as messages to actors. Routing by name; only streams have code of their own.

A stream's connection is handed on whole where a shim or a log reader serves it; a base image's upload goes
to a file here, a build is served in building.py.
"""

from __future__ import annotations

import os
import platform
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import trio

from jocker_protocol import types as t
from jocker_protocol import wire
from jocker_protocol.errors import Conflict, InvalidParams, JockerError
from jocker_protocol.methods import API_VERSION, METHODS

from .. import events
from ..clock import now
from ..containers import usage
from ..containers.disk import disk_usage
from ..containers.messages import Attach, CheckAttach, CheckExec, Exec, Logs, Restart, SampleUsage
from ..house import House
from ..images.base import MakeBase
from ..images.names import check_tag
from ..otp import Node, System
from ..parting import say_last
from ..version import VERSION
from .building import serve_build
from .dispatch import Handler
from .peer import Peer
from .streams import StreamBroker, StreamConnection
from .tars import tar_handlers
from .transfers import Transfers, receive, remove

_ROUTES = {
    "builder": "cache",
    "container": "containers",
    "image": "images",
    "volume": "volumes",
    "network": "networks",
}
"""First part of a method's name -> the actor that takes its parameters as a message."""
_SAMPLED = 1.0
"""Seconds between the figures of `container.stats`."""
_ON_ITS_WAY = 0.5
"""Seconds in which what is being made or taken away becomes what it will be."""


def handlers(system: System, house: House, broker: StreamBroker) -> dict[str, Handler]:
    """One for each method of the catalogue that this engine serves."""
    own = _Handlers(system, house, broker)
    transfers = Transfers(system, house, broker)
    table: dict[str, Handler] = {
        "engine.ping": own.ping,
        "engine.version": own.version,
        "engine.info": own.info,
        "system.tree": own.tree,
        "system.events": own.events,
        "system.check": own.check,
        "system.backup": own.backup,
        "system.df": own.df,
        "system.shutdown": partial(own.forward, "containers"),
        "network.connect": partial(own.forward, "containers"),
        "network.disconnect": partial(own.forward, "containers"),
        "container.restart": own.restart,
        "container.attach": own.attach,
        "container.exec": own.exec_,
        "container.logs": own.logs,
        "container.export": transfers.export,
        "container.stats": own.stats,
        "image.build": own.build,
        "image.create": own.create_image,
        "image.import": transfers.import_,
        "image.load": transfers.load,
        "image.save": transfers.save,
    }
    table.update(tar_handlers(system, broker))
    for name in METHODS:
        actor = _ROUTES.get(name.partition(".")[0])
        if actor is not None and name not in table:
            table[name] = partial(own.forward, actor)
    return table


class _Handlers:
    def __init__(self, system: System, house: House, broker: StreamBroker) -> None:
        self._system = system
        self._house = house
        self._broker = broker
        self._began = time.monotonic()

    async def _ask(self, actor: str, message: Any) -> Any:
        return await self._system.ref(actor).call(message)

    async def forward(self, actor: str, params: t.Params, peer: Peer) -> t.Result:
        result: t.Result = await self._ask(actor, params)
        return result

    # --- engine, system ---

    async def ping(self, params: t.Empty, peer: Peer) -> t.Pong:
        return t.Pong()

    async def version(self, params: t.Empty, peer: Peer) -> t.Version:
        return t.Version(
            version=VERSION,
            api_version=API_VERSION,
            python=platform.python_version(),
            os=platform.system(),
            arch=platform.machine(),
            kernel=platform.release(),
        )

    async def info(self, params: t.Empty, peer: Peer) -> t.Info:
        house = self._house
        counts = await house.store.counts()
        warnings = []
        if house.drivers.runtime.name == "chroot":
            warnings.append("runtime chroot does not isolate containers from the host or from each other")
        return t.Info(
            version=VERSION,
            root=house.layout.root,
            platform=house.drivers.names(),
            probed=[
                t.Probed(part=f.part, driver=f.driver, usable=not f.why, why=f.why, mend=f.mend)
                for f in house.drivers.findings
            ],
            containers=counts["containers"],
            running=counts["running"],
            images=counts["images"],
            volumes=counts["volumes"],
            pid=os.getpid(),
            uptime=time.monotonic() - self._began,
            hostname=socket.gethostname(),
            os=platform.system(),
            arch=platform.machine(),
            kernel=platform.release(),
            cpus=os.cpu_count() or 1,
            memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            warnings=warnings,
        )

    async def tree(self, params: t.Empty, peer: Peer) -> t.TreeNode:
        return _node(self._system.tree())

    async def events(self, params: t.Events, peer: Peer) -> t.Ticket:
        wanted = events.Wanted(params)
        after = 0 if params.since else await self._house.store.last_event()

        async def serve(connection: StreamConnection) -> None:
            seen = after
            with trio.move_on_after(wanted.patience()):
                while True:
                    for event in await self._ask("events", events.Next(seen, wanted.since)):
                        seen = event.seq
                        if wanted.until and event.time > wanted.until:
                            await connection.result(t.Done())
                            return
                        if wanted.matches(event):
                            await connection.send_json(wire.PROGRESS, event)
            await connection.result(t.Done())

        return self._broker.ticket(serve)

    async def check(self, params: t.Check, peer: Peer) -> t.Checked:
        """Twice: what is only on its way is gone by the second time."""
        first = await self._differences(t.Check())
        if not first:
            return t.Checked(differences=[])
        await trio.sleep(_ON_ITS_WAY)
        seen = {(found.part, found.subject) for found in first}
        second = await self._differences(params)
        return t.Checked(differences=[found for found in second if (found.part, found.subject) in seen])

    async def _differences(self, params: t.Check) -> list[t.Difference]:
        found = [
            t.Difference(
                part="database",
                subject=self._house.layout.database,
                problem=problem,
                remedy="stop the engine and put a backup in its place",
            )
            for problem in await self._house.store.faults()
        ]
        for manager in ("volumes", "networks", "images", "containers"):
            found += await self._ask(manager, params)
        return found

    async def backup(self, params: t.Backup, peer: Peer) -> t.BackedUp:
        path = params.path
        if not os.path.isabs(path):
            raise InvalidParams(f"path: must be absolute, not {path!r}")
        if os.path.lexists(path):
            raise Conflict(f"{path} is there already; choose another name, or move it away")
        await self._house.store.backup(path)
        return t.BackedUp(path=path, size=os.path.getsize(path))

    async def df(self, params: t.DiskUsage, peer: Peer) -> t.DiskUsed:
        return await disk_usage(self._house, self._ask)

    # --- streams of containers ---

    async def restart(self, params: t.ContainerStop, peer: Peer) -> t.Result:
        return await self.forward("containers", Restart(params.container, params.timeout), peer)  # type: ignore[arg-type]

    async def attach(self, params: t.ContainerAttach, peer: Peer) -> t.Ticket:
        container = await self._ask("containers", CheckAttach(params.container))

        async def serve(connection: StreamConnection) -> None:
            await self._hand_over(
                connection,
                lambda fd: Attach(container, fd, connection.framing, params.stdin, params.logs),
            )

        return self._broker.ticket(serve, container)

    async def exec_(self, params: t.ContainerExec, peer: Peer) -> t.Ticket:
        if not params.cmd:
            raise InvalidParams("cmd: say which program to run")
        container = await self._ask("containers", CheckExec(params.container))
        if params.detach:
            return t.Ticket(token="", id=await self._ask("containers", Exec(container, params)))

        async def serve(connection: StreamConnection) -> None:
            await self._hand_over(connection, lambda fd: Exec(container, params, fd, connection.framing))

        return self._broker.ticket(serve, container)

    async def logs(self, params: t.ContainerLogs, peer: Peer) -> t.Ticket:
        container, request = await self._ask("containers", Logs(params.container, params))

        async def serve(connection: StreamConnection) -> None:
            wanted = replace(request, framing=connection.framing)
            fd = connection.detach()
            try:
                await self._house.shims.serve_log(fd, wanted)
            finally:
                os.close(fd)

        return self._broker.ticket(serve, container)

    async def stats(self, params: t.ContainerStats, peer: Peer) -> t.Ticket:
        wanted = SampleUsage(params.containers, params.all)
        before = await self._ask("containers", wanted)

        async def serve(connection: StreamConnection) -> None:
            seen = before
            while True:
                await trio.sleep(_SAMPLED)
                now_seen = await self._ask("containers", wanted)
                shown = t.Figures(time=now(), containers=usage.figures(seen, now_seen))
                await connection.send_json(wire.PROGRESS, shown)
                seen = now_seen
                if not params.stream:
                    await connection.result(t.Done())
                    return

        return self._broker.ticket(serve)

    async def _hand_over(self, connection: StreamConnection, message: Callable[[int], Any]) -> None:
        """Give the socket to a container's actor; a refusal is told on it, as its last frame."""
        fd = connection.detach()
        ours = os.dup(fd)
        try:
            await self._ask("containers", message(fd))
        except JockerError as error:
            say_last(ours, connection.framing, wire.ERROR, error.to_wire())
        finally:
            os.close(ours)

    # --- streams of images ---

    async def build(self, params: t.ImageBuild, peer: Peer) -> t.Ticket:
        for tag in params.tags:
            check_tag(tag)
        return self._broker.ticket(partial(serve_build, self._system, params))

    async def create_image(self, params: t.ImageCreate, peer: Peer) -> t.Ticket:
        if params.tag:
            check_tag(params.tag)

        async def serve(connection: StreamConnection) -> None:
            upload = await receive(self._house, connection)
            try:
                send, progress = trio.open_memory_channel[t.CreateProgress](16)

                def tell(item: t.CreateProgress) -> None:
                    with suppress(
                        trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError
                    ):  # the next one says more
                        send.send_nowait(item)

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_send_progress, connection, progress)
                    async with send:
                        created = await self._ask("images", MakeBase(params, upload, tell))
                await connection.result(created)
            finally:
                remove(upload)

        return self._broker.ticket(serve)


async def _send_progress(
    connection: StreamConnection,
    progress: trio.MemoryReceiveChannel[t.CreateProgress],
) -> None:
    async for item in progress:
        await connection.send_json(wire.PROGRESS, item)


def _node(node: Node) -> t.TreeNode:
    return t.TreeNode(
        name=node.name,
        kind=node.kind,
        state=node.state,
        restarts=node.restarts,
        mailbox=node.mailbox,
        handled=node.handled,
        detail=node.detail,
        children=[_node(child) for child in node.children],
    )
