"""The line transport for trio-jsonrpc, and its JsonRpcConnection with the defects of 0.4.0 wrapped.

Knows one stream and nothing of methods. One task writes (`LineTransport.write`), joining the answers
that wait into one send; one reads (`Connection.read`).

What is wrapped, on the side that answers (the side that asks is the client's `aio`):

- its background task swallows trio.Cancelled: `read` raises it again;
- it logs whatever else is raised and goes on for ever: `recv` never raises the same thing twice, and
  `read` raises it again in the end;
- batches, a bare `5`, a missing `jsonrpc`, `id: null` raise inside the task: `envelope` parses;
- `result: null` raises, JsonRpcInternalError has the wrong code: `envelope` encodes.
"""

from __future__ import annotations

import logging

import trio
from trio_jsonrpc import JsonRpcConnection, JsonRpcConnectionType
from trio_jsonrpc.transport import BaseTransport, TransportClosed

from jocker_protocol.errors import JockerError, TimedOut
from jocker_protocol.wire import MAX_REQUEST

from .envelope import Request, StrictPeer, rpc_error

HANDSHAKE = 30.0
"""Seconds a new connection has for its first whole line."""

_CHUNK = 1 << 16
_WAITING = 64
"""Answers that wait for the writer; then requests wait with theirs, and reading waits for requests."""


# It tells of every connection that ends.
logging.getLogger("trio_jsonrpc").setLevel(logging.WARNING)


class LineTransport(BaseTransport):
    """One JSON document per line. Closes nothing: the stream is the caller's."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._buffer = bytearray()
        self._searched = 0
        self._done = False
        self._greeted = False
        self._outgoing, self._to_write = trio.open_memory_channel[bytes](_WAITING)
        self.failure: Exception | None = None
        """What went wrong with reading, other than the end of it."""

        self.too_long = False
        """Whether the last line was over the limit, so that nothing behind it can be understood."""

    @property
    def read_ahead(self) -> bool:
        """Whether bytes beyond the last line were read."""
        return bool(self._buffer)

    def stop_reading(self) -> None:
        """The next `recv` is at the end, whatever the peer sends."""
        self._done = True

    async def recv(self) -> bytes:
        """The next line; the last one needs no newline; one over the limit is the last and is cut short.

        Raises TransportClosed at the end, and when the first line does not come in time.
        """
        if self._done:
            raise TransportClosed
        try:
            if self._greeted:
                return await self._line()
            with trio.move_on_after(HANDSHAKE):
                line = await self._line()
                self._greeted = True
                return line
        except (TransportClosed, trio.BrokenResourceError):
            self._done = True
            raise TransportClosed from None
        except Exception as error:
            # The caller, trio-jsonrpc's loop, would log this and call again for ever.
            self._done, self.failure = True, error
            raise
        self._done = True
        late = TimedOut(f"no request within {HANDSHAKE:.0f} seconds: closing")
        await self.send(StrictPeer(self.stop_reading).respond_with_error(None, rpc_error(late)))
        raise TransportClosed

    async def _line(self) -> bytes:
        buffer = self._buffer
        while True:
            end = buffer.find(b"\n", self._searched)
            if end >= 0:
                line = bytes(memoryview(buffer)[:end])
                del buffer[: end + 1]
                self._searched = 0
                self._done = self.too_long = end > MAX_REQUEST
                return line
            self._searched = len(buffer)
            if len(buffer) > MAX_REQUEST:
                self.too_long = True
                break
            data = await self._stream.receive_some(_CHUNK)
            if not data:
                break
            buffer += data
        self._done = True
        if not buffer:
            raise TransportClosed
        line = bytes(buffer)
        buffer.clear()
        return line

    async def send(self, data: bytes) -> None:
        """Queue an answer for the writer; nothing for nothing."""
        if data:
            await self._outgoing.send(data)

    def end(self) -> None:
        """No more answers: `write` returns when the queue is empty."""
        self._outgoing.close()

    async def write(self, scope: trio.CancelScope) -> None:
        """Send answers until `end`; cancels `scope` when the peer is gone."""
        async for data in self._to_write:
            lines = [data, b"\n"]
            size = len(data)
            while size < _CHUNK:
                try:
                    data = self._to_write.receive_nowait()
                except (trio.WouldBlock, trio.EndOfChannel):
                    break
                lines += (data, b"\n")
                size += len(data)
            try:
                await self._stream.send_all(b"".join(lines))
            except trio.BrokenResourceError:
                scope.cancel()
                return


class Connection(JsonRpcConnection):
    """The answering side of a JSON-RPC connection."""

    def __init__(self, transport: LineTransport) -> None:
        super().__init__(transport, JsonRpcConnectionType.SERVER)  # type: ignore[no-untyped-call]
        self._sansio_peer = StrictPeer(transport.stop_reading)

    async def read(self) -> None:
        """Read until the end of the requests. However this ends, `iter_requests` ends with it."""
        try:
            await self._background_task()
            await trio.lowlevel.checkpoint_if_cancelled()
        finally:
            self._inbound_requests_send.close()
        if self._transport.failure is not None:
            raise self._transport.failure

    async def respond_with_result(self, request: Request, result: bytes) -> None:
        """Answer with a result, which is JSON text; no answer to a notification."""
        if not request.is_notification:
            await super().respond_with_result(request, result)  # type: ignore[no-untyped-call]

    async def respond_with_error(self, request: Request, error: JockerError) -> None:
        """Answer with an error; no answer to a notification."""
        if not request.is_notification:
            await super().respond_with_error(request, rpc_error(error))  # type: ignore[no-untyped-call]
