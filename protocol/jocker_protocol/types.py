"""What goes over the wire and, in part, into the database: msgspec structs, snake_case JSON.

Times are RFC 3339 in UTC with nanoseconds ("2026-11-23T12:00:00.000000000Z"), "" where there is none
yet. Sizes are bytes, durations seconds. Parameters refuse fields they do not know.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from .archives import Changed as Changed
from .archives import ChangedPath as ChangedPath
from .archives import ContainerCommit as ContainerCommit
from .archives import ContainerDiff as ContainerDiff
from .archives import ContainerExport as ContainerExport
from .archives import History as History
from .archives import HistoryStep as HistoryStep
from .archives import ImageHistory as ImageHistory
from .archives import ImageImport as ImageImport
from .archives import ImagePrune as ImagePrune
from .archives import ImageSave as ImageSave
from .archives import Loaded as Loaded
from .archives import LoadedImage as LoadedImage
from .archives import Pruned as Pruned
from .archives import Sent as Sent
from .base import Created as Created
from .base import Done as Done
from .base import Empty as Empty
from .base import Params as Params
from .base import Result as Result
from .base import Ticket as Ticket
from .builds import BuildContext as BuildContext
from .builds import BuilderPrune as BuilderPrune
from .builds import BuilderPruned as BuilderPruned
from .builds import BuilderUsage as BuilderUsage
from .builds import BuildProgress as BuildProgress
from .builds import BuildResult as BuildResult
from .builds import CacheItem as CacheItem
from .builds import CacheItems as CacheItems
from .builds import ImageBuild as ImageBuild
from .copying import ContainerCopyFrom as ContainerCopyFrom
from .copying import ContainerCopyTo as ContainerCopyTo
from .copying import ContainerStatPath as ContainerStatPath
from .copying import Copied as Copied
from .copying import PathStat as PathStat
from .limits import Limits, Security
from .lint import Finding as Finding
from .lint import Findings as Findings
from .lint import ImageCheck as ImageCheck
from .networks import Connection as Connection
from .networks import Endpoint as Endpoint
from .networks import Member as Member
from .networks import Network as Network
from .networks import NetworkConnect as NetworkConnect
from .networks import NetworkCreate as NetworkCreate
from .networks import NetworkDisconnect as NetworkDisconnect
from .networks import NetworkList as NetworkList
from .networks import NetworkPrune as NetworkPrune
from .networks import NetworkRef as NetworkRef
from .networks import NetworkRemove as NetworkRemove
from .networks import Networks as Networks
from .networks import NetworksPruned as NetworksPruned
from .networks import PortWish as PortWish
from .networks import PublishedPort as PublishedPort
from .networks import Subnet as Subnet
from .running import ContainerFigures as ContainerFigures
from .running import ContainerPause as ContainerPause
from .running import ContainerStats as ContainerStats
from .running import ContainerTop as ContainerTop
from .running import ContainerUnpause as ContainerUnpause
from .running import ContainerUpdate as ContainerUpdate
from .running import Figures as Figures
from .running import RestartPolicy as RestartPolicy
from .running import Top as Top
from .system import BackedUp as BackedUp
from .system import Backup as Backup
from .system import Check as Check
from .system import Checked as Checked
from .system import Difference as Difference
from .system import Event as Event
from .system import Events as Events
from .system import Info as Info
from .system import Pong as Pong
from .system import Probed as Probed
from .system import Schema as Schema
from .system import ShutDown as ShutDown
from .system import Shutdown as Shutdown
from .system import StreamOpen as StreamOpen
from .system import StreamReady as StreamReady
from .system import TreeNode as TreeNode
from .system import Version as Version
from .usage import ContainerPrune as ContainerPrune
from .usage import ContainersPruned as ContainersPruned
from .usage import ContainerUsage as ContainerUsage
from .usage import DiskUsage as DiskUsage
from .usage import DiskUsed as DiskUsed
from .usage import ImageUsage as ImageUsage
from .usage import KindUsage as KindUsage
from .usage import UsageSummary as UsageSummary
from .usage import VolumeUsage as VolumeUsage
from .volumes import Snapshot as Snapshot
from .volumes import Volume as Volume
from .volumes import VolumeCreate as VolumeCreate
from .volumes import VolumeExport as VolumeExport
from .volumes import VolumeImport as VolumeImport
from .volumes import VolumeList as VolumeList
from .volumes import VolumePrune as VolumePrune
from .volumes import VolumeRef as VolumeRef
from .volumes import VolumeRemove as VolumeRemove
from .volumes import VolumeRestore as VolumeRestore
from .volumes import Volumes as Volumes
from .volumes import VolumeSnapshot as VolumeSnapshot
from .volumes import VolumeSnapshotRemove as VolumeSnapshotRemove
from .volumes import VolumesPruned as VolumesPruned

# --- configuration of images and containers ------------------------------------------------------


class Healthcheck(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How to find out whether a container is healthy; the meaning is Docker's (HEALTHCHECK in its Dockerfile reference)."""

    test: list[str] = []
    """["CMD", program, argument...], ["CMD-SHELL", text], ["NONE"]; []: the image's."""
    interval: float = 0
    """Seconds between probes; here and below 0 is the image's, else Docker's default: 30."""
    timeout: float = 0
    """Seconds for one probe: 30."""
    start_period: float = 0
    """Seconds after the start in which failures do not count: 0."""
    start_interval: float = 0
    """Seconds between probes in the start period: 5."""
    retries: int = 0
    """Failures in a row that make it unhealthy: 3."""


class ImageConfig(msgspec.Struct, kw_only=True):
    """How to run an image; the fields of the OCI image specification's config object, in snake_case."""

    env: list[str] = []
    cmd: list[str] | None = None
    entrypoint: list[str] | None = None
    working_dir: str = ""
    user: str = ""
    exposed_ports: list[str] = []
    volumes: list[str] = []
    labels: dict[str, str] = {}
    stop_signal: str = ""
    shell: list[str] | None = None
    healthcheck: Healthcheck | None = None
    on_build: list[str] = []
    """Instructions that a build on top of this image runs first (ONBUILD)."""


class Mount(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Something mounted into a container."""

    type: Literal["volume", "bind", "tmpfs"]
    target: str
    source: str = ""
    """Volume name ("" makes an anonymous one), host path, or nothing for tmpfs."""
    read_only: bool = False
    options: list[str] = []
    """Of a tmpfs: size=, mode=, uid=, gid=, nr_inodes=, exec, suid, dev; of a bind mount its propagation (rslave,
    rshared, ...), or "bind" to leave out what is mounted below the source.
    """
    no_copy: bool = False
    """An empty volume does not get what the image has in its place."""
    must_exist: bool = False
    """The source of a bind mount is not made where it is missing."""


class ConsoleSize(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Size of a terminal in characters."""

    rows: int
    cols: int


class ContainerCreate(Params, frozen=True):
    """`container.create`."""

    image: str
    name: str = ""
    cmd: list[str] | None = None
    entrypoint: list[str] | None = None
    """None: the image's. [""] or []: none at all."""
    env: list[str] = []
    working_dir: str = ""
    user: str = ""
    mounts: list[Mount] = []
    volumes_from: list[str] = []
    """Containers whose volumes and bind mounts it gets too; ":ro" behind one makes them read-only here."""
    network: str = ""
    """"host", "none", "container:NAME", a network, or "" for the configured default."""
    networks: list[Connection] = []
    """In place of `network`: the networks it is on, the one with its default route first."""
    ports: list[PortWish] = []
    publish_all: bool = False
    """Publish the image's and `expose`'s ports, too."""
    expose: list[str] = []
    """PORT[-PORT][/tcp|udp], beside the image's."""
    hostname: str = ""
    extra_hosts: list[str] = []
    """NAME:ADDRESS; the address host-gateway is the host's own on the container's network."""
    dns: list[str] = []
    """Addresses of name servers; []: the host's."""
    dns_search: list[str] = []
    """Search domains; []: the host's; ["."]: none."""
    dns_options: list[str] = []
    tty: bool = False
    interactive: bool = False
    """Keep standard input open."""
    auto_remove: bool = False
    labels: dict[str, str] = {}
    stop_signal: str = ""
    stop_timeout: int | None = None
    restart_policy: RestartPolicy = RestartPolicy()
    depends_on: list[str] = []
    """Containers that are started before this one when the engine starts, and stopped after it."""
    healthcheck: Healthcheck | None = None
    init: bool = False
    """Run an init as the first process, which passes signals on and reaps orphans."""
    jail_params: list[str] = []
    """Parameters of jail(8), NAME or NAME=VALUE; only where containers are jails."""
    limits: Limits = Limits()
    security: Security = Security()


class ContainerRef(Params, frozen=True):
    """A container by id, abbreviated id or name."""

    container: str


class ContainerStart(Params, frozen=True):
    """`container.start`."""

    container: str
    console_size: ConsoleSize | None = None


class ContainerStop(Params, frozen=True):
    """`container.stop`, `container.restart`: seconds to wait before KILL; None: the container's own, or 10."""

    container: str
    timeout: int | None = None


class ContainerKill(Params, frozen=True):
    """`container.kill`: a signal by name ("TERM", "SIGTERM") or number ("15")."""

    container: str
    signal: str = "KILL"


class ContainerWait(Params, frozen=True):
    """`container.wait`."""

    container: str
    condition: Literal["not-running", "removed"] = "not-running"


class ExitStatus(Result):
    """How a process ended: its exit code, or 128 + signal."""

    exit_code: int
    error: str = ""


class ContainerRemove(Params, frozen=True):
    """`container.remove`: force kills a running one first; volumes takes its anonymous volumes with it."""

    container: str
    force: bool = False
    volumes: bool = False


class ContainerRename(Params, frozen=True):
    """`container.rename`."""

    container: str
    name: str


class ContainerList(Params, frozen=True):
    """`container.list`. Filters: id, name, status, label, ancestor, volume, exited; values of one key are alternatives."""

    all: bool = False
    filters: dict[str, list[str]] = {}
    limit: int = 0


class ContainerSummary(Result):
    """One line of `ps`."""

    id: str
    name: str
    image: str
    image_id: str
    command: list[str]
    created_at: str
    status: str
    exit_code: int
    started_at: str
    finished_at: str
    labels: dict[str, str]
    network: str
    networks: list[str] = []
    ports: list[str] = []
    """As Docker writes them: "0.0.0.0:8080->80/tcp", "80/tcp"."""
    mounts: list[str] = []
    health: str = ""
    """starting, healthy or unhealthy; "" without a health check."""


class Containers(Result):
    """`container.list`'s answer, newest first."""

    containers: list[ContainerSummary]


class Probe(msgspec.Struct, kw_only=True):
    """One run of a health check."""

    start: str
    end: str
    exit_code: int
    output: str
    """At most 4096 bytes."""


class Health(msgspec.Struct, kw_only=True):
    """What the health check found."""

    status: Literal["starting", "healthy", "unhealthy"]
    failing_streak: int = 0
    log: list[Probe] = []
    """The last five probes of this engine's life, the newest last."""


class ContainerState(msgspec.Struct, kw_only=True):
    """What a container is doing. `status` is one of the states of the engine's lifecycle table."""

    status: str
    pid: int = 0
    exit_code: int = 0
    error: str = ""
    """Why it could not start, or why its status is not its own ("shim lost")."""
    oom_killed: bool = False
    """Whether the kernel has killed a process of its last run for want of memory."""
    started_at: str = ""
    finished_at: str = ""
    boot_id: str = ""
    """The boot it was started in."""
    restart_count: int = 0
    """Restarts by its policy since it was last started by hand."""
    stopped: bool = False
    """Whether somebody stopped or killed it, so that its policy does not start it again."""
    health: Health | None = None


class ContainerDetail(Result):
    """`container.inspect`."""

    id: str
    name: str
    created_at: str
    image: str
    image_id: str
    path: str
    args: list[str]
    state: ContainerState
    config: ImageConfig
    """Image and options merged: what really runs."""
    tty: bool
    interactive: bool
    auto_remove: bool
    hostname: str
    network: str
    mounts: list[Mount]
    log_path: str
    rootfs: str
    platform: dict[str, str]
    """The drivers: storage, runtime, network."""
    stop_timeout: int
    restart_policy: RestartPolicy
    restart_count: int
    depends_on: list[str]
    """Ids."""
    init: bool
    jail_params: list[str]
    limits: Limits
    security: Security
    exec_ids: list[str] = []
    networks: list[Endpoint] = []
    port_wishes: list[PortWish] = []
    """What was asked for."""
    ports: list[PublishedPort] = []
    """What is open, while it runs."""
    extra_hosts: list[str] = []
    dns: list[str] = []
    dns_search: list[str] = []
    dns_options: list[str] = []


class ContainerAttach(Params, frozen=True):
    """`container.attach`: to a container that is created (the stream begins with its start) or running."""

    container: str
    stdin: bool = False
    logs: bool = False
    """Begin with what this run has printed so far."""


class ContainerExec(Params, frozen=True):
    """`container.exec`: the process starts when the stream is opened, or at once with detach (no token then)."""

    container: str
    cmd: list[str]
    env: list[str] = []
    working_dir: str = ""
    user: str = ""
    tty: bool = False
    interactive: bool = False
    detach: bool = False
    console_size: ConsoleSize | None = None


class ContainerLogs(Params, frozen=True):
    """`container.logs`."""

    container: str
    follow: bool = False
    tail: int = -1
    """Last lines only; -1: all."""
    since: str = ""
    until: str = ""
    """RFC 3339 times."""


# --- images --------------------------------------------------------------------------------------


class ImageCreate(Params, frozen=True):
    """`image.create`: a base image. `source`: a tar on the stream; programs of the engine's host; an archive such as
    FreeBSD's base.txz (fetch; fetch-auto finds the one of the engine's machine); a ZFS dataset, copied or cloned.
    """

    source: Literal["tar", "host", "fetch", "fetch-auto", "zfs-copy", "zfs-clone"]
    tag: str = ""
    """"" only with fetch-auto: freebsd:RELEASE."""
    programs: list[str] = []
    location: str = ""
    """fetch: a URL, or an absolute path on the engine's host. zfs-copy, zfs-clone: DATASET[@SNAPSHOT]."""
    dns: bool = True
    """fetch, fetch-auto: the host's resolv.conf is copied in; so, below, its localtime."""
    localtime: bool = True
    force: bool = False
    """fetch: also without a MANIFEST to verify it by. fetch-auto: also when kernel and userland differ."""
    config: ImageConfig | None = None


class CreateProgress(Result):
    """A PROGRESS frame of `image.create`. `event`: fetch (`bytes` are here), unpack; `text` is what."""

    event: str
    text: str
    bytes: int = 0


class ImageRef(Params, frozen=True):
    """An image by name[:tag], id or abbreviated id."""

    image: str


class ImageTag(Params, frozen=True):
    """`image.tag`."""

    image: str
    tag: str


class ImageRemove(Params, frozen=True):
    """`image.remove`: force also removes one that stopped containers use."""

    image: str
    force: bool = False


class ImageRemoved(Result):
    """What went."""

    untagged: list[str]
    deleted: list[str]


class ImageList(Params, frozen=True):
    """`image.list`. Filters: reference, label, dangling."""

    all: bool = False
    filters: dict[str, list[str]] = {}


class ImageSummary(Result):
    """One image, with all its tags."""

    id: str
    tags: list[str]
    created_at: str
    size: int
    labels: dict[str, str]
    containers: int = 0


class Images(Result):
    """`image.list`'s answer, newest first."""

    images: list[ImageSummary]


class HistoryEntry(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One step in an image's making (OCI image specification, config.history)."""

    created: str
    created_by: str
    empty_layer: bool = False
    layer: str = ""
    author: str = ""
    comment: str = ""


class RootFs(msgspec.Struct, kw_only=True):
    """The rootfs of the OCI image configuration."""

    type: str
    layers: list[str]
    """diff_ids, the base first."""


class ImageDetail(Result):
    """`image.inspect`."""

    id: str
    tags: list[str]
    created_at: str
    architecture: str
    os: str
    config: ImageConfig
    layers: list[str]
    """Layer ids, the base first."""
    history: list[HistoryEntry]
    size: int
    root_fs: RootFs
    repo_tags: list[str]
    """The tags, by the name that Docker's API has for them."""
    created: str
    author: str = ""
    comment: str = ""
    """Of the newest step."""
