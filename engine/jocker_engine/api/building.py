"""The stream of a build: one task reads what the client sends and sorts it, one sends progress, one builds.

jocker_protocol/contexts.py has what is asked for and how it is answered.
"""

from __future__ import annotations

from typing import Any

import trio

from jocker_protocol import types as t
from jocker_protocol import wire
from jocker_protocol.errors import InvalidRequest

from ..images.agents import Agents
from ..images.manager import Build
from ..otp import System
from .streams import StreamConnection

_NUMBER = 4
"""Bytes of a connection's number before what an agent says."""


class BuildClient:
    """The client of a build: contexts.Client and agents.Relay."""

    def __init__(self, connection: StreamConnection, ssh: list[str]) -> None:
        self._connection = connection
        self._upload, self._pieces = trio.open_memory_channel[bytes | None](4)
        """None at the end of each upload."""
        self.agents = Agents(ssh, self)

    async def read(self) -> None:
        """For as long as the client sends. It may have shut its sending direction and still wait."""
        async with self._upload:
            async for kind, payload in self._connection:
                if kind == wire.STDIN:
                    await self._upload.send(payload)
                elif kind == wire.EOF:
                    await self._upload.send(None)
                elif kind == wire.AGENT and len(payload) >= _NUMBER:
                    self.agents.deliver(int.from_bytes(payload[:_NUMBER], "big"), payload[_NUMBER:])

    async def want(self, **facts: Any) -> None:
        """See contexts.Client."""
        await self._connection.send_json(wire.WANT, facts)

    async def upload(self, path: str) -> int:
        """See contexts.Client. Raises InvalidRequest when the client ends before its EOF."""
        size = 0
        with open(path, "xb") as file:
            async for piece in self._pieces:
                if piece is None:
                    return size
                size += file.write(piece)
        raise InvalidRequest("the stream of the build ended before the EOF of what was asked for")

    async def to_agent(self, connection: int, data: bytes) -> None:
        """See agents.Relay."""
        await self._connection.send(wire.TO_AGENT, connection.to_bytes(_NUMBER, "big") + data)


async def serve_build(system: System, params: t.ImageBuild, connection: StreamConnection) -> None:
    """From `ready` to the result."""
    client = BuildClient(connection, params.ssh)
    send, receive = trio.open_memory_channel[t.BuildProgress](16)
    async with trio.open_nursery() as reading:
        reading.start_soon(client.read)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_send_progress, connection, receive)
            async with send:
                result = await system.ref("images").call(Build(client, client.agents, params, send))
        await connection.result(result)
        reading.cancel_scope.cancel()


async def _send_progress(
    connection: StreamConnection, progress: trio.MemoryReceiveChannel[t.BuildProgress]
) -> None:
    async for item in progress:
        await connection.send_json(wire.PROGRESS, item)
