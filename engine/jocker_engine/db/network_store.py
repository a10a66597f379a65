"""Queries and changes of the tables of networks; a part of the store (store.py)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from .database import Row, Statement
from .records import EndpointRecord, Lease, NetworkRecord, PublishedRecord

Rows = Callable[..., Awaitable[list[Row]]]


def _doc(record: Any) -> str:
    return msgspec.json.encode(record).decode()


def add_network(network: NetworkRecord) -> Statement:
    """The intent to make one. The name must be free (IntegrityError)."""
    return Statement(
        "INSERT INTO networks (id, name, ready, doc) VALUES (?, ?, 0, ?)",
        (network.id, network.name, _doc(network)),
    )


def confirm_network(network: str) -> Statement:
    """It is there now."""
    return Statement("UPDATE networks SET ready = 1 WHERE id = ?", (network,))


AT_REST = ("created", "exited", "dead")
"""States of containers whose network may go."""


def doom_network(network: str, *, unused: bool) -> Statement:
    """The intent to destroy it, unless a container that does not rest is on it, or, `unused`, any: then no row changes."""
    return Statement(
        """UPDATE networks SET ready = 0
           WHERE id = ?1 AND NOT EXISTS (
               SELECT 1 FROM endpoints JOIN containers ON containers.id = container
               WHERE network = ?1 AND (?2 OR status NOT IN (?3, ?4, ?5)))""",
        (network, unused, *AT_REST),
    )


def drop_network(network: str) -> Statement:
    """It is gone."""
    return Statement("DELETE FROM networks WHERE id = ?", (network,))


def add_endpoint(endpoint: EndpointRecord) -> Statement:
    """IntegrityError: it is there, or the network is not, or not any more."""
    return Statement(
        """INSERT INTO endpoints (container, network, position, doc)
           VALUES (?, (SELECT id FROM networks WHERE id = ? AND ready), ?, ?)""",
        (endpoint.container, endpoint.network, endpoint.position, _doc(endpoint)),
    )


def drop_endpoint(container: str, network: str) -> Statement:
    """The container is not on it any more."""
    return Statement("DELETE FROM endpoints WHERE container = ? AND network = ?", (container, network))


def add_lease(lease: Lease) -> list[Statement]:
    """The intent to use these addresses. IntegrityError: one is taken, or the network is not there any more."""
    return [
        Statement(
            """INSERT INTO addresses (network, address, container)
               VALUES ((SELECT id FROM networks WHERE id = ? AND ready), ?, ?)""",
            (lease.network, address, lease.container),
        )
        for address in (lease.ip, lease.ip6)
        if address
    ]


def drop_lease(container: str, network: str) -> Statement:
    """They are not used any more."""
    return Statement("DELETE FROM addresses WHERE container = ? AND network = ?", (container, network))


def add_published(ports: list[PublishedRecord]) -> list[Statement]:
    """The intent to publish these ports. IntegrityError: one is taken."""
    return [
        Statement(
            """INSERT INTO published (protocol, host_ip, host_port, container, network, container_port)
               VALUES (?, ?, ?, ?, ?, ?)""",
            (each.protocol, each.host_ip, each.host_port, each.container, each.network, each.container_port),
        )
        for each in ports
    ]


def drop_published(container: str) -> Statement:
    """They are shut."""
    return Statement("DELETE FROM published WHERE container = ?", (container,))


_decode_network = msgspec.json.Decoder(NetworkRecord).decode
_decode_endpoint = msgspec.json.Decoder(EndpointRecord).decode


class NetworkStore:
    """What can be asked."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def all(self) -> dict[str, tuple[NetworkRecord, bool]]:
        """Id -> record, and whether it is ready."""
        rows = await self._rows("SELECT id, doc, ready FROM networks ORDER BY name")
        return {id: (_decode_network(doc), bool(ready)) for id, doc, ready in rows}

    async def endpoints(self, container: str = "", network: str = "") -> list[EndpointRecord]:
        """Of a container, in order; of a network; or all."""
        rows = await self._rows(
            """SELECT doc FROM endpoints WHERE (?1 = '' OR container = ?1) AND (?2 = '' OR network = ?2)
               ORDER BY container, position""",
            container,
            network,
        )
        return [_decode_endpoint(row[0]) for row in rows]

    async def active(self, network: str) -> list[str]:
        """The names of the containers that keep it from going."""
        rows = await self._rows(
            """SELECT name FROM containers JOIN endpoints ON container = id
               WHERE network = ? AND status NOT IN (?, ?, ?)""",
            network,
            *AT_REST,
        )
        return [row[0] for row in rows]

    async def called(self, network: str) -> dict[str, str]:
        """The names of the containers on a network."""
        rows = await self._rows(
            "SELECT id, name FROM containers JOIN endpoints ON container = id WHERE network = ?", network
        )
        return {row[0]: row[1] for row in rows}

    async def leases(self, container: str = "", network: str = "") -> list[Lease]:
        """Of a container, of a network, or all."""
        rows = await self._rows(
            """SELECT container, network, address FROM addresses
               WHERE (?1 = '' OR container = ?1) AND (?2 = '' OR network = ?2) ORDER BY 1, 2""",
            container,
            network,
        )
        found: dict[tuple[str, str], dict[str, str]] = {}
        for holder, where, address in rows:
            found.setdefault((holder, where), {})["ip6" if ":" in address else "ip"] = address
        return [Lease(container=key[0], network=key[1], **given) for key, given in found.items()]

    async def published(self, container: str = "") -> list[PublishedRecord]:
        """Of a container, or all."""
        rows = await self._rows(
            """SELECT protocol, host_ip, host_port, container, network, container_port FROM published
               WHERE ?1 = '' OR container = ?1 ORDER BY container_port, protocol, host_port, host_ip""",
            container,
        )
        return [
            PublishedRecord(
                protocol=row[0],
                host_ip=row[1],
                host_port=row[2],
                container=row[3],
                network=row[4],
                container_port=row[5],
            )
            for row in rows
        ]

    async def names(self) -> dict[str, tuple[str, str, list[str]]]:
        """Of containers that have addresses: id -> name, host name, extra hosts."""
        rows = await self._rows(
            """SELECT id, name, json_extract(doc, '$.hostname'), json_extract(doc, '$.networking.extra_hosts')
               FROM containers WHERE id IN (SELECT container FROM addresses)"""
        )
        return {
            row[0]: (row[1], row[2] or "", msgspec.json.decode(row[3] or "[]", type=list[str]))
            for row in rows
        }
