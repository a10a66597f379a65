"""One network: an actor that gives addresses, attaches containers, and keeps the rules of its published ports."""

from __future__ import annotations

import logging
import sqlite3

from jocker_protocol.errors import Conflict, JockerError

from ..db import network_store as sql
from ..db.records import EndpointRecord, Lease, NetworkRecord, PublishedRecord
from ..house import House
from ..otp import Actor, handles
from ..platform.forwarder import Forwarder
from ..platform.interfaces import Publication
from . import plan
from .ipam import Pool
from .messages import Forget, Join, Leases, Leave, Publish, Reopen, Republish, Route
from .rounds import Rounds

log = logging.getLogger("jocker.networks")


class Network(Actor):
    """See the module. The platform's side of it exists when this actor does."""

    answers = (JockerError, OSError, sqlite3.Error)

    def __init__(self, house: House, record: NetworkRecord) -> None:
        self._house = house
        self._record = record
        self._leases: Leases = {}
        self._ports: dict[str, list[PublishedRecord]] = {}
        self._rules = Rounds(self._load_rules, self.answers)
        self._forwarder = Forwarder()

    async def init(self) -> None:
        store = self._house.store.networks
        self._leases = {lease.container: lease for lease in await store.leases(network=self._record.id)}
        for port in await store.published():
            if port.network == self._record.id:
                self._ports.setdefault(port.container, []).append(port)
        taken = [address for lease in self._leases.values() for address in (lease.ip, lease.ip6) if address]
        self._pools = {
            6 if ":" in each.subnet else 4: Pool(
                each, [a for a in taken if (":" in a) == (":" in each.subnet)]
            )
            for each in self._record.subnets
        }
        self.spawn(self._rules.run)
        self.spawn(self._forwarder.run)
        self.ref.cast(Reopen())

    def detail(self) -> str:
        subnets = " ".join(each.subnet for each in self._record.subnets)
        return f"{self._record.name} {subnets}, {len(self._leases)} containers"

    # --- containers come ---

    @handles(Join)
    async def join(self, message: Join) -> None:
        self.answer_later(self._join, message)

    async def _join(self, message: Join) -> tuple[str, Lease]:
        wish = message.endpoint
        lease = self._leases.get(wish.container) or await self._lease(wish)
        endpoint = plan.endpoint(self._record, wish, lease, message.routes)
        return await self._house.drivers.network.attach(endpoint), lease

    async def _lease(self, wish: EndpointRecord) -> Lease:
        """Addresses that were asked for stay free for those who did so, also while they do not run."""
        others = await self._house.store.networks.endpoints(network=self._record.id)
        kept = [a for each in others if each.container != wish.container for a in (each.ip, each.ip6) if a]
        wanted = {4: wish.ip, 6: wish.ip6}
        given: dict[int, str] = {}
        try:
            for version, pool in self._pools.items():
                if wanted[version]:
                    given[version] = self._claim(pool, wanted[version])
                else:
                    given[version] = pool.take([a for a in kept if (":" in a) == (version == 6)])
            lease = Lease(
                container=wish.container, network=self._record.id, ip=given.get(4, ""), ip6=given.get(6, "")
            )
            self._leases[wish.container] = lease
            await self._house.store.write(*sql.add_lease(lease), grows=True)
        except BaseException:
            self._leases.pop(wish.container, None)
            for version, address in given.items():
                self._pools[version].free(address)
            raise
        return lease

    def _claim(self, pool: Pool, address: str) -> str:
        for lease in self._leases.values():
            if address in (lease.ip, lease.ip6):
                raise Conflict(
                    f"address {address} is container {lease.container[:12]}'s on network {self._record.name}; choose another"
                )
        return pool.claim(address)

    # --- and go ---

    @handles(Leave)
    async def leave(self, message: Leave) -> None:
        self.answer_later(self._leave, message.endpoint)

    async def _leave(self, wish: EndpointRecord) -> None:
        lease = self._leases.get(wish.container)
        if lease is None:
            return
        await self._house.drivers.network.detach(plan.endpoint(self._record, wish, lease, ()))
        await self._house.store.write(sql.drop_lease(wish.container, self._record.id))
        self._forget(wish.container)

    @handles(Route)
    async def route(self, message: Route) -> None:
        self.answer_later(self._route, message)

    async def _route(self, message: Route) -> None:
        if lease := self._leases.get(message.endpoint.container):
            endpoint = plan.endpoint(self._record, message.endpoint, lease, message.routes)
            await self._house.drivers.network.route(endpoint)

    @handles(Forget)
    async def forget(self, message: Forget) -> None:
        self._forget(message.container)

    def _forget(self, container: str) -> None:
        lease = self._leases.pop(container, None)
        if lease is not None:
            for version, address in ((4, lease.ip), (6, lease.ip6)):
                if address:
                    self._pools[version].free(address)

    # --- rules ---

    @handles(Publish)
    async def publish(self, message: Publish) -> None:
        if message.ports:
            self._ports[message.container] = message.ports
        else:
            self._ports.pop(message.container, None)
        refused = await self._forwarder.change(self._publications())
        mine = plan.publications(message.ports, self._leases)
        if first := next((each for each in mine if each in refused), None):
            del self._ports[message.container]
            await self._forwarder.change(self._publications())
            raise Conflict(
                f"port {first.host_port}/{first.protocol} of {first.host_ip} cannot be had: {refused[first]}; "
                "choose another, or stop who has it"
            )
        self._rules.ask(self.defer())

    @handles(Republish)
    async def republish(self, message: Republish) -> None:
        self._rules.ask(self.defer())

    async def _load_rules(self) -> None:
        await self._house.drivers.network.publish(plan.network(self._record), self._publications())

    def _publications(self) -> tuple[Publication, ...]:
        return plan.publications([port for ports in self._ports.values() for port in ports], self._leases)

    @handles(Reopen)
    async def reopen(self, message: Reopen) -> None:
        for each, why in (await self._forwarder.change(self._publications())).items():
            log.warning(
                "port %s/%s of %s cannot be had: %s", each.host_port, each.protocol, each.host_ip, why
            )
