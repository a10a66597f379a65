"""Networks of a FreeBSD: what ifconfig and pfctl print, the rules of an anchor, and a driver on a stand-in."""

from __future__ import annotations

from pathlib import Path

import pytest
from machine import Machine
from real import said

from jocker_engine.platform.commands import PlatformError
from jocker_engine.platform.freebsd import ifconfig, netjoin, netstat, pf
from jocker_engine.platform.freebsd.networks import FreeBsdNetworks
from jocker_engine.platform.freebsd.params import Param
from jocker_engine.platform.interfaces import Endpoint, Misfit, Network, NetworkState, Publication, Subnet

A, B = "aa" * 32, "bb" * 32
NET = "0123456789ab" + "00" * 26


# --- what commands print ---


def test_interfaces() -> None:
    """As printed after a container's end was added to a bridge, and inside a jail."""
    bridge = ifconfig.parse(said("ifconfig-pf", "ifconfig bridge create name jkb0"))["jkb0"]
    assert (bridge.description, bridge.groups) == ("jocker network n1", ("bridge", "jocker"))
    assert bridge.addresses == ["10.213.7.1/24"] and {"UP", "RUNNING"} <= bridge.flags
    full = ifconfig.parse(said("ifconfig-pf", "ifconfig epair0a name jkh1a2b3c"))["jkb0"]
    assert full.members == ["jkh1a2b3c"] and full.ether == "58:9c:fc:10:e8:f6"
    both = ifconfig.parse(said("ifconfig-pf", "ifconfig epair0a; ifconfig epair0b"))
    assert sorted(both) == ["epair0a", "epair0b"] and both["epair0b"].ether == "58:9c:fc:10:cd:75"
    inside = ifconfig.parse(said("vnet-stop", "ifconfig -j jocker-n-11 jkc11"))["jkc11"]
    assert inside.addresses == ["10.213.7.11/24", "fd00:7::11/64"]
    assert ifconfig.has(inside, "fd00:7:0::11/64") and not ifconfig.has(inside, "10.213.7.11/25")
    loopback = ifconfig.parse(said("ifconfig-pf", "ifconfig lo create name jocker0"))["jocker0"]
    assert loopback.addresses == ["10.13.37.1/32", "10.13.37.2/32"] and "LOOPBACK" in loopback.flags
    dead = ifconfig.parse(said("trace-ifconfig-epair-bridge", "ifconfig -j j1"))["pflog0"]
    assert dead.flags == {""} and dead.groups == ("pflog",)


def test_names() -> None:
    assert ifconfig.other_end(said("ifconfig-pf", "ifconfig epair create").strip()) == "epair0b"
    name = ifconfig.short("jkh", "x", A, NET)
    assert len(name) <= 15 and name == ifconfig.short("jkh", "x", A, NET) != ifconfig.short(
        "jkh", "x", B, NET
    )
    mac = ifconfig.mac("x", A)
    assert mac.startswith("02:") and len(mac) == 17 and mac != ifconfig.mac("x", B)
    assert ifconfig.mac("ab", "c") != ifconfig.mac("a", "bc")


def test_the_packet_filter_printed() -> None:
    assert not pf.parse_enabled(said("ifconfig-pf", "pfctl -s info | head -3"))
    assert pf.parse_enabled("Status: Enabled for 0 days 00:00:01           Debug: Urgent\n")
    main = said("ifconfig-pf", 'printf "nat-anchor')
    assert pf.missing_lines(main) == []
    other = said("trace-pf-nat-rdr", "pfctl -sn")
    assert pf.missing_lines(other) == list(pf.LINES)
    assert pf.parse_anchors(said("trace-pf-anchors", "pfctl -vsA")) == ["xc", "xc/n2", "xc/t1"]
    assert pf.why_not(None, "")[0] == "pf is not there"
    assert pf.why_not("Status: Disabled", "")[0] == "pf is off"
    assert "rdr-anchor" in pf.why_not("Status: Enabled", 'nat-anchor "jocker/*" all\n')[0]
    assert pf.why_not("Status: Enabled", main) == ("", "")


def test_routes_and_listeners() -> None:
    assert netstat.parse_routes(said("trace-ifconfig-epair-bridge", "netstat -j j1 -rn -4")) == [
        ("172.31.0.0/24", "eth0")
    ]
    assert netstat.parse_routes(said("ifconfig-pf", "jexec jocker-c2-3 ifconfig lo0 inet")) == [
        ("10.213.7.0/24", "eth0")
    ]
    assert netstat.parse_holder(said("trace-pf-nat-rdr", "jexec t1 sockstat -4l")) == "nc, pid 952"
    assert netstat.parse_holder("USER COMMAND PID FD PROTO LOCAL ADDRESS FOREIGN ADDRESS\n") == ""


# --- rules ---


def network(**changes: object) -> Network:
    fields: dict[str, object] = {
        "id": NET,
        "kind": "bridge",
        "interface": "jkb0",
        "subnets": (Subnet("10.213.7.0/24", "10.213.7.1"), Subnet("fd00:7::/64", "fd00:7::1")),
    }
    return Network(**(fields | changes))  # type: ignore[arg-type]


OUTER = {"vtnet0": frozenset({"inet"}), "em1": frozenset({"inet", "inet6"})}


def test_rules_of_a_network() -> None:
    """Translation first, as pf wants it."""
    text = pf.rules(network(), [Publication("tcp", "0.0.0.0", 8080, "10.213.7.21", 80)], OUTER)
    assert text.splitlines() == [
        "nat on em1 inet from 10.213.7.0/24 to ! 10.213.7.0/24 -> (em1:0)",
        "nat on vtnet0 inet from 10.213.7.0/24 to ! 10.213.7.0/24 -> (vtnet0:0)",
        "nat on em1 inet6 from fd00:7::/64 to ! fd00:7::/64 -> (em1:0)",
        "nat on jkb0 inet proto tcp from 10.213.7.0/24 to 10.213.7.21 port 80 -> (jkb0)",
        "rdr on { em1, vtnet0, jocker } inet proto tcp from any to { (em1), (vtnet0), (jkb0) } port 8080 "
        "tag jocker -> 10.213.7.21 port 80",
        "block drop in quick on ! jkb0 inet6 from any to fd00:7::/64 ! tagged jocker",
        "pass in on jkb0 inet6 from fd00:7::/64 to any",
        "block drop in quick on ! jkb0 inet from any to 10.213.7.0/24 ! tagged jocker",
        "pass in on jkb0 inet from 10.213.7.0/24 to any",
        "pass in inet proto tcp from any to 10.213.7.21 port 80 tagged jocker",
    ]


def test_rules_of_other_networks() -> None:
    v4 = (Subnet("10.213.7.0/24", "10.213.7.1"),)
    assert "nat on" not in pf.rules(network(nat="off"), [], OUTER)
    assert pf.rules(network(nat="vtnet0", subnets=v4), [], OUTER).count("nat on") == 1
    internal = pf.rules(network(internal=True, subnets=v4), [], OUTER).splitlines()
    assert [line.split()[:4] for line in internal] == [
        ["pass", "in", "quick", "on"],
        ["block", "drop", "in", "quick"],
        ["block", "drop", "out", "quick"],
    ]
    loopback = network(kind="loopback", interface="jocker0", subnets=v4)
    published = [Publication("udp", "192.0.2.1", 53, "10.213.7.5", 5353)]
    assert pf.rules(loopback, published, OUTER).splitlines()[2:] == [
        "rdr on { em1, vtnet0, jocker } inet proto udp from any to 192.0.2.1 port 53 tag jocker -> 10.213.7.5 port 5353",
        "pass in inet proto udp from any to 10.213.7.5 port 5353 tagged jocker",
    ]
    for host, to in (
        ("::", "fd00::1"),
        ("::", "10.213.7.5"),
        ("::1", "fd00:7::5"),
        ("127.0.0.1", "fd00:7::5"),
    ):
        assert "rdr" not in pf.rules(network(subnets=v4), [Publication("tcp", host, 80, to, 80)], OUTER)


# --- the driver ---


class Case:
    """A driver on a stand-in machine with one network."""

    def __init__(self, where: Path) -> None:
        self.machine = Machine()
        self.driver = FreeBsdNetworks("vnet", str(where), self.machine)
        self.network = network(interface=self.driver.interface(NET))

    def endpoint(self, container: str, last: int, **changes: object) -> Endpoint:
        fields: dict[str, object] = {
            "container": container,
            "network": self.network,
            "interface": "eth0",
            "addresses": (f"10.213.7.{last}/24", f"fd00:7::{last}/64"),
            "mac": f"02:42:0a:d5:07:{last:02x}",
            "gateways": ("10.213.7.1", "fd00:7::1"),
        }
        return Endpoint(**(fields | changes))  # type: ignore[arg-type]

    def ours(self) -> set[str]:
        return {name for name in self.machine.interfaces if name not in ("vtnet0", "lo0")}

    async def audit(self, *endpoints: Endpoint, publications: tuple[Publication, ...] = ()) -> list[Misfit]:
        return await self.driver.audit([NetworkState(self.network, endpoints, publications)])


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


async def test_a_network_from_start_to_end(case: Case) -> None:
    machine, bridge = case.machine, case.network.interface
    for _ in range(2):
        await case.driver.create(case.network)
    assert machine.interfaces[bridge]["addresses"] == ["10.213.7.1/24", "fd00:7::1/64"]
    assert machine.sysctls == {"net.inet.ip.forwarding": "1", "net.inet6.ip6.forwarding": "1"}
    (anchor,) = machine.anchors
    assert anchor.startswith("jocker/") and "nat on vtnet0 inet" in machine.anchors[anchor]
    assert await case.audit() == []
    await case.driver.publish(case.network, [Publication("tcp", "0.0.0.0", 8080, "10.213.7.2", 80)])
    assert "port 8080" in machine.anchors[anchor]
    commands = [words[3] for words in machine.of("pfctl", "-a") if words[-1] == "-"]
    assert commands == ["-nf", "-f"] * (len(commands) // 2)  # never loaded without having been parsed
    await case.driver.destroy(case.network)
    await case.driver.destroy(case.network)
    assert case.ours() == set() and machine.anchors == {}
    assert await case.driver.audit([]) == []


async def test_a_container_comes_and_goes(case: Case) -> None:
    machine = case.machine
    await case.driver.create(case.network)
    endpoint = case.endpoint(A, 2)
    join = netjoin.parse(await case.driver.attach(endpoint))
    outer, inner = sorted(case.ours() - {case.network.interface}, reverse=True)
    assert outer.startswith("jkh") and inner.startswith("jkc")
    assert machine.interfaces[case.network.interface]["members"] == [outer]
    assert machine.interfaces[inner]["ether"] == endpoint.mac
    assert str(machine.interfaces[outer]["ether"]).startswith("02:")
    assert netjoin.params(join.to_text(), "jx", frozenset({"vnet"})) == [
        Param("vnet"),
        *(
            Param("exec.created", command)
            for command in (
                "/sbin/ifconfig -j jx lo0 inet 127.0.0.1/8 up",
                f"/sbin/ifconfig {inner} vnet jx",
                f"/sbin/ifconfig -j jx {inner} inet 10.213.7.2/24 up",
                f"/sbin/ifconfig -j jx {inner} inet6 fd00:7::2/64 no_dad up",
                "/sbin/route -j jx add default 10.213.7.1",
                "/sbin/route -j jx add -inet6 default fd00:7::1",
            )
        ),
    ]
    del machine.interfaces[inner]  # jail(8) has moved it
    await case.driver.ready(A)
    assert not any("vnet" in words for words in machine.ran)
    assert await case.audit(endpoint) == []
    machine.stuck = {outer: 2}
    await case.driver.release(A)
    assert case.ours() == {case.network.interface}
    await case.driver.detach(endpoint)


async def test_a_container_that_runs_is_attached(case: Case) -> None:
    await case.driver.create(case.network)
    name = f"jocker-{A[:12]}-000001"
    case.machine.jails[name] = None  # type: ignore[assignment]
    case.machine.jails[name] = type("J", (), {"jid": 7})()  # type: ignore[assignment]
    await case.driver.attach(case.endpoint(A, 2))
    await case.driver.ready(A)
    moved = [words for words in case.machine.ran if "vnet" in words]
    assert [words[2:] for words in moved] == [["vnet", name]]
    assert ["/sbin/route", "-j", name, "add", "default", "10.213.7.1"] in case.machine.ran
    case.machine.ran.clear()
    await case.driver.route(case.endpoint(A, 2))
    assert [words[3:] for words in case.machine.ran if words[0] == "/sbin/route"] == [
        ["delete", "default"],
        ["add", "default", "10.213.7.1"],
        ["delete", "-inet6", "default"],
        ["add", "-inet6", "default", "fd00:7::1"],
    ]


async def test_an_attachment_that_fails_leaves_nothing(case: Case) -> None:
    """The network's bridge is gone: the epair goes too."""
    with pytest.raises(PlatformError, match="does not exist"):
        await case.driver.attach(case.endpoint(A, 2))
    assert case.ours() == set()


async def test_interfaces_of_others(case: Case) -> None:
    case.machine.interfaces["br0"] = {"flags": "UP", "groups": "bridge", "addresses": [], "members": []}
    with pytest.raises(PlatformError, match="interface br0 is there already and is not this network's"):
        await case.driver.create(network(interface="br0"))
    await case.driver.destroy(network(interface="br0"))
    case.machine.interfaces["jkhother"] = {
        "flags": "UP",
        "groups": "epair jocker",
        "addresses": [],
        "descr": "jocker x y",
    }
    await case.driver.release(A)
    assert await case.driver.audit([]) == []
    assert case.ours() == {"br0", "jkhother"}


async def test_addresses_on_a_loopback(case: Case) -> None:
    """The seed's way: containers share the host's stack, each with an address of its own."""
    machine = case.machine
    net = case.network = network(
        kind="loopback", interface="jocker0", subnets=(Subnet("10.13.37.0/24", "10.13.37.1"),)
    )
    await case.driver.create(net)
    assert machine.interfaces["jocker0"]["addresses"] == ["10.13.37.1/32"]
    endpoint = case.endpoint(A, 2, network=net, addresses=("10.13.37.2/24",))
    join = netjoin.parse(await case.driver.attach(endpoint))
    assert (join.vnet, join.ip4, join.ip6, join.commands) == (False, ["10.13.37.2"], [], [])
    assert machine.interfaces["jocker0"]["addresses"] == ["10.13.37.1/32", "10.13.37.2/32"]
    assert await case.audit(endpoint) == []
    await case.driver.ready(A)
    name = f"jocker-{A[:12]}-000001"
    machine.jails[name] = type("J", (), {"jid": 7})()  # type: ignore[assignment]
    machine.addresses[name] = "10.13.37.2"
    more = case.endpoint(A, 3, network=net, addresses=("10.13.37.3/24",))
    await case.driver.attach(more)
    await case.driver.ready(A)
    assert machine.addresses[name] == "10.13.37.2,10.13.37.3"
    await case.driver.detach(more)
    assert machine.addresses[name] == "10.13.37.2"
    await case.driver.attach(case.endpoint(B, 4, network=net, addresses=("10.13.37.4/24",)))
    (stray,) = await case.audit(endpoint)
    assert "no container has its address 10.13.37.4/32" in stray.problem
    await case.driver.release(B)
    assert await case.audit(endpoint) == []
    with pytest.raises(PlatformError, match="cannot be on a loopback network and on others"):
        await case.driver.attach(endpoint)
        await case.driver.attach(case.endpoint(A, 2, network=network()))


async def test_without_the_packet_filter(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    """Networks work; what needs rules says what is missing and what mends it."""
    for info, main, why in (
        ("", "", "pf is not there; run `kldload pf`"),
        ("Status: Disabled for 0 days\n", "", "pf is off; run `sysrc pf_enable=YES"),
        ("Status: Enabled\n", "pass all\n", "lacks nat-anchor"),
    ):
        case.machine.pf_info, case.machine.pf_main = info, main
        await case.driver.create(case.network)
        assert "its containers reach nothing outside" in caplog.text
        with pytest.raises(PlatformError, match="cannot publish ports: ") as caught:
            await case.driver.publish(case.network, [Publication("tcp", "", 80, "10.213.7.2", 80)])
        assert why in caught.value.message
        await case.driver.publish(case.network, [])
        (misfit,) = await case.audit()
        assert misfit.part == "firewall" and misfit.mend is None


async def test_what_is_lost_is_found_and_mended(case: Case) -> None:
    machine, bridge = case.machine, case.network.interface
    await case.driver.create(case.network)
    endpoint = case.endpoint(A, 2)
    await case.driver.attach(endpoint)
    published = (Publication("tcp", "0.0.0.0", 8080, "10.213.7.2", 80),)
    await case.driver.publish(case.network, published)
    (anchor,) = machine.anchors
    outer = next(name for name in case.ours() if name.startswith("jkh"))
    machine.anchors.clear()  # a reload that flushed, or a reboot
    machine.sysctls["net.inet.ip.forwarding"] = "0"
    machine.interfaces[bridge].update(addresses=["fd00:7::1/64"], members=[])
    machine.anchors[anchor[:-1] + "x"] = "pass\n"
    found = await case.audit(endpoint, publications=published)
    assert sorted(each.subject for each in found) == sorted(
        [bridge, outer, anchor, "net.inet.ip.forwarding", anchor[:-1] + "x"]
    )
    for each in found:
        assert each.mend is not None
        await each.mend()
    assert "port 8080" in machine.anchors[anchor]
    assert await case.audit(endpoint, publications=published) == []
    strays = await case.audit()
    assert sorted(each.subject[:3] for each in strays) == ["jkh"]  # the other end goes with it
    for each in strays:
        assert each.mend is not None
        await each.mend()
    del machine.interfaces[bridge]
    (gone,) = await case.audit()
    assert gone.mend is not None
    await gone.mend()
    assert await case.audit() == []


async def test_the_host(case: Case) -> None:
    case.machine.outputs[("netstat", "-rn")] = said("trace-ifconfig-epair-bridge", "netstat -j j1 -rn -4")
    host = await case.driver.host()
    assert host.routes == (("172.31.0.0/24", "eth0"),)
    assert host.addresses["vtnet0"] == ("10.0.2.15",)
    case.machine.outputs[("sockstat", "-l", "-P", "tcp", "-p", "80")] = said(
        "trace-pf-nat-rdr", "jexec t1 sockstat -4l"
    )
    assert await case.driver.holder("tcp", 80) == "nc, pid 952"
