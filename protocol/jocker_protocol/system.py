"""Types of the engine itself: versions, facts, the tree, events, differences, streams. Imported through types.py."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from .base import Params, Result


class Pong(Result):
    """`engine.ping`."""

    pong: bool = True


class Version(Result):
    """`engine.version`."""

    version: str
    api_version: str
    python: str
    os: str
    arch: str
    kernel: str


class Probed(msgspec.Struct, kw_only=True):
    """One driver as probing found it: usable, or why not and what mends it."""

    part: str
    """storage, runtime or network."""
    driver: str
    usable: bool
    why: str = ""
    mend: str = ""


class Info(Result):
    """`engine.info`."""

    version: str
    root: str
    platform: dict[str, str]
    """storage, runtime, network -> driver in use."""
    probed: list[Probed]
    containers: int
    running: int
    images: int
    volumes: int
    pid: int
    uptime: float
    hostname: str
    os: str
    arch: str
    kernel: str
    cpus: int
    memory: int
    warnings: list[str] = []


class TreeNode(Result):
    """A node of `system.tree`."""

    name: str
    kind: str
    """supervisor or actor."""
    state: str
    restarts: int
    mailbox: int
    handled: int
    detail: str = ""
    children: list[TreeNode] = []


class Events(Params, frozen=True):
    """`system.events`: RFC 3339 times. Without `since` what happens from now on, without `until` for ever.

    Filters: type, action (also `event`), container, image, volume, label; values of one key are alternatives.
    """

    since: str = ""
    until: str = ""
    filters: dict[str, list[str]] = {}


class Event(Result):
    """A PROGRESS frame of `system.events`: something that happened."""

    seq: int
    """Its place in the journal."""
    time: str
    type: str
    """container, image or volume."""
    action: str
    id: str
    attributes: dict[str, str] = {}


class Check(Params, frozen=True):
    """`system.check`; `repair` mends what it finds."""

    repair: bool = False


class Difference(msgspec.Struct, kw_only=True):
    """Something that the database and the platform do not agree on."""

    part: str
    """process, shim, runtime, mount, storage, socket, directory, record, database."""
    subject: str
    """An id, a name or a path."""
    problem: str
    remedy: str
    """What --repair does."""
    repaired: bool = False


class Checked(Result):
    """`system.check`'s answer."""

    differences: list[Difference]


class Backup(Params, frozen=True):
    """`system.backup`: an absolute path on the engine's host where nothing is yet."""

    path: str


class BackedUp(Result):
    """A whole copy of the database, on disk."""

    path: str
    size: int


class Shutdown(Params, frozen=True):
    """`system.shutdown`; seconds to wait before KILL, None: each container's own."""

    timeout: int | None = None


class ShutDown(Result):
    """The ids of those that were stopped."""

    containers: list[str]


class Schema(Result):
    """`rpc.discover`: an OpenRPC document (https://spec.open-rpc.org)."""

    openrpc: str
    info: dict[str, Any]
    methods: list[dict[str, Any]]
    components: dict[str, Any]


class StreamOpen(Params, frozen=True):
    """`stream.open`: turns this connection into the stream; nothing more may be sent until it is answered."""

    token: str
    framing: Literal["frames", "lines"] = "frames"


class StreamReady(Result):
    """From the next byte on both sides speak the framing asked for."""

    ready: bool = True
