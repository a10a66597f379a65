"""Names: the actor that keeps the hosts files of containers in step, and the texts of hosts and resolv.conf.

Containers find each other by /etc/hosts, which is theirs as long as they run, whether there is an engine or not. It is
mounted, so it must stay the same file: a text that is not longer than a page is there in one write, and a shorter one is
written with empty lines up to the old end before the file is cut, so that no reader meets half a list.
Sources: hosts(5), resolv.conf(5).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_address

from jocker_protocol.errors import JockerError

from ..db.records import Lease, Networking
from ..db.store import Store
from ..otp import Actor, handles
from .messages import Refresh
from .rounds import Rounds

_LOCALHOST = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
HOST_GATEWAY = "host-gateway"
_UPSTREAM = "/run/systemd/resolve/resolv.conf"
"""The servers behind systemd-resolved's own, which listens on the host's loopback only."""
_PUBLIC = ("8.8.8.8", "8.8.4.4")
"""As Docker has it: where the host's servers cannot be reached from a container."""


class Names(Actor):
    """See the module."""

    answers = (JockerError, OSError, sqlite3.Error)

    def __init__(self, store: Store, directory: Callable[[str], str]) -> None:
        """`directory`: of a container."""
        self._store = store
        self._directory = directory
        self._written: dict[str, str] = {}
        self._rounds = Rounds(self._refresh, self.answers)

    async def init(self) -> None:
        self.spawn(self._rounds.run)

    def detail(self) -> str:
        return f"{len(self._written)} containers"

    @handles(Refresh)
    async def refresh(self, message: Refresh) -> None:
        self._rounds.ask(self.defer())

    async def _refresh(self) -> None:
        store = self._store.networks
        networks, leases, names = await store.all(), await store.leases(), await store.names()
        aliases = {(each.container, each.network): each.aliases for each in await store.endpoints()}
        lines: dict[str, list[str]] = {}
        for lease in leases:
            if lease.container in names:
                called = [
                    names[lease.container][0],
                    *aliases.get((lease.container, lease.network), ()),
                    lease.container[:12],
                ]
                lines.setdefault(lease.network, []).extend(
                    _line(a, called) for a in (lease.ip, lease.ip6) if a
                )
        on: dict[str, list[Lease]] = {}
        for lease in leases:
            on.setdefault(lease.container, []).append(lease)
        written = {}
        for container, own in on.items():
            if container not in names:
                continue
            _, hostname, extra = names[container]
            text = hosts(
                hostname,
                [a for lease in own for a in (lease.ip, lease.ip6) if a],
                extra,
                networks[own[0].network][0].subnets[0].gateway,
                [line for lease in own for line in lines[lease.network]],
            )
            if self._written.get(container) != text and os.path.isdir(self._directory(container)):
                rewrite(os.path.join(self._directory(container), "hosts"), text)
            written[container] = text
        self._written = written


def _line(address: str, names: Iterable[str]) -> str:
    return f"{address}\t{' '.join(dict.fromkeys(names))}\n"


def hosts(
    hostname: str,
    addresses: Sequence[str],
    extra: Sequence[str],
    gateway: str,
    neighbours: Sequence[str] = (),
    of_host: bool = False,
) -> str:
    """The text of /etc/hosts. `of_host`: it begins as the host's, whose network this is."""
    own = [_line(address, [hostname]) for address in addresses or ("127.0.1.1",)]
    more = []
    for item in extra:
        name, _, address = item.partition(":")
        if address == HOST_GATEWAY:
            address = gateway or "127.0.0.1"
        more.append(f"{address}\t{name}\n")
    if of_host and (text := _read("/etc/hosts")):
        return "".join([text if text.endswith("\n") else f"{text}\n", *more])
    return "".join([_LOCALHOST, *more, *own, *neighbours])


def rewrite(path: str, text: str) -> None:
    """In place, see the module."""
    data = text.encode()
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        os.pwrite(fd, data.ljust(os.fstat(fd).st_size, b"\n"), 0)
        os.ftruncate(fd, len(data))
    finally:
        os.close(fd)


def resolv_conf(wish: Networking, *, own_stack: bool) -> str:
    """The text of /etc/resolv.conf: the host's, but for what was asked for. `own_stack`: its loopback is not the host's."""
    text = _read("/etc/resolv.conf")
    if own_stack and _servers(text) and not _reachable(text):
        text = _read(_UPSTREAM) or text
    servers = wish.dns or (_reachable(text) if own_stack else _servers(text))
    if own_stack and not servers and _servers(text):
        servers = list(_PUBLIC)
    search = wish.dns_search or _values(text, "search") or _values(text, "domain")
    options = wish.dns_options or _values(text, "options")
    lines = [f"nameserver {server}\n" for server in servers]
    if search and search != ["."]:
        lines.append(f"search {' '.join(search)}\n")
    if options:
        lines.append(f"options {' '.join(options)}\n")
    return "".join(lines)


def _values(text: str, keyword: str) -> list[str]:
    found: list[str] = []
    for line in text.splitlines():
        words = line.split()
        if words and words[0] == keyword:
            found = words[1:]  # the last one holds
    return found


def _servers(text: str) -> list[str]:
    words = (line.split() for line in text.splitlines())
    return [each[1] for each in words if len(each) > 1 and each[0] == "nameserver"]


def _reachable(text: str) -> list[str]:
    found = []
    for server in _servers(text):
        try:
            loopback = ip_address(server.partition("%")[0]).is_loopback
        except ValueError:
            continue
        if not loopback:
            found.append(server)
    return found


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""
