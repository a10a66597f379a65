"""The real server on a real socket, for the tests of this folder."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import trio

from jocker_engine.api.dispatch import Dispatcher, Handler
from jocker_engine.api.listener import open_socket
from jocker_engine.api.peer import Peer
from jocker_engine.api.server import Server
from jocker_engine.api.streams import StreamBroker
from jocker_protocol.types import Empty, Pong

PING = {"jsonrpc": "2.0", "id": 1, "method": "engine.ping"}
PONG = {"jsonrpc": "2.0", "id": 1, "result": {"pong": True}}


async def ping(params: Empty, peer: Peer) -> Pong:
    return Pong()


class Engine:
    """A served socket; `call` makes a new connection."""

    def __init__(self, path: str, server: Server, broker: StreamBroker) -> None:
        self.path = path
        self.server = server
        self.broker = broker

    async def connect(self) -> Client:
        return Client(await trio.open_unix_socket(self.path))

    async def settled(self, connections: int = 0) -> None:
        """Wait until so many connections are open."""
        while self.server.connections != connections:
            await trio.sleep(0.01)


class Client:
    """One connection, line by line."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._buffer = b""

    async def send(self, *values: Any) -> None:
        await self.raw(b"".join(json.dumps(value).encode() + b"\n" for value in values))

    async def raw(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def line(self) -> Any:
        """The next answer; None at the end."""
        with trio.fail_after(60):
            while b"\n" not in self._buffer:
                try:
                    data = await self.stream.receive_some()
                except trio.BrokenResourceError:  # ECONNRESET: closed before it had read all of ours
                    data = b""
                if not data:
                    assert not self._buffer
                    return None
                self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        return json.loads(line)

    async def exactly(self, size: int) -> bytes:
        """So many bytes, for what is not in lines."""
        with trio.fail_after(60):
            while len(self._buffer) < size:
                data = await self.stream.receive_some()
                assert data, self._buffer
                self._buffer += data
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    async def ask(self, value: Any) -> Any:
        await self.send(value)
        return await self.line()

    async def raw_ask(self, data: bytes) -> Any:
        await self.raw(data)
        return await self.line()

    async def close(self) -> None:
        await self.stream.aclose()


def request(method: str, id: Any = 1, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": params}


def error(answer: Any) -> tuple[Any, int]:
    """id and code of an error answer."""
    return answer["id"], answer["error"]["code"]


@asynccontextmanager
async def running(handlers: Mapping[str, Handler] = {}) -> AsyncIterator[Engine]:
    """A server in a folder of its own, stopped at the end."""
    broker = StreamBroker()
    server = Server(Dispatcher({"engine.ping": ping, **handlers}), broker)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "s")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.serve, [open_socket(path)])
            try:
                yield Engine(path, server, broker)
            finally:
                with trio.CancelScope(shield=True):
                    await server.stop()
