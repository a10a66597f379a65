"""Types of networks: what they are, what containers have of them, published ports. Imported through types.py."""

from __future__ import annotations

from typing import Literal

import msgspec

from .base import Params, Result

# --- what containers have of networks ------------------------------------------------------------


class Connection(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A container's place on a network, as it is asked for."""

    network: str
    """Name, id or abbreviated id; "": the default network."""
    ip: str = ""
    ip6: str = ""
    """Addresses of its own; "": one that is free, each time it starts."""
    aliases: list[str] = []
    """More names by which the network's containers find it."""
    mac_address: str = ""


class PortWish(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A port of a container that is to be reached by a port of the host."""

    container_port: int
    protocol: Literal["tcp", "udp"] = "tcp"
    host_port: int = 0
    """0: one that is free."""
    host_port_last: int = 0
    """The last of a range that begins with `host_port`, of which the first that is free is taken; 0: no range."""
    host_ip: str = ""
    """An address of the host, the name of an interface of it (all its addresses), or "" for all addresses."""


class PublishedPort(msgspec.Struct, kw_only=True, frozen=True):
    """A port of the host that leads into a container."""

    host_ip: str
    """An address; "0.0.0.0" or "::" for all of its family."""
    host_port: int
    container_port: int
    protocol: Literal["tcp", "udp"]


class Endpoint(msgspec.Struct, kw_only=True):
    """A container's place on a network as it is; addresses are "" while it does not run."""

    network: str
    network_id: str
    ip: str = ""
    ip6: str = ""
    gateway: str = ""
    gateway6: str = ""
    mac_address: str = ""
    aliases: list[str] = []
    interface: str = ""
    """Its name inside."""


# --- methods -------------------------------------------------------------------------------------


class Subnet(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Addresses of a network, v4 or v6."""

    subnet: str
    """In CIDR notation; its host bits are zero."""
    gateway: str = ""
    """The host's own address in it; "": the first."""
    ip_range: str = ""
    """The part from which containers get theirs; "": all of it."""


class NetworkCreate(Params, frozen=True):
    """`network.create`."""

    name: str
    driver: Literal["", "bridge", "loopback"] = ""
    """"": the best that the engine's machine has."""
    subnets: list[Subnet] = []
    """At most one of each family; a v4 one that is not given is chosen."""
    ipv6: bool = False
    """With a v6 subnet, chosen when it is not given."""
    internal: bool = False
    """No way out, and none in but from the host."""
    interface: str = ""
    """Name of the host's interface; "": one is made up."""
    nat: str = ""
    """The host's interface through which what goes out is translated; "": any; "off": none."""
    mtu: int = 0
    """Bytes of the largest packet on it; 0: as the system has it."""
    labels: dict[str, str] = {}


class NetworkRef(Params, frozen=True):
    """A network by name, id or abbreviated id."""

    network: str


class NetworkRemove(Params, frozen=True):
    """`network.remove`; force: one that is not there is no error."""

    network: str
    force: bool = False


class NetworkList(Params, frozen=True):
    """`network.list`. Filters: id, name, driver, scope (local), type (builtin, custom), label, dangling."""

    filters: dict[str, list[str]] = {}


class NetworkPrune(Params, frozen=True):
    """`network.prune`: those that no container is on, but the default one. Filters: until, label, label!."""

    filters: dict[str, list[str]] = {}


class NetworkConnect(Params, frozen=True):
    """`network.connect`."""

    network: str
    container: str
    ip: str = ""
    ip6: str = ""
    aliases: list[str] = []
    mac_address: str = ""


class NetworkDisconnect(Params, frozen=True):
    """`network.disconnect`; force: one that is not there is no error."""

    network: str
    container: str
    force: bool = False


class Member(msgspec.Struct, kw_only=True):
    """A container on a network; addresses are "" while it does not run."""

    container: str
    name: str
    ip: str = ""
    ip6: str = ""
    mac_address: str = ""
    aliases: list[str] = []


class Network(Result):
    """A network."""

    id: str
    name: str
    driver: str
    created_at: str
    subnets: list[Subnet]
    internal: bool
    interface: str
    nat: str
    labels: dict[str, str]
    mtu: int = 0
    default: bool = False
    """What containers are on when they do not say."""
    members: list[Member] = []


class Networks(Result):
    """`network.list`'s answer, by name."""

    networks: list[Network]


class NetworksPruned(Result):
    """The names of those that went."""

    networks: list[str]
