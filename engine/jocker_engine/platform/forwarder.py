"""Published ports of the host as sockets of this process: they keep the ports from other programs, and pass on what
the packet filter does not translate: what comes to ::1, or from one family of addresses to the other, and on FreeBSD
all that comes from the host itself.

A stream is copied both ways, each direction ending by itself; a datagram's sender has a socket of its own until it has
been silent for a while. Knows publications and sockets.
"""

from __future__ import annotations

import contextlib
import socket as stdlib_socket
from collections.abc import Sequence
from functools import partial

import trio

from .interfaces import Publication

_CHUNK = 1 << 16
_CONNECT = 10.0
"""Seconds for the container to take a connection."""
_SILENCE = 60.0
"""Seconds after which a sender of datagrams is forgotten."""
_BACKLOG = 128


class Forwarder:
    """Serves the publications of one network; `run` is a task of whoever owns it."""

    def __init__(self) -> None:
        self._serving: dict[Publication, trio.CancelScope] = {}
        self._nursery: trio.Nursery | None = None
        self._running = trio.Event()

    async def run(self) -> None:
        """Until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._running.set()
                await trio.sleep_forever()
        finally:
            self._serving.clear()

    async def change(self, publications: Sequence[Publication]) -> dict[Publication, str]:
        """Serve these and no others; those that stay are not interrupted. Returns those that cannot be served, and why;
        they are tried again with the next change. Not to be called twice at once.
        """
        await self._running.wait()
        assert self._nursery is not None
        for each in set(self._serving) - set(publications):
            self._serving.pop(each).cancel()
        await trio.lowlevel.checkpoint()  # so that what was given up is closed
        refused = {}
        for each in publications:
            if each not in self._serving:
                try:
                    sock = trio.socket.from_stdlib_socket(_bind(each))
                except OSError as error:
                    refused[each] = error.strerror or str(error)
                    continue
                self._serving[each] = scope = trio.CancelScope()
                self._nursery.start_soon(_serve, sock, each, scope)
        return refused


async def _serve(sock: trio.socket.SocketType, each: Publication, scope: trio.CancelScope) -> None:
    with scope, sock:
        await (_streams if each.protocol == "tcp" else _datagrams)(sock, each)


def _bind(each: Publication) -> stdlib_socket.socket:
    v6 = ":" in each.host_ip
    kind = stdlib_socket.SOCK_STREAM if each.protocol == "tcp" else stdlib_socket.SOCK_DGRAM
    sock = stdlib_socket.socket(stdlib_socket.AF_INET6 if v6 else stdlib_socket.AF_INET, kind)
    try:
        if v6:
            sock.setsockopt(stdlib_socket.IPPROTO_IPV6, stdlib_socket.IPV6_V6ONLY, 1)
        if each.protocol == "tcp":
            sock.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_REUSEADDR, 1)
        sock.bind((each.host_ip or "0.0.0.0", each.host_port))
        if each.protocol == "tcp":
            sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


async def _streams(listener: trio.socket.SocketType, each: Publication) -> None:
    async with trio.open_nursery() as nursery:
        while True:
            try:
                client, _ = await listener.accept()
            except OSError:
                await trio.sleep(0.1)  # too many descriptors, or a client that has left again
                continue
            nursery.start_soon(_stream, trio.SocketStream(client), each)


async def _stream(client: trio.SocketStream, each: Publication) -> None:
    """One connection. Its failures are its own; the client sees it closed."""
    async with client:
        try:
            with trio.fail_after(_CONNECT):
                server = await trio.open_tcp_stream(each.container_ip, each.container_port)
        except (OSError, trio.TooSlowError):
            return
        async with server:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_copy, client, server, nursery.cancel_scope)
                nursery.start_soon(_copy, server, client, nursery.cancel_scope)


async def _copy(source: trio.SocketStream, sink: trio.SocketStream, both: trio.CancelScope) -> None:
    try:
        while data := await source.receive_some(_CHUNK):
            await sink.send_all(data)
        await sink.send_eof()
    except trio.BrokenResourceError:
        both.cancel()  # one side has been reset: so is the other


async def _datagrams(sock: trio.socket.SocketType, each: Publication) -> None:
    senders: dict[tuple[object, ...], trio.socket.SocketType] = {}
    async with trio.open_nursery() as nursery:
        while True:
            data, sender = await sock.recvfrom(_CHUNK)
            server = senders.get(sender)
            if server is None:
                server = trio.socket.socket(
                    trio.socket.AF_INET6 if ":" in each.container_ip else trio.socket.AF_INET,
                    trio.socket.SOCK_DGRAM,
                )
                try:
                    await server.connect((each.container_ip, each.container_port))
                except OSError:  # the container is on its way out, or has no way there
                    server.close()
                    continue
                senders[sender] = server
                nursery.start_soon(_answers, server, sock, sender, partial(senders.pop, sender))
            with contextlib.suppress(OSError):  # nobody listens there: datagrams get lost
                await server.send(data)


async def _answers(
    server: trio.socket.SocketType,
    sock: trio.socket.SocketType,
    sender: tuple[object, ...],
    forget: partial[trio.socket.SocketType],
) -> None:
    """What the container says to one sender, until there is silence for a while."""
    try:
        while True:
            with trio.move_on_after(_SILENCE) as silence:
                try:
                    data = await server.recv(_CHUNK)
                except OSError:
                    continue  # nobody listens there now
                with contextlib.suppress(OSError):  # the sender has left
                    await sock.sendto(data, sender)
            if silence.cancelled_caught:
                return
    finally:
        forget()
        server.close()
