"""A client attached to a process: frames both ways over the socket that the engine handed over.

Knows the framing and the log, nothing of processes. A client that cannot keep up with a process that has a
log is left behind and catches up from the log; without one its full buffer stops the process's output.
"""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Callable
from typing import Any, Protocol

from jocker_protocol import wire

from .cri import STDERR, STDOUT, Lines, LogFile, texts
from .loop import Loop, Peer

KINDS = {STDOUT: wire.STDOUT, STDERR: wire.STDERR}

HIGH_WATER = 1 << 18
"""Bytes that may wait for one client before it counts as slow."""

_CHUNK = 1 << 16


Encode = Callable[[int, bytes], bytes]


class Source(Protocol):
    """Where a client's output comes from."""

    log: LogFile | None
    lines: Lines

    def adjust(self) -> None:
        """A client that was full may take more."""


class Owner(Protocol):
    """What a client needs of its shim."""

    def frame(self, client: Client, kind: int, payload: bytes) -> None:
        """Something came from the client. Raises ValueError for what makes no sense."""

    def ended(self, client: Client) -> None:
        """The client sends no more."""

    def left(self, client: Client) -> None:
        """The connection has ended."""


class Client(Peer):
    """One attached client; `from_start` begins with what this run has printed, else with what comes."""

    def __init__(
        self,
        loop: Loop,
        owner: Owner,
        source: Source,
        fd: int,
        framing: str,
        stdin: bool,
        from_start: bool = False,
    ) -> None:
        self._owner = owner
        self._source = source
        self.stdin = stdin
        self.encode: Encode = wire.ENCODERS[framing]
        self._decoder = wire.FrameDecoder(framing)
        self._position: int | None = None
        """Where in the log a client that is behind goes on."""
        self._known = dict.fromkeys(KINDS, 0)
        """Bytes that it has already of what follows there."""
        self._last: bytes | None = None
        self._ended = False
        super().__init__(loop, socket.socket(fileno=fd))
        if from_start and source.log is not None:
            self._position = source.log.start
            self._catch_up()

    @property
    def full(self) -> bool:
        """Whether no more should be sent for now."""
        return len(self.out) >= HIGH_WATER

    def deliver(self, encoded: bytes) -> None:
        """Live output, before it goes to the log."""
        if self._position is not None or self.deaf:
            return
        if self.full and self._source.log is not None:
            self._position = self._source.log.end
            self._known = {stream: len(held) for stream, held in self._source.lines.held.items()}
        else:
            self.send(encoded)

    def result(self, value: dict[str, Any]) -> None:
        """The last frame, sent when all output has been; then the connection is closed."""
        if self.deaf:
            self.close()
            return
        self._last = self.encode(wire.RESULT, json.dumps(value).encode())
        self._conclude()

    def listen(self, wanted: bool) -> None:
        """Stop reading, or go on."""
        wanted = wanted and not self._ended
        if wanted != self.listening:
            self.listening = wanted
            self.update()

    def wants_write(self) -> bool:
        return bool(self.out) or self._position is not None

    def readable(self) -> None:
        try:
            data = self.sock.recv(_CHUNK)
            for kind, payload in self._decoder.feed(data):
                self._owner.frame(self, kind, payload)
        except BlockingIOError:
            return
        except (OSError, ValueError, RecursionError, wire.FramingError):
            self.close()
            return
        if not data:
            self._ended = True
            self._owner.ended(self)
            if self.deaf:
                self.close()
            else:
                self.listen(False)

    def hung_up(self) -> None:
        if self._ended or self._last is not None:
            self.close()
            return
        # Some of its input may still be in the socket: it is read when the process takes more.
        self.deaf = True
        self._position = None
        self.out.clear()
        if self.listening:
            self.update()
        else:
            self.loop.forget(self.sock.fileno())
        self._source.adjust()

    def drained(self) -> None:
        self._catch_up()
        if not self.full:
            self._source.adjust()
        self._conclude()

    def gone(self) -> None:
        self._owner.left(self)

    def _catch_up(self) -> None:
        log = self._source.log
        while self._position is not None and log is not None and not self.full and not self.closed:
            block, self._position = log.read(self._position)
            for stream, text in texts(block):
                self._replay(stream, text)
            if not block:
                self._position = None
                for stream, held in self._source.lines.held.items():
                    self._replay(stream, held)
        self.update()

    def _replay(self, stream: bytes, text: bytes) -> None:
        known = min(self._known[stream], len(text))
        self._known[stream] -= known
        if known < len(text):
            self.send(self.encode(KINDS[stream], text[known:]))

    def _conclude(self) -> None:
        if self._last is not None and self._position is None and not self.closed:
            last, self._last = self._last, None
            self.send(last)
            self.finish()


def window_size(payload: bytes) -> tuple[int, int]:
    """Rows and columns of a RESIZE frame. Raises ValueError."""
    match json.loads(payload):
        case {"rows": int(rows), "cols": int(cols)}:
            return rows, cols
    raise ValueError("a RESIZE frame has rows and cols")


def signal_number(payload: bytes) -> int:
    """Of a SIGNAL frame: "TERM", "SIGTERM" or "15". Raises ValueError."""
    match json.loads(payload):
        case {"signal": str(name)} if name.isdigit():
            return int(signal.Signals(int(name)))
        case {"signal": str(name)}:
            name = "SIG" + name.upper().removeprefix("SIG")
            if name in signal.Signals.__members__:
                return int(signal.Signals[name])
    raise ValueError("a SIGNAL frame has the name of a signal")
