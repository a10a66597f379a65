"""What the rows hold: the engine's own records, as msgspec structs."""

from __future__ import annotations

import msgspec

from jocker_protocol.limits import Limits, Security
from jocker_protocol.types import ContainerState, HistoryEntry, ImageConfig, PortWish, RestartPolicy, Subnet


class LayerRecord(msgspec.Struct, kw_only=True, frozen=True):
    """One sealed layer. `config` and `history` are those of an image that would end here: a step that can be run."""

    id: str
    parent: str | None
    cache_key: str
    """What it was made from and by; "" for a base, which no build may find."""
    created_at: str
    size: int
    config: ImageConfig
    history: list[HistoryEntry]
    used_at: str = ""
    """When a build last used it; "" for never since it was made."""


class Diff(msgspec.Struct, kw_only=True, frozen=True):
    """A layer as a tar: what it adds to its parent."""

    layer: str
    diff_id: str
    """"sha256:" and the digest of the tar; "" when it is not computed yet."""
    size: int
    """Of the tar, bytes."""


class ImageRecord(msgspec.Struct, kw_only=True, frozen=True):
    """One image; `id` is the digest of `oci`, or of an older form of the record where that is ""."""

    id: str
    layer: str | None
    created_at: str
    architecture: str
    os: str
    config: ImageConfig
    history: list[HistoryEntry]
    author: str = ""
    oci: str = ""
    """The OCI image configuration, to the letter."""


class MountRecord(msgspec.Struct, kw_only=True, frozen=True):
    """A mount with its volume made and its path known."""

    type: str
    source: str
    """Volume name, host path, "" for tmpfs."""
    path: str
    target: str
    read_only: bool
    anonymous: bool = False
    options: list[str] = []
    no_copy: bool = False


class Networking(msgspec.Struct, kw_only=True, frozen=True):
    """What a container wants of its networks, whichever they are."""

    ports: list[PortWish] = []
    publish_all: bool = False
    extra_hosts: list[str] = []
    dns: list[str] = []
    dns_search: list[str] = []
    dns_options: list[str] = []


class ContainerRecord(msgspec.Struct, kw_only=True):
    """All that is known of a container."""

    id: str
    name: str
    image: str
    """As the user called it."""
    image_id: str
    layer: str | None
    created_at: str
    config: ImageConfig
    mounts: list[MountRecord]
    network: str
    """"host", "none", "container:ID", or the first of its networks as the user called it: those are EndpointRecords."""
    hostname: str
    tty: bool
    interactive: bool
    auto_remove: bool
    stop_timeout: int
    state: ContainerState
    networking: Networking = Networking()
    restart_policy: RestartPolicy = RestartPolicy()
    depends_on: list[str] = []
    """Ids of containers."""
    init: bool = False
    jail_params: list[str] = []
    limits: Limits = Limits()
    limits_pending: bool = False
    """They are meant to change while it runs, and it is not known that they have."""
    security: Security = Security()


class SnapshotRecord(msgspec.Struct, kw_only=True, frozen=True):
    """A snapshot of a volume; not `ready` while it is being made or removed."""

    name: str
    created_at: str
    ready: bool = False


class VolumeRecord(msgspec.Struct, kw_only=True, frozen=True):
    """A volume."""

    name: str
    path: str
    created_at: str
    labels: dict[str, str]
    anonymous: bool
    quota: int = 0
    snapshots: list[SnapshotRecord] = []


class NetworkRecord(msgspec.Struct, kw_only=True, frozen=True):
    """A network."""

    id: str
    name: str
    kind: str
    """bridge or loopback."""
    created_at: str
    subnets: list[Subnet]
    """Complete: with their gateways."""
    internal: bool
    interface: str
    nat: str
    labels: dict[str, str]
    mtu: int = 0


class EndpointRecord(msgspec.Struct, kw_only=True, frozen=True):
    """A container's place on a network: what was asked for, and its number among the container's interfaces."""

    container: str
    network: str
    """Its id; a network may go while the container does not run."""
    name: str = ""
    """Of the network."""
    position: int
    ip: str = ""
    ip6: str = ""
    mac_address: str = ""
    aliases: list[str] = []


class Lease(msgspec.Struct, kw_only=True, frozen=True):
    """What a running container has on a network."""

    container: str
    network: str
    ip: str = ""
    ip6: str = ""


class PublishedRecord(msgspec.Struct, kw_only=True, frozen=True):
    """A port of the host that is a container's."""

    protocol: str
    host_ip: str
    host_port: int
    container: str
    network: str
    container_port: int
