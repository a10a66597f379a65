"""What every network driver must do, with real traffic; for each driver that can run here."""

from __future__ import annotations

import glob
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import trio

from conftest import need
from jocker_engine.platform.commands import Commands, PlatformError
from jocker_engine.platform.interfaces import (
    Endpoint,
    Misfit,
    Network,
    NetworkDriver,
    NetworkState,
    Publication,
    Subnet,
)
from jocker_engine.platform.linux import veth
from jocker_engine.platform.portable.hostnet import HostNetwork
from traffic import ask, ip, outside, serving

A, B = "aa" * 32, "bb" * 32
"""Containers."""


class World:
    """A driver, and what has been made with it."""

    def __init__(self, driver: NetworkDriver, root: str, number: int) -> None:
        self.driver = driver
        self.root = root
        self.number = number
        """So that no two worlds on one machine share addresses."""
        self.states: dict[str, NetworkState] = {}
        self.places: dict[str, str] = {}

    def network(self, last: int, **changes: object) -> Network:
        id = f"{self.number:02x}{last:02x}" * 16
        network = Network(
            id=id,
            kind="bridge",
            interface=self.driver.interface(id),
            subnets=(
                Subnet(f"10.209.{self.number}.{last * 32}/27", f"10.209.{self.number}.{last * 32 + 1}"),
                Subnet(
                    f"fd09:209:{self.number:x}:{last + 1}::/64", f"fd09:209:{self.number:x}:{last + 1}::1"
                ),
            ),
        )
        return replace(network, **changes)  # type: ignore[arg-type]

    async def create(self, network: Network) -> Network:
        await self.driver.create(network)
        self.states[network.id] = NetworkState(network)
        return network

    async def attach(self, container: str, network: Network, host: int, interface: str = "eth0") -> str:
        """Its place."""
        state = self.states[network.id]
        endpoint = self.endpoint(container, network, host, interface)
        self.places[container] = await self.driver.attach(endpoint)
        self.states[network.id] = replace(state, endpoints=(*state.endpoints, endpoint))
        await self.driver.ready(container)
        return self.places[container]

    def endpoint(self, container: str, network: Network, host: int, interface: str = "eth0") -> Endpoint:
        v4, v6 = network.subnets
        base, _, last = v4.subnet.partition("/")[0].rpartition(".")
        return Endpoint(
            container=container,
            network=network,
            interface=interface,
            addresses=(f"{base}.{int(last) + host}/27", f"{v6.subnet.removesuffix('/64')}{host:x}/64"),
            mac=f"02:42:0a:d1:{self.number:02x}:{int(last) + host:02x}",
            gateways=(v4.gateway, v6.gateway) if interface == "eth0" and not network.internal else (),
        )

    async def publish(self, network: Network, *publications: Publication) -> None:
        await self.driver.publish(network, publications)
        self.states[network.id] = replace(self.states[network.id], publications=publications)

    async def audit(self) -> list[Misfit]:
        return await self.driver.audit(list(self.states.values()))

    def address(self, network: Network, host: int, family: int = 4) -> str:
        endpoint = self.endpoint("", network, host)
        return endpoint.addresses[0 if family == 4 else 1].partition("/")[0]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    commands = Commands()
    reason = await veth.why_not(commands)
    need(not reason, reason)
    root = tempfile.mkdtemp(prefix="jk-", dir="/tmp")
    driver = veth.VethNetwork(root, commands)
    made = World(driver, root, os.getpid() % 250)
    yield made
    for container in made.places:
        await driver.release(container)
    for state in made.states.values():
        await driver.destroy(state.network)
    with trio.fail_after(10):  # the kernel takes interfaces away with their namespace, a little later
        while await driver.audit([]):
            await trio.sleep(0.05)
    assert not glob.glob(f"/sys/class/net/{driver._prefix}*") and not glob.glob(
        f"/run/netns/{driver._prefix}*"
    )
    shutil.rmtree(root)


async def test_containers_reach_each_other_and_the_host(world: World) -> None:
    network = await world.create(world.network(0))
    await world.create(network)  # once more is no error
    a, b = await world.attach(A, network, 2), await world.attach(B, network, 3)
    for family, anywhere in ((4, "0.0.0.0"), (6, "::")):
        to, mine = world.address(network, 3, family), world.address(network, 2, family)
        for kind in ("tcp", "udp"):
            with serving(b, kind, anywhere, 5000):
                assert ask(a, kind, to, 5000) == f"{mine} hello"
                assert ask("", kind, to, 5000) == f"{world.address(network, 1, family)} hello"
        with serving("", "tcp", world.address(network, 1, family), 5999):
            assert ask(a, "tcp", world.address(network, 1, family), 5999) == f"{mine} hello"
    assert await world.audit() == []


async def test_the_way_out_is_translated_or_not(world: World) -> None:
    open_, shut, plain = (
        await world.create(world.network(0)),
        await world.create(world.network(1, internal=True)),
        await world.create(world.network(2, nat="off")),
    )
    a, b = await world.attach(A, open_, 2), await world.attach(B, shut, 2)
    with outside() as there, serving(there, "tcp", "0.0.0.0", 5000):
        assert ask(a, "tcp", "198.18.7.2", 5000) == "198.18.7.1 hello"
        assert ask(b, "tcp", "198.18.7.2", 5000, 0.4).startswith("failed")
        c = await world.attach("cc" * 32, plain, 2)
        assert ask(c, "tcp", "198.18.7.2", 5000, 0.4).startswith("failed")  # nobody knows the way back
        with serving(there, "tcp", "::", 5001):
            assert ask(a, "tcp", "fd07:18::2", 5001) == "fd07:18::1 hello"
    world.places["cc" * 32] = c


async def test_networks_are_isolated_from_each_other_and_from_outside(world: World) -> None:
    one, two = await world.create(world.network(0)), await world.create(world.network(1))
    a, b = await world.attach(A, one, 2), await world.attach(B, two, 2)
    with outside() as there:
        for family, anywhere in ((4, "0.0.0.0"), (6, "::")):
            with serving(b, "tcp", anywhere, 5000):
                to = world.address(two, 2, family)
                assert ask("", "tcp", to, 5000).endswith("hello")
                assert ask(a, "tcp", to, 5000, 0.4).startswith("failed")
                ip("-n", os.path.basename(there), "route", "add", "default", "via",
                   "198.18.7.1" if family == 4 else "fd07:18::1")  # fmt: skip
                assert ask(there, "tcp", to, 5000, 0.4).startswith("failed")


async def test_published_ports(world: World) -> None:
    one, two = await world.create(world.network(0)), await world.create(world.network(1))
    a, b, c = (
        await world.attach(A, one, 2),
        await world.attach(B, one, 3),
        await world.attach("cc" * 32, two, 2),
    )
    world.places["cc" * 32] = c
    port = 20000 + world.number
    ports = [
        Publication(protocol, host, port, world.address(one, 2, family), 80)
        for protocol in ("tcp", "udp")
        for host, family in (("0.0.0.0", 4), ("::", 6))
    ]
    await world.publish(one, *ports, Publication("tcp", "127.0.0.1", port + 1, world.address(one, 2), 80))
    with outside() as there:
        for kind in ("tcp", "udp"):
            with serving(a, kind, "0.0.0.0", 80):
                assert ask("", kind, "127.0.0.1", port) == f"{world.address(one, 1)} hello"
                assert ask("", kind, "198.18.7.1", port) == "198.18.7.1 hello"
                assert ask(there, kind, "198.18.7.1", port) == "198.18.7.2 hello"
                for who in (a, b, c):  # itself, its neighbour, a container on another network
                    assert ask(who, kind, "198.18.7.1", port).endswith("hello"), who
            with serving(a, kind, "::", 80):
                assert ask(there, kind, "fd07:18::1", port) == "fd07:18::2 hello"
                assert ask("", kind, "fd07:18::1", port) == "fd07:18::1 hello"
        with serving(a, "tcp", "0.0.0.0", 80):
            assert ask("", "tcp", "127.0.0.1", port + 1).endswith("hello")
            assert ask(there, "tcp", "198.18.7.1", port + 1, 0.4).startswith("failed")
        # What comes from a container and claims to be for 127.0.0.1 of the host stays out.
        await world.publish(one)
        with serving(a, "tcp", "0.0.0.0", 80):
            assert ask("", "tcp", "127.0.0.1", port, 0.4).startswith("failed")
    assert await world.audit() == []


async def test_on_several_networks(world: World) -> None:
    one, two = await world.create(world.network(0)), await world.create(world.network(1))
    a = await world.attach(A, one, 2)
    b = await world.attach(B, two, 3)
    assert await world.attach(A, two, 2, "eth1") == a
    with serving(a, "tcp", "0.0.0.0", 5000):
        assert ask(b, "tcp", world.address(two, 2), 5000).endswith("hello")
        with outside() as there, serving(there, "tcp", "0.0.0.0", 5001), serving(there, "tcp", "::", 5002):
            gateways = tuple(each.gateway for each in two.subnets)
            await world.driver.detach(world.endpoint(A, one, 2))
            await world.driver.route(replace(world.endpoint(A, two, 2, "eth1"), gateways=gateways))
            assert ask(a, "tcp", "198.18.7.2", 5001).endswith("hello")
            assert ask(a, "tcp", "fd07:18::2", 5002).endswith("hello")
        await world.attach(A, one, 2)
        await world.driver.detach(world.endpoint(A, two, 2, "eth1"))
        await world.driver.detach(world.endpoint(A, two, 2, "eth1"))
        assert ask(b, "tcp", world.address(two, 2), 5000, 0.4).startswith("failed")
        assert ask("", "tcp", world.address(one, 2), 5000).endswith("hello")


async def test_what_is_lost_and_what_is_left_is_found_and_mended(world: World) -> None:
    network = await world.create(world.network(0))
    a = await world.attach(A, network, 2)
    await world.publish(
        network, Publication("tcp", "0.0.0.0", 21000 + world.number, world.address(network, 2), 80)
    )
    commands, driver = Commands(), world.driver
    assert isinstance(driver, veth.VethNetwork)

    async def mend(*parts: str) -> None:
        found = await world.audit()
        assert sorted({each.part for each in found}) == sorted(parts), found
        for each in found:
            assert each.mend is not None
            await each.mend()
        assert await world.audit() == []
        with serving(a, "tcp", "0.0.0.0", 80):
            assert ask("", "tcp", "127.0.0.1", 21000 + world.number).endswith("hello")

    await commands.run(["nft", "delete", "table", "inet", driver._firewall.table])
    await mend("firewall")
    await commands.run(["nft", "flush", "chain", "inet", driver._firewall.table, f"n{network.id[:12]}-local"])
    await mend("firewall")
    await commands.run(["ip", "link", "del", network.interface])
    await mend("interface")
    await commands.run(["ip", "link", "del", driver._outer(world.endpoint(A, network, 2))])
    await mend("interface")
    await commands.run(["ip", "netns", "add", f"{driver._prefix}-strange"])
    await commands.run(["ip", "link", "add", f"{driver._prefix}bffff", "type", "bridge"])
    await mend("interface", "namespace")


async def test_another_interface_of_that_name_is_left_alone(world: World) -> None:
    network = world.network(0, interface=f"jt{os.getpid()}")
    commands = Commands()
    await commands.run(["ip", "link", "add", network.interface, "type", "bridge"])
    try:
        with pytest.raises(PlatformError, match="is there already"):
            await world.driver.create(network)
        await world.driver.destroy(network)
        assert os.path.exists(f"/sys/class/net/{network.interface}")
    finally:
        await commands.run(["ip", "link", "del", network.interface])


async def test_the_hosts_own_rules_stay(world: World) -> None:
    commands, table = Commands(), f"jt{os.getpid()}"
    await commands.run(["nft", "add", "table", "inet", table])
    try:
        before = (await commands.run(["nft", "list", "table", "inet", table])).stdout
        network = await world.create(world.network(0))
        await world.driver.destroy(network)
        assert (await commands.run(["nft", "list", "table", "inet", table])).stdout == before
    finally:
        await commands.run(["nft", "delete", "table", "inet", table])


async def test_the_host_driver_refuses_in_one_line() -> None:
    driver = HostNetwork()
    with pytest.raises(PlatformError, match="use --network host or none"):
        await driver.create(Network(id=A, kind="bridge", interface="", subnets=()))
    assert await driver.audit([]) == [] and driver.kinds == ()
