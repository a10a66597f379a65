"""What a user asks for when a container is made, checked. Pure; raises InvalidParams."""

from __future__ import annotations

import re
from collections.abc import Sequence

from jocker_protocol import types as t
from jocker_protocol.errors import InvalidParams

from ..db.records import EndpointRecord, Networking, NetworkRecord
from . import plan, ports
from .ipam import Pool, parse_address
from .names import HOST_GATEWAY

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")
_HOST_NAME = re.compile(r"[a-zA-Z0-9_]([a-zA-Z0-9_.-]{0,252}[a-zA-Z0-9_])?")
_MAC = re.compile(r"([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}")
_INTERFACE = re.compile(r"[a-zA-Z0-9_.-]{1,15}")

ALONE = ("host", "none")
"""Networks that one cannot be on beside others, and that nobody made."""


def network_name(name: str) -> str:
    """A name for a network."""
    if not _NAME.fullmatch(name) or name in ALONE or name.startswith("container"):
        raise InvalidParams(
            f"name: {name!r} is no name for a network: letters, digits, `_`, `.`, `-`, the first a letter or digit; "
            "host, none and container are taken"
        )
    return name


def interface(name: str, field: str) -> str:
    """A name of an interface, as Linux and FreeBSD take it."""
    if name and (not _INTERFACE.fullmatch(name) or name in (".", "..")):
        raise InvalidParams(
            f"{field}: {name!r} is no name for an interface: at most 15 letters, digits, `_`, `.`, `-`"
        )
    return name


def mtu(number: int) -> int:
    """Of an Ethernet; v6 needs 1280 (RFC 8200 5)."""
    if number and not 68 <= number <= 65535:
        raise InvalidParams(f"mtu: {number} is not between 68 and 65535")
    return number


def mac_address(text: str) -> str:
    """Of one interface: six bytes, not of a group (IEEE 802)."""
    if text and not _MAC.fullmatch(text):
        raise InvalidParams(f"mac_address: {text!r} is none; write it as 02:42:0a:00:00:05")
    if text and int(text[:2], 16) & 1:
        raise InvalidParams(f"mac_address: {text} is the address of a group: its first byte must be even")
    return text.lower()


def endpoint(
    record: NetworkRecord, wish: t.Connection | t.NetworkConnect, container: str, position: int
) -> EndpointRecord:
    """A container's place on a network."""
    asked = {4: wish.ip, 6: wish.ip6}
    for version, field in ((4, "ip"), (6, "ip6")):
        if asked[version]:
            subnet = next((s for s in record.subnets if s.subnet == plan.subnet(record, version)), None)
            if subnet is None:
                raise InvalidParams(f"{field}: network {record.name} has no IPv{version} subnet")
            asked[version] = Pool(subnet).check(asked[version], field)
            if asked[version] == subnet.gateway:
                raise InvalidParams(f"{field}: {subnet.gateway} is the gateway of network {record.name}")
    for alias in wish.aliases:
        host_name(alias, "aliases")
    return EndpointRecord(
        container=container,
        network=record.id,
        name=record.name,
        position=position,
        ip=asked[4],
        ip6=asked[6],
        mac_address=mac_address(wish.mac_address),
        aliases=wish.aliases,
    )


def host_name(text: str, field: str) -> str:
    """A name that goes into a hosts file."""
    if not _HOST_NAME.fullmatch(text):
        raise InvalidParams(f"{field}: {text!r} is no host name")
    return text


def networking(wish: t.ContainerCreate) -> Networking:
    """What does not depend on the network."""
    ports.check(wish.ports)
    if wish.hostname:
        host_name(wish.hostname, "hostname")
    for item in wish.extra_hosts:
        name, colon, address = item.partition(":")
        if not colon:
            raise InvalidParams(f"extra_hosts: {item!r} must be NAME:ADDRESS")
        host_name(name, "extra_hosts")
        if address != HOST_GATEWAY:
            parse_address(address, "extra_hosts")
    for server in wish.dns:
        parse_address(server, "dns")
    for field, words in (("dns_search", wish.dns_search), ("dns_options", wish.dns_options)):
        for word in words:
            if not word or any(c.isspace() for c in word):
                raise InvalidParams(f"{field}: {word!r} must be one word")
    return Networking(
        ports=wish.ports,
        publish_all=wish.publish_all,
        extra_hosts=wish.extra_hosts,
        dns=wish.dns,
        dns_search=wish.dns_search,
        dns_options=wish.dns_options,
    )


def exposed(image: Sequence[str], asked: Sequence[str]) -> list[str]:
    """The ports of image and wish together, one each, as "80/tcp"."""
    found = [wish for text in (*image, *asked) for wish in ports.exposed(text)]
    return list(dict.fromkeys(f"{wish.container_port}/{wish.protocol}" for wish in found))


def to_publish(networking: Networking, exposed_ports: Sequence[str]) -> list[t.PortWish]:
    """All ports of a container that are to be reached by the host's."""
    named = {(wish.container_port, wish.protocol) for wish in networking.ports}
    more = [wish for text in exposed_ports for wish in ports.exposed(text)] if networking.publish_all else []
    return [*networking.ports, *(wish for wish in more if (wish.container_port, wish.protocol) not in named)]
