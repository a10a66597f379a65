"""From records to what a network driver is told. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ..db.records import EndpointRecord, Lease, NetworkRecord, PublishedRecord
from ..platform.interfaces import Endpoint, Network, Publication, Subnet
from . import ipam

VERSIONS = (4, 6)


def subnet(record: NetworkRecord, version: int) -> str:
    """Its subnet of an IP version; "" for none."""
    return next((each.subnet for each in record.subnets if (":" in each.subnet) == (version == 6)), "")


def gateway(record: NetworkRecord, version: int) -> str:
    """The host's address there; "" for none."""
    return next((each.gateway for each in record.subnets if (":" in each.subnet) == (version == 6)), "")


def network(record: NetworkRecord) -> Network:
    """As drivers know it."""
    return Network(
        id=record.id,
        kind=record.kind,
        interface=record.interface,
        subnets=tuple(Subnet(each.subnet, each.gateway) for each in record.subnets),
        internal=record.internal,
        nat=record.nat,
        mtu=record.mtu,
    )


def interface(endpoint: EndpointRecord) -> str:
    """Its name inside."""
    return f"eth{endpoint.position}"


def mac(endpoint: EndpointRecord, lease: Lease) -> str:
    """As asked for, or from the address."""
    return endpoint.mac_address or ipam.mac(lease.ip or lease.ip6)


def endpoint(record: NetworkRecord, wish: EndpointRecord, lease: Lease, routes: Sequence[int]) -> Endpoint:
    """`routes`: IP versions whose default route leads through this network."""
    given = {4: lease.ip, 6: lease.ip6}
    return Endpoint(
        container=wish.container,
        network=network(record),
        interface=interface(wish),
        addresses=tuple(
            f"{given[version]}/{subnet(record, version).partition('/')[2]}"
            for version in VERSIONS
            if given[version]
        ),
        mac=mac(wish, lease),
        gateways=tuple(gateway(record, version) for version in routes if given[version]),
    )


def routes(
    endpoints: Iterable[EndpointRecord], networks: Mapping[str, NetworkRecord]
) -> dict[str, tuple[int, ...]]:
    """Network -> IP versions whose default route leads through it: the first that has a way out for the version."""
    found: dict[int, str] = {}
    for each in endpoints:
        record = networks.get(each.network)
        if record is None or record.internal:
            continue
        for version in VERSIONS:
            if subnet(record, version):
                found.setdefault(version, each.network)
    return {id: tuple(version for version, way in found.items() if way == id) for id in found.values()}


def publications(ports: Iterable[PublishedRecord], leases: Mapping[str, Lease]) -> tuple[Publication, ...]:
    """Those of containers that have an address to lead to: of the same family, if they have one of that.

    Always in the same order, so that what a driver has loaded can be compared.
    """
    made = []
    for each in ports:
        lease = leases.get(each.container)
        own = () if lease is None else (lease.ip6, lease.ip) if ":" in each.host_ip else (lease.ip, lease.ip6)
        to = next(filter(None, own), "")
        if to:
            made.append(Publication(each.protocol, each.host_ip, each.host_port, to, each.container_port))
    return tuple(sorted(made, key=lambda each: (each.protocol, each.host_ip, each.host_port)))
