"""The actor of a network: its published ports are sockets of the engine."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from jocker_engine.db.records import Lease, NetworkRecord, PublishedRecord
from jocker_engine.networks.messages import Publish
from jocker_engine.networks.network import Network
from jocker_engine.otp import ChildSpec, Supervisor, System
from jocker_engine.platform.interfaces import Publication
from jocker_protocol.errors import Conflict
from jocker_protocol.types import Subnet

LIMIT = 20
NET, BOX = "ab" * 32, "cd" * 32


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class Driver:
    """Loads nothing."""

    def __init__(self) -> None:
        self.published: list[Sequence[Publication]] = []

    async def publish(self, network: Any, publications: Sequence[Publication]) -> None:
        self.published.append(publications)


class Networks:
    """The database: one container, which runs."""

    def __init__(self, ports: list[PublishedRecord]) -> None:
        self.ports = ports

    async def leases(self, **_: str) -> list[Lease]:
        return [Lease(container=BOX, network=NET, ip="127.0.0.1")]

    async def published(self) -> list[PublishedRecord]:
        return self.ports


def record(host: int, inside: int) -> PublishedRecord:
    return PublishedRecord(
        container=BOX, network=NET, protocol="tcp", host_ip="127.0.0.1", host_port=host, container_port=inside
    )


async def greeting(port: int) -> bytes:
    with trio.fail_after(LIMIT):
        while True:
            try:
                async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                    return bytes(await stream.receive_some())
            except OSError:
                await trio.sleep(0.01)


async def test_published_ports_are_served() -> None:
    """When they are published, after a crash of the actor, and no longer than they are published."""

    async def hello(stream: trio.SocketStream) -> None:
        await stream.send_all(b"hello")
        await stream.aclose()

    network = NetworkRecord(
        id=NET,
        name="n",
        kind="bridge",
        interface="jkb0",
        subnets=[Subnet(subnet="127.0.0.0/8", gateway="127.0.0.254")],
        created_at="",
        internal=False,
        nat="",
        labels={},
    )
    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, hello, [listener])
            inside = listener.socket.getsockname()[1]
            first, second = free_port(), free_port()
            driver, store = Driver(), Networks([record(first, inside)])
            house: Any = SimpleNamespace(
                drivers=SimpleNamespace(network=driver), store=SimpleNamespace(networks=store)
            )
            system = System()
            root = Supervisor("root", [ChildSpec("network", lambda: Network(house, network))])
            nursery.start_soon(system.run, root)
            assert await greeting(first) == b"hello"
            store.ports = [record(second, inside)]
            await system.ref("network").call(Publish(BOX, store.ports))
            assert await greeting(second) == b"hello"
            assert [each.host_port for each in driver.published[-1]] == [second]
            with socket.socket() as again:
                again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                again.bind(("127.0.0.1", first))  # shut
                again.listen()
                with pytest.raises(
                    Conflict, match=f"port {first}/tcp of 127.0.0.1 cannot be had: Address already"
                ):
                    await system.ref("network").call(Publish(BOX, [record(first, inside)]))
            await system.ref("network").call(Publish(BOX, store.ports))  # that has hurt nobody
            assert await greeting(second) == b"hello"
            system.shutdown()
            nursery.cancel_scope.cancel()
