"""Published ports for clients on the host itself: streams, datagrams, ends and refusals, over the loopback."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from jocker_engine.platform.forwarder import Forwarder
from jocker_engine.platform.interfaces import Publication

LIMIT = 20


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@asynccontextmanager
async def forwarding(port: int, protocol: str = "tcp") -> AsyncIterator[int]:
    """The host's port that leads to this one."""
    host = free_port(socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM)
    before = len(os.listdir("/dev/fd"))
    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            forwarder = Forwarder()
            nursery.start_soon(forwarder.run)
            await forwarder.change([Publication(protocol, "127.0.0.1", host, "127.0.0.1", port)])
            yield host
            nursery.cancel_scope.cancel()
    assert len(os.listdir("/dev/fd")) <= before


async def test_a_stream_both_ways() -> None:
    """Much, and each direction ends by itself."""
    data = os.urandom(1 << 20)

    async def echo_reversed(stream: trio.SocketStream) -> None:
        got = b""
        while piece := await stream.receive_some():
            got += piece
        await stream.send_all(got[::-1])
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, echo_reversed, [listener])
        port = listener.socket.getsockname()[1]
        async with forwarding(port) as host:

            async def one() -> None:
                stream = await trio.open_tcp_stream("127.0.0.1", host)
                await stream.send_all(data)
                await stream.send_eof()
                got = b""
                while piece := await stream.receive_some():
                    got += piece
                assert got == data[::-1]
                await stream.aclose()

            async with trio.open_nursery() as clients:
                for _ in range(3):
                    clients.start_soon(one)
        nursery.cancel_scope.cancel()


async def test_nobody_listens() -> None:
    """The client's connection ends, and the next one is served all the same."""
    async with forwarding(free_port()) as host:
        for _ in range(2):
            stream = await trio.open_tcp_stream("127.0.0.1", host)
            assert await stream.receive_some() == b""
            await stream.aclose()


async def test_datagrams() -> None:
    """Each sender gets its own answers."""
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as server:
        await server.bind(("127.0.0.1", 0))

        async def answer() -> None:
            while True:
                data, sender = await server.recvfrom(2048)
                await server.sendto(data.upper(), sender)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer)
            async with forwarding(server.getsockname()[1], "udp") as host:
                for word in (b"one", b"two"):
                    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as client:
                        await client.connect(("127.0.0.1", host))
                        for _ in range(2):
                            await client.send(word)
                            assert await client.recv(2048) == word.upper()
            nursery.cancel_scope.cancel()


async def test_a_port_that_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        async with trio.open_nursery() as nursery:
            forwarder = Forwarder()
            nursery.start_soon(forwarder.run)
            wanted = [Publication("tcp", "127.0.0.1", each, "127.0.0.1", 1) for each in (port, free_port())]
            assert await forwarder.change(wanted) == {wanted[0]: "Address already in use"}
            with socket.socket() as another, pytest.raises(OSError):
                another.bind(("127.0.0.1", wanted[1].host_port))  # it is held
            taken.close()
            assert await forwarder.change(wanted) == {}
            nursery.cancel_scope.cancel()


async def test_changes() -> None:
    """What stays goes on with its connections; what goes is shut at once, and its port can be had again."""

    async def echo(stream: trio.SocketStream) -> None:
        async for data in stream:
            await stream.send_all(data)

    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, echo, [listener])
            one, two = (
                Publication("tcp", "127.0.0.1", free_port(), "127.0.0.1", listener.socket.getsockname()[1])
                for _ in range(2)
            )
            forwarder = Forwarder()
            nursery.start_soon(forwarder.run)
            await forwarder.change([one])
            stream = await trio.open_tcp_stream("127.0.0.1", one.host_port)
            for publications in ([one, two], [one], [one, two], [one]):
                await forwarder.change(publications)
                await stream.send_all(b"x")
                assert await stream.receive_some() == b"x"
            with pytest.raises(OSError):
                await trio.open_tcp_stream("127.0.0.1", two.host_port)
            await forwarder.change([])
            assert await stream.receive_some() == b""
            await stream.aclose()
            nursery.cancel_scope.cancel()
