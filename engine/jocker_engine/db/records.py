"""What the rows hold: the engine's own records, as msgspec structs."""

from __future__ import annotations

import msgspec

from jocker_protocol.types import ContainerState, HistoryEntry, ImageConfig, RestartPolicy


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
    hostname: str
    tty: bool
    interactive: bool
    auto_remove: bool
    stop_timeout: int
    state: ContainerState
    restart_policy: RestartPolicy = RestartPolicy()
    depends_on: list[str] = []
    """Ids of containers."""
    init: bool = False
    jail_params: list[str] = []


class VolumeRecord(msgspec.Struct, kw_only=True, frozen=True):
    """A volume."""

    name: str
    path: str
    created_at: str
    labels: dict[str, str]
    anonymous: bool
