"""How containers use networks: the steps of coming and going, in the tasks of whoever calls.

A lease and a published port are rows before the platform is changed, and go after it; every step may be done again.
"""

from __future__ import annotations

from jocker_protocol import types as t
from jocker_protocol.errors import InvalidState, NotFound

from ..db import network_store as sql
from ..db.records import ContainerRecord, EndpointRecord, Lease, NetworkRecord, PublishedRecord
from ..db.store import Store
from ..otp import ActorDown, System
from ..platform.interfaces import NetworkDriver
from . import plan, wishes
from .messages import (
    FindNetwork,
    Forget,
    Join,
    Leave,
    Placement,
    Publish,
    Refresh,
    Reserve,
    Resolve,
    ResolveConnection,
    Route,
)

MANAGER = "networks"
NAMES = "names"


class Networks:
    """Shared by all managers. Raises JockerError, OSError, ActorDown."""

    def __init__(self, system: System, store: Store, driver: NetworkDriver) -> None:
        self._system = system
        self._store = store
        self._driver = driver

    # --- who is where ---

    async def resolve(self, container: str, wish: t.ContainerCreate) -> Placement:
        """Where a container that is being made belongs."""
        placement: Placement = await self._system.ref(MANAGER).call(Resolve(container, wish))
        return placement

    async def resolve_connection(self, container: str, wish: t.NetworkConnect) -> EndpointRecord:
        """What `network.connect` asks for, checked."""
        found: EndpointRecord = await self._system.ref(MANAGER).call(ResolveConnection(container, wish))
        return found

    async def find(self, name: str) -> NetworkRecord:
        """A network by name, id or abbreviated id."""
        found: NetworkRecord = await self._system.ref(MANAGER).call(FindNetwork(name))
        return found

    # --- the life of a container ---

    async def attach(self, record: ContainerRecord) -> str:
        """To all its networks; returns what Isolation.network must be."""
        if record.network.startswith("container:"):
            return await self._shared(record)
        endpoints = await self._store.networks.endpoints(container=record.id)
        if not endpoints:
            return record.network if record.network in wishes.ALONE else "none"
        networks = await self._networks()
        if gone := next((each for each in endpoints if each.network not in networks), None):
            name = gone.name or gone.network[:12]
            raise NotFound(
                f"network {name} ({gone.network[:12]}), which container {record.name} was on, is not there any more; "
                f"`jocker network disconnect {name} {record.name}` takes it off, or make the container anew"
            )
        await self._reserve(record, endpoints, networks)
        routes = plan.routes(endpoints, networks)
        place = ""
        for each in endpoints:
            place, _ = await self._ask(each.network, Join(each, routes.get(each.network, ())))
        await self._publish(record.id)
        await self._refresh()
        return place

    async def ready(self, container: str) -> None:
        """The runtime has prepared its isolation."""
        await self._driver.ready(container)

    async def detach(self, container: str) -> None:
        """From all networks, when it has ended."""
        store = self._store.networks
        leases, ports = await store.leases(container=container), await store.published(container)
        if not leases and not ports:
            return
        await self._shut(container)
        await self._driver.release(container)
        await self._store.write(
            sql.drop_published(container), *(sql.drop_lease(container, lease.network) for lease in leases)
        )
        for lease in leases:
            await self._tell(lease.network, Forget(container))
        await self._refresh()

    async def join(self, endpoint: EndpointRecord) -> None:
        """One more network for a container that runs."""
        await self._ask(endpoint.network, Join(endpoint, await self._new_routes(endpoint)))
        await self._driver.ready(endpoint.container)
        await self._refresh()

    async def leave(self, endpoint: EndpointRecord) -> None:
        """One network less for a container that runs; what was published on it is shut."""
        ports = await self._store.networks.published(endpoint.container)
        if any(port.network == endpoint.network for port in ports):
            await self._tell(endpoint.network, Publish(endpoint.container, []))
            await self._store.write(sql.drop_published(endpoint.container))
        await self._ask(endpoint.network, Leave(endpoint))
        await self._reroute(endpoint)
        await self._refresh()

    async def renamed(self) -> None:
        """A container has another name."""
        await self._refresh()

    # --- facts ---

    async def endpoints(self, container: str) -> list[t.Endpoint]:
        """As `container.inspect` shows them."""
        endpoints = await self._store.networks.endpoints(container=container)
        if not endpoints:
            return []
        networks = await self._networks()
        leases = {lease.network: lease for lease in await self._store.networks.leases(container=container)}
        return [
            _show(
                each,
                networks.get(each.network),
                leases.get(each.network, Lease(container=container, network=each.network)),
            )
            for each in endpoints
        ]

    async def ports(self, container: str) -> list[t.PublishedPort]:
        """Those that are open."""
        return [
            t.PublishedPort(
                host_ip=each.host_ip,
                host_port=each.host_port,
                container_port=each.container_port,
                protocol="udp" if each.protocol == "udp" else "tcp",
            )
            for each in await self._store.networks.published(container)
        ]

    async def overview(self) -> tuple[dict[str, list[tuple[str, str]]], dict[str, list[PublishedRecord]]]:
        """Of all containers: the names and ids of their networks, their open ports."""
        networks = await self._networks()
        on: dict[str, list[tuple[str, str]]] = {}
        for each in await self._store.networks.endpoints():
            record = networks.get(each.network)
            on.setdefault(each.container, []).append((record.name if record else each.name, each.network))
        ports: dict[str, list[PublishedRecord]] = {}
        for port in await self._store.networks.published():
            ports.setdefault(port.container, []).append(port)
        return on, ports

    # --- inside ---

    async def _networks(self) -> dict[str, NetworkRecord]:
        return {id: record for id, (record, _) in (await self._store.networks.all()).items()}

    async def _reserve(
        self, record: ContainerRecord, endpoints: list[EndpointRecord], networks: dict[str, NetworkRecord]
    ) -> None:
        wanted = wishes.to_publish(record.networking, record.config.exposed_ports)
        if wanted:
            way = next((each for each in endpoints if not networks[each.network].internal), None)
            if way is None:
                raise InvalidState(
                    f"nothing can be published: all networks of container {record.name} are internal; leave -p out, "
                    "or put it on one that is not"
                )
            await self._shut(record.id)  # of a start that was cut off
            await self._system.ref(MANAGER).call(Reserve(record.id, way.network, wanted))

    async def _publish(self, container: str) -> None:
        ports = await self._store.networks.published(container)
        for network in {port.network for port in ports}:
            await self._ask(network, Publish(container, [port for port in ports if port.network == network]))

    async def _shut(self, container: str) -> None:
        for network in {port.network for port in await self._store.networks.published(container)}:
            await self._tell(network, Publish(container, []))

    async def _reroute(self, left: EndpointRecord) -> None:
        """What led through the network that a running container has left leads through another."""
        networks = await self._networks()
        before = await self._store.networks.endpoints(container=left.container)
        after = [each for each in before if each.network != left.network]
        lost = plan.routes(before, networks).get(left.network, ())
        for network, versions in plan.routes(after, networks).items():
            if found := tuple(version for version in versions if version in lost):
                endpoint = next(each for each in after if each.network == network)
                await self._system.ref(f"network/{network}").call(Route(endpoint, found))

    async def _new_routes(self, endpoint: EndpointRecord) -> tuple[int, ...]:
        """Those that the container has no way for yet."""
        endpoints = await self._store.networks.endpoints(container=endpoint.container)
        return plan.routes(endpoints, await self._networks()).get(endpoint.network, ())

    async def _shared(self, record: ContainerRecord) -> str:
        """The stack of another container, which must run."""
        other = await self._store.container(record.network.removeprefix("container:"))
        if (
            other is None
            or other.state.status not in ("running", "paused", "stopping")
            or not other.state.pid
        ):
            name = other.name if other else record.network.removeprefix("container:")[:12]
            raise InvalidState(
                f"container {name}, whose network this one shares, does not run; start it first"
            )
        return "host" if other.network == "host" else f"/proc/{other.state.pid}/ns/net"

    async def _ask(self, network: str, message: object) -> tuple[str, Lease]:
        answer: tuple[str, Lease] = await self._system.ref(f"network/{network}").call(message)
        return answer

    async def _tell(self, network: str, message: object) -> None:
        """An actor that is down will find in the database what it missed."""
        try:
            await self._system.ref(f"network/{network}").call(message)
        except ActorDown:
            pass

    async def _refresh(self) -> None:
        try:
            await self._system.ref(NAMES).call(Refresh())
        except ActorDown:
            pass  # it writes all when it is back and asked next


def _show(endpoint: EndpointRecord, network: NetworkRecord | None, lease: Lease) -> t.Endpoint:
    """`network`: None if it is gone."""
    if network is None:
        return t.Endpoint(network=endpoint.name, network_id=endpoint.network, aliases=endpoint.aliases)
    up = bool(lease.ip or lease.ip6)
    return t.Endpoint(
        network=network.name,
        network_id=network.id,
        ip=lease.ip,
        ip6=lease.ip6,
        gateway=plan.gateway(network, 4) if lease.ip else "",
        gateway6=plan.gateway(network, 6) if lease.ip6 else "",
        mac_address=plan.mac(endpoint, lease) if up else endpoint.mac_address,
        aliases=endpoint.aliases,
        interface=plan.interface(endpoint) if up else "",
    )
