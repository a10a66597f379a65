"""One connection from its first byte to its last: requests, answers, perhaps a stream.

Knows neither how the connection was accepted nor what the methods do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import trio

from jocker_protocol.errors import JockerError
from jocker_protocol.methods import METHODS
from jocker_protocol.types import StreamOpen, StreamReady

from .dispatch import Dispatcher, decode_params
from .envelope import Request, StrictPeer, opens_stream, rpc_error
from .peer import Peer, hung_up, peer_of
from .streams import StreamBroker, StreamConnection
from .transport import Connection, LineTransport

MAX_RUNNING = 100
"""Requests of one connection that are worked on at the same time; further ones wait in the socket."""

_LOOK = 1.0
"""Seconds between looks whether the peer is still there, while nothing is read from it."""

_LINGER = 1.0
"""Seconds for a peer to finish a request that is too long and read why it was refused."""

_open_params = msgspec.json.Decoder(StreamOpen)


class Gate:
    """Through which requests come in. Closed, it interrupts what is behind it, but not their answers."""

    def __init__(self) -> None:
        self._scopes: set[trio.CancelScope] = set()
        self._closed = False

    @contextmanager
    def passage(self) -> Iterator[None]:
        """What is done in here ends when the gate closes."""
        with trio.CancelScope() as scope:
            if self._closed:
                scope.cancel()
            self._scopes.add(scope)
            try:
                yield
            finally:
                self._scopes.remove(scope)

    def close(self) -> None:
        """For good, and for all connections that share it."""
        self._closed = True
        for scope in self._scopes:
            scope.cancel()


async def serve_connection(
    stream: trio.SocketStream, dispatcher: Dispatcher, broker: StreamBroker, gate: Gate
) -> None:
    """Serve until the peer is gone or, the gate being closed, what runs is answered. Closes the stream.

    A peer that only shuts down its sending direction still gets its answers; one that closes
    cancels its requests.
    """
    async with stream:
        transport = LineTransport(stream)
        opening = await _serve_requests(stream, transport, dispatcher, gate)
        if opening is not None:
            with gate.passage():
                await _serve_stream(stream, broker, opening)
        elif transport.too_long:
            with trio.move_on_after(_LINGER), gate.passage():
                await _linger(stream)


async def _serve_requests(
    stream: trio.SocketStream, transport: LineTransport, dispatcher: Dispatcher, gate: Gate
) -> Request | None:
    """Serve requests until no more come. The one, if any, that turns the connection into a stream."""
    peer = peer_of(stream.socket)
    connection = Connection(transport)
    slots = trio.Semaphore(MAX_RUNNING)
    stalled = trio.Event()
    opening: Request | None = None
    async with trio.open_nursery() as writing:
        writing.start_soon(transport.write, writing.cancel_scope)
        async with trio.open_nursery() as watching:
            watching.start_soon(_read, connection, gate)
            watching.start_soon(_cancel_when_gone, stream, stalled, writing.cancel_scope)
            async with trio.open_nursery() as running:
                async for request in connection.iter_requests():
                    if opens_stream(request) and slots.value == MAX_RUNNING and not transport.read_ahead:
                        opening = request
                        continue
                    try:
                        slots.acquire_nowait()
                    except trio.WouldBlock:
                        stalled.set()
                        await slots.acquire()
                    running.start_soon(_answer, connection, dispatcher, request, peer, slots)
                stalled.set()
            watching.cancel_scope.cancel()
        transport.end()
    return None if writing.cancel_scope.cancelled_caught else opening


async def _read(connection: Connection, gate: Gate) -> None:
    with gate.passage():
        await connection.read()


async def _answer(
    connection: Connection, dispatcher: Dispatcher, request: Request, peer: Peer, slots: trio.Semaphore
) -> None:
    try:
        result = await dispatcher.answer(request, peer)
    except JockerError as error:
        await connection.respond_with_error(request, error)
    else:
        await connection.respond_with_result(request, result)
    slots.release()


async def _cancel_when_gone(stream: trio.SocketStream, stalled: trio.Event, scope: trio.CancelScope) -> None:
    """Reading finds out that the peer is gone; this does once nothing is read."""
    await stalled.wait()
    while not hung_up(stream.socket):
        await trio.sleep(_LOOK)
    scope.cancel()


async def _serve_stream(stream: trio.SocketStream, broker: StreamBroker, request: Request) -> None:
    encoder = StrictPeer(lambda: None)
    try:
        params = decode_params(METHODS["stream.open"], _open_params, request.raw)
        waiting = broker.redeem(params.token)
    except JockerError as error:
        await _send_line(stream, encoder.respond_with_error(request, rpc_error(error)))
        return
    ready = encoder.respond_with_result(request, msgspec.json.encode(StreamReady()))
    try:
        sent = False
        sent = await _send_line(stream, ready)
    finally:
        if not sent:
            waiting.give_up()
    if sent:
        await StreamConnection(stream, params.framing).run(waiting.serve)


async def _send_line(stream: trio.SocketStream, line: bytes) -> bool:
    try:
        await stream.send_all(line + b"\n")
    except trio.BrokenResourceError:
        return False
    return True


async def _linger(stream: trio.SocketStream) -> None:
    """To close at once would break the peer's sending before it reads the answer."""
    try:
        await stream.send_eof()
        while await stream.receive_some(1 << 16):
            pass
    except trio.BrokenResourceError:
        return
