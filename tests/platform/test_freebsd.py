"""FreeBSD's own: for real on a FreeBSD, as root; elsewhere what transcripts know. Beside test_runtime and test_storage."""

# ruff: noqa: ASYNC221  (a test may block)

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import sweep
import trio
from containers import KILLED, LIMIT, PATH, Containers, open_containers

from jocker_engine.platform.commands import Commands, PlatformError
from jocker_engine.platform.forwarder import Forwarder
from jocker_engine.platform.freebsd import devfs, ifconfig, jails, pf, rctl
from jocker_engine.platform.freebsd.jail import PARAMETERS
from jocker_engine.platform.freebsd.networks import FreeBsdNetworks
from jocker_engine.platform.freebsd.params import kernel_parameters
from jocker_engine.platform.freebsd.probe import sysctl, why_no_jails, why_no_vnet
from jocker_engine.platform.interfaces import (
    Endpoint,
    Isolation,
    Network,
    NetworkState,
    Process,
    Publication,
    Subnet,
)
from jocker_engine.platform.transcripts import NotVerified
from jocker_protocol.limits import Limits, Security

FREEBSD = sys.platform.startswith("freebsd")
real = pytest.mark.skipif(
    not FREEBSD or os.geteuid() != 0, reason="not verified: it takes processes of a FreeBSD, and root"
)


def verified(condition: object, why: str) -> None:
    """What this machine cannot show is said at the end."""
    if not condition:
        raise NotVerified((why,))


# --- what commands print: replayed elsewhere ---


async def test_jail_parameters(freebsd: Commands) -> None:
    kernel = kernel_parameters((await freebsd.run(PARAMETERS)).stdout)
    assert {
        "path",
        "persist",
        "devfs_ruleset",
        "enforce_statfs",
        "host.hostname",
        "ip4.addr",
        "vnet",
    } <= kernel


async def test_listing_of_jails(freebsd: Commands) -> None:
    """Every line is understood."""
    text = (await freebsd.run(jails.LISTING)).stdout
    assert len(jails.parse_listing(text)) == len(text.splitlines())


async def test_rulesets_of_devices(freebsd: Commands) -> None:
    assert devfs.JAIL in devfs.parse_sets((await freebsd.run(devfs.SHOWSETS)).stdout)
    assert devfs.hides((await freebsd.run(devfs.show(devfs.JAIL))).stdout)


async def test_anchors_of_the_packet_filter(freebsd: Commands) -> None:
    text = (await freebsd.run(pf.LIST, check=False)).stdout
    assert all("/" in name or name.isprintable() for name in pf.parse_anchors(text))
    assert len(pf.parse_anchors(text)) == len(text.splitlines())


async def test_accounts_of_a_jail_that_is_not_there(freebsd: Commands) -> None:
    done = await freebsd.run(rctl.usage("nosuch"), check=False)
    assert {"memoryuse", "maxproc", "cputime", "nthr"} <= rctl.parse_usage(done.stdout).keys()


async def test_interfaces_of_the_host(freebsd: Commands) -> None:
    found = ifconfig.parse((await freebsd.run(ifconfig.ALL)).stdout)
    assert "127.0.0.1/8" in found["lo0"].addresses and "LOOPBACK" in found["lo0"].flags


async def test_pf_takes_the_rules(freebsd: Commands) -> None:
    """Every kind of rule that networks have, parsed by pfctl, not loaded."""
    outer = {"lo0": frozenset({"inet", "inet6"})}
    subnets = (Subnet("10.213.7.0/24", "10.213.7.1"), Subnet("fd00:7::/64", "fd00:7::1"))
    for kind, internal in (("bridge", False), ("bridge", True), ("loopback", False)):
        network = Network("ab" * 32, kind, "jkb0", subnets, internal=internal)
        publications = [
            Publication(protocol, host, 8080, inside, 80)
            for protocol in ("tcp", "udp")
            for host, inside in (("0.0.0.0", "10.213.7.2"), ("127.0.0.1", "10.213.7.2"), ("::", "fd00:7::2"))
        ]
        for published in ([], publications):
            text = pf.rules(network, published, outer)
            done = await freebsd.run(pf.check("jocker/conformance"), input=text.encode(), check=False)
            verified("No such file" not in done.stderr, "there is no /dev/pf; kldload pf")
            assert done.exit_code == 0, (done.stderr, text)


async def test_what_this_machine_can_do(freebsd: Commands) -> None:
    if FREEBSD:
        assert await why_no_jails(freebsd) == ("", "")
        verified(await why_no_vnet(freebsd) == ("", ""), "networks of their own: no VIMAGE")
    else:
        await sysctl(freebsd, "kern.features.vimage")


# --- jails, with processes ---


@pytest.fixture
async def made(where: str, commands: Commands) -> AsyncIterator[Containers]:
    async with open_containers("jail", where, commands) as containers:
        yield containers


def sh(script: str) -> Process:
    return Process(("sh", "-c", script), (PATH,))


def commands_of(containers: Containers) -> Commands:
    found: Commands = containers.runtime._commands  # type: ignore[attr-defined]
    return found


@real
async def test_a_jail_and_what_it_is_told(made: Containers) -> None:
    """Hooks in their order, a parameter of the kernel, host name, no devices but its ruleset's."""
    trace = made.directory / "trace"
    isolation = replace(
        made.isolation(),
        jail_params=(
            *(
                f"exec.{when}=echo {when} >> {trace}"
                for when in ("prestart", "created", "poststart", "prestop", "poststop")
            ),
            "exec.start=echo start; hostname",
            "allow.raw_sockets",
            "children.max=3",
        ),
    )
    made.made[isolation.id] = isolation
    words = (await made.shell("hostname; ls /dev; sysctl -n security.jail.jailed", isolation)).split()
    assert (words[0], words[-1]) == ("inside", "1")
    assert "null" in words and not {"mem", "kmem", "pf", "ada0", "da0"} & set(words)
    shown = subprocess.run(["jls", "-n", "children.max", "allow.raw_sockets"], capture_output=True, text=True)
    assert "children.max=3" in shown.stdout
    await made.runtime.destroy(isolation)
    assert trace.read_text().split() == ["prestart", "created", "poststart", "prestop", "poststop"]
    assert "start\ninside\n" in (Path(isolation.directory) / "console.log").read_text()


@real
async def test_a_whole_userland(made: Containers) -> None:
    """/etc/rc ends, its daemons go on; it is stopped by rc.shutdown; the exit code is its own."""
    isolation = made.isolation()
    etc = Path(isolation.rootfs) / "etc"
    (etc / "rc").write_text("PATH=/bin; setsid sleep 1000; echo booted; exit 3\n")
    (etc / "rc.shutdown").write_text("PATH=/bin; echo down > /tmp/down; kill -TERM -1\n")
    pid = await made.start(isolation, Process(("/bin/sh", "/etc/rc"), (PATH,)))
    await made.until(isolation.id, "booted")
    with trio.fail_after(LIMIT):
        while pid in await made.runtime.processes(isolation.id, pid):
            await trio.sleep(0.05)
        assert len(await made.runtime.processes(isolation.id, pid)) == 1
        assert (await made.run(isolation, sh("echo still"), exec_key="e" * 12))[1] == "still\n"
        await made.runtime.stop(isolation.id, pid, signal.SIGTERM)
        assert await made.wait(isolation.id) == 3
    assert (Path(isolation.rootfs) / "tmp" / "down").read_text() == "down\n"


@real
async def test_who_ignores_the_stop(made: Containers) -> None:
    isolation = made.isolation()
    pid = await made.start(isolation, sh("trap '' TERM; echo ready; while :; do sleep 1; done"))
    await made.until(isolation.id, "ready")
    await made.runtime.stop(isolation.id, pid, signal.SIGTERM)
    with trio.move_on_after(1):
        await made._links[isolation.id].wait()
        raise AssertionError("it has ended")
    await made.runtime.kill_all(isolation.id, pid)
    assert await made.wait(isolation.id) == KILLED
    await made.runtime.destroy(isolation)
    assert sweep.leftovers(str(made.directory)) == []


@real
async def test_paused(made: Containers) -> None:
    isolation = made.isolation()
    await made.start(isolation, sh("while :; do echo tick; sleep 0.1; done"))
    await made.until(isolation.id, "tick")
    await made.runtime.pause(isolation.id)
    assert await made.runtime.is_paused(isolation.id)
    await trio.sleep(0.5)
    before = made.output(isolation.id)
    await trio.sleep(0.5)
    assert made.output(isolation.id) == before
    await made.runtime.resume(isolation.id)
    assert not await made.runtime.is_paused(isolation.id)
    with trio.fail_after(LIMIT):
        while made.output(isolation.id) == before:
            await trio.sleep(0.1)


@real
async def test_limits(made: Containers) -> None:
    verified(
        await sysctl(commands_of(made), "kern.racct.enable") == "1", f"limits: {rctl.LOADER_LINE} is not set"
    )
    isolation = replace(made.isolation(), limits=Limits(pids=8, memory=64 << 20, memory_swap=256 << 20))
    made.made[isolation.id] = isolation
    script = "i=0; while [ $i -lt 20 ]; do sleep 3 & i=$((i+1)); done; echo all"
    code, output = await made.run(isolation, sh(script))
    assert code != 0 and "Cannot fork" in output
    code, output = await made.run(isolation, sh("dd if=/dev/zero of=/dev/null bs=300m count=1"))
    assert code != 0 and "Cannot allocate memory" in output  # memory_swap
    await made.start(isolation, sh("echo ready; sleep 100"))
    await made.until(isolation.id, "ready")
    usage = await made.runtime.usage(isolation.id, 0)
    assert usage.memory > 0 and usage.processes >= 1
    assert (usage.memory_limit, usage.processes_limit) == (64 << 20, 8)
    await made.runtime.update(replace(isolation, limits=Limits(pids=9)))
    assert (await made.runtime.usage(isolation.id, 0)).processes_limit == 9
    await made.runtime.destroy(isolation)
    assert isolation.id[:12] not in subprocess.run(["rctl"], capture_output=True, text=True).stdout


@real
async def test_a_processor_of_its_own(made: Containers) -> None:
    isolation = replace(made.isolation(), limits=Limits(cpuset_cpus="0"))
    made.made[isolation.id] = isolation
    await made.start(isolation, sh("echo ready; sleep 100"))
    name = next(iter(await made.runtime._jails()))  # type: ignore[attr-defined]
    shown = subprocess.run(["cpuset", "-g", "-j", name], capture_output=True, text=True)
    assert "mask: 0\n" in shown.stdout


@real
async def test_a_root_that_is_read_only(made: Containers) -> None:
    isolation = replace(made.isolation(), security=Security(read_only=True))
    made.made[isolation.id] = isolation
    output = await made.shell("if echo x 2>&1 > /x; then echo WRITTEN; fi; echo y > /dev/null", isolation)
    assert "Read-only file system" in output and "WRITTEN" not in output


@real
async def test_a_parameter_that_is_not_there(made: Containers) -> None:
    with pytest.raises(PlatformError, match="did you mean"):
        await made.runtime.check_jail_params(("allow.raw_socket",))
    isolation = replace(made.isolation(), jail_params=("exec.prestart=/usr/bin/false",))
    made.made[isolation.id] = isolation
    with pytest.raises(PlatformError, match="failed"):
        await made.start(isolation, sh("true"))
    await made.runtime.destroy(isolation)
    assert sweep.leftovers(str(made.directory)) == []


# --- networks, with traffic ---

SERVE = "while :; do echo hello | nc -N -l 80 > /dev/null; done"


class Net:
    """A network, and containers on it."""

    def __init__(self, containers: Containers, kind: str) -> None:
        self.containers = containers
        self.driver = FreeBsdNetworks("vnet", str(containers.directory), commands_of(containers))
        id = os.urandom(32).hex()
        number = os.getpid() % 250
        self.network = Network(
            id=id,
            kind=kind,
            interface=self.driver.interface(id),
            subnets=(Subnet(f"10.209.{number}.0/24", f"10.209.{number}.1"),)
            + ((Subnet(f"fd09:209:{number:x}::/64", f"fd09:209:{number:x}::1"),) if kind == "bridge" else ()),
        )

    def address(self, last: int) -> str:
        return self.network.subnets[0].gateway[:-1] + str(last)

    def endpoint(self, container: str, last: int) -> Endpoint:
        six = tuple(each.subnet.removesuffix("/64") + f"{last:x}/64" for each in self.network.subnets[1:])
        return Endpoint(
            container=container,
            network=self.network,
            interface="eth0",
            addresses=(f"{self.address(last)}/24", *six),
            mac=f"02:42:0a:d1:00:{last:02x}",
            gateways=tuple(each.gateway for each in self.network.subnets),
        )

    async def start(self, last: int, script: str) -> Isolation:
        isolation = self.containers.isolation()
        place = await self.driver.attach(self.endpoint(isolation.id, last))
        isolation = replace(isolation, network=place)
        self.containers.made[isolation.id] = isolation
        await self.containers.start(isolation, sh(script))
        await self.driver.ready(isolation.id)
        return isolation


@asynccontextmanager
async def on(containers: Containers, kind: str) -> AsyncIterator[Net]:
    net = Net(containers, kind)
    await net.driver.create(net.network)
    try:
        yield net
    finally:
        for container in list(containers.made):
            await containers.runtime.kill_all(container, 0)
            await containers.runtime.destroy(containers.made[container])
            await net.driver.release(container)
        await net.driver.destroy(net.network)
    assert [name for name in sweep.leftovers(str(containers.directory)) if "interface" in name] == []


async def ask(address: str, port: int) -> str:
    """What a server says; tried until it is up."""
    with trio.fail_after(LIMIT):
        while True:
            try:
                with trio.fail_after(5):
                    async with await trio.open_tcp_stream(address, port) as stream:
                        said = b""
                        while piece := await stream.receive_some():
                            said += piece
                        if said:
                            return said.decode()
            except (OSError, trio.TooSlowError):
                pass
            await trio.sleep(0.2)


@real
async def test_a_network_of_their_own(made: Containers) -> None:
    """Complete when the first process starts: addresses, none tentative, routes; reached from the host and each other."""
    verified((await why_no_vnet(commands_of(made)))[0] == "", "networks of their own: no VIMAGE")
    async with on(made, "bridge") as net:
        server = await net.start(2, f"ifconfig -a; {SERVE}")
        await made.until(server.id, net.address(2))
        output = made.output(server.id)
        assert "tentative" not in output and "02:42:0a:d1:00:02" in output and "127.0.0.1" in output
        assert await ask(net.address(2), 80) == "hello\n"
        client = await net.start(
            3, f"sleep 1; nc -N -w 5 {net.address(2)} 80 < /dev/null; echo rc=$?; sleep 100"
        )
        await made.until(client.id, "rc=")
        assert "hello" in made.output(client.id)
        assert (await made.runtime.usage(client.id, 0)).received > 0
        state = NetworkState(net.network, (net.endpoint(server.id, 2), net.endpoint(client.id, 3)))
        assert [each for each in await net.driver.audit([state]) if each.part != "firewall"] == []


@real
async def test_attached_while_it_runs(made: Containers) -> None:
    verified((await why_no_vnet(commands_of(made)))[0] == "", "networks of their own: no VIMAGE")
    async with on(made, "bridge") as net:
        isolation = replace(made.isolation(), network="none")
        made.made[isolation.id] = isolation
        await made.start(isolation, sh(f"ifconfig lo0; {SERVE}"))
        await made.until(isolation.id, "127.0.0.1")
        await net.driver.attach(net.endpoint(isolation.id, 4))
        await net.driver.ready(isolation.id)
        assert await ask(net.address(4), 80) == "hello\n"
        await net.driver.detach(net.endpoint(isolation.id, 4))


@real
async def test_addresses_on_a_loopback(made: Containers) -> None:
    """The seed's way."""
    async with on(made, "loopback") as net:
        await net.start(2, SERVE)
        assert await ask(net.address(2), 80) == "hello\n"


@pytest.fixture
def packet_filter() -> Iterator[None]:
    """pf on, with the three lines; where it is off and empty it is turned on for the test only."""
    info = subprocess.run(pf.INFO, capture_output=True, text=True)
    verified(info.returncode == 0, "published ports: there is no /dev/pf; kldload pf")
    main = "".join(subprocess.run(each, capture_output=True, text=True).stdout for each in pf.MAIN)
    if pf.why_not(info.stdout, main) == ("", ""):
        yield
        return
    verified(
        not pf.parse_enabled(info.stdout) and not main.strip(),
        "published ports: pf has rules without jocker's anchors; run `jocker-engine setup --apply`",
    )
    text = "".join(line + "\n" for line in pf.LINES) + "pass\n"
    subprocess.run(["pfctl", "-f", "-"], input=text, text=True, check=True, capture_output=True)
    subprocess.run(["pfctl", "-e"], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["pfctl", "-d"], capture_output=True)
        for what in ("nat", "rules"):
            subprocess.run(["pfctl", "-F", what], capture_output=True)


def host_address() -> str:
    """One of this machine's, other than loopback; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))
        except OSError:
            return ""
        name: str = sock.getsockname()[0]
        return "" if name.startswith("127.") else name


@real
async def test_published_ports(made: Containers, packet_filter: None) -> None:
    """From the host by 127.0.0.1, through the forwarder; from another container by the host's address, through pf."""
    verified((await why_no_vnet(commands_of(made)))[0] == "", "networks of their own: no VIMAGE")
    port = 20000 + os.getpid() % 10000
    async with on(made, "bridge") as net, trio.open_nursery() as nursery:
        published = [Publication("tcp", "0.0.0.0", port, net.address(2), 80)]
        await net.start(2, SERVE)
        await net.driver.publish(net.network, published)
        forwarder = Forwarder()
        nursery.start_soon(forwarder.run)
        await forwarder.change(published)
        assert await ask("127.0.0.1", port) == "hello\n"
        state = NetworkState(net.network, (), tuple(published))
        assert [each.subject for each in await net.driver.audit([state]) if each.part == "firewall"] == []
        nursery.cancel_scope.cancel()
        verified(address := host_address(), "published ports by the host's address: it has none")
        client = await net.start(3, f"nc -N -w 5 {address} {port} < /dev/null; echo rc=$?; sleep 100")
        await made.until(client.id, "rc=")
        assert "hello" in made.output(client.id)
