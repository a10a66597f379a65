"""All networks: makes and removes them, finds them by what people call them. What it does for containers: places.py.

For each network there is an actor below SUPERVISOR. The default network is made when somebody first asks for it.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Sequence
from functools import partial

import msgspec
import trio

from jocker_protocol import types as t
from jocker_protocol.errors import Conflict, InUse, InvalidParams, JockerError, NotFound

from ..clock import new_id, now
from ..db import network_store as sql
from ..db.records import NetworkRecord
from ..db.statements import happened
from ..differences import mend, report
from ..filters import Filters
from ..house import House
from ..otp import ActorDown, ChildSpec, handles
from . import audit, ipam, plan, wishes
from .alone import alone
from .messages import FindNetwork, Republish
from .network import Network
from .places import Places

SUPERVISOR = "networks.all"
_FILTERS = ("id", "name", "driver", "scope", "type", "label", "dangling")
_DOCKERS_DEFAULT = "bridge"
"""What Docker's users call the default network."""

log = logging.getLogger("jocker.networks")


class NetworksManager(Places):
    """Answers network.*, and containers' questions (access.py)."""

    answers = (JockerError, OSError, sqlite3.Error, ActorDown)

    def __init__(self, house: House) -> None:
        self._house = house
        self._records: dict[str, NetworkRecord] = {}
        """Those that are there, and those that are being made or removed."""
        self._moving: set[str] = set()
        self._making_default: trio.Event | None = None

    async def init(self) -> None:
        """Undo what was half made; what is lost is made again, so after the machine's start everything."""
        house = self._house
        for look in (
            partial(audit.halves, house, ()),
            partial(audit.leftovers, house),
            partial(audit.misfits, house),
        ):
            try:
                await mend(await look())
            except (
                JockerError,
                OSError,
            ) as error:  # somebody took its interface, its addresses: others live on
                log.error("a network is not as it should be: %s", error)
        self._records = {id: record for id, (record, _) in (await house.store.networks.all()).items()}
        for record in self._records.values():
            await self._bring_up(record)

    async def terminate(self, reason: BaseException | None) -> None:
        """A default network that no container is on leaves the machine with the engine; the next one makes it again."""
        default = self._by_name(self._default_name)
        if reason is None and default is not None:
            try:
                await self._take_away(default, unused=True)
            except (ActorDown, JockerError, OSError, sqlite3.Error) as error:
                log.warning("network %s is left: %s", default.name, error)

    def detail(self) -> str:
        return f"driver {self._house.drivers.network.name}, {len(self._records)} networks"

    async def _bring_up(self, record: NetworkRecord) -> None:
        name = f"network/{record.id}"
        if self.system.whereis(name) is None:
            await self.system.start_child(SUPERVISOR, ChildSpec(name, lambda: Network(self._house, record)))

    # --- the default network ---

    @property
    def _default_name(self) -> str:
        return self._house.config.default_network_name

    async def _default(self) -> NetworkRecord:
        """Made now, if it is not there; one at a time."""
        while self._making_default is not None:
            await self._making_default.wait()
        found = self._by_name(self._default_name)
        if found is not None:
            return found
        self._making_default = trio.Event()
        try:
            config, host = self._house.config, await self._house.drivers.network.host()
            wish = t.NetworkCreate(
                name=self._default_name,
                subnets=[t.Subnet(subnet=config.default_subnet)],
                interface=""
                if config.default_loopback_name in host.addresses
                else config.default_loopback_name,
                nat=config.default_gateway_if,
            )
            return await self._make(wish, elsewhere=True)
        finally:
            self._making_default.set()
            self._making_default = None

    # --- making and removing ---

    @handles(t.NetworkCreate)
    async def create(self, message: t.NetworkCreate) -> None:
        self.answer_later(self._create, message)

    async def _create(self, wish: t.NetworkCreate) -> t.Network:
        if wish.name == self._default_name:
            await self._need_driver("")
            await self._default()
            raise Conflict(
                f"network {wish.name} is the default network, which is always there; choose another name"
            )
        record = await self._make(wish)
        return await self._show(record)

    async def _need_driver(self, kind: str) -> str:
        driver = self._house.drivers.network
        if not driver.kinds:
            raise InvalidParams(
                f"the network driver in use here, {driver.name}, makes no networks: use --network host or none; "
                "`jocker info` says why"
            )
        if kind and kind not in driver.kinds:
            raise InvalidParams(
                f"driver: {kind} networks are not for this system: {driver.name} makes {', '.join(driver.kinds)} networks"
            )
        return kind or driver.kinds[0]

    async def _make(self, wish: t.NetworkCreate, *, elsewhere: bool = False) -> NetworkRecord:
        """`elsewhere`: if its addresses are taken it gets others."""
        kind = await self._need_driver(wish.driver)
        async with alone():
            others = await self._others()
            return await self._make_beside(others, _moved(wish, others) if elsewhere else wish, kind)

    async def _make_beside(
        self, others: list[tuple[str, str]], wish: t.NetworkCreate, kind: str
    ) -> NetworkRecord:
        wishes.network_name(wish.name)
        wishes.interface(wish.interface, "interface")
        nat = wishes.interface(wish.nat, "nat")
        id = new_id()
        record = NetworkRecord(
            id=id,
            name=wish.name,
            kind=kind,
            created_at=now(),
            subnets=_subnets(id, wish, others),
            internal=wish.internal,
            interface=wish.interface or self._house.drivers.network.interface(id),
            nat=nat,
            labels=wish.labels,
            mtu=wishes.mtu(wish.mtu),
        )
        if self._by_name(record.name) is not None:
            raise _name_is_taken(record.name)
        if any(each.interface == record.interface for each in self._records.values()):
            raise Conflict(f"interface {record.interface} is another network's; choose another --interface")
        self._check_others(record)
        self._records[id] = record  # from here on nobody else gets its name or its addresses
        self._moving.add(id)
        try:
            await self._house.store.write(sql.add_network(record), grows=True)
            try:
                await self._house.drivers.network.create(plan.network(record))
                await self._house.store.write(
                    sql.confirm_network(id), happened(now(), "network", "create", id, _facts(record))
                )
            except BaseException:
                with trio.CancelScope(shield=True):
                    await audit.destroy(self._house, record)
                raise
            await self._bring_up(record)
        except BaseException:
            del self._records[id]
            raise
        finally:
            self._moving.discard(id)
        return record

    async def _others(self) -> list[tuple[str, str]]:
        """All that addresses are taken by: (block, whose)."""
        host = await self._house.drivers.network.host()
        own = {each.interface for each in self._records.values()}
        return [
            *(
                (each.subnet, f"network {record.name}")
                for record in self._records.values()
                for each in record.subnets
            ),
            *((block, f"the host's interface {name}") for block, name in host.routes if name not in own),
        ]

    def _check_others(self, record: NetworkRecord) -> None:
        """Networks that came while this one asked the host."""
        others = [(e.subnet, f"network {each.name}") for each in self._records.values() for e in each.subnets]
        for each in record.subnets:
            _refuse_overlap(each.subnet, others)

    @handles(t.NetworkRemove)
    async def remove(self, message: t.NetworkRemove) -> None:
        self.answer_later(self._remove, message)

    async def _remove(self, message: t.NetworkRemove) -> t.Done:
        if message.network in wishes.ALONE or message.network == self._default_name:
            raise InvalidParams(f"network {message.network} is always there and cannot be removed")
        try:
            record = self._find(message.network)
        except NotFound:
            if message.force:
                return t.Done()
            raise
        if record.name == self._default_name:
            raise InvalidParams(f"network {record.name} is always there and cannot be removed")
        if not await self._take_away(record, unused=False):
            users = await self._house.store.networks.active(record.id)
            held = f"container{'s' if len(users) > 1 else ''} {', '.join(sorted(users)[:10])}"
            raise InUse(
                f"network {record.name} is in use by {held}; stop or disconnect what runs on it first"
            )
        return t.Done()

    async def _take_away(self, record: NetworkRecord, *, unused: bool) -> bool:
        """False, and nothing is changed, when a container that runs is on it, or, `unused`, any container."""
        if record.id in self._moving:
            raise Conflict(f"network {record.name} is being made or removed; wait for that")
        self._moving.add(record.id)
        try:
            if not await self._house.store.write(sql.doom_network(record.id, unused=unused)):
                return False
            await self.system.stop_child(SUPERVISOR, f"network/{record.id}")
            await audit.destroy(
                self._house, record, happened(now(), "network", "destroy", record.id, _facts(record))
            )
            del self._records[record.id]
        finally:
            self._moving.discard(record.id)
        return True

    @handles(t.NetworkPrune)
    async def prune(self, message: t.NetworkPrune) -> None:
        self.answer_later(self._prune, message)

    async def _prune(self, message: t.NetworkPrune) -> t.NetworksPruned:
        filters = Filters(message.filters, ("until", "label", "label!"))
        until = filters.time("until")
        gone = []
        for record in sorted(self._records.values(), key=lambda each: each.name):
            wanted = record.name != self._default_name and record.created_at < until
            wanted = wanted and filters.labels(record.labels)
            if wanted and record.id not in self._moving and await self._take_away(record, unused=True):
                gone.append(record.name)
        return t.NetworksPruned(networks=gone)

    # --- finding ---

    def _by_name(self, name: str) -> NetworkRecord | None:
        return next((each for each in self._records.values() if each.name == name), None)

    def _find(self, name: str) -> NetworkRecord:
        found = self._by_name(name) or self._records.get(name)
        if found is None and name == _DOCKERS_DEFAULT:
            found = self._by_name(self._default_name)
        if found is not None:
            return found
        like = [each for id, each in self._records.items() if name and id.startswith(name)]
        if not like:
            raise NotFound(f"no such network: {name}; `jocker network ls` lists them")
        if len(like) > 1:
            listed = ", ".join(f"{each.id[:16]} ({each.name})" for each in like[:10])
            raise Conflict(f"network id {name} is ambiguous; it could be {listed}")
        return like[0]

    async def _find_or_default(self, name: str) -> NetworkRecord:
        if name in (self._default_name, _DOCKERS_DEFAULT) and self._by_name(name) is None:
            await self._need_driver("")
            return await self._default()
        await self._need_driver("")
        return self._find(name)

    @handles(FindNetwork)
    async def find(self, message: FindNetwork) -> None:
        self.answer_later(self._find_or_default, message.name)

    @handles(t.NetworkRef)
    async def inspect(self, message: t.NetworkRef) -> None:
        self.answer_later(self._inspect, message)

    async def _inspect(self, message: t.NetworkRef) -> t.Network:
        if message.network in wishes.ALONE:
            return _alone(message.network)
        if not self._house.drivers.network.kinds:
            return await self._show(self._find(message.network))
        return await self._show(await self._find_or_default(message.network))

    @handles(t.NetworkList)
    async def list_(self, message: t.NetworkList) -> None:
        self.answer_later(self._list, message)

    async def _list(self, message: t.NetworkList) -> t.Networks:
        filters = Filters(message.filters, _FILTERS)
        if self._house.drivers.network.kinds:
            try:
                await self._default()
            except (JockerError, OSError) as error:
                log.warning("the default network cannot be made: %s", error)
        shown = [_alone(name) for name in wishes.ALONE]
        shown += [await self._show(each) for each in self._records.values() if each.id not in self._moving]
        return t.Networks(
            networks=[
                each
                for each in sorted(shown, key=lambda each: each.name)
                if filters.begins("id", each.id)
                and filters.contains("name", each.name)
                and filters.equals("driver", each.driver)
                and filters.equals("scope", "local")
                and filters.equals(
                    "type", "builtin" if each.default or each.name in wishes.ALONE else "custom"
                )
                and filters.labels(each.labels)
                and filters.flag(
                    "dangling", not each.members and not each.default and each.name not in wishes.ALONE
                )
            ]
        )

    async def _show(self, record: NetworkRecord) -> t.Network:
        return t.Network(
            id=record.id,
            name=record.name,
            driver=record.kind,
            created_at=record.created_at,
            subnets=record.subnets,
            internal=record.internal,
            interface=record.interface,
            nat=record.nat,
            labels=record.labels,
            mtu=record.mtu,
            default=record.name == self._default_name,
            members=await self._members(record),
        )

    async def _members(self, record: NetworkRecord) -> list[t.Member]:
        store = self._house.store.networks
        leases = {lease.container: lease for lease in await store.leases(network=record.id)}
        called = await store.called(record.id)
        members = []
        for each in await store.endpoints(network=record.id):
            lease = leases.get(each.container)
            members.append(
                t.Member(
                    container=each.container,
                    name=called.get(each.container, ""),
                    ip=lease.ip if lease else "",
                    ip6=lease.ip6 if lease else "",
                    mac_address=plan.mac(each, lease) if lease else each.mac_address,
                    aliases=each.aliases,
                )
            )
        return sorted(members, key=lambda each: each.name)

    # --- differences ---

    @handles(t.Check)
    async def check(self, message: t.Check) -> None:
        self.answer_later(self._check, message)

    async def _check(self, message: t.Check) -> list[t.Difference]:
        house = self._house
        found = [
            *await audit.halves(house, self._moving),
            *await audit.leftovers(house),
            *await audit.misfits(house),
        ]
        shown = await report(found, repair=message.repair)
        if message.repair:
            for id in (
                self._records.keys() - self._moving
            ):  # what an audit has loaded may be older than what holds
                await self.system.ref(f"network/{id}").call(Republish())
        return shown


def _moved(wish: t.NetworkCreate, others: Sequence[tuple[str, str]]) -> t.NetworkCreate:
    subnet = wish.subnets[0].subnet
    if (taken := ipam.overlap(subnet, others)) is None:
        return wish
    free = ipam.choose(others)
    log.warning("network %s gets %s: %s overlaps with %s of %s", wish.name, free, subnet, *taken)
    return msgspec.structs.replace(wish, subnets=[t.Subnet(subnet=free)])


def _subnets(id: str, wish: t.NetworkCreate, others: Sequence[tuple[str, str]]) -> list[t.Subnet]:
    given = [ipam.complete(each) for each in wish.subnets]
    versions = [6 if ":" in each.subnet else 4 for each in given]
    if len(set(versions)) < len(versions):
        raise InvalidParams("subnets: at most one of each IP version")
    for each in given:
        _refuse_overlap(each.subnet, others)
    if not given:
        given.append(ipam.complete(t.Subnet(subnet=ipam.choose(others))))
    if wish.ipv6 and 6 not in versions:
        given.append(ipam.complete(t.Subnet(subnet=ipam.choose6(id))))
    return sorted(given, key=lambda each: ":" in each.subnet)


def _refuse_overlap(subnet: str, others: Sequence[tuple[str, str]]) -> None:
    if (found := ipam.overlap(subnet, others)) is not None:
        raise Conflict(f"subnet {subnet} overlaps with {found[0]} of {found[1]}; choose another --subnet")


def _name_is_taken(name: str) -> Conflict:
    return Conflict(f"there is a network {name} already; remove that one, or choose another name")


def _facts(record: NetworkRecord) -> dict[str, str]:
    return {**record.labels, "name": record.name, "type": record.kind}


def _alone(name: str) -> t.Network:
    return t.Network(
        id=name,
        name=name,
        driver="null" if name == "none" else "host",
        created_at="",
        subnets=[],
        internal=False,
        interface="",
        nat="",
        labels={},
    )
