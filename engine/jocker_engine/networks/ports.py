"""Ports of the host: what was asked for as addresses and numbers, whether they are free, and who has them if not.

Sources: ip(7), tcp(7): a socket that listens keeps a port from being bound, one that waits in TIME_WAIT does not
keep it from one with SO_REUSEADDR.
"""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address
from typing import Literal

from jocker_protocol.errors import Conflict, InvalidParams
from jocker_protocol.types import PortWish

from ..db.records import PublishedRecord

ANY = ("0.0.0.0", "::")
_TRIES = 100
_EXPOSED = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp))?")


class Occupied(Exception):
    """A port cannot be had. `by`: the container that has it; "" when it is a program of the host."""

    def __init__(self, protocol: str, host_ip: str, port: int, by: str) -> None:
        super().__init__(f"port {port}/{protocol} of {host_ip}")
        self.protocol, self.host_ip, self.port, self.by = protocol, host_ip, port, by


def exposed(text: str, field: str = "expose") -> list[PortWish]:
    """ "8000-8002/tcp": each of them, on a port of the host that is free. Raises InvalidParams."""
    match = _EXPOSED.fullmatch(text)
    first = int(match[1]) if match else 0
    last = int(match[2] or first) if match else 0
    if match is None or not 0 < first <= last <= 65535:
        raise InvalidParams(f"{field}: {text!r} is no port; write it as 80, 80/udp or 8000-8010/tcp")
    protocol: Literal["tcp", "udp"] = "udp" if match[3] == "udp" else "tcp"
    return [PortWish(container_port=port, protocol=protocol) for port in range(first, last + 1)]


def check(wishes: Sequence[PortWish]) -> None:
    """Raises InvalidParams for numbers that are none."""
    for wish in wishes:
        for name, number in (("container_port", wish.container_port), ("host_port", wish.host_port)):
            if not (0 if name == "host_port" else 1) <= number <= 65535:
                raise InvalidParams(f"ports: {name} {number} is not between 1 and 65535")
        if wish.host_port_last and not 0 < wish.host_port <= wish.host_port_last <= 65535:
            raise InvalidParams(
                f"ports: {wish.host_port}-{wish.host_port_last} is no range of ports, the lower one first"
            )
        if re.fullmatch(r"[0-9.]+|.*:.*", wish.host_ip):
            try:
                ip_address(wish.host_ip)
            except ValueError:
                raise InvalidParams(
                    f"ports: {wish.host_ip!r} is neither an address nor an interface"
                ) from None


def assign(
    wishes: Iterable[PortWish],
    taken: Sequence[PublishedRecord],
    *,
    container: str,
    network: str,
    addresses: Mapping[str, Sequence[str]],
) -> list[PublishedRecord]:
    """Ports of the host for all wishes. `addresses`: of the host's interfaces.

    Raises Occupied, InvalidParams.
    """
    made: list[PublishedRecord] = []
    for wish in wishes:
        hosts = _hosts(wish, addresses)
        port = _choose(wish, hosts, (*taken, *made))
        made += [
            PublishedRecord(
                protocol=wish.protocol,
                host_ip=host,
                host_port=port,
                container=container,
                network=network,
                container_port=wish.container_port,
            )
            for host in hosts
        ]
    return made


def _choose(wish: PortWish, hosts: Sequence[str], others: Sequence[PublishedRecord]) -> int:
    """The one that was asked for, or the first that is free of those that would do."""
    first, last = wish.host_port, wish.host_port_last or wish.host_port
    candidates: Iterable[int] = range(first, last + 1)
    if not first:
        candidates = (_ephemeral(wish.protocol, hosts[0]) for _ in range(_TRIES))
    for port in candidates:
        found = _occupied(wish.protocol, hosts, port, others)
        if found is None:
            return port
        if first == last and first:
            raise found
    which = f"between {first} and {last} " if first else ""
    raise Conflict(
        f"ports: no port {which}of {hosts[0]} is free for {wish.container_port}/{wish.protocol}; choose others, "
        "or stop who has them"
    )


def _occupied(
    protocol: str, hosts: Sequence[str], port: int, taken: Sequence[PublishedRecord]
) -> Occupied | None:
    for host in hosts:
        by = _holder(protocol, host, port, taken)
        if by is not None or not _free(protocol, host, port):
            return Occupied(protocol, host, port, by or "")
    return None


def _hosts(wish: PortWish, addresses: Mapping[str, Sequence[str]]) -> list[str]:
    """Addresses of either family, whatever the network has: where they differ, the forwarder leads on."""
    if not wish.host_ip:
        return list(ANY) if _has_v6() else list(ANY[:1])
    if wish.host_ip in addresses:
        found = [a for a in addresses[wish.host_ip] if not ip_address(a).is_link_local]
        if not found:
            raise InvalidParams(f"ports: interface {wish.host_ip} has no address")
        return found
    try:
        address = ip_address(wish.host_ip)
    except ValueError:
        raise InvalidParams(
            f"ports: the host has no interface {wish.host_ip}; there are: {', '.join(sorted(addresses))}"
        ) from None
    return [str(address)]


def _has_v6() -> bool:
    """Whether this host speaks it: then ::1 is an address of its own."""
    try:
        with _socket("tcp", "::1") as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def _holder(protocol: str, host: str, port: int, taken: Iterable[PublishedRecord]) -> str | None:
    """The container that has the port on an address that this one is or includes."""
    for each in taken:
        same = (":" in each.host_ip) == (":" in host)
        if (
            (each.protocol, each.host_port) == (protocol, port)
            and same
            and (each.host_ip == host or each.host_ip in ANY or host in ANY)
        ):
            return each.container
    return None


def _free(protocol: str, host: str, port: int) -> bool:
    """Whether no program has it. Raises InvalidParams: the host has no such address."""
    with _socket(protocol, host) as sock:
        try:
            sock.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            if error.errno == errno.EADDRNOTAVAIL:
                raise InvalidParams(f"ports: {host} is no address of this host") from None
            raise InvalidParams(
                f"ports: {host} port {port}/{protocol}: {os.strerror(error.errno or 0)}"
            ) from None
    return True


def _ephemeral(protocol: str, host: str) -> int:
    with _socket(protocol, host) as sock:
        sock.bind((host, 0))
        return int(sock.getsockname()[1])


def _socket(protocol: str, host: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM)
    if protocol == "tcp":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return sock


def shown(published: Iterable[PublishedRecord], exposed_ports: Iterable[str]) -> list[str]:
    """As Docker lists them: "0.0.0.0:8080->80/tcp", ports in a row as one, and those that are only exposed."""
    published = list(published)
    open_ports = {f"{each.container_port}/{each.protocol}" for each in published}
    runs: list[list[PublishedRecord]] = []
    for each in sorted(published, key=lambda p: (p.host_ip, p.protocol, p.container_port, p.host_port)):
        last = runs[-1][-1] if runs else None
        follows = (
            last is not None
            and (last.host_ip, last.protocol) == (each.host_ip, each.protocol)
            and (last.host_port + 1, last.container_port + 1) == (each.host_port, each.container_port)
        )
        runs[-1].append(each) if follows else runs.append([each])
    texts = [
        f"{f'[{run[0].host_ip}]' if ':' in run[0].host_ip else run[0].host_ip}:"
        f"{_range(run[0].host_port, run[-1].host_port)}->"
        f"{_range(run[0].container_port, run[-1].container_port)}/{run[0].protocol}"
        for run in sorted(runs, key=lambda run: run[0].container_port)
    ]
    return [*texts, *(each for each in exposed_ports if each not in open_ports)]


def _range(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"
