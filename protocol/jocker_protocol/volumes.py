"""Types of volumes. Imported through types.py."""

from __future__ import annotations

from .base import Params, Result


class VolumeCreate(Params, frozen=True):
    """`volume.create`; without a name it gets a random one."""

    name: str = ""
    labels: dict[str, str] = {}
    quota: int = 0
    """Bytes that it can hold; 0: no limit."""


class VolumeRef(Params, frozen=True):
    """A volume by name."""

    volume: str


class VolumeRemove(Params, frozen=True):
    """`volume.remove`; force: one that is not there is no error."""

    volume: str
    force: bool = False


class VolumeList(Params, frozen=True):
    """`volume.list`. Filters: name, label, dangling, driver."""

    filters: dict[str, list[str]] = {}


class VolumePrune(Params, frozen=True):
    """`volume.prune`: anonymous volumes that no container uses; `all`: those with a name too. Filters: label, label!."""

    all: bool = False
    filters: dict[str, list[str]] = {}


class VolumesPruned(Result):
    """What went, and the bytes that it took."""

    volumes: list[str]
    space: int


class VolumeSnapshot(Params, frozen=True):
    """`volume.snapshot`; without a name it is called by the time."""

    volume: str
    snapshot: str = ""


class VolumeRestore(Params, frozen=True):
    """`volume.restore`: the volume holds what it held at the snapshot. No container that uses it may run."""

    volume: str
    snapshot: str


class VolumeSnapshotRemove(Params, frozen=True):
    """`volume.snapshot_remove`."""

    volume: str
    snapshot: str


class VolumeExport(Params, frozen=True):
    """`volume.export`: what the volume, or a snapshot of it, holds."""

    volume: str
    snapshot: str = ""


class VolumeImport(Params, frozen=True):
    """`volume.import`: made if it is not there; what an existing one holds is replaced. No container that uses it may run."""

    volume: str


class Snapshot(Result):
    """What a volume held at a time."""

    name: str
    created_at: str


class Volume(Result):
    """A volume."""

    name: str
    driver: str
    mountpoint: str
    created_at: str
    labels: dict[str, str]
    anonymous: bool = False
    used_by: list[str] = []
    """Ids of containers."""
    quota: int = 0
    snapshots: list[Snapshot] = []
    """The oldest first."""


class Volumes(Result):
    """`volume.list`'s answer, by name."""

    volumes: list[Volume]
