"""All connections of the engine: accepted, counted, isolated from each other, stopped.

Knows listeners that are open already; `listener` opens them.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import trio

from jocker_protocol.errors import Overloaded

from .connection import Gate, serve_connection
from .dispatch import Dispatcher
from .envelope import StrictPeer, rpc_error
from .streams import StreamBroker

MAX_CONNECTIONS = 1000
"""Open connections, streams that were handed on not counted."""

GRACE = 1.0
"""Seconds that running requests get when the server stops."""

logger = logging.getLogger("jocker.api")


class Server:
    """Serves once: `serve`, and in another task `stop`."""

    def __init__(self, dispatcher: Dispatcher, broker: StreamBroker) -> None:
        self._dispatcher = dispatcher
        self._broker = broker
        self._gate = Gate()
        self._accepting = trio.CancelScope()
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        self.connections = 0

    async def serve(self, listeners: Sequence[trio.SocketListener]) -> None:
        """Accept connections and serve them until `stop`. Closes the listeners."""
        try:
            with self._scope:
                async with trio.open_nursery() as connections:
                    with self._accepting:
                        async with trio.open_nursery() as nursery:
                            nursery.start_soon(self._broker.expire)
                            await trio.serve_listeners(
                                self._serve_one, list(listeners), handler_nursery=connections
                            )
        finally:
            self._broker.close()
            self._ended.set()

    async def stop(self) -> None:
        """Accept no more, read no more, answer what runs for GRACE seconds, close; streams end at once."""
        self._accepting.cancel()
        self._gate.close()
        with trio.move_on_after(GRACE):
            await self._ended.wait()
        self._scope.cancel()
        await self._ended.wait()

    async def _serve_one(self, stream: trio.SocketStream) -> None:
        if self.connections >= MAX_CONNECTIONS:
            await _refuse(stream)
            return
        self.connections += 1
        try:
            await serve_connection(stream, self._dispatcher, self._broker, self._gate)
        except Exception:
            # Connections are isolated as requests are: this one's task ends here, crashed, and is not started anew.
            logger.exception("a connection crashed")
        finally:
            self.connections -= 1


async def _refuse(stream: trio.SocketStream) -> None:
    error = Overloaded(f"{MAX_CONNECTIONS} connections are open: try again later")
    line = StrictPeer(lambda: None).respond_with_error(None, rpc_error(error)) + b"\n"
    async with stream:
        try:
            await stream.send_all(line)
        except trio.BrokenResourceError:
            logger.debug("a connection over the limit was gone before it was refused")
        logger.warning("connection refused: %s", error.message)
