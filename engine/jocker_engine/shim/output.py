"""From the process to its log and its clients, and how fast.

Knows the process's output descriptors, the log and the clients. With a log nobody slows the process down;
without one the slowest client does.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from . import stdio
from .clients import KINDS, Client, Encode
from .cri import Lines, LogFile
from .loop import READ, Loop

_LAST_READS = 16
"""Reads of an output that others hold open when the process has long ended: a full pipe's worth."""


class Output:
    """Reads what the process prints and hands it on. `ended` is called as each descriptor ends."""

    def __init__(self, loop: Loop, ended: Callable[[], None], logged: Callable[[], None]) -> None:
        self.log: LogFile | None = None
        self.lines = Lines()
        self.clients: list[Client] = []
        self.paused = False
        """Whether a slow client holds the process up."""
        self._loop = loop
        self._ended = ended
        self._logged = logged
        self._sources: dict[int, bytes] = {}

    @property
    def open(self) -> bool:
        """Whether somebody may print yet."""
        return bool(self._sources)

    def begin(self, sources: dict[int, bytes]) -> None:
        """Take over these descriptors (each with its stream)."""
        self._sources = sources
        for fd in sources:
            self._listen(fd)
        self.adjust()

    def adjust(self) -> None:
        """Read or wait, as the clients need it now."""
        paused = self.log is None and any(client.full for client in self.clients)
        if paused != self.paused:
            self.paused = paused
            for fd in self._sources:
                if paused:
                    self._loop.forget(fd)
                else:
                    self._listen(fd)

    def close(self) -> None:
        """Take what is there, then read no more; the log is complete afterwards."""
        for fd in list(self._sources):
            for _ in range(_LAST_READS):
                if not self._read(fd):
                    break
            if fd in self._sources:
                self._close(fd)
        self._write(self.lines.end())

    def _listen(self, fd: int) -> None:
        def ready(events: int) -> None:
            self._read(fd)

        self._loop.watch(fd, READ, ready)

    def _read(self, fd: int) -> bool:
        """Once; whether there may be more."""
        data = stdio.read(fd)
        if not data:
            if data is not None:
                self._close(fd)
            return False
        stream = self._sources[fd]
        encoded: dict[Encode, bytes] = {}
        for client in list(self.clients):
            if client.encode not in encoded:
                encoded[client.encode] = client.encode(KINDS[stream], data)
            client.deliver(encoded[client.encode])
        # After the clients: one that is left behind goes on where the log ends now.
        self._write(self.lines.add(stream, data))
        self.adjust()
        return True

    def _write(self, lines: bytes) -> None:
        if self.log is not None and lines:
            self.log.write(lines)
            self._logged()

    def _close(self, fd: int) -> None:
        self._loop.forget(fd)
        del self._sources[fd]
        os.close(fd)
        self._ended()
