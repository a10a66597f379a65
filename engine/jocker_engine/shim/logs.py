"""The log reader: a process per client that reads logs, forked from the zygote, so that no shim waits for it.

Knows log files and the socket of the shim that writes them. Sends LOG frames of whole lines in CRI format,
then RESULT {}. Its client's going away ends it, also while there is nothing to send.
"""

from __future__ import annotations

import json
import os
import select
import socket
import time

from jocker_protocol import wire

from .cri import BLOCK, STAMP, TAG, Files, nanoseconds, stamp
from .launch import LogRequest, dump

_BLOCK = 1 << 18
"""Bytes in a LOG frame, at most."""
_GAP = 3
"""Numbers of rotated files missing in a row: there are no more."""

Identity = tuple[int, int]
"""Device and inode."""


class Gone(Exception):
    """The client is gone."""


def serve(fd: int, request: LogRequest) -> None:
    """Serve one client to the end; takes over its socket."""
    with socket.socket(fileno=fd) as sock:
        sock.setblocking(True)
        client = _Client(sock, request.framing)
        try:
            since, until = (nanoseconds(text) if text else None for text in (request.since, request.until))
        except ValueError as error:
            answer = {"code": -32602, "message": str(error), "data": {"kind": "invalid_params"}}
            client.send(wire.ERROR, json.dumps(answer).encode())
            return
        try:
            # The shim first: what it writes after the log was opened is then told.
            shim = _connect(request.socket) if request.follow else None
            _Reader(client, request, since, until).run(shim)
            client.send(wire.RESULT, b"{}")
        except Gone:
            pass


class _Client:
    def __init__(self, sock: socket.socket, framing: str) -> None:
        self._sock = sock
        self._encode = wire.ENCODERS[framing]
        self._listening = select.POLLIN

    def send(self, kind: int, payload: bytes) -> None:
        try:
            self._sock.sendall(self._encode(kind, payload))
        except OSError:
            raise Gone from None

    def wait(self, shim: socket.socket, seconds: float | None) -> bool:
        """For the log to grow; False if it never will, or the time is over. Raises Gone."""
        while True:
            poll = select.poll()
            poll.register(self._sock, self._listening)
            poll.register(shim, select.POLLIN)
            ready = dict(poll.poll(None if seconds is None else max(0.0, seconds) * 1000 + 1))
            found = ready.get(self._sock.fileno(), 0)
            if found & (select.POLLHUP | select.POLLERR):
                raise Gone
            if found and not self._sock.recv(BLOCK):
                self._listening = 0  # it sends no more, but may well read on
            if shim.fileno() in ready:
                return bool(_receive(shim))
            if not ready:
                return False


class _Reader:
    def __init__(self, client: _Client, request: LogRequest, since: int | None, until: int | None) -> None:
        self._client = client
        self._path = request.log
        self._until = until
        self._files = Files([])
        self._open_newer()
        self._end = self._files.files[-1][0] + _size(self._files.files[-1][1]) if self._files.files else 0
        self._position = 0 if since is None else self._find(since)
        if request.tail >= 0:
            end = self._end if until is None else self._find(until + 1)
            self._position = self._tail(self._position, end, request.tail)

    def run(self, shim: socket.socket | None) -> None:
        """Send what is there, and with a shim what comes."""
        growing = True
        while self._send_rest() and shim is not None and growing:
            left = None if self._until is None else (self._until - time.time_ns()) / 1e9
            growing = self._client.wait(shim, left)

    def _send_rest(self) -> bool:
        """All that is there; False if `until` was reached."""
        newer = True
        while newer:
            newer = self._open_newer()  # before reading on: then what is older is complete
            while True:
                block, after = self._files.read(self._position, _BLOCK)
                if not block:
                    break
                if self._until is not None and _last_stamp(block) > stamp(self._until).encode():
                    block = _cut(block, stamp(self._until).encode())
                    if block:
                        self._client.send(wire.LOG, block)
                    return False
                self._client.send(wire.LOG, block)
                self._position = after
            while len(self._files.files) > 1:
                os.close(self._files.files.pop(0)[1])
        return True

    def _open_newer(self) -> bool:
        """Open the files that came after those open; whether there were any."""
        open_files = self._files.files
        known = _identity(os.fstat(open_files[-1][1])) if open_files else None
        try:
            if known is not None and _identity(os.stat(self._path)) == known:
                return False
        except FileNotFoundError:
            return False  # in the middle of a rotation, or removed
        fds = _open_newest(self._path, known)
        for fd in fds:
            base = open_files[-1][0] + _size(open_files[-1][1]) if open_files else 0
            open_files.append((base, fd))
        return bool(fds)

    def _find(self, nanoseconds: int) -> int:
        """The position of the first line that is not before this time."""
        wanted = stamp(nanoseconds).encode()
        low, high = 0, self._end
        while low < high:
            middle = (low + high) // 2
            line = self._line(middle)
            if line < high and self._files.read(line)[0][:STAMP] < wanted:
                low = line + 1
            else:
                high = middle
        return self._line(low)

    def _line(self, position: int) -> int:
        """The first beginning of a line at or after a position."""
        if position == 0 or position >= self._end:
            return min(position, self._end)
        data = self._raw(position - 1, BLOCK)
        newline = data.find(b"\n")
        return position + newline if newline >= 0 else self._end

    def _raw(self, position: int, size: int) -> bytes:
        """Bytes as they are, over the borders of files."""
        data = b""
        for base, fd in self._files.files:
            inside = position + len(data) - base
            if len(data) < size and 0 <= inside < _size(fd):
                data += os.pread(fd, size - len(data), inside)
        return data

    def _tail(self, begin: int, end: int, count: int) -> int:
        """Where the last `count` lines before `end` begin; parts belong to the line that they are parts of."""
        position, last = end, True
        while position > begin:
            start = self._line(max(begin, position - BLOCK))
            block = self._raw(start, position - start)
            here = len(block)
            while here > 0:
                line = block.rfind(b"\n", 0, here - 1) + 1
                if last or block[line + TAG : line + TAG + 1] == b"F":
                    if count == 0:
                        return start + here
                    count, last = count - 1, False
                here = line
            position = start
        return begin


def _open_newest(path: str, known: Identity | None) -> list[int]:
    """The log and what was rotated, oldest first, back to the file that is known (without it).

    Rotation moves files to higher numbers only, the highest first. Opened upwards, none is passed by unseen:
    one that moves meanwhile is met twice, and at most one number at a time is missing.
    """
    found: dict[Identity, int] = {}
    number = missing = 0
    while missing < _GAP:
        try:
            fd = os.open(f"{path}.{number}" if number else path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            missing += 1
        else:
            missing = 0
            identity = _identity(os.fstat(fd))
            if identity == known:
                os.close(fd)
                break
            if identity in found:
                os.close(fd)
            else:
                found[identity] = fd
        number += 1
    return list(reversed(found.values()))


def _connect(path: str) -> socket.socket | None:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(path)
        sock.sendall(dump({"op": "log"}))
    except OSError:
        sock.close()
        return None
    return sock


def _receive(shim: socket.socket) -> bytes:
    """Any number of "grown"; b"" when the shim is gone."""
    try:
        return shim.recv(BLOCK)
    except ConnectionResetError:
        return b""


def _last_stamp(block: bytes) -> bytes:
    line = block.rfind(b"\n", 0, len(block) - 1) + 1
    return block[line : line + STAMP]


def _cut(block: bytes, until: bytes) -> bytes:
    """The lines up to the first one after a time."""
    position = 0
    while position < len(block) and block[position : position + STAMP] <= until:
        position = block.index(b"\n", position) + 1
    return block[:position]


def _size(fd: int) -> int:
    return os.fstat(fd).st_size


def _identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino
