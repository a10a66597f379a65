"""The three small interfaces through which the engine sees the operating system.

Drivers know nothing of actors, databases or images: names and paths are plain strings, made by the
caller. Every method is idempotent where that can be (making what is there, destroying what is gone), so
that a half-done operation is finished by doing it again. Errors: PlatformError (commands.py) and OSError.

Ids given to drivers are lower-case hex; layers and trees share one name space per driver.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from jocker_protocol.limits import Limits, Security

from ..shim.launch import Launch
from .commands import PlatformError


@dataclass(frozen=True)
class Inventory:
    """What a storage driver really has: ids of sealed layers, of writable trees, names of volumes."""

    layers: frozenset[str]
    trees: frozenset[str]
    volumes: frozenset[str]


@dataclass(frozen=True)
class Change:
    """One path that differs from the parent layer. `kind` is "A" added, "C" changed, "D" deleted."""

    kind: str
    path: str


class Volumes(Protocol):
    """Directories that last, part of every storage driver. Names of snapshots are unique within their volume."""

    async def create_volume(self, volume: str, quota: int = 0) -> str:
        """Make a volume (an empty directory that lasts); returns its path. `quota` as in `clone`."""

    async def destroy_volume(self, volume: str) -> None:
        """Delete a volume with all it holds, and its snapshots."""

    async def snapshot_volume(self, volume: str, snapshot: str) -> None:
        """Keep what a volume holds now under a name of its own, whole and on disk when this returns."""

    async def restore_volume(self, volume: str, snapshot: str) -> None:
        """The volume holds what the snapshot does, all or nothing; other snapshots stay. Nothing runs on it."""

    async def destroy_snapshot(self, volume: str, snapshot: str) -> None:
        """Delete a snapshot."""

    async def export_volume(
        self, volume: str, snapshot: str, into: Callable[[bytes], Awaitable[None]]
    ) -> None:
        """Give what a snapshot, or with "" the volume itself, holds, as an uncompressed tar, piece by piece."""

    async def import_volume(self, volume: str, pieces: AsyncIterable[bytes]) -> None:
        """The volume holds what this tar (plain, gzip, bzip2, xz) does, all or nothing. Nothing runs on it.

        Raises PlatformError for what is no tar, or is cut short; whatever `pieces` raises.
        """

    async def snapshots(self) -> dict[str, frozenset[str]]:
        """Volume -> names of its snapshots, of all volumes that have any; half made ones too."""

    async def volume_faults(self) -> dict[str, str]:
        """Volumes that are there and not as they should be -> what is wrong: not mounted, leftovers."""

    async def mend_volume(self, volume: str) -> None:
        """Put right what volume_faults names."""


@dataclass(frozen=True)
class Content:
    """Where the content of a layer or tree lies on this host, for reading, and what it is to be compared with."""

    root: str
    """All of it; of a stack what it has itself."""
    below: tuple[str, ...] = ()
    """The root of its parent; of a stack those of all layers below, the topmost first."""
    stacked: bool = False
    """Whether it is a stack in the form of overlayfs, with whiteouts and opaque directories."""
    since_ns: int = 0
    """Files whose ctime is earlier have not been touched since they were as in the parent; 0: not known."""


class Storage(Volumes, Protocol):
    """Where file systems come from. A *layer* is immutable; a *tree* is writable and mounted somewhere."""

    name: str

    async def import_tar(self, layer: str, tar: str) -> None:
        """Make a base layer (no parent) from an uncompressed, gzip, bzip2 or xz tar file on this host.

        Nothing is ever written outside the layer; ownership, modes, times, hard links, device nodes and
        xattrs are kept as far as this user may. Raises PlatformError for what is not a tar.
        """

    async def clone(self, tree: str, parent: str | None, quota: int = 0) -> str:
        """Make a writable tree on top of a layer (None: an empty one), mount it, return its path.

        `quota`: bytes that it can take of its own (0: no limit); beyond them writing fails with ENOSPC or EDQUOT.
        Raises PlatformError where that cannot be enforced.
        """

    async def mount(self, tree: str) -> str:
        """Mount a tree that exists (after a reboot); returns its path. No error if it is mounted."""

    async def unmount(self, tree: str) -> None:
        """Take the mount away, keep the content."""

    async def seal(self, tree: str, layer: str) -> None:
        """Turn a tree into an immutable layer and sync it to disk; the tree is gone afterwards."""

    async def destroy_tree(self, tree: str) -> None:
        """Unmount and delete."""

    async def destroy_layer(self, layer: str) -> None:
        """Delete a layer. The caller knows that nothing stands on it."""

    async def diff(self, tree: str) -> list[Change]:
        """What a tree changed against its parent, sorted by path."""

    async def content(self, name: str) -> Content:
        """Where a layer, or a tree (it may be mounted), can be read, until `release`."""

    async def release(self, name: str) -> None:
        """The content of this layer or tree is no longer read."""

    async def size(self, name: str) -> int:
        """Bytes that this layer or tree itself takes, without its parents."""

    async def sizes(self) -> dict[str, int]:
        """As `size`, of all layers and trees at once; of volumes too where that costs nothing more."""

    async def inventory(self) -> Inventory:
        """All that is there, mounted or not, whole or half made or half destroyed."""

    async def mounted(self) -> frozenset[str] | None:
        """Trees that are mounted; None from a driver that mounts nothing."""


@runtime_checkable
class FromDatasets(Protocol):
    """A storage driver that can take a base layer from a ZFS dataset."""

    async def import_dataset(self, layer: str, dataset: str, *, copy: bool) -> None:
        """Make a base layer of a dataset, or of a snapshot of it: a copy, or a clone that goes on standing on it."""


@dataclass(frozen=True)
class Bind:
    """A host path mounted into a container at `target` (absolute, inside); tmpfs when source is ""."""

    source: str
    target: str
    read_only: bool = False
    options: tuple[str, ...] = ()
    """More options of mount(8): of a tmpfs "size=...", "mode=...", "exec"; of a path "rslave" and the like."""


@dataclass(frozen=True)
class Process:
    """What to run inside. User is "", "name", "uid", "name:group", "uid:gid", looked up in the container.

    A program without "/" is looked up in PATH of `env`, inside; exit code 127 if it is not there, 126 if
    it cannot be executed.
    """

    argv: tuple[str, ...]
    env: tuple[str, ...]
    cwd: str = "/"
    user: str = ""
    tty: bool = False
    rows: int = 0
    cols: int = 0


@dataclass(frozen=True)
class Isolation:
    """One container's surroundings, complete before its process starts."""

    id: str
    directory: str
    """The container's own directory on the host, for the driver's files (bundle and the like)."""
    rootfs: str
    hostname: str
    network: str
    """"host", "none", or what the network driver's `attach` answered: a path of a network namespace on Linux."""
    binds: tuple[Bind, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    """Files mounted over the container's: target -> host path (/etc/hosts, /etc/resolv.conf)."""
    init: bool = False
    """The first process is an init that passes signals on and reaps orphans."""
    jail_params: tuple[str, ...] = ()
    """Parameters of jail(8), NAME or NAME=VALUE, over those that the driver sets."""
    limits: Limits = field(default_factory=Limits)
    """But `storage`, which is the storage driver's."""
    security: Security = field(default_factory=Security)


def no_jail_params(runtime: str, params: tuple[str, ...]) -> None:
    """check_jail_params of a runtime that has none."""
    if params:
        raise PlatformError(
            f"jail parameter {params[0]!r}: runtime {runtime} makes no jails; leave --jail-param out"
        )


@dataclass(frozen=True)
class Usage:
    """What a running container takes, all its processes together, since its start; 0 where it is not known."""

    cpu: float = 0.0
    """Seconds of processor time."""
    memory: int = 0
    """Bytes, without the page cache that can be given up at once."""
    memory_limit: int = 0
    """Its own limit, else the host's memory."""
    processes: int = 0
    """With threads, where the platform counts them."""
    processes_limit: int = 0
    read: int = 0
    """Bytes from block devices; so, below, to them, and from and to the network."""
    written: int = 0
    received: int = 0
    sent: int = 0


class Runtime(Protocol):
    """What isolates a process. Processes are started by shims, from the Launch records made here."""

    name: str

    async def check_jail_params(self, params: tuple[str, ...]) -> None:
        """Raises PlatformError for a jail parameter that containers of this runtime cannot have."""

    async def prepare(self, isolation: Isolation, process: Process) -> Launch:
        """Write what the runtime needs and say how a shim starts the main process.

        The Launch has the start fields filled (enter, argv, ...); the caller adds log and stdio.
        Mount points missing in the rootfs are made, never through a link that leaves it.
        """

    async def launch_exec(self, isolation: Isolation, process: Process, key: str) -> Launch:
        """How a shim starts one more process in the running container; `key` is unique to this exec."""

    def check(self, limits: Limits, security: Security) -> None:
        """Raise InvalidParams for what this driver cannot enforce, and for what makes no sense (refusals.py)."""

    async def signal(self, container: str, pid: int, signum: int) -> None:
        """Send a signal to the main process; no error if it is gone. KILL ends a paused one too."""

    async def stop(self, container: str, pid: int, signum: int) -> None:
        """Ask it to end: its stop signal, or what the container has in its place. May be cancelled by a time limit."""

    async def kill_all(self, container: str, pid: int) -> None:
        """KILL every process of the container; returns at once, they may need a moment to go. pid 0: not known."""

    async def update(self, isolation: Isolation) -> None:
        """The running container has the limits of `isolation` from now on (those that `jocker update` can change)."""

    async def pause(self, container: str) -> None:
        """No process of the running container gets any processor time until `resume`."""

    async def resume(self, container: str) -> None:
        """Undo `pause`; no error if it is not paused, or gone."""

    async def is_paused(self, container: str) -> bool:
        """Whether it is paused; False when it is gone."""

    async def usage(self, container: str, pid: int) -> Usage:
        """What the running container takes; zeros when it is gone."""

    async def processes(self, container: str, pid: int) -> list[int]:
        """Ids, on the host, of all its processes; exec's too."""

    async def oom_kills(self, container: str) -> int:
        """How many of its processes the kernel has killed for want of memory; to be asked before `destroy`."""

    async def root(self, isolation: Isolation, pid: int) -> str:
        """A directory where the host sees the running container's root with all that is mounted in it."""

    async def destroy(self, isolation: Isolation) -> None:
        """Remove what prepare and the runtime left: states, cgroups, mounts, files. All processes are gone or killed."""

    async def inventory(self) -> frozenset[str]:
        """Ids of all containers of which anything is there, running or not."""

    async def states(self) -> frozenset[str]:
        """Ids of those that it has a state of: others it cannot signal or enter."""


# --- networks ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Subnet:
    """Addresses of a network: "10.13.37.0/24" and the host's own address there, "10.13.37.1"."""

    subnet: str
    gateway: str


@dataclass(frozen=True)
class Network:
    """All that a driver must know to make a network, and to find what it made."""

    id: str
    """Hex, unique."""
    kind: str
    """"bridge": each container has a stack of its own, joined by a bridge of the host. "loopback": containers
    share the host's stack, each with addresses of its own on a loopback interface (FreeBSD's ip4.addr).
    """
    interface: str
    """The host's interface: a bridge, or a loopback."""
    subnets: tuple[Subnet, ...]
    """One v4, one v6 or both; the gateway is the host's address on `interface`."""
    internal: bool = False
    """Nothing is forwarded from or to it."""
    nat: str = ""
    """What goes out through this interface gets the host's address; "": through any; "off": none does."""
    mtu: int = 0
    """Of its interfaces, in bytes; 0: as the system has it."""


@dataclass(frozen=True)
class Endpoint:
    """A container's place on a network."""

    container: str
    network: Network
    interface: str
    """Its name inside, "eth0" and on; a driver whose system has no such names may choose its own."""
    addresses: tuple[str, ...]
    """With their prefix lengths: "10.13.37.2/24"."""
    mac: str
    gateways: tuple[str, ...] = ()
    """Next hops of the container's default routes; () for all networks but its first, and for internal ones."""


@dataclass(frozen=True)
class Publication:
    """A port of the host that leads to one of a container. `protocol` is "tcp" or "udp"."""

    protocol: str
    host_ip: str
    """An address of the host; "0.0.0.0" or "::" for all of its family."""
    host_port: int
    container_ip: str
    container_port: int

    @property
    def translated(self) -> bool:
        """Whether a packet filter can lead from one address to the other: both are of one family, and ::1, which no
        packet from or to another machine may have (RFC 4291 2.5.3), is neither. The forwarder leads to all.
        """
        return (":" in self.host_ip) == (":" in self.container_ip) and self.host_ip != "::1"


@dataclass(frozen=True)
class NetworkState:
    """What there should be of one network."""

    network: Network
    endpoints: tuple[Endpoint, ...] = ()
    publications: tuple[Publication, ...] = ()


@dataclass(frozen=True)
class Misfit:
    """Where networks are not as they should be. `part` is interface, namespace, firewall or system."""

    part: str
    subject: str
    problem: str
    remedy: str
    mend: Callable[[], Awaitable[object]] | None
    """None where only the user can."""


@dataclass(frozen=True)
class HostNetworks:
    """What the host itself is connected to."""

    routes: tuple[tuple[str, str], ...]
    """(subnet, interface) of all routes but default ones."""
    addresses: dict[str, tuple[str, ...]]
    """Interface -> its addresses, without prefix lengths."""


class NetworkDriver(Protocol):
    """What connects containers. It keeps no state of its own: all it made it finds by names of its own making.

    The order of a container's life: attach to each network, Runtime.prepare with what `attach` returned as
    Isolation.network, `ready`, the first process; at its end Runtime.destroy, then `release`. A container that runs may
    be attached (`ready` follows at once) and detached too.
    """

    name: str
    kinds: tuple[str, ...]
    """The kinds of network that it makes, the best first; () for a driver that makes none."""

    def interface(self, network: str) -> str:
        """The name of the host's interface of a network (its id) whose user gave none."""

    async def create(self, network: Network) -> None:
        """Make its interface, with the gateways' addresses, and its firewall rules without any published port.

        PlatformError: an interface of this name is there and is not this network's.
        """

    async def destroy(self, network: Network) -> None:
        """Remove all of it. The caller knows that no container is attached."""

    async def attach(self, endpoint: Endpoint) -> str:
        """Join a container to a network that was created; returns what Isolation.network must be.

        Where a container needs something of its own before it can be attached (a network namespace) the first
        call makes it; the answer of the last call holds for all. Addresses and routes are as the endpoint says
        when the container's first process starts, none tentative.
        """

    async def ready(self, container: str) -> None:
        """The runtime has prepared the container's isolation: do what had to wait for that (in a vnet jail: addresses)."""

    async def detach(self, endpoint: Endpoint) -> None:
        """Undo attach; whether the container runs or not."""

    async def route(self, endpoint: Endpoint) -> None:
        """The default routes of the container, which runs and is attached, lead through the endpoint's gateways now."""

    async def release(self, container: str) -> None:
        """The container has ended: remove what it had beside its endpoints, and those of them that are left."""

    async def publish(self, network: Network, publications: Sequence[Publication]) -> None:
        """Make these, and no others, the published ports of a network; in one step, others never being interrupted.

        Those that can be translated are reached from outside and from containers on this and on other networks.
        Connections that are open go on. What the rules do not catch (another family, the host's own clients) comes
        to the engine's own socket and is passed on (forwarder.py).
        """

    async def host(self) -> HostNetworks:
        """What is there now, so that no network takes addresses that the host can reach otherwise."""

    async def holder(self, protocol: str, port: int) -> str:
        """The program of the host that listens on a port: "nginx, pid 71"; "" when that cannot be told."""

    async def audit(self, expected: Sequence[NetworkState]) -> list[Misfit]:
        """Where the system is not as `expected` (all networks of this engine): strays of ours, and what is lost.

        Nothing is ever reported that this engine's driver did not make.
        """
