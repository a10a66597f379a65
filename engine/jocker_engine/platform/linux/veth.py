"""Network driver `veth`: a network namespace for each container, a bridge for each network, nftables.

Found again by name: namespaces jkTAG-CONTAINER, interfaces jkTAGv... and jkTAGb..., where TAG tells one root's from
another's; a bridge that the user named carries the network's id as its alias. Sources: ip-link(8), ip-netns(8), veth(4),
the kernel's networking/ip-sysctl.rst.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from functools import partial

from ..commands import Commands, PlatformError
from ..interfaces import Endpoint, HostNetworks, Misfit, Network, NetworkState, Publication
from . import nft
from .mounts import is_mounted, unmount
from .sockets import holder

_NAMESPACES = "/run/netns"
_INTERFACES = "/sys/class/net"
_DEFAULT_ROOT = "/var/lib/jocker"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

log = logging.getLogger("jocker.platform")


class VethNetwork:
    """See interfaces.NetworkDriver."""

    name = "veth"
    kinds: tuple[str, ...] = ("bridge",)

    def __init__(self, root: str, commands: Commands) -> None:
        root = os.path.realpath(root)
        tag = hashlib.sha256(root.encode()).hexdigest()[:5]
        self._commands = commands
        self._prefix = f"jk{tag}"
        self._batches = os.path.join(root, "net")
        self._firewall = nft.Firewall(commands, "jocker" if root == _DEFAULT_ROOT else f"jocker-{tag}")
        os.makedirs(self._batches, mode=0o700, exist_ok=True)

    # --- networks ---

    def interface(self, network: str) -> str:
        """A name for a bridge that the user gave none."""
        return f"{self._prefix}b{network[:7]}"

    async def create(self, network: Network) -> None:
        await self._bridge(network)
        await self._firewall.load(network, ())

    async def _bridge(self, network: Network) -> None:
        bridge, alias = network.interface, f"jocker network {network.id}"
        there = _exists(bridge)
        if there and _read(f"{_INTERFACES}/{bridge}/ifalias") != alias:
            raise PlatformError(
                f"interface {bridge} is there already, and is not this network's; choose another --interface"
            )
        lines = []
        if not there:
            lines += [
                f"link add name {bridge} address {_mac(network.id)} type bridge",
                f"link set dev {bridge} alias '{alias}'",
            ]
        for each in network.subnets:
            length = each.subnet.partition("/")[2]
            lines.append(f"addr replace {each.gateway}/{length} dev {bridge}{_no_dad(each.gateway)}")
        await self._ip([*lines, f"link set dev {bridge}{_mtu(network)} up"])
        for path in _switches(network):
            if _read(path) != "1":
                log.info("network %s needs %s: it was off, and is on now", network.interface, path)
                _write(path, "1")

    async def destroy(self, network: Network) -> None:
        if _exists(network.interface) and _read(f"{_INTERFACES}/{network.interface}/ifalias").endswith(
            network.id
        ):
            await self._ip([f"link del dev {network.interface}"])
        await self._firewall.remove(nft.token(network))

    async def publish(self, network: Network, publications: Sequence[Publication]) -> None:
        await self._firewall.load(network, publications)

    async def host(self) -> HostNetworks:
        routes = []
        for family in ("-4", "-6"):
            done = await self._commands.run(
                ["ip", "-j", family, "route", "show", "table", "all"], check=False
            )
            for each in json.loads(done.stdout or "[]"):
                target = each.get("dst", "default")
                if target != "default" and each.get("type") in (None, "unicast") and "dev" in each:
                    routes.append((target, each["dev"]))
        done = await self._commands.run(["ip", "-j", "addr"])
        addresses = {
            each["ifname"]: tuple(address["local"] for address in each["addr_info"] if "local" in address)
            for each in json.loads(done.stdout)
            if "ifname" in each
        }
        return HostNetworks(tuple(routes), addresses)

    # --- containers ---

    async def attach(self, endpoint: Endpoint) -> str:
        """One `ip`, which does the inner half by an `ip` of its own in the namespace."""
        path, outer = self._namespace(endpoint.container), self._outer(endpoint)
        name = os.path.basename(path)
        while _exists(outer):  # of an earlier run; it may just be going with its namespace
            await self._commands.run(["ip", "link", "del", "dev", outer], check=False)
        lines = []
        if not is_namespace(path):
            if os.path.exists(path):
                os.unlink(path)
            lines.append(f"netns add {name}")
        batch = os.path.join(self._batches, f"{name}-{outer}")
        lines += [
            f"link add name {outer}{_mtu(endpoint.network)} master {endpoint.network.interface} up type veth "
            f"peer name {endpoint.interface}{_mtu(endpoint.network)} address {endpoint.mac} netns {name}",
            f"link set dev {outer} type bridge_slave hairpin on",
            f"netns exec {name} ip -batch {batch}",
        ]
        _write(batch, "".join(f"{line}\n" for line in _inside(endpoint)))
        try:
            await self._ip(lines)
        finally:
            os.unlink(batch)
        return path

    async def ready(self, container: str) -> None:
        """All was done in the namespace, before the runtime entered it."""

    async def detach(self, endpoint: Endpoint) -> None:
        if _exists(outer := self._outer(endpoint)):
            await self._ip([f"link del dev {outer}"])

    async def route(self, endpoint: Endpoint) -> None:
        name = os.path.basename(self._namespace(endpoint.container))
        for line in _routes(endpoint):
            await self._commands.run(["ip", "-n", name, *line.split()])

    async def release(self, container: str) -> None:
        """With its last process and its name the namespace goes, and its interfaces with it: the kernel does that by itself."""
        remove_namespace(self._namespace(container))

    def _namespace(self, container: str) -> str:
        return os.path.join(_NAMESPACES, f"{self._prefix}-{container[:12]}")

    def _outer(self, endpoint: Endpoint) -> str:
        what = f"{endpoint.container} {endpoint.network.id} {endpoint.interface}"
        return f"{self._prefix}v{hashlib.sha256(what.encode()).hexdigest()[:7]}"

    # --- audit ---

    async def holder(self, protocol: str, port: int) -> str:
        return holder(protocol, port)

    async def audit(self, expected: Sequence[NetworkState]) -> list[Misfit]:
        comments = await self._firewall.comments()
        return [
            *self._strays(expected, {chain.partition("-")[0] for chain in comments}),
            *(misfit for state in expected for misfit in self._losses(state, comments)),
            *await self._obstacles([state.network for state in expected]),
        ]

    def _strays(self, expected: Sequence[NetworkState], tokens: set[str]) -> Iterator[Misfit]:
        bridges = {state.network.interface for state in expected}
        endpoints = [endpoint for state in expected for endpoint in state.endpoints]
        known = {self._namespace(endpoint.container) for endpoint in endpoints}
        outers = {self._outer(endpoint) for endpoint in endpoints}
        for path in sorted(_listed(_NAMESPACES)):
            if os.path.basename(path).startswith(f"{self._prefix}-") and path not in known:
                yield Misfit("namespace", path, "there is a network namespace of a container that does not run",
                             "remove it", partial(_remove_namespace, path))  # fmt: skip
        for path in sorted(_listed(_INTERFACES)):
            name = os.path.basename(path)
            if name.startswith(self._prefix) and name not in bridges | outers:
                yield Misfit("interface", name, "there is an interface that no network or container has",
                             "remove it", partial(self._remove_interface, name))  # fmt: skip
        for token in sorted(tokens - {nft.token(state.network) for state in expected}):
            yield Misfit("firewall", token, "there are rules of a network that is not there", "remove them",
                         partial(self._firewall.remove, token))  # fmt: skip

    def _losses(self, state: NetworkState, comments: dict[str, list[str]]) -> Iterator[Misfit]:
        network = state.network
        if not _exists(network.interface):
            yield Misfit("interface", network.interface, "the network's bridge is gone",
                         "make it again, and join its containers to it", partial(self._rebuild, state))  # fmt: skip
        else:
            for endpoint in state.endpoints:
                outer = self._outer(endpoint)
                if not _exists(f"{outer}/master") and is_namespace(self._namespace(endpoint.container)):
                    yield Misfit("interface", outer, f"container {endpoint.container[:12]} has lost its place on the network",
                                 "join it again", partial(self.attach, endpoint))  # fmt: skip
        wanted = nft.expected(network, state.publications)
        if any(comments.get(chain) != rules for chain, rules in wanted.items()):
            yield Misfit("firewall", nft.token(network), f"the rules of network {network.interface} are not all there",
                         "load them again", partial(self._firewall.load, network, state.publications))  # fmt: skip
        for path in _switches(network) if _exists(network.interface) else ():
            if _read(path) != "1":
                yield Misfit("system", path, f"it is off, and network {network.interface} needs it", "set it to 1",
                             partial(_set, path))  # fmt: skip

    async def _obstacles(self, networks: Sequence[Network]) -> list[Misfit]:
        """Another's rules that drop all that is forwarded, and say nothing of our bridges: only the user may change them."""
        bridges = [network.interface for network in networks if not network.internal]
        return [
            Misfit(
                "firewall", name,
                "its policy drops what is forwarded, so containers reach nothing outside and published ports are shut",
                f"let it accept what comes from and goes to {', '.join(bridges)}", None,
            )
            for name, text in (await self._firewall.strangers() if bridges else [])
            if not all(bridge in text for bridge in bridges)
        ]  # fmt: skip

    async def _rebuild(self, state: NetworkState) -> None:
        await self._bridge(state.network)
        for endpoint in state.endpoints:
            await self.attach(endpoint)

    async def _remove_interface(self, name: str) -> None:
        await self._commands.run(["ip", "link", "del", "dev", name], check=_exists(name))

    async def _ip(self, lines: Sequence[str]) -> None:
        await self._commands.run(["ip", "-batch", "-"], input="".join(f"{line}\n" for line in lines).encode())


async def why_not(commands: Commands) -> str:
    """Why networks cannot be made here; "" if they can."""
    if os.geteuid() != 0:
        return "it needs root"
    missing = [name for name in ("ip", "nft") if shutil.which(name, path=_PATH) is None]
    if missing:
        return f"{' and '.join(missing)}: not installed"
    done = await commands.run(["nft", "list", "tables"], check=False)
    if done.exit_code != 0:
        return f"nft cannot be used: {' '.join(done.stderr.split())}"
    return "" if os.access("/proc/sys/net/ipv4/ip_forward", os.W_OK) else "/proc/sys/net is read-only"


def _inside(endpoint: Endpoint) -> Iterator[str]:
    yield "link set dev lo up"
    for address in endpoint.addresses:
        yield f"addr add {address} dev {endpoint.interface}{_no_dad(address)}"
    yield f"link set dev {endpoint.interface} up"
    yield from _routes(endpoint)


def _routes(endpoint: Endpoint) -> Iterator[str]:
    for gateway in endpoint.gateways:
        yield f"route replace default via {gateway} dev {endpoint.interface}"


def _switches(network: Network) -> Iterator[str]:
    """What the kernel must be told (ip-sysctl.rst): forwarding, and that 127.0.0.1 may lead to a published port."""
    yield f"/proc/sys/net/ipv4/conf/{network.interface}/route_localnet"
    for each in network.subnets if not network.internal else ():
        yield (
            "/proc/sys/net/ipv6/conf/all/forwarding"
            if ":" in each.subnet
            else "/proc/sys/net/ipv4/ip_forward"
        )


def _mtu(network: Network) -> str:
    return f" mtu {network.mtu}" if network.mtu else ""


def _no_dad(address: str) -> str:
    return " nodad" if ":" in address else ""


def _mac(identity: str) -> str:
    """Locally administered, unicast, always the same: neighbours need not learn a new one."""
    digits = hashlib.sha256(identity.encode()).hexdigest()
    return ":".join(["02", *(digits[n : n + 2] for n in range(0, 10, 2))])


def is_namespace(path: str) -> bool:
    """Whether a namespace is mounted there: a file of another device than its directory."""
    return is_mounted(path)


def remove_namespace(path: str) -> None:
    """Take the name away; no error if there is none."""
    if os.path.lexists(path):
        unmount(path)
        os.unlink(path)


async def _remove_namespace(path: str) -> None:
    remove_namespace(path)


async def _set(path: str) -> None:
    _write(path, "1")


def _exists(interface: str) -> bool:
    return os.path.lexists(f"{_INTERFACES}/{interface}")


def _listed(directory: str) -> list[str]:
    return (
        [os.path.join(directory, name) for name in os.listdir(directory)] if os.path.isdir(directory) else []
    )


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except FileNotFoundError:
        return ""


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
