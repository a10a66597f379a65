"""What networks, their manager and those who use them say to each other, beside the parameters of methods."""

from __future__ import annotations

import msgspec

from jocker_protocol import types as t

from ..db.records import EndpointRecord, Lease, PublishedRecord


class Resolve(msgspec.Struct, frozen=True):
    """Where a container that is being made belongs; answered with a Placement."""

    container: str
    wish: t.ContainerCreate


class Placement(msgspec.Struct, frozen=True):
    """Where it belongs. `network` as in ContainerRecord."""

    network: str
    endpoints: list[EndpointRecord] = []
    warnings: list[str] = []


class ResolveConnection(msgspec.Struct, frozen=True):
    """What `network.connect` asks for, checked; answered with an EndpointRecord."""

    container: str
    wish: t.NetworkConnect


class FindNetwork(msgspec.Struct, frozen=True):
    """Answered with the NetworkRecord. Raises NotFound, Conflict."""

    name: str


class Reserve(msgspec.Struct, frozen=True):
    """Take ports of the host for a container that starts; answered with PublishedRecords, which are on disk."""

    container: str
    network: str
    wishes: list[t.PortWish]


# --- to one network ------------------------------------------------------------------------------


class Join(msgspec.Struct, frozen=True):
    """Give a container addresses and attach it; answered with (place, Lease)."""

    endpoint: EndpointRecord
    routes: tuple[int, ...]
    """IP versions whose default route leads through this network."""


class Publish(msgspec.Struct, frozen=True):
    """These are a container's published ports now; answered when they are open, or shut."""

    container: str
    ports: list[PublishedRecord]


class Reopen(msgspec.Struct, frozen=True):
    """Listen again on the host's ports: those who did have died with the actor's last life."""


class Leave(msgspec.Struct, frozen=True):
    """A running container leaves: detach it and take its addresses back."""

    endpoint: EndpointRecord


class Route(msgspec.Struct, frozen=True):
    """The default routes of a running container lead through this network now."""

    endpoint: EndpointRecord
    routes: tuple[int, ...]


class Forget(msgspec.Struct, frozen=True):
    """A container's lease is over, on the platform and in the database."""

    container: str


class Republish(msgspec.Struct, frozen=True):
    """Load the rules of the network again."""


# --- to `names` ----------------------------------------------------------------------------------


class Refresh(msgspec.Struct, frozen=True):
    """Names or addresses have changed; answered when all containers know."""


Leases = dict[str, Lease]
"""Container -> what it has on a network."""
