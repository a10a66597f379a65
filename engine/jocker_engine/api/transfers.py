"""Streams of archives: what comes goes to a file, what goes is written to the client by a worker.

A worker has the client's connection, so that the data of a `save` or `export` does not pass through the engine.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from jocker_protocol import types as t
from jocker_protocol import wire
from jocker_protocol.errors import InvalidParams, JockerError

from ..clock import new_id
from ..containers.messages import TreeOf
from ..house import House
from ..images.changes import changed
from ..images.manager import Import, Load, PlanSave
from ..images.names import check_tag
from ..images.transfers import check_save, send_archive, send_tree
from ..otp import System
from ..parting import say_last
from .dispatch import as_answer
from .peer import Peer
from .streams import StreamBroker, StreamConnection


class Transfers:
    """Handlers of image.save, load, import and container.export."""

    def __init__(self, system: System, house: House, broker: StreamBroker) -> None:
        self._system, self._house, self._broker = system, house, broker

    async def _ask(self, actor: str, message: Any) -> Any:
        return await self._system.ref(actor).call(message)

    async def save(self, params: t.ImageSave, peer: Peer) -> t.Ticket:
        check_save(params)
        plan = await self._ask("images", PlanSave(params))

        async def serve(connection: StreamConnection) -> None:
            await self._handed(
                connection, lambda fd: send_archive(self._house, plan, params, fd, connection.framing)
            )

        return self._broker.ticket(serve)

    async def export(self, params: t.ContainerExport, peer: Peer) -> t.Ticket:
        container = await self._ask("containers", TreeOf(params.container))

        async def serve(connection: StreamConnection) -> None:
            await self._handed(
                connection, lambda fd: send_tree(self._house, container, fd, connection.framing)
            )

        return self._broker.ticket(serve, container)

    async def _handed(self, connection: StreamConnection, send: Callable[[int], Awaitable[t.Sent]]) -> None:
        """Something writes to the client; then the last frame. A client that goes away ends it."""
        fd = connection.detach()
        try:
            sent = await send(fd)
            say_last(fd, connection.framing, wire.RESULT, sent)
        except BrokenPipeError:
            pass
        except (JockerError, OSError) as error:
            say_last(fd, connection.framing, wire.ERROR, as_answer(error, "stream").to_wire())
        finally:
            os.close(fd)

    async def load(self, params: t.Empty, peer: Peer) -> t.Ticket:
        async def serve(connection: StreamConnection) -> None:
            await self._taking(connection, Load)

        return self._broker.ticket(serve)

    async def import_(self, params: t.ImageImport, peer: Peer) -> t.Ticket:
        if params.tag:
            check_tag(params.tag)
        changed(t.ImageConfig(), params.changes)

        async def serve(connection: StreamConnection) -> None:
            await self._taking(connection, lambda path: Import(params, path))

        return self._broker.ticket(serve)

    async def _taking(self, connection: StreamConnection, message: Callable[[str], Any]) -> None:
        path = await receive(self._house, connection)
        try:
            if not path:
                raise InvalidParams("nothing was sent: the archive is empty")
            await connection.result(await self._ask("images", message(path)))
        finally:
            remove(path)


async def receive(house: House, connection: StreamConnection) -> str:
    """What the client sends up to its EOF, as a file; "" for nothing."""
    path = os.path.join(house.layout.uploads, new_id())
    size = 0
    try:
        async with await trio.open_file(path, "wb") as file:
            async for kind, payload in connection:
                if kind == wire.EOF:
                    break
                if kind == wire.STDIN:
                    size += len(payload)
                    await file.write(payload)
            else:
                raise InvalidParams("the stream: it ended before its end was told")
    except BaseException:
        remove(path)
        raise
    if not size:
        remove(path)
    return path if size else ""


def remove(path: str) -> None:
    """An upload, if there is one."""
    if path and os.path.exists(path):
        os.unlink(path)
