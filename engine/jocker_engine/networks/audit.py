"""Where networks in the database and on the platform differ."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

from ..clock import boot_id
from ..containers import lifecycle
from ..db import network_store as sql
from ..db.database import Statement
from ..db.records import EndpointRecord, NetworkRecord
from ..differences import Found
from ..house import House
from ..platform.interfaces import NetworkState
from . import plan


async def halves(house: House, moving: Collection[str]) -> list[Found]:
    """Networks that were being made or removed; `moving` are so now."""
    return [
        Found("record", record.name, "the network was half made or half removed", "finish removing it",
              partial(destroy, house, record))
        for id, (record, ready) in (await house.store.networks.all()).items()
        if not ready and id not in moving
    ]  # fmt: skip


async def destroy(house: House, record: NetworkRecord, *events: Statement) -> None:
    """From the platform, then from the database."""
    await house.drivers.network.destroy(plan.network(record))
    await house.store.write(sql.drop_network(record.id), *events)


async def leftovers(house: House) -> list[Found]:
    """Containers that do not run, and have addresses or ports."""
    leases, ports = await house.store.networks.leases(), await house.store.networks.published()
    found = []
    for container in sorted({each.container for each in leases} | {each.container for each in ports}):
        record = await house.store.container(container)
        if record is not None and record.state.status in ("created", "exited", "dead"):
            found.append(
                Found("address", container, f"container {record.name} does not run, and has addresses of networks",
                      "give them back", partial(house.networks.detach, container))
            )  # fmt: skip
    return found


async def misfits(house: House) -> list[Found]:
    """What the driver finds."""
    return [
        Found(each.part, each.subject, each.problem, each.remedy, each.mend)
        for each in await house.drivers.network.audit(await expected(house))
    ]


async def expected(house: House) -> list[NetworkState]:
    """All networks with the containers that run, by what is written down. Of another boot nobody runs."""
    store = house.store.networks
    networks = {id: record for id, (record, ready) in (await store.all()).items() if ready}
    boot = boot_id()
    alive = {
        record.id for record in await house.store.containers(lifecycle.ALIVE) if record.state.boot_id == boot
    }
    of: dict[str, list[EndpointRecord]] = {}
    for each in await store.endpoints():
        of.setdefault(each.container, []).append(each)
    leases = {
        (each.container, each.network): each for each in await store.leases() if each.container in alive
    }
    routes = {container: plan.routes(of.get(container, ()), networks) for container, _ in leases}
    ports = await store.published()
    states = []
    for id, record in networks.items():
        own = {container: lease for (container, network), lease in leases.items() if network == id}
        states.append(
            NetworkState(
                plan.network(record),
                tuple(
                    plan.endpoint(record, each, own[each.container], routes[each.container].get(id, ()))
                    for container in own
                    for each in of.get(container, ())
                    if each.network == id
                ),
                plan.publications([each for each in ports if each.network == id], own),
            )
        )
    return states
