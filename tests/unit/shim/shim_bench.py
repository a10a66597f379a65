"""A zygote with real shims and processes, for the tests of this directory."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from conftest import need
from jocker_engine.platform.shims import ShimLink, Zygote
from jocker_engine.shim.launch import Launch, LogRequest
from jocker_protocol import wire

ROOT = os.geteuid() == 0
PATH = "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
LIMIT = 20
"""Seconds after which a test has hung."""


class Client:
    """The other end of a socket that was handed to a shim or a log reader."""

    def __init__(self, framing: str = "frames") -> None:
        ours, theirs = socket.socketpair()
        self.fd = theirs.detach()
        self.framing = framing
        self.socket = trio.socket.from_stdlib_socket(ours)
        self._decoder = wire.FrameDecoder(framing)
        self._frames: list[tuple[int, bytes]] = []
        self.seen: dict[int, bytes] = {}

    def handed_over(self) -> None:
        """The shim has its own."""
        os.close(self.fd)

    async def send(self, kind: int, payload: bytes = b"") -> None:
        data = wire.ENCODERS[self.framing](kind, payload)
        while data:
            data = data[await self.socket.send(data) :]

    async def next(self) -> tuple[int, bytes] | None:
        """The next frame, None at the end of file; `seen` has all payloads by kind."""
        while not self._frames:
            try:
                data = await self.socket.recv(1 << 16)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self._frames += self._decoder.feed(data)
        kind, payload = self._frames.pop(0)
        self.seen[kind] = self.seen.get(kind, b"") + payload
        return kind, payload

    async def until(self, text: bytes, kind: int = wire.STDOUT) -> None:
        while text not in self.seen.get(kind, b""):
            assert await self.next() is not None, (text, self.seen)

    async def result(self) -> Any:
        """Read to the end; what the last frame says."""
        last = None
        while (frame := await self.next()) is not None:
            last = frame
        assert last is not None
        assert last[0] in (wire.RESULT, wire.ERROR), self.seen
        return json.loads(last[1])

    @property
    def stdout(self) -> bytes:
        return self.seen.get(wire.STDOUT, b"")

    @property
    def stderr(self) -> bytes:
        return self.seen.get(wire.STDERR, b"")


class Bench:
    """Shims of one zygote in a directory of their own, and what they left."""

    def __init__(self, directory: str, zygote: Zygote) -> None:
        self.directory = directory
        self.zygote = zygote
        self.log = directory + "/log"
        self.status = directory + "/status"
        self.key = "0123456789ab"
        self.pids: list[int] = []
        self._keys = 0

    def launch(self, *argv: str, **fields: Any) -> Launch:
        fields = {
            "enter": "chroot",
            "root": "/",
            "env": [PATH],
            "status": self.status,
            "log": self.log,
            "uid": os.geteuid(),
            "gid": os.getegid(),
            "user_namespace": not ROOT,
            **fields,
        }
        return Launch(argv=list(argv), **fields)

    async def start(self, launch: Launch, *clients: tuple[Client, bool], key: str = "") -> ShimLink:
        if not key:
            self._keys += 1
            self.key = key = f"{self._keys:012x}"
        link = await self.zygote.shim(key)
        try:
            pid = await link.start(launch, [(client.fd, client.framing, stdin) for client, stdin in clients])
            self.pids.append(pid)
        finally:
            for client, _ in clients:
                client.handed_over()
        return link

    async def sh(self, script: str, *clients: tuple[Client, bool], **fields: Any) -> ShimLink:
        return await self.start(self.launch("sh", "-c", script, **fields), *clients)

    async def attach(self, link: ShimLink, stdin: bool = False, start: bool = False) -> Client:
        client = Client()
        await link.attach(client.fd, client.framing, stdin, start)
        client.handed_over()
        return client

    async def logs(self, framing: str = "frames", **request: Any) -> Client:
        client = Client(framing)
        await self.zygote.serve_log(client.fd, LogRequest(log=self.log, framing=framing, **request))
        client.handed_over()
        return client

    @property
    def socket(self) -> str:
        return f"{self.directory}/{self.key}"

    def texts(self, stream: str = "stdout") -> bytes:
        """What the process has printed, from all files of the log, oldest first."""
        names = [name for name in os.listdir(self.directory) if name.startswith("log")]
        files = sorted(names, key=lambda name: -int(name[4:] or 0))
        data = b""
        for name in files:
            with open(f"{self.directory}/{name}", "rb") as file:
                data += file.read()
        return text_of(data, stream)


def text_of(log: bytes, stream: str = "stdout") -> bytes:
    """What a process wrote, from its log, by the format's description and not by our own parser."""
    found: list[bytes] = []
    for line in log.split(b"\n")[:-1]:
        stamp, of, tag, rest = line.split(b" ", 3)
        assert len(stamp) == 30
        if of.decode() == stream:
            found.append(rest + b"\n" if tag == b"F" else rest)
    return b"".join(found)


@asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    """All that was started is gone afterwards."""
    need(sys.platform == "linux", "the tests of shims use chroot launches and /proc")
    directory = tempfile.mkdtemp(prefix="jk")  # short: a socket's path has about 100 bytes
    with trio.fail_after(LIMIT):
        zygote = await Zygote.start(directory)
        made = Bench(directory, zygote)
        try:
            yield made
        finally:
            for pid in made.pids:
                if alive(pid):
                    os.kill(pid, signal.SIGKILL)
            await zygote.aclose()
            shutil.rmtree(directory)


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] != b"Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def parent(pid: int) -> int:
    with open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[1])


async def eventually(condition: Any) -> None:
    """Wait for what must become true; the test's own limit ends it."""
    while not condition():
        await trio.sleep(0.01)


def now() -> str:
    """RFC 3339, nanoseconds."""
    ns = time.time_ns()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ns // 10**9)) + f".{ns % 10**9:09d}Z"
