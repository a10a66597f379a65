"""Networks, published ports and names, with real traffic: on a real engine, in namespaces, on loopback."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from conftest import need, why_not
from engines import Engine
from traffic import ask, enter, outside, serving

SLEEP = ("base", "sleep", "1000")


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """With the Linux drivers; each test takes away what it made."""
    reason = why_not("linux")
    need(not reason, reason)
    made = Engine("linux").start()
    made.base()
    yield made
    made.close()


@pytest.fixture
def clean(engine: Engine) -> Iterator[Engine]:
    yield engine
    ids = engine.jocker("ps", "-aq").stdout.split()
    if ids:
        engine.jocker("rm", "-f", *ids)
    engine.jocker("network", "prune", "-f")
    assert check(engine) == []


def check(engine: Engine, *, repair: bool = False) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = engine.rpc("system.check", repair=repair)["differences"]
    return found


def run(engine: Engine, name: str, *options: str) -> str:
    """A container that sleeps; its namespace."""
    engine.jocker("run", "-d", "--name", name, "--stop-timeout", "0", *options, *SLEEP)
    return place(engine, name)


def place(engine: Engine, name: str) -> str:
    return f"/proc/{engine.rpc('container.inspect', container=name)['state']['pid']}/ns/net"


def addresses(engine: Engine, name: str, network: str = "default") -> tuple[str, str]:
    endpoints = engine.rpc("container.inspect", container=name)["networks"]
    return next((each["ip"], each["ip6"]) for each in endpoints if each["network"] == network)


def refused(engine: Engine, *words: str) -> str:
    """What it says, in one line."""
    done = engine.jocker(*words, check=False)
    assert done.returncode != 0 and done.stderr.count("\n") == 1, done
    return done.stderr


def says(engine: Engine, container: str, script: str) -> str:
    return engine.jocker("exec", container, "sh", "-c", script, check=False).stdout


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


# --- names -----------------------------------------------------------------------------------------


def test_containers_find_each_other_by_name_as_they_come_and_go(clean: Engine) -> None:
    web = run(clean, "web", "--network-alias", "www", "--hostname", "webhost")
    run(clean, "client")
    short = clean.rpc("container.inspect", container="web")["id"][:12]
    with serving(web, "tcp", "0.0.0.0", 80):
        for name in ("web", "www", short):
            heard = says(clean, "client", f"echo -n hello | busybox nc -w 3 {name} 80")
            assert heard == f"{addresses(clean, 'client')[0]} hello", name
    assert "webhost" in says(clean, "web", "cat /etc/hosts /etc/hostname")
    clean.jocker("rename", "web", "site")
    hosts = says(clean, "client", "cat /etc/hosts").splitlines()
    assert any(line.split()[1:] == ["site", "www", short] for line in hosts)
    clean.jocker("stop", "site")
    hosts = says(clean, "client", "cat /etc/hosts").splitlines()
    assert not any("site" in line for line in hosts) and any("client" in line for line in hosts)
    clean.jocker("start", "site")
    assert "site" in says(clean, "client", "cat /etc/hosts")
    # The file under the mount is the same one all along: a shell that has it open sees the change.
    inode = "busybox stat -c %i /etc/hosts"
    before = says(clean, "client", inode)
    clean.jocker("rm", "-f", "site")
    assert says(clean, "client", inode) == before
    assert "site" not in says(clean, "client", "cat /etc/hosts")


def test_hosts_and_resolvers_are_as_asked_for(clean: Engine) -> None:
    run(
        clean, "asked",
        *("--add-host", "db:10.1.2.3", "--add-host", "up:host-gateway", "--add-host", "six:fd00::9"),
        *("--dns", "10.9.9.9", "--dns", "fd00::53", "--dns-search", "example.org", "--dns-opt", "ndots:2"),
    )  # fmt: skip
    hosts = dict(reversed(line.split()[:2]) for line in says(clean, "asked", "cat /etc/hosts").splitlines())
    gateway = clean.rpc("network.inspect", network="default")["subnets"][0]["gateway"]
    assert (hosts["db"], hosts["up"], hosts["six"]) == ("10.1.2.3", gateway, "fd00::9")
    assert says(clean, "asked", "cat /etc/resolv.conf").splitlines() == [
        "nameserver 10.9.9.9",
        "nameserver fd00::53",
        "search example.org",
        "options ndots:2",
    ]
    with open("/etc/resolv.conf", encoding="utf-8") as file:
        own = [line.split()[1] for line in file if line.startswith("nameserver")]
    run(clean, "plain")
    given = says(clean, "plain", "cat /etc/resolv.conf")
    assert all(server in given for server in own if not server.startswith("127."))
    assert "nameserver" in given and "nameserver 127." not in given
    for words, said in (
        (("--add-host", "x"), "must be NAME:ADDRESS"),
        (("--add-host", "x:y"), "is no IP address"),
        (("--dns", "x"), "is no IP address"),
        (("--hostname", "a b"), "is no host name"),
        (("--network-alias", "a b"), "is no host name"),
        (("--mac-address", "01:02:03:04:05:06"), "group"),
        (("--ip", "10.1.1.1"), "is no address of a container in"),
        (("--ip", gateway), "is the gateway"),
        (("--ip6", "fd00::1"), "has no IPv6 subnet"),
        (("--network", "nowhere"), "no such network: nowhere"),
        (("--network", "host", "--ip", "10.1.1.1"), "need a network that was created"),
        (("--network", "host", "--network", "default"), "cannot be combined"),
        (("-p", "80:x"), "must be [IP:]HOST[:CONTAINER]"),
        (("-p", "x:80"), "no interface x"),
        (("-p", "99999:80"), "between 1 and 65535"),
        (("-p", "80-82:80-81"), "not the same length"),
        (("-p", "80:80-81"), "not the same length"),
        (("-p", "82-80:80"), "the lower one first"),
        (("-p", "80:80/sctp"), "tcp or udp"),
        (("-p", "nosuch0:80:80"), "no interface nosuch0"),
        (("-p", "203.0.113.7:80:80"), "is no address of this host"),
        (("--expose", "x"), "is no port"),
    ):
        assert said in refused(clean, "run", "--rm", *words, "base", "true"), words


# --- ports -----------------------------------------------------------------------------------------


def test_published_ports_are_reached_from_everywhere(clean: Engine) -> None:
    clean.jocker("network", "create", "--ipv6", "six")
    clean.jocker("network", "create", "other")
    port = free_port()
    web = run(clean, "web", "--network", "six", "-p", f"{port}:80", "-p", f"{port}:80/udp")
    stranger, neighbour = run(clean, "stranger", "--network", "other"), run(clean, "near", "--network", "six")
    shown = clean.jocker("ps", "--filter", "name=web", "--format", "{{.Ports}}").stdout
    for protocol in ("tcp", "udp"):
        assert f"0.0.0.0:{port}->80/{protocol}" in shown and f"[::]:{port}->80/{protocol}" in shown
    assert clean.jocker("port", "web", "80").stdout == f"0.0.0.0:{port}\n[::]:{port}\n"
    with outside() as there:
        for kind in ("tcp", "udp"):
            with serving(web, kind, "0.0.0.0", 80):
                assert ask("", kind, "127.0.0.1", port).endswith("hello")
                assert ask(there, kind, "198.18.7.1", port) == "198.18.7.2 hello"
                for who in (web, neighbour, stranger):
                    assert ask(who, kind, "198.18.7.1", port).endswith("hello"), who
            with serving(web, kind, "::", 80):
                assert ask(there, kind, "fd07:18::1", port) == "fd07:18::2 hello"
                assert ask("", kind, "::1", port).endswith("hello")
    clean.jocker("stop", "web")
    with serving("", "tcp", "127.0.0.1", port):  # the host may have it again
        assert ask("", "tcp", "127.0.0.1", port) == "127.0.0.1 hello"


def test_published_ports_of_the_other_family_and_held(clean: Engine) -> None:
    """A network of v4 alone is reached by the host's v6 addresses too; no program can take what is published."""
    port = free_port()
    web = run(clean, "web", "-p", f"{port}:80", "-p", f"{port}:80/udp", "-p", "[::1]::81", "-p", "::1::82")
    given = dict(line.split(" -> ") for line in clean.jocker("port", "web").stdout.splitlines()[-2:])
    assert all(host.startswith("[::1]:") for host in given.values()) and len(given) == 2
    with outside() as there:
        for kind in ("tcp", "udp"):
            with serving(web, kind, "0.0.0.0", 80):
                assert ask("", kind, "::1", port).endswith("hello")
                assert ask("", kind, "fd07:18::1", port).endswith("hello")
                assert ask(there, kind, "fd07:18::1", port).endswith("hello")
                assert ask("", kind, "127.0.0.1", port).endswith("hello")
    with serving(web, "tcp", "0.0.0.0", 81):
        assert ask("", "tcp", "::1", int(given["81/tcp"].rpartition(":")[2])).endswith("hello")
    for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            with socket.socket(family, kind) as sock, pytest.raises(OSError):
                sock.bind((host, port))
    clean.kill()
    clean.start()
    with serving(web, "tcp", "0.0.0.0", 80):
        assert ask("", "tcp", "::1", port).endswith("hello")


def test_a_range_of_the_host_for_one_port(clean: Engine) -> None:
    """The first that is free of them."""
    low = free_port() & ~7
    with serving("", "tcp", "0.0.0.0", low + 1):
        for number in (0, 2):
            name = f"c{number}"
            run(clean, name, "-p", f"127.0.0.1:{low}-{low + 2}:80", "-p", f"[::1]:{low}-{low + 2}:81")
            assert clean.jocker("port", name, "80").stdout == f"127.0.0.1:{low + number}\n"
            assert clean.jocker("port", name, "81").stdout.startswith("[::1]:")
        said = refused(clean, "run", "--rm", "-p", f"127.0.0.1:{low}-{low + 2}:80", "base", "true")
        assert f"no port between {low} and {low + 2} of 127.0.0.1 is free" in said


def test_ports_of_one_address_of_an_interface_in_a_row_and_exposed(clean: Engine) -> None:
    clean.jocker("build", "-t", "exposing", "-", input="FROM base\nEXPOSE 80 53/udp\n")
    port = free_port()
    with outside() as there:
        interface = f"jt{os.getpid()}"
        web = run(clean, "web", "-p", f"{interface}:{port}:80")
        with serving(web, "tcp", "0.0.0.0", 80):
            assert ask(there, "tcp", "198.18.7.1", port).endswith("hello")
            assert ask("", "tcp", "127.0.0.1", port, 0.5).startswith("failed")
        clean.jocker("rm", "-f", "web")
        web = run(clean, "web", "-p", f"127.0.0.1:{port}:80", "-p", "127.0.0.1::81")
        with serving(web, "tcp", "0.0.0.0", 80):
            assert ask("", "tcp", "127.0.0.1", port).endswith("hello")
            assert ask(there, "tcp", "198.18.7.1", port, 0.5).startswith("failed")
    host, _, given = clean.jocker("port", "web", "81/tcp").stdout.strip().rpartition(":")
    assert host == "127.0.0.1" and int(given) > 1024
    assert "is not published" in refused(clean, "port", "web", "82")
    low = free_port() & ~7
    said = "{{json .HostConfig.PortBindings}}"
    assert clean.jocker("inspect", "-f", said, "web").stdout == (
        f'{{"80/tcp":[{{"HostIp":"127.0.0.1","HostPort":"{port}"}}],"81/tcp":[{{"HostIp":"127.0.0.1","HostPort":""}}]}}\n'
    )
    run(clean, "row", "-p", f"127.0.0.1:{low}-{low + 2}:8000-8002")
    assert clean.jocker("ps", "-f", "name=row", "--format", "{{.Ports}}").stdout == (
        f"127.0.0.1:{low}-{low + 2}->8000-8002/tcp\n"
    )
    assert clean.jocker("ps", "-f", f"publish={low + 1}", "--format", "{{.Names}}").stdout == "row\n"
    clean.jocker("run", "-d", "--name", "all", "-P", "--expose", "81", "exposing", "sleep", "100")
    ports = clean.rpc("container.inspect", container="all")["ports"]
    assert {(each["container_port"], each["protocol"]) for each in ports} == {
        (80, "tcp"),
        (53, "udp"),
        (81, "tcp"),
    }
    with serving(place(clean, "all"), "udp", "0.0.0.0", 53):
        given = next(each["host_port"] for each in ports if each["protocol"] == "udp")
        assert ask("", "udp", "127.0.0.1", given).endswith("hello")
    assert check(clean) == []  # whatever the order in which they came
    run(clean, "only", "--expose", "99")
    assert clean.jocker("ps", "-f", "name=only", "--format", "{{.Ports}}").stdout == "99/tcp\n"


def test_a_port_in_use_is_refused_and_says_who_has_it(clean: Engine) -> None:
    port = free_port()
    run(clean, "first", "-p", f"{port}:80")
    for words in ((f"{port}:80",), (f"127.0.0.1:{port}:80",)):
        said = refused(clean, "run", "--name", "second", "-p", *words, "base", "true")
        assert "is container first's" in said and str(port) in said
        clean.jocker("rm", "second")
    run(clean, "udp", "-p", f"{port}:80/udp")  # another port
    clean.jocker("rm", "-f", "first", "udp")
    for kind in ("tcp", "udp"):
        with serving("", kind, "0.0.0.0", port):
            said = refused(clean, "run", "--rm", "-p", f"{port}:80/{kind}", "base", "true")
            assert "in use by python" in said and "pid " in said
    assert "nothing can be published" in _internal(clean)


def _internal(engine: Engine) -> str:
    engine.jocker("network", "create", "--internal", "shut")
    return refused(engine, "run", "--rm", "--network", "shut", "-p", "8080:80", "base", "true")


def test_much_goes_through_a_published_port_unharmed(clean: Engine) -> None:
    size, port = 64 << 20, free_port()
    web = run(clean, "web", "-p", f"{port}:80")
    script = (
        "import hashlib, socket, sys\n"
        "c, _ = socket.create_server(('0.0.0.0', 80)).accept()\n"
        "h = hashlib.sha256()\n"
        "while data := c.recv(1 << 20): h.update(data); c.sendall(data[:1])\n"
        "print(h.hexdigest())\n"
    )
    server = subprocess.Popen([*enter(web), sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    sent, block = hashlib.sha256(), os.urandom(1 << 20)
    deadline = time.monotonic() + 10
    while True:
        try:
            client = socket.create_connection(("127.0.0.1", port), 5)
            break
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    with client:
        for number in range(size // len(block)):
            piece = number.to_bytes(4, "big") + block[4:]
            sent.update(piece)
            client.sendall(piece)
            if number % 8 == 0:
                client.recv(1 << 16)
        client.shutdown(socket.SHUT_WR)
        while client.recv(1 << 16):
            pass
    assert server.communicate(timeout=20)[0].strip() == sent.hexdigest()


# --- networks --------------------------------------------------------------------------------------


def test_networks_are_isolated(clean: Engine) -> None:
    clean.jocker("network", "create", "--ipv6", "one")
    clean.jocker("network", "create", "--ipv6", "two")
    clean.jocker("network", "create", "--internal", "shut")
    a, b = run(clean, "a", "--network", "one"), run(clean, "b", "--network", "two")
    run(clean, "c", "--network", "shut")
    shut = place(clean, "c")
    for number, anywhere in ((0, "0.0.0.0"), (1, "::")):
        to = addresses(clean, "b", "two")[number]
        with serving(b, "tcp", anywhere, 5000):
            assert ask("", "tcp", to, 5000).endswith("hello")
            assert ask(a, "tcp", to, 5000, 0.5).startswith("failed")
    assert "b" not in says(clean, "a", "busybox grep -w b /etc/hosts")
    with outside() as there, serving(there, "tcp", "0.0.0.0", 5000):
        assert ask(a, "tcp", "198.18.7.2", 5000) == "198.18.7.1 hello"
        assert ask(shut, "tcp", "198.18.7.2", 5000, 0.5).startswith("failed")
        with serving(shut, "tcp", "0.0.0.0", 5000):
            assert ask("", "tcp", addresses(clean, "c", "shut")[0], 5000).endswith("hello")
    clean.jocker("network", "connect", "two", "a")
    with serving(b, "tcp", "0.0.0.0", 5000):
        assert ask(a, "tcp", addresses(clean, "b", "two")[0], 5000).endswith("hello")


def test_several_networks_also_on_a_running_container(clean: Engine) -> None:
    clean.jocker("network", "create", "--subnet", "10.208.1.0/24", "--subnet", "fd08:1::/64", "one")
    clean.jocker("network", "create", "--subnet", "10.208.2.0/28", "--gateway", "10.208.2.14", "two")
    a = run(clean, "a", "--network", "one", "--network", "name=two,alias=other", "--ip", "10.208.1.77",
            "--ip6", "fd08:1::77", "--mac-address", "02:42:00:00:00:77")  # fmt: skip
    assert addresses(clean, "a", "one") == ("10.208.1.77", "fd08:1::77")
    assert addresses(clean, "a", "two") == ("10.208.2.1", "")
    shown = says(clean, "a", "busybox ip addr; busybox ip route")
    assert "02:42:00:00:00:77" in shown and "default via 10.208.1.1 dev eth0" in shown and "eth1" in shown
    b = run(clean, "b")
    assert ask(b, "tcp", "10.208.2.1", 5000, 0.5).startswith("failed")
    clean.jocker("network", "connect", "--ip", "10.208.2.9", "--alias", "late", "two", "b")
    with serving(a, "tcp", "0.0.0.0", 5000):
        assert says(clean, "b", "echo -n x | busybox nc -w 3 other 5000") == "10.208.2.9 x"
    assert "late" in says(clean, "a", "cat /etc/hosts")
    inspected = json.loads(clean.jocker("network", "inspect", "two").stdout)[0]
    assert {each["Name"]: each["IPv4Address"] for each in inspected["Containers"].values()} == {
        "a": "10.208.2.1/28",
        "b": "10.208.2.9/28",
    }
    assert inspected["IPAM"]["Config"] == [{"Subnet": "10.208.2.0/28", "Gateway": "10.208.2.14"}]
    assert "already" in refused(clean, "network", "connect", "two", "b")
    clean.jocker("create", "--name", "third", *SLEEP)
    assert "was given to container" in refused(
        clean, "network", "connect", "--ip", "10.208.2.9", "two", "third"
    )
    assert "in use by" in refused(clean, "network", "rm", "two")
    clean.jocker("network", "disconnect", "two", "b")
    assert "late" not in says(clean, "a", "cat /etc/hosts")
    assert "eth1" not in says(clean, "b", "busybox ip addr")
    assert "is not on network two" in refused(clean, "network", "disconnect", "two", "b")
    clean.jocker("network", "disconnect", "-f", "two", "b")
    # At rest too: it is there from the next start on.
    clean.jocker("stop", "b")
    clean.jocker("network", "connect", "two", "b")
    assert addresses(clean, "b", "two") == ("", "")
    clean.jocker("start", "b")
    assert addresses(clean, "b", "two")[0].startswith("10.208.2.")
    assert clean.jocker(
        "ps", "-f", "network=two", "--format", "{{.Names}} {{.Networks}}"
    ).stdout.splitlines() == [
        "b default,two",
        "a one,two",
    ]


def test_the_default_route_moves_when_its_network_is_left(clean: Engine) -> None:
    clean.jocker("network", "create", "--subnet", "10.208.1.0/24", "--subnet", "fd08:1::/64", "one")
    clean.jocker("network", "create", "--internal", "shut")
    clean.jocker("network", "create", "--subnet", "10.208.2.0/24", "--subnet", "fd08:2::/64", "two")
    a = run(clean, "a", "--network", "one", "--network", "shut", "--network", "two")
    routes = "busybox ip route; busybox ip -6 route"
    with outside() as there, serving(there, "tcp", "0.0.0.0", 5000):
        assert ask(a, "tcp", "198.18.7.2", 5000) == "198.18.7.1 hello"
        clean.jocker("network", "disconnect", "one", "a")
        shown = says(clean, "a", routes)
        assert "default via 10.208.2.1 dev eth2" in shown and "default via fd08:2::1 dev eth2" in shown
        assert ask(a, "tcp", "198.18.7.2", 5000) == "198.18.7.1 hello"
        clean.jocker("network", "disconnect", "two", "a")
        assert "default" not in says(clean, "a", routes)


def test_a_network_of_containers_that_do_not_run_may_go(clean: Engine) -> None:
    """As docker has it; what was on it says so when it is started, and can be put on another."""
    first = clean.jocker("network", "create", "back").stdout.strip()
    run(clean, "web", "--network", "back", "--network-alias", "www")
    clean.jocker("network", "create", "side")
    clean.jocker("network", "connect", "side", "web")
    assert "in use by container web; stop or disconnect" in refused(clean, "network", "rm", "back")
    clean.jocker("stop", "web")
    assert clean.jocker("network", "prune", "-f").stdout == ""
    assert clean.jocker("network", "rm", "back").stdout == "back\n"
    said = f"network back ({first[:12]}), which container web was on, is not there any more"
    assert said in refused(clean, "start", "web")
    assert clean.jocker("ps", "-a", "--format", "{{.Networks}}").stdout == "back,side\n"
    clean.jocker("inspect", "web")
    clean.jocker("network", "create", "back")  # of this name, and another
    assert said in refused(clean, "start", "web")
    clean.jocker("network", "disconnect", "back", "web")
    clean.jocker("network", "connect", "back", "web")
    clean.jocker("start", "web")
    assert addresses(clean, "web", "back")[0] and addresses(clean, "web", "side")[0]


def test_the_stack_of_another_container(clean: Engine) -> None:
    run(clean, "owner", "--hostname", "owned")
    run(clean, "guest", "--network", "container:owner")
    assert os.readlink(place(clean, "guest")) == os.readlink(place(clean, "owner"))
    assert says(clean, "guest", "cat /etc/hosts") == says(clean, "owner", "cat /etc/hosts")
    assert says(clean, "guest", "cat /proc/sys/kernel/hostname") == "owned\n"
    assert "can be connected to no other" in refused(clean, "network", "connect", "default", "guest")
    assert "hostname: it is that of the container" in refused(
        clean, "run", "--rm", "--network", "container:owner", "--hostname", "x", "base", "true"
    )
    assert "publish them on" in refused(
        clean, "run", "--rm", "--network", "container:owner", "-p", "80:80", "base", "true"
    )
    clean.jocker("rm", "-f", "guest", "owner")
    clean.jocker("create", "--name", "owner", *SLEEP)
    assert "start it first" in refused(clean, "run", "--rm", "--network", "container:owner", "base", "true")


def test_addresses_are_freed_when_containers_end(clean: Engine) -> None:
    clean.jocker("network", "create", "--subnet", "10.208.3.0/29", "--ip-range", "10.208.3.2/31", "small")
    for _ in range(2):
        for number in (2, 3):
            run(clean, f"c{number}", "--network", "small")
            assert addresses(clean, f"c{number}", "small") == (f"10.208.3.{number}", "")
        assert "all addresses of 10.208.3.0/29" in refused(
            clean, "run", "--rm", "--network", "small", "base", "true"
        )
        clean.jocker("stop", "c2")  # it is there, and has no address
        clean.jocker("run", "--rm", "--network", "small", "base", "true")
        clean.jocker("rm", "-f", "c2", "c3")
    clean.jocker("create", "--name", "kept", "--network", "small", "--ip", "10.208.3.2", *SLEEP)
    run(clean, "next", "--network", "small")
    assert addresses(clean, "next", "small") == ("10.208.3.3", "")
    assert "was given to container" in refused(
        clean, "run", "--rm", "--network", "small", "--ip", "10.208.3.2", "base", "true"
    )


def test_what_cannot_be_a_network_is_refused_with_its_reason(clean: Engine) -> None:
    clean.jocker("network", "create", "--subnet", "10.208.4.0/24", "--label", "a=b", "first")
    with outside():
        for words, said in (
            (("first",), "there is a network first already"),
            (("--subnet", "10.208.4.128/25", "x"), "10.208.4.0/24 of network first"),
            (("--subnet", "10.208.0.0/16", "x"), "10.208.4.0/24 of network first"),
            (("--subnet", "198.18.7.0/24", "x"), f"198.18.7.0/24 of the host's interface jt{os.getpid()}"),
            (("--subnet", "10.208.5.1/24", "x"), "did you mean 10.208.5.0/24"),
            (("--gateway", "10.208.5.1", "x"), "there is no --subnet"),
            (("--subnet", "10.208.5.0/24", "--gateway", "10.208.6.1", "x"), "is no address of a host in"),
            (("--interface", "lo", "x"), "interface lo is there already"),
            (("--interface", "much-too-long-a-name", "x"), "at most 15"),
            (("--driver", "loopback", "x"), "are not for this system"),
            (("host",), "are taken"),
            (("--mtu", "20", "x"), "not between 68 and 65535"),
            (("--opt", "nonsense=1", "x"), "com.docker.network.driver.mtu"),
            (("default",), "always there"),
            (("a b",), "is no name for a network"),
        ):
            assert said in refused(clean, "network", "create", *words), words
    assert "always there" in refused(clean, "network", "rm", "default")
    assert "always there" in refused(clean, "network", "rm", "host")
    assert "no such network: x" in refused(clean, "network", "rm", "x")
    clean.jocker("network", "rm", "-f", "x")
    listed = clean.jocker("network", "ls", "--format", "{{.Name}} {{.Driver}}").stdout.splitlines()
    assert listed == ["default bridge", "first bridge", "host host", "none null"]
    assert clean.jocker("network", "ls", "-q", "-f", "label=a").stdout.count("\n") == 1
    assert clean.jocker("network", "ls", "-f", "type=custom", "--format", "{{.Name}}").stdout == "first\n"
    done = clean.jocker("network", "inspect", "nosuch", "first", "-f", "{{.Name}}", check=False)
    assert (done.returncode, done.stdout) == (1, "first\n") and "no such network: nosuch" in done.stderr
    for words in (("until=1h",), ("label!=a",)):
        assert clean.jocker("network", "prune", "-f", "--filter", *words).stdout == ""
    assert "neither a time" in refused(clean, "network", "prune", "-f", "--filter", "until=soon")
    assert clean.jocker("network", "prune", "-f").stdout == "Deleted Networks:\nfirst\n"
    options = ("-o", "com.docker.network.bridge.name=jtbridge0", "-o", "com.docker.network.driver.mtu=1400")
    chosen = clean.jocker("network", "create", *options, "--ipv6", "named").stdout.strip()
    with open("/sys/class/net/jtbridge0/mtu", encoding="ascii") as file:
        assert file.read() == "1400\n"
    run(clean, "small", "--network", "named")
    assert "mtu 1400" in says(clean, "small", "busybox ip link show eth0")
    clean.jocker("rm", "-f", "small")
    shown = clean.rpc("network.inspect", network=chosen[:12])
    assert [len(each["subnet"]) > 5 for each in shown["subnets"]] == [True, True]
    clean.jocker("network", "rm", "named")
    assert not os.path.exists("/sys/class/net/jtbridge0")


def test_host_and_none_go_on_working(clean: Engine) -> None:
    done = clean.jocker("run", "--rm", "--network", "host", "-p", "80:80", "base", "busybox", "ip", "link")
    assert "eth0" in done.stdout or "lo" in done.stdout
    assert "WARNING: published ports are ignored" in done.stderr
    done = clean.jocker(
        "run",
        "--rm",
        "--network",
        "host",
        "--add-host",
        "db:10.1.2.3",
        "base",
        "cat",
        "/etc/hosts",
        "/etc/hostname",
    )
    with open("/etc/hosts", encoding="utf-8") as file:
        assert done.stdout == f"{file.read()}10.1.2.3\tdb\n{socket.gethostname()}\n"
    assert (
        clean.jocker("run", "--rm", "--network", "none", "base", "busybox", "ip", "addr").stdout.count(
            "inet "
        )
        <= 1
    )


def test_engines_look_for_addresses_one_at_a_time(clean: Engine) -> None:
    """As another engine that takes some while this one waits for it."""
    clean.jocker("network", "ls")
    with open("/var/run/jocker-addresses.lock", "rb+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        asked = clean.popen("network", "create", "--subnet", "10.208.9.0/24", "x", stderr=subprocess.PIPE)
        with pytest.raises(subprocess.TimeoutExpired):
            asked.wait(1)
        with outside("10.208.9"):
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert b"subnet 10.208.9.0/24 overlaps with" in asked.communicate(timeout=30)[1]


# --- what it survives --------------------------------------------------------------------------------


def test_networks_outlive_the_engine(clean: Engine) -> None:
    port = free_port()
    clean.jocker("network", "create", "kept")
    web = run(clean, "web", "--network", "kept", "-p", f"{port}:80")
    short = run(clean, "short", "--network", "kept")
    before = addresses(clean, "web", "kept")
    with serving(web, "tcp", "0.0.0.0", 80):
        clean.kill()
        assert ask("", "tcp", "127.0.0.1", port).endswith("hello")
        os.kill(int(short.split("/")[2]), 9)  # ends while there is no engine
        clean.start()
        assert ask("", "tcp", "127.0.0.1", port).endswith("hello")
        assert check(clean) == [] and addresses(clean, "web", "kept") == before
        run(clean, "new", "--network", "kept")
        assert says(clean, "new", "echo -n x | busybox nc -w 3 web 80").endswith(" x")
        assert "new" in says(clean, "web", "cat /etc/hosts")
    clean.jocker("rm", "-f", "web")
    assert ask("", "tcp", "127.0.0.1", port, 0.5).startswith("failed")


def test_a_flushed_firewall_is_found_and_mended(clean: Engine) -> None:
    port = free_port()
    web = run(clean, "web", "-p", f"{port}:80")
    subprocess.run(["nft", "delete", "table", "inet", f"jocker-{tag(clean)}"], check=True)
    with serving(web, "tcp", "0.0.0.0", 80), outside() as there:
        assert ask("", "tcp", "127.0.0.1", port).endswith("hello")  # by the engine's own socket
        assert ask(there, "tcp", "198.18.7.1", port) != "198.18.7.2 hello"
        (found,) = check(clean)
        assert found["part"] == "firewall"
        assert all(each["repaired"] for each in check(clean, repair=True))
        assert ask(there, "tcp", "198.18.7.1", port) == "198.18.7.2 hello"


def tag(engine: Engine) -> str:
    return hashlib.sha256(os.path.realpath(engine.data).encode()).hexdigest()[:5]


def test_after_the_machines_start_all_is_made_again(clean: Engine) -> None:
    """As if the machine had been restarted: all that the kernel had is gone, and the boot id is another."""
    clean.jocker("network", "create", "kept")
    run(clean, "web", "--network", "kept", "--restart", "always", "-p", f"{free_port()}:80")
    interface = clean.rpc("network.inspect", network="kept")["interface"]
    pid = clean.rpc("container.inspect", container="web")["state"]["pid"]
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        shim = next(int(line.split()[1]) for line in file if line.startswith("PPid:"))
    clean.kill()
    os.kill(shim, 9)
    os.kill(pid, 9)
    with sqlite3.connect(os.path.join(clean.data, "jocker.sqlite")) as database:
        database.execute("UPDATE containers SET doc = json_set(doc, '$.state.boot_id', 'another')")
    database.close()
    subprocess.run(["ip", "link", "del", interface], check=True)
    subprocess.run(["nft", "delete", "table", "inet", f"jocker-{tag(clean)}"], check=True)
    for name in os.listdir("/run/netns"):
        if name.startswith(f"jk{tag(clean)}-"):
            subprocess.run(["ip", "netns", "del", name], check=True)
    clean.start()
    for _ in range(100):
        if clean.rpc("container.inspect", container="web")["state"]["status"] == "running":
            break
        time.sleep(0.05)
    assert os.path.exists(f"/sys/class/net/{interface}") and check(clean) == []
    with serving(place(clean, "web"), "tcp", "0.0.0.0", 80):
        assert ask("", "tcp", addresses(clean, "web", "kept")[0], 80).endswith("hello")


# --- without networks --------------------------------------------------------------------------------


def test_where_no_networks_can_be_made_all_else_is_refused_in_one_line(shared: Engine) -> None:
    if shared.platform != "portable":
        return
    for words in (
        ("network", "create", "x"),
        ("run", "--rm", "--network", "x", "base", "true"),
        ("run", "--rm", "--network", "default", "base", "true"),
    ):
        assert "use --network host or none" in refused(shared, *words), words
    assert "nothing can be published" in refused(shared, "run", "--rm", "-p", "8080:80", "base", "true")
    assert "has no place that could be chosen" in refused(
        shared, "run", "--rm", "--ip", "10.1.1.1", "base", "true"
    )
    assert "no such network" in refused(shared, "network", "rm", "x")
    assert shared.jocker("run", "--rm", "base", "true").returncode == 0
    assert shared.jocker("network", "ls", "--format", "{{.Name}}").stdout == "host\nnone\n"
