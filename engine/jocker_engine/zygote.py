"""The actor that holds the link to the shim zygote. When the zygote dies it crashes, and a new life starts a new one.

Knows platform/shims.py and the layout. Shims and containers do not depend on it once they run.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Awaitable, Callable

import msgspec
import trio

from jocker_protocol import wire

from .otp import Actor, Ref, handles
from .platform.shims import ShimLink, ShimLost, ShimRefused, Zygote
from .shim.launch import Launch, LogRequest

_CHUNK = 1 << 16
_LAST_WORDS = 5.0
"""Seconds that a shim has to end after its process was killed."""


class NewShim(msgspec.Struct, frozen=True):
    """A shim that waits for its Launch; answered with the link to it."""

    key: str


class ServeLog(msgspec.Struct, frozen=True):
    """Send a log to this socket. The caller closes its own copy of `fd` after the answer."""

    fd: int
    request: LogRequest


class ZygoteDied(Exception):
    """The zygote ended although nobody asked it to."""


class ZygoteActor(Actor):
    """See the module."""

    answers = (ShimRefused, ShimLost, OSError)

    def __init__(self, run_dir: str) -> None:
        self._run_dir = run_dir
        self._ending = False

    async def init(self) -> None:
        self._zygote = await Zygote.start(self._run_dir)
        self.spawn(self._watch)

    @handles(NewShim)
    async def new_shim(self, message: NewShim) -> None:
        self.answer_later(self._zygote.shim, message.key)

    @handles(ServeLog)
    async def serve_log(self, message: ServeLog) -> None:
        self.answer_later(self._zygote.serve_log, message.fd, message.request)

    async def terminate(self, reason: BaseException | None) -> None:
        self._ending = True
        if hasattr(self, "_zygote"):
            await self._zygote.aclose()

    def detail(self) -> str:
        return f"pid {self._zygote.pid}"

    async def _watch(self) -> None:
        await self._zygote.closed()
        if self._ending:
            return
        raise ZygoteDied(f"the zygote, pid {self._zygote.pid}, is gone")


class Shims:
    """What managers use: the zygote actor as functions."""

    def __init__(self, zygote: Ref) -> None:
        self._zygote = zygote

    async def new(self, key: str) -> ShimLink:
        """A shim that waits for its Launch. Raises ActorDown, ShimRefused."""
        link: ShimLink = await self._zygote.call(NewShim(key))
        return link

    async def run(self, key: str, launch: Launch, output: Callable[[int, bytes], Awaitable[None]]) -> int:
        """Run a process to its end and give its output (wire.STDOUT or STDERR, bytes) as it comes; its exit code.

        `output` bounds the process's speed. Cancelled, the process is killed. Raises StartFailed, ShimLost,
        ShimRefused, ActorDown.
        """
        link = await self.new(key)
        try:
            return await _to_its_end(link, launch, output)
        except trio.Cancelled:
            with trio.CancelScope(shield=True), trio.move_on_after(_LAST_WORDS):
                try:
                    await link.signal(signal.SIGKILL)
                    await link.wait()  # what it still writes is written before the caller tidies up
                except (ShimLost, ShimRefused):
                    pass  # it has ended
            raise
        finally:
            with trio.CancelScope(shield=True):
                await link.aclose()

    async def serve_log(self, fd: int, request: LogRequest) -> None:
        """See ServeLog."""
        await self._zygote.call(ServeLog(fd, request))


async def _to_its_end(link: ShimLink, launch: Launch, output: Callable[[int, bytes], Awaitable[None]]) -> int:
    ours, theirs = socket.socketpair()
    with trio.socket.from_stdlib_socket(ours) as stream:
        with theirs:
            await link.start(launch, [(theirs.fileno(), "frames", False)])
        decoder = wire.FrameDecoder()
        while data := await stream.recv(_CHUNK):
            for kind, payload in decoder.feed(data):
                if kind in (wire.STDOUT, wire.STDERR):
                    await output(kind, payload)
    return await link.wait()
