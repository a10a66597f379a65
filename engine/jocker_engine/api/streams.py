"""Streams: one-time tickets, and what a connection becomes when one is redeemed.

Knows sockets and the framing of `wire`; what flows is the business of the `serve` function that the
ticket was made with. Nothing is read from the socket before `serve` asks for it, so that the
connection can be handed on whole (`StreamConnection.detach`).
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple

import msgspec
import trio

from jocker_protocol import wire
from jocker_protocol.errors import InvalidRequest, JockerError, NotFound
from jocker_protocol.types import Ticket

from .dispatch import as_answer
from .peer import hung_up

UNUSED = 60.0
"""Seconds that a ticket is good for."""

_CHUNK = 1 << 16
_LOOK = 1.0
"""Seconds between looks whether the peer of a quiet stream is still there."""

_JSON_KINDS = frozenset({wire.RESIZE, wire.SIGNAL, wire.PROGRESS, wire.RESULT, wire.ERROR})

Serve = Callable[["StreamConnection"], Awaitable[None]]
"""Runs once for its ticket, in the task of the connection; cancelled when the peer is gone."""

logger = logging.getLogger("jocker.api")


class StreamConnection:
    """The connection of a stream, from after `ready` on. What it is read and written with may be mixed freely.

    Sending waits for the peer (back-pressure is the socket's). A peer that is gone cancels the `serve`
    function; nothing raises for it.
    """

    def __init__(self, stream: trio.SocketStream, framing: str) -> None:
        self.framing = framing
        self._stream = stream
        self._encode = wire.ENCODERS[framing]
        self._decoder = wire.FrameDecoder(framing)
        self._sending = trio.Lock()
        self._scope = trio.CancelScope()
        self._detached = False
        self._ended = False

    def detach(self) -> int:
        """The socket's file descriptor, for somebody else (non-blocking; the caller closes it).

        To be called before the first frame is asked for. From here on this object does not touch it.
        """
        if self._decoder.pending():
            raise RuntimeError("frames were read already")
        self._detached = True
        fd: int = self._stream.socket.detach()
        return fd

    async def send(self, kind: int, payload: bytes = b"") -> None:
        """Send a frame; bytes of more than wire.MAX_FRAME go as several. A JSON frame of more: ValueError."""
        if len(payload) > wire.MAX_FRAME and kind in _JSON_KINDS:
            raise ValueError(f"a {wire.NAMES[kind]} frame of {len(payload)} bytes")
        for start in range(0, len(payload) or 1, wire.MAX_FRAME):
            async with self._sending:
                try:
                    await self._stream.send_all(self._encode(kind, payload[start : start + wire.MAX_FRAME]))
                except trio.BrokenResourceError:
                    self._scope.cancel()
                    await trio.lowlevel.checkpoint_if_cancelled()

    async def send_json(self, kind: int, value: Any) -> None:
        """Send a frame with a msgspec struct or plain values as its payload."""
        await self.send(kind, msgspec.json.encode(value))

    async def result(self, value: Any) -> None:
        """The last frame of a stream that went well."""
        self._ended = True
        await self.send_json(wire.RESULT, value)

    async def error(self, error: JockerError) -> None:
        """The last frame of a stream that did not."""
        self._ended = True
        await self.send_json(wire.ERROR, error.to_wire())

    def __aiter__(self) -> AsyncIterator[tuple[int, bytes]]:
        return self

    async def __anext__(self) -> tuple[int, bytes]:
        """The client's next frame (kind, payload), until it sends no more. Raises InvalidRequest for what is none."""
        data = b""
        while True:
            try:
                item = next(self._decoder.feed(data), None)
            except wire.FramingError as error:
                raise InvalidRequest(f"stream: {error}") from None
            if item is not None:
                return item
            try:
                data = await self._stream.receive_some(_CHUNK)
            except trio.BrokenResourceError:
                data = b""
            if not data:
                await self._check()
                raise StopAsyncIteration

    async def run(self, serve: Serve) -> None:
        """Serve to the end, whatever it is. An error becomes the last frame."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._look)
                try:
                    await serve(self)
                except Exception as error:
                    # The same border as in `dispatch`: this stream ends, its peer is told, the others go on.
                    await self._fail(as_answer(error, "stream"))
                nursery.cancel_scope.cancel()

    async def _fail(self, error: JockerError) -> None:
        if self._detached or self._ended:
            logger.error("stream: after its end: %s", error.message)
        else:
            await self.error(error)

    async def _look(self) -> None:
        while not self._detached:
            await self._check()
            await trio.sleep(_LOOK)

    async def _check(self) -> None:
        if hung_up(self._stream.socket):
            self._scope.cancel()
            await trio.lowlevel.checkpoint_if_cancelled()


class Waiting(NamedTuple):
    """What a ticket is for."""

    serve: Serve
    abandon: Callable[[], None] | None
    deadline: float

    def give_up(self) -> None:
        """Nobody will come for it."""
        if self.abandon is not None:
            self.abandon()


class StreamBroker:
    """Tickets between the method that promises a stream and the connection that comes for it."""

    def __init__(self) -> None:
        self._waiting: dict[str, Waiting] = {}
        self._added = trio.Event()

    def ticket(self, serve: Serve, id: str = "", abandon: Callable[[], None] | None = None) -> Ticket:
        """A ticket for one stream, good for one use within UNUSED seconds.

        `serve` runs in the task of the connection that redeems it; `abandon` is called if none does.
        """
        token = secrets.token_urlsafe(16)
        self._waiting[token] = Waiting(serve, abandon, trio.current_time() + UNUSED)
        self._added.set()
        return Ticket(token=token, id=id)

    def redeem(self, token: str) -> Waiting:
        """What the ticket was made for. Raises NotFound."""
        waiting = self._waiting.pop(token, None)
        if waiting is None:
            raise NotFound("no stream waits for this token: it was used, or too old, or never given")
        return waiting

    async def expire(self) -> None:
        """Abandon tickets whose time is over, for ever."""
        while True:
            if not self._waiting:
                self._added = trio.Event()
                await self._added.wait()
            token, oldest = next(
                iter(self._waiting.items())
            )  # all have the same time, so the first is the oldest
            await trio.sleep_until(oldest.deadline)
            if self._waiting.pop(token, None) is not None:
                oldest.give_up()

    def close(self) -> None:
        """Abandon all."""
        while self._waiting:
            self._waiting.popitem()[1].give_up()
