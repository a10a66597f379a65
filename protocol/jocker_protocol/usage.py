"""`system.df`, what takes room, and `container.prune`. Imported through types.py."""

from __future__ import annotations

from .base import Params, Result


class DiskUsage(Params, frozen=True):
    """`system.df`."""


class ImageUsage(Result):
    """`size` is all of its layers; `unique` those that no other image has."""

    id: str
    tags: list[str]
    created_at: str
    size: int
    unique: int
    containers: int


class ContainerUsage(Result):
    """`size` is what it has written, without its image, and `size_root_fs` is both."""

    id: str
    name: str
    image: str
    status: str
    created_at: str
    size: int
    size_root_fs: int


class VolumeUsage(Result):
    """`links`: how many containers have it."""

    name: str
    size: int
    links: int


class KindUsage(Result):
    """A line of the summary: how many there are, how many are in use, bytes, and bytes that pruning would free."""

    total: int
    active: int
    size: int
    reclaimable: int


class UsageSummary(Result):
    """By kind."""

    images: KindUsage
    containers: KindUsage
    volumes: KindUsage
    build_cache: KindUsage


class DiskUsed(Result):
    """All of it in bytes."""

    images: list[ImageUsage]
    containers: list[ContainerUsage]
    volumes: list[VolumeUsage]
    summary: UsageSummary


class ContainerPrune(Params, frozen=True):
    """`container.prune`: those that do not run. Filters: until (an RFC 3339 time, or a duration such as 24h), label,
    label!.
    """

    filters: dict[str, list[str]] = {}


class ContainersPruned(Result):
    """`container.prune`'s answer."""

    containers: list[str]
    """Their ids."""
    space_reclaimed: int
    """Bytes that they had written."""
