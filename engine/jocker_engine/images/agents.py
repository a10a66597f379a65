"""ssh agents of the client, for RUN --mount=type=ssh: a socket here, relayed over the build's stream."""

from __future__ import annotations

import itertools
import math
import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

import trio

from ..platform.interfaces import Bind
from .steps import RunMount

_CHUNK = 1 << 16


class Relay(Protocol):
    """The other end of the stream."""

    async def want(self, **facts: Any) -> None:
        """Ask it for a connection to an agent."""

    async def to_agent(self, connection: int, data: bytes) -> None:
        """What a process says to it; nothing: it has hung up."""


class Agents:
    """The agents that one client offers."""

    def __init__(self, ids: Sequence[str], relay: Relay) -> None:
        self.ids = frozenset(ids)
        self._relay = relay
        self._numbers = itertools.count(1)
        self._open: dict[int, trio.MemorySendChannel[bytes]] = {}

    def deliver(self, connection: int, data: bytes) -> None:
        """What an agent says; nothing: it has hung up."""
        channel = self._open.get(connection)
        if channel is None:
            return
        if data:
            channel.send_nowait(data)  # not more than what the process has asked for
        else:
            channel.close()

    @asynccontextmanager
    async def offered(self, path: str, mount: RunMount) -> AsyncIterator[Bind]:
        """Processes reach the agent through a socket at this path, as long as this lasts."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as listener:
            listener.bind(path)
            try:
                os.chmod(path, mount.mode)
                if os.geteuid() == 0:
                    os.chown(path, mount.uid, mount.gid)
                listener.listen(16)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._accept, listener, mount.id)
                    yield Bind(path, mount.target)
                    nursery.cancel_scope.cancel()
            finally:
                os.unlink(path)

    async def _accept(self, listener: socket.socket, id: str) -> None:
        accepting = trio.SocketListener(trio.socket.from_stdlib_socket(listener.dup()))
        async with trio.open_nursery() as nursery:
            while True:
                nursery.start_soon(self._serve, await accepting.accept(), id)

    async def _serve(self, stream: trio.SocketStream, id: str) -> None:
        number = next(self._numbers)
        send, receive = trio.open_memory_channel[bytes](math.inf)
        self._open[number] = send
        try:
            await self._relay.want(what="agent", id=id, connection=number)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._ask, stream, number)
                async for data in receive:
                    await stream.send_all(data)
                nursery.cancel_scope.cancel()
        except* trio.BrokenResourceError:
            pass  # the process has gone
        finally:
            del self._open[number]

    async def _ask(self, stream: trio.SocketStream, number: int) -> None:
        while data := await stream.receive_some(_CHUNK):
            await self._relay.to_agent(number, data)
        await self._relay.to_agent(number, b"")
