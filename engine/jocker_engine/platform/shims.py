"""The engine's end of zygote and shims: starts, finds again, waits for, signals.

Knows the control protocol of shim/launch.py and the zygote's; nothing of containers. Descriptors passed
here are duplicated into the shim: the caller closes its own after the call.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket as stdlib_socket
import subprocess
import sys
from array import array
from collections.abc import Sequence
from typing import Any

import trio

import jocker_protocol

from ..shim.launch import Launch, LogRequest, dump

_CHUNK = 1 << 16
_SHUTDOWN = 5.0
"""Seconds that a zygote has to end."""
_BOOT = "import sys; sys.path[:0] = sys.argv.pop(1).split({!r}); from jocker_engine.shim.zygote import main; main()"


class StartFailed(Exception):
    """The process could not be started; `exit_code` is 125, 126 or 127, as Docker has them."""

    def __init__(self, exit_code: int, error: str) -> None:
        super().__init__(error)
        self.exit_code = exit_code
        self.error = error


class ShimLost(Exception):
    """The shim, or the zygote, has gone without an answer. A shim's status file may say more."""


class ShimRefused(Exception):
    """The shim, or the zygote, does not do this; the text says why."""


class _Channel:
    """JSON documents over a socket, one a line, with descriptors. Cancelling a `receive` loses nothing."""

    def __init__(self, sock: trio.socket.SocketType) -> None:
        self._sock = sock
        self._buffer = bytearray()

    async def send(self, value: dict[str, Any], fds: Sequence[int] = ()) -> None:
        data = memoryview(dump(value))
        rights = [(stdlib_socket.SOL_SOCKET, stdlib_socket.SCM_RIGHTS, array("i", fds))] if fds else []
        try:
            sent = await self._sock.sendmsg([data], rights)
            while sent < len(data):
                sent += await self._sock.send(data[sent:])
        except (BrokenPipeError, ConnectionResetError):
            raise ShimLost("it has gone") from None

    async def receive(self) -> dict[str, Any] | None:
        """None at the end of file."""
        while (end := self._buffer.find(b"\n")) < 0:
            try:
                data = await self._sock.recv(_CHUNK)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self._buffer += data
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        value: dict[str, Any] = json.loads(line)
        return value

    def close(self) -> None:
        self._sock.close()


class ShimLink:
    """The engine's connection to one shim. Closing it leaves a process that was started alone.

    The socket of a shim that is lost is removed before anybody is told: a dying process closes its descriptors
    one after the other, so that for a moment its socket can still be connected to.
    """

    def __init__(self, path: str, channel: _Channel) -> None:
        self._path = path
        self._channel = channel
        self._exit: int | None = None

    async def start(self, launch: Launch, clients: Sequence[tuple[int, str, bool]] = ()) -> int:
        """Start the process with its first clients (descriptor, framing, whether it has the stdin).

        Returns the process's id on the host. Raises StartFailed, ShimRefused, ShimLost. Cancelled, the
        process may have been started: `watch` on a new connection tells.
        """
        request = {
            "op": "start",
            "launch": launch.to_json(),
            "clients": [{"framing": framing, "stdin": stdin} for _, framing, stdin in clients],
        }
        pid: int = (await self._event(request, [fd for fd, _, _ in clients]))["pid"]
        return pid

    async def watch(self) -> int:
        """Take over a shim found by `connect`: the id of its process, 0 if it has started none yet.

        Raises ShimLost, StartFailed.
        """
        pid: int = (await self._event({"op": "watch"})).get("pid", 0)
        return pid

    async def wait(self) -> int:
        """The exit code, when the process has ended and its output is in the log. Raises ShimLost.

        One task at a time; may be cancelled and asked again.
        """
        while self._exit is None:
            event = await self._event()
            if event["event"] == "exited":
                self._exit = event["exit_code"]
        return self._exit

    async def attach(self, fd: int, framing: str, stdin: bool, start: bool) -> None:
        """Hand over a client's socket; `start`: it first gets what this run has printed.

        Raises ShimLost, ShimRefused.
        """
        request = {"op": "attach", "framing": framing, "stdin": stdin, "from": "start" if start else "now"}
        await self._once(request, [fd])

    async def signal(self, signum: int) -> None:
        """To the main process. Raises ShimLost, ShimRefused (it does not run)."""
        await self._once({"op": "signal", "signum": signum}, [])

    async def aclose(self) -> None:
        """A shim whose only link is closed before `start` goes away."""
        self._channel.close()
        await trio.lowlevel.checkpoint()

    async def _once(self, request: dict[str, Any], fds: Sequence[int]) -> None:
        """An operation on a connection of its own, so that it does not meet `wait`."""
        channel = await _connect(self._path)
        if channel is None:
            raise ShimLost("it has ended")
        try:
            await channel.send(request, fds)
            await _event(channel)
        finally:
            channel.close()

    async def _event(self, request: dict[str, Any] | None = None, fds: Sequence[int] = ()) -> dict[str, Any]:
        """The shim's next word, here to `request`."""
        try:
            if request is not None:
                await self._channel.send(request, fds)
            return await _event(self._channel)
        except ShimLost:
            _forget(self._path)
            raise


class Zygote:
    """The running zygote of this engine, made by `start`."""

    def __init__(self, process: trio.Process, channel: _Channel, run_dir: str) -> None:
        self.pid = process.pid
        self._process = process
        self._channel = channel
        self._run_dir = run_dir
        self._ids = itertools.count(1)
        self._lock = trio.Lock()

    @classmethod
    async def start(cls, run_dir: str) -> Zygote:
        """Start it; sockets of shims go to `run_dir`, an absolute path."""
        ours, theirs = stdlib_socket.socketpair(stdlib_socket.AF_UNIX, stdlib_socket.SOCK_STREAM)
        with theirs:
            paths = [_above(__file__, 3), _above(jocker_protocol.__file__, 2)]
            command = [sys.executable, "-S", "-E", "-c", _BOOT.format(os.pathsep)]
            process = await trio.lowlevel.open_process(
                [*command, os.pathsep.join(paths), run_dir, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
            )
        return cls(process, _Channel(trio.socket.from_stdlib_socket(ours)), run_dir)

    async def shim(self, key: str) -> ShimLink:
        """A new shim, its socket RUN/KEY; `key`: 12 hex digits. Raises ShimRefused, ShimLost."""
        await self._ask({"op": "shim", "key": key}, [])
        link = await connect(self._run_dir, key)
        if link is None:
            raise ShimLost(f"shim {key} died at once")
        return link

    async def serve_log(self, fd: int, request: LogRequest) -> None:
        """Hand over a client's socket to a log reader. Raises ShimRefused, ShimLost."""
        await self._ask({"op": "logs", "request": request.to_json()}, [fd])

    async def closed(self) -> None:
        """Returns when the zygote is gone."""
        await self._process.wait()

    async def aclose(self) -> None:
        """End it; shims and log readers go on."""
        self._channel.close()
        with trio.CancelScope(shield=True):
            with trio.move_on_after(_SHUTDOWN):
                await self._process.wait()
            if self._process.returncode is None:
                self._process.kill()
                await self._process.wait()

    async def _ask(self, request: dict[str, Any], fds: Sequence[int]) -> None:
        async with self._lock:
            number = next(self._ids)
            await self._channel.send({"id": number, **request}, fds)
            while (answer := await self._channel.receive()) is not None:
                if answer["id"] == number:  # others belong to callers that were cancelled
                    break
        if answer is None:
            raise ShimLost("the zygote has gone")
        if "error" in answer:
            raise ShimRefused(answer["error"])


async def connect(run_dir: str, key: str) -> ShimLink | None:
    """Find a shim again. None if it is not there; a socket that it left behind is removed."""
    path = os.path.join(run_dir, key)
    channel = await _connect(path)
    return None if channel is None else ShimLink(path, channel)


def read_status(path: str) -> dict[str, Any] | None:
    """{"exit_code", "error", "started_at", "finished_at", "pid"} as the shim wrote it; None if it did not."""
    try:
        with open(path, "rb") as file:
            value: dict[str, Any] = json.load(file)
    except FileNotFoundError:
        return None
    return value


async def _connect(path: str) -> _Channel | None:
    sock = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
    try:
        await sock.connect(path)
    except FileNotFoundError:
        sock.close()
        return None
    except ConnectionRefusedError:
        sock.close()
        _forget(path)
        return None
    except BaseException:
        sock.close()
        raise
    return _Channel(sock)


def _forget(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


async def _event(channel: _Channel) -> dict[str, Any]:
    """The shim's next word. Raises StartFailed, ShimRefused, ShimLost."""
    event = await channel.receive()
    if event is None:
        raise ShimLost("it has ended without a word")
    if event["event"] == "failed":
        raise StartFailed(event["exit_code"], event["error"])
    if event["event"] == "refused":
        raise ShimRefused(event["error"])
    return event


def _above(path: str | None, levels: int) -> str:
    assert path is not None
    path = os.path.abspath(path)
    for _ in range(levels):
        path = os.path.dirname(path)
    return path
