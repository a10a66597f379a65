"""The trio client, over trio-jsonrpc: the same names as the blocking connection.

    async with aio.connect() as connection:
        pong = await connection.call("engine.ping")

trio-jsonrpc 0.4.0's own `request` leaves its reply channel open when it is cancelled, so that the late reply
blocks the reader for ever; `call` therefore waits in a task of the connection, which a cancelled caller leaves
behind to take the reply.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
from trio_jsonrpc import JsonRpcConnection, JsonRpcConnectionType, JsonRpcException
from trio_jsonrpc.transport import BaseTransport, TransportClosed

from jocker_protocol import wire
from jocker_protocol.errors import JockerError, from_wire

from .connection import DEFAULT_SOCKET, Unreachable

_CHUNK = 1 << 16


class _Lines(BaseTransport):
    """One JSON document per line."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._buffer = bytearray()
        self._sending = trio.Lock()

    async def recv(self) -> bytes:
        while (end := self._buffer.find(b"\n")) < 0:
            try:
                data = await self._stream.receive_some(_CHUNK)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                data = b""
            if not data:
                raise TransportClosed
            self._buffer += data
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    async def send(self, msg: bytes) -> None:
        async with self._sending:
            try:
                await self._stream.send_all(msg + b"\n")
            except trio.BrokenResourceError:
                raise TransportClosed from None

    async def close(self) -> None:
        await self._stream.aclose()


class Connection:
    """Requests to one engine, as many at once as you like."""

    def __init__(self, address: str, rpc: JsonRpcConnection, nursery: trio.Nursery) -> None:
        self.address = address
        self._rpc = rpc
        self._nursery = nursery

    async def call(self, method: str, /, **params: Any) -> dict[str, Any]:
        """The result. Raises the JockerError that the engine answered, Unreachable. May be cancelled."""
        send, receive = trio.open_memory_channel[dict[str, Any] | JockerError](1)
        self._nursery.start_soon(self._request, method, params, send)
        try:
            answer = await receive.receive()
        except trio.EndOfChannel:
            raise Unreachable(f"the engine at {self.address} closed the connection") from None
        if isinstance(answer, JockerError):
            raise answer
        return answer

    async def _request(
        self, method: str, params: dict[str, Any], send: trio.MemorySendChannel[dict[str, Any] | JockerError]
    ) -> None:
        with send:
            try:
                send.send_nowait(await self._rpc.request(method, params))
            except JsonRpcException as error:
                send.send_nowait(from_wire(error.get_error().to_json_dict()))
            except (TransportClosed, trio.ClosedResourceError, trio.EndOfChannel):
                return

    async def stream(self, token: str) -> Stream:
        """Redeem a ticket on a connection of its own."""
        socket = await _open(self.address)
        request = {"jsonrpc": "2.0", "id": 1, "method": "stream.open", "params": {"token": token}}
        await socket.send_all(json.dumps(request).encode() + b"\n")
        line = bytearray()
        while not line.endswith(b"\n"):
            byte = await socket.receive_some(1)  # frames begin right behind the answer
            if not byte:
                raise Unreachable(f"the engine at {self.address} closed the stream")
            line += byte
        answer = json.loads(line)
        if "error" in answer:
            raise from_wire(answer["error"])
        return Stream(socket)


class Stream:
    """Frames both ways, after `ready`. Close it, or use it in an `async with`."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._decoder = wire.FrameDecoder()

    async def __aenter__(self) -> Stream:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stream.aclose()

    async def send(self, kind: int, payload: bytes = b"") -> None:
        """Send one frame. Raises trio.BrokenResourceError."""
        await self._stream.send_all(wire.frame(kind, payload))

    async def frames(self) -> AsyncIterator[tuple[int, bytes]]:
        """Frames up to the last one (RESULT is given, ERROR raised). Raises JockerError, Unreachable."""
        while data := await self._stream.receive_some(_CHUNK):
            for kind, payload in self._decoder.feed(data):
                if kind == wire.ERROR:
                    raise from_wire(json.loads(payload))
                yield kind, payload
                if kind == wire.RESULT:
                    return
        raise Unreachable("the engine ended the stream before its result")


@asynccontextmanager
async def connect(address: str | None = None) -> AsyncIterator[Connection]:
    """A connection to the engine; None: JOCKER_HOST, else DEFAULT_SOCKET. Raises Unreachable."""
    where = address or os.environ.get("JOCKER_HOST") or DEFAULT_SOCKET
    stream = await _open(where)
    rpc = JsonRpcConnection(_Lines(stream), JsonRpcConnectionType.CLIENT)
    async with stream, trio.open_nursery() as nursery:
        nursery.start_soon(rpc._background_task)
        yield Connection(where, rpc, nursery)
        nursery.cancel_scope.cancel()


async def _open(address: str) -> trio.SocketStream:
    path = address.removeprefix("unix://")
    try:
        return await trio.open_unix_socket(path)
    except OSError as error:
        raise Unreachable(
            f"cannot reach the engine at {path}: {error.strerror}; is jocker-engine running?"
        ) from None
