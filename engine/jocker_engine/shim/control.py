"""One connection of the control protocol, on the shim's side: JSON documents, one a line, with descriptors."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from typing import Any

from .launch import dump
from .loop import Loop, Peer

_CHUNK = 1 << 16
_MAX_FDS = 64
_MAX_REQUEST = 1 << 24
"""Longest request, bytes; a Launch carries a whole environment."""

Request = Callable[["Connection", dict[str, Any], list[int]], None]
"""Answers one request, takes from the list the descriptors that it keeps; raises Refused."""


class Refused(Exception):
    """The request makes no sense now; its text is the answer."""


class Connection(Peer):
    """A connection from the engine, or from a log reader."""

    def __init__(
        self, loop: Loop, sock: socket.socket, request: Request, ended: Callable[[Connection], None]
    ) -> None:
        self._request = request
        self._on_end = ended
        self._buffer = bytearray()
        self._fds: list[int] = []
        super().__init__(loop, sock)

    def tell(self, **event: Any) -> None:
        """Send one document."""
        self.send(dump(event))

    def grown(self) -> None:
        """Say that the log has grown, unless that waits to be sent already."""
        if not self.out:
            self.tell(event="grown")

    def readable(self) -> None:
        try:
            data, fds, flags, _ = socket.recv_fds(self.sock, _CHUNK, _MAX_FDS)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        for fd in fds:
            os.set_inheritable(fd, False)
        self._fds += fds
        self._buffer += data
        if not data or flags & socket.MSG_CTRUNC or len(self._buffer) > _MAX_REQUEST:
            self.close()
        while not self.closed and (end := self._buffer.find(b"\n")) >= 0:
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            self._answer(line)

    def gone(self) -> None:
        self._close_fds()
        self._on_end(self)

    def _answer(self, line: bytes) -> None:
        try:
            self._request(self, json.loads(line), self._fds)
        except Refused as refused:
            self.tell(event="refused", error=str(refused))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            self.tell(event="refused", error=f"bad request: {error!r}")
        self._close_fds()

    def _close_fds(self) -> None:
        while self._fds:
            os.close(self._fds.pop())
