"""The part of the networks' manager that serves containers: where they belong, and which ports of the host they get."""

from __future__ import annotations

import abc

from jocker_protocol import types as t
from jocker_protocol.errors import Conflict, InvalidParams

from ..db import network_store as sql
from ..db.records import EndpointRecord, NetworkRecord, PublishedRecord
from ..house import House
from ..otp import Actor, handles
from . import ports, wishes
from .messages import Placement, Reserve, Resolve, ResolveConnection


class Places(Actor):
    """See the module."""

    _house: House
    _records: dict[str, NetworkRecord]

    @abc.abstractmethod
    async def _find_or_default(self, name: str) -> NetworkRecord: ...

    @handles(Resolve)
    async def resolve(self, message: Resolve) -> None:
        self.answer_later(self._resolve, message)

    async def _resolve(self, message: Resolve) -> Placement:
        wish = message.wish
        if wish.network and wish.networks:
            raise InvalidParams("network and networks exclude each other: give one of them")
        first = wish.network or self._house.default_network
        if not wish.networks and (first in wishes.ALONE or first.startswith("container:")):
            return self._resolve_alone(first, wish)
        asked = wish.networks or [t.Connection(network=first)]
        endpoints: list[EndpointRecord] = []
        for each in asked:
            name = each.network or self._house.default_network
            if name in wishes.ALONE or name.startswith("container:"):
                raise InvalidParams(
                    f"networks: on network {name} a container has no place that could be chosen"
                )
            record = await self._find_or_default(name)
            if any(endpoint.network == record.id for endpoint in endpoints):
                raise InvalidParams(f"networks: {record.name} is named twice")
            endpoints.append(wishes.endpoint(record, each, message.container, len(endpoints)))
        for endpoint in endpoints:
            await self._check_wanted(endpoint)
        return Placement(self._records[endpoints[0].network].name, endpoints)

    def _resolve_alone(self, network: str, wish: t.ContainerCreate) -> Placement:
        warnings = []
        if network.startswith("container:"):
            for field in ("hostname", "extra_hosts", "dns", "dns_search", "dns_options"):
                if getattr(wish, field):
                    raise InvalidParams(
                        f"{field}: it is that of the container whose network this one shares; leave it out"
                    )
        if wish.ports or wish.publish_all:
            if network.startswith("container:"):
                raise InvalidParams("ports: publish them on the container whose network this one shares")
            if not wish.network:  # nobody asked for this network: the machine has no other
                raise InvalidParams(
                    f"ports: nothing can be published from network {network}, the only one here; leave -p out: "
                    "what listens in the container is reached on the host's own ports"
                )
            warnings.append(f"published ports are ignored: the container is on network {network}")
        return Placement(network, warnings=warnings)

    async def _check_wanted(self, wish: EndpointRecord) -> None:
        """An address that was asked for belongs to one container, whether it runs or not."""
        for each in await self._house.store.networks.endpoints(network=wish.network):
            for mine, other in ((wish.ip, each.ip), (wish.ip6, each.ip6)):
                if mine and mine == other and each.container != wish.container:
                    raise Conflict(
                        f"address {mine} was given to container {each.container[:12]}; choose another"
                    )

    @handles(ResolveConnection)
    async def resolve_connection(self, message: ResolveConnection) -> None:
        self.answer_later(self._resolve_connection, message)

    async def _resolve_connection(self, message: ResolveConnection) -> EndpointRecord:
        if message.wish.network in wishes.ALONE:
            raise InvalidParams(f"network {message.wish.network} cannot be combined with other networks")
        record = await self._find_or_default(message.wish.network)
        there = await self._house.store.networks.endpoints(container=message.container)
        if any(each.network == record.id for each in there):
            owner = await self._house.store.container(message.container)
            name = owner.name if owner else message.container[:12]
            raise Conflict(f"container {name} is on network {record.name} already")
        used = {each.position for each in there}
        position = next(number for number in range(len(used) + 1) if number not in used)
        wish = wishes.endpoint(record, message.wish, message.container, position)
        await self._check_wanted(wish)
        return wish

    @handles(Reserve)
    async def reserve(self, message: Reserve) -> list[PublishedRecord]:
        """In the order of messages, so that no two containers see the same port free."""
        house = self._house
        taken = await house.store.networks.published()
        mine = [each for each in taken if each.container == message.container]
        if mine:  # of a start that was cut off
            await house.store.write(sql.drop_published(message.container))
        host = await house.drivers.network.host() if any(wish.host_ip for wish in message.wishes) else None
        try:
            made = ports.assign(
                message.wishes,
                [each for each in taken if each.container != message.container],
                container=message.container,
                network=message.network,
                addresses=host.addresses if host else {},
            )
        except ports.Occupied as error:
            raise Conflict(
                f"{error} is {await self._occupant(error)}; choose another, or stop that one"
            ) from None
        await house.store.write(*sql.add_published(made), grows=True)
        return made

    async def _occupant(self, error: ports.Occupied) -> str:
        if error.by:
            record = await self._house.store.container(error.by)
            return f"container {record.name if record else error.by[:12]}'s"
        who = await self._house.drivers.network.holder(error.protocol, error.port)
        return f"in use by {who}" if who else "in use by a program of the host"
