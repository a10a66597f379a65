"""Addresses: which are free, which subnets may be a network's. Pure; what is taken is told by the caller.

Sources: RFC 4632 (CIDR), RFC 3021 (/31 has no broadcast address), RFC 4193 (local v6 prefixes), RFC 4291 2.6.1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from jocker_protocol.errors import Conflict, InvalidParams
from jocker_protocol.types import Subnet

Address = IPv4Address | IPv6Address
Block = IPv4Network | IPv6Network


class Pool:
    """The addresses of one subnet of a network. Taking one costs the same however many are taken."""

    def __init__(self, subnet: Subnet, taken: Iterable[str] = ()) -> None:
        self.block: Block = ip_network(subnet.subnet)
        wanted = ip_network(subnet.ip_range) if subnet.ip_range else self.block
        self._first, self._last = _hosts(self.block)
        self._low = max(self._first, int(wanted.network_address))
        self._high = min(self._last, int(wanted.broadcast_address))
        self._make = IPv4Address if self.block.version == 4 else IPv6Address
        self._taken = {int(ip_address(subnet.gateway)), *(int(ip_address(each)) for each in taken)}
        self._next = self._low
        """No address below it is free."""

    def take(self, avoid: Iterable[str] = ()) -> str:
        """The lowest that is free; not one of `avoid`. Raises Conflict when there is none."""
        kept = {int(ip_address(each)) for each in avoid}
        number = self._next
        while number in self._taken:
            number += 1
        self._next = number
        while number in self._taken or number in kept:
            number += 1
        if number > self._high:
            raise Conflict(
                f"all addresses of {self.block} that containers may have are taken; remove containers, or use a larger network"
            )
        self._taken.add(number)
        return str(self._make(number))

    def claim(self, address: str) -> str:
        """This one. Raises Conflict when it is taken."""
        number = int(ip_address(address))
        if number in self._taken:
            raise Conflict(f"address {address} is in use; choose another, or none to get one that is free")
        self._taken.add(number)
        return address

    def free(self, address: str) -> None:
        """Give one back."""
        number = int(ip_address(address))
        self._taken.discard(number)
        self._next = min(self._next, max(number, self._low))

    def check(self, address: str, field: str) -> str:
        """The address as it is written, if a container may ask for it. Raises InvalidParams."""
        number = int(parse_address(address, field, self.block.version))
        if not self._first <= number <= self._last:
            raise InvalidParams(f"{field}: {address} is no address of a container in {self.block}")
        return str(self._make(number))


def _hosts(block: Block) -> tuple[int, int]:
    """First and last address that a host may have."""
    first, last = int(block.network_address), int(block.broadcast_address)
    if block.version == 4 and block.prefixlen < 31:
        return first + 1, last - 1
    return (first + 1 if block.version == 6 and block.prefixlen < 127 else first), last


def parse_address(text: str, field: str, version: int = 0) -> Address:
    """Raises InvalidParams."""
    try:
        address = ip_address(text)
    except ValueError:
        raise InvalidParams(f"{field}: {text!r} is no IP address") from None
    if version and address.version != version:
        raise InvalidParams(f"{field}: {text} is no IPv{version} address")
    return address


def parse_block(text: str, field: str) -> Block:
    """Raises InvalidParams, with the block that was probably meant."""
    if "/" not in text:
        raise InvalidParams(f"{field}: {text!r} has no prefix length; write it as 10.1.2.0/24")
    try:
        return ip_network(text)
    except ValueError:
        pass
    try:
        likely = ip_network(text, strict=False)
    except ValueError:
        raise InvalidParams(
            f"{field}: {text!r} is no subnet; write it as 10.1.2.0/24 or fd00:1::/64"
        ) from None
    raise InvalidParams(f"{field}: {text} has host bits set; did you mean {likely}?")


def complete(wish: Subnet) -> Subnet:
    """With its gateway, checked. Raises InvalidParams."""
    block = parse_block(wish.subnet, "subnet")
    first, last = _hosts(block)
    if last <= first:
        raise InvalidParams(f"subnet: {block} has no room for a gateway and a container")
    if block.is_multicast or block.is_loopback or block.is_link_local:
        raise InvalidParams(
            f"subnet: {block} is reserved by the Internet's standards; use one such as 10.1.2.0/24"
        )
    make = IPv4Address if block.version == 4 else IPv6Address
    gateway: Address = make(first)
    if wish.gateway:
        gateway = parse_address(wish.gateway, "gateway", block.version)
        if not first <= int(gateway) <= last:
            raise InvalidParams(f"gateway: {gateway} is no address of a host in {block}")
    part = ""
    if wish.ip_range:
        inner = parse_block(wish.ip_range, "ip_range")
        if inner.version != block.version or not inner.subnet_of(block):  # type: ignore[arg-type]
            raise InvalidParams(f"ip_range: {inner} is not inside {block}")
        part = str(inner)
    return Subnet(subnet=str(block), gateway=str(gateway), ip_range=part)


def overlap(subnet: str, others: Iterable[tuple[str, str]]) -> tuple[str, str] | None:
    """The first of `others`, (block, whose), that shares addresses with a subnet."""
    block = ip_network(subnet)
    for text, whose in others:
        other = ip_network(text, strict=False)
        if other.version == block.version and other.prefixlen > 0 and block.overlaps(other):
            return str(other), whose
    return None


def choose(others: Iterable[tuple[str, str]]) -> str:
    """A v4 subnet of 254 addresses that overlaps with none: 10.13.38.0/24 and on. Raises Conflict."""
    taken = list(others)
    for candidate in _candidates():
        if overlap(candidate, taken) is None:
            return candidate
    raise Conflict("no subnet is free in 10.13.0.0/16 and 172.16.0.0/12; name one with --subnet")


def _candidates() -> Iterator[str]:
    yield from (f"10.13.{third % 256}.0/24" for third in range(38, 38 + 255))
    yield from (f"172.{second}.{third}.0/24" for second in range(16, 32) for third in range(256))


def choose6(network: str) -> str:
    """A local prefix of a network's own, from its id, which is random as RFC 4193 wants it."""
    digits = hashlib.sha256(network.encode()).hexdigest()
    return str(ip_network(f"fd{digits[:2]}:{digits[2:6]}:{digits[6:10]}::/64"))


def mac(address: str) -> str:
    """A container's hardware address, from its own: who gets the address again is known to its neighbours already."""
    parsed = ip_address(address)
    digits = f"{int(parsed):08x}" if parsed.version == 4 else hashlib.sha256(address.encode()).hexdigest()[:8]
    return ":".join(["02", "42", *(digits[n : n + 2] for n in range(0, 8, 2))])
