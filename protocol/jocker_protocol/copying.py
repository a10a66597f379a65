"""Types of copying between containers and their client. Imported through types.py."""

from __future__ import annotations

from typing import Literal

from .base import Params, Result


class ContainerStatPath(Params, frozen=True):
    """`container.stat_path`: what is at a path in a container, running or not; `follow` a link at its end."""

    container: str
    path: str
    follow: bool = False


class PathStat(Result):
    """What is there."""

    kind: Literal["file", "directory", "link", "other"]
    mode: int
    size: int
    mtime: int
    """Seconds since 1970."""
    target: str = ""
    """Of a link."""


class ContainerCopyFrom(Params, frozen=True):
    """`container.copy_from`: the entry is called by the last part of `path`, "." when that ends in "/."."""

    container: str
    path: str
    follow: bool = False


class ContainerCopyTo(Params, frozen=True):
    """`container.copy_to`: into the directory `path`, which must be there."""

    container: str
    path: str
    keep_ids: bool = False
    """Owners are as the tar says; otherwise all is root's."""


class Copied(Result):
    """How much it was."""

    entries: int
    bytes: int = 0
