"""The event loop of a shim: poll(2), timers, and sockets that are written to without waiting.

Knows file descriptors only. poll(2) and not epoll or kqueue: a shim has a handful of descriptors, and
POLLHUP tells a peer that closed its socket from one that only sends no more, on Linux and on FreeBSD.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable

READ, WRITE = select.POLLIN, select.POLLOUT
GONE = select.POLLHUP | select.POLLERR | select.POLLNVAL
"""Reported whether asked for or not: both directions are closed, or broken."""


class Loop:
    """Calls back what is ready, one thing at a time, until `stop`."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self._timers: dict[Callable[[], None], float] = {}
        self._running = True

    def watch(self, fd: int, events: int, callback: Callable[[int], None]) -> None:
        """Call back with the events of poll(2) that happen; replaces what was asked for this descriptor."""
        self._poll.register(fd, events)
        self._callbacks[fd] = callback

    def forget(self, fd: int) -> None:
        """Undo watch, before the descriptor is closed; no error if it was not watched."""
        if self._callbacks.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call back once; a callback that waits already gets the new time."""
        self._timers[callback] = time.monotonic() + seconds

    def cancel(self, callback: Callable[[], None]) -> None:
        """Undo later; no error if it does not wait."""
        self._timers.pop(callback, None)

    def stop(self) -> None:
        """Make `run` return."""
        self._running = False

    def run(self) -> None:
        """Until stopped."""
        while self._running:
            for fd, events in self._poll.poll(self._timeout()):
                callback = self._callbacks.get(fd)  # an earlier callback may have closed it
                if callback is not None:
                    callback(events)
            if self._timers:
                now = time.monotonic()
                for due in [callback for callback, when in self._timers.items() if when <= now]:
                    del self._timers[due]
                    due()

    def _timeout(self) -> float | None:
        if not self._timers:
            return None
        return max(0.0, min(self._timers.values()) - time.monotonic()) * 1000 + 1


class Peer:
    """A connected stream socket in the loop: what is sent waits in a buffer, never the sender."""

    def __init__(self, loop: Loop, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.loop = loop
        self.sock = sock
        self.out = bytearray()
        self.listening = True
        """Whether input is wanted now."""
        self.deaf = False
        """Whether the other side takes nothing any more."""
        self.closed = False
        self._closing = False
        self.update()

    def send(self, data: bytes) -> None:
        """At once as far as the socket takes it."""
        if self.closed or self.deaf:
            return
        if self.out:
            self.out += data
            return
        try:
            sent = self.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.hung_up()
            return
        if sent < len(data):
            self.out += memoryview(data)[sent:]
            self.update()

    def finish(self) -> None:
        """Close when all has been sent."""
        self._closing = True
        if not self.out:
            self.close()

    def close(self) -> None:
        """Drop the connection with what waits to be sent."""
        if not self.closed:
            self.closed = True
            self.loop.forget(self.sock.fileno())
            self.sock.close()
            self.out.clear()
            self.gone()

    def update(self) -> None:
        """Ask the loop for what this peer waits for now."""
        if not self.closed:
            events = (READ if self.listening else 0) | (WRITE if self.wants_write() else 0)
            self.loop.watch(self.sock.fileno(), events, self._ready)

    def wants_write(self) -> bool:
        """Whether there is something to do when the socket takes more."""
        return bool(self.out)

    def readable(self) -> None:
        """There is input or end of file: read it."""
        raise NotImplementedError

    def hung_up(self) -> None:
        """The other side takes nothing any more."""
        self.close()

    def drained(self) -> None:
        """More can be sent."""

    def gone(self) -> None:
        """The connection has ended."""

    def _ready(self, events: int) -> None:
        if events & WRITE and not events & GONE:
            self._flush()
        if self.closed:
            return
        if self.listening and events & (READ | GONE):
            self.readable()
        elif events & GONE:
            self.hung_up()

    def _flush(self) -> None:
        try:
            while self.out:
                del self.out[: self.sock.send(self.out)]
        except BlockingIOError:
            pass
        except OSError:
            self.hung_up()
            return
        self.drained()
        if self._closing and not self.out:
            self.close()
        self.update()
