"""The three small interfaces through which the engine sees the operating system.

Drivers know nothing of actors, databases or images: names and paths are plain strings, made by the
caller. Every method is idempotent where that can be (making what is there, destroying what is gone), so
that a half-done operation is finished by doing it again. Errors: PlatformError (commands.py) and OSError.

Ids given to drivers are lower-case hex; layers and trees share one name space per driver.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from ..shim.launch import Launch


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


class Storage(Protocol):
    """Where file systems come from. A *layer* is immutable; a *tree* is writable and mounted somewhere."""

    name: str

    async def import_tar(self, layer: str, tar: str) -> None:
        """Make a base layer (no parent) from an uncompressed, gzip, bzip2 or xz tar file on this host.

        Nothing is ever written outside the layer; ownership, modes, times, hard links, device nodes and
        xattrs are kept as far as this user may. Raises PlatformError for what is not a tar.
        """

    async def clone(self, tree: str, parent: str | None) -> str:
        """Make a writable tree on top of a layer (None: an empty one), mount it, return its path."""

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

    async def size(self, name: str) -> int:
        """Bytes that this layer or tree itself takes, without its parents."""

    async def create_volume(self, volume: str) -> str:
        """Make a volume (an empty directory that lasts); returns its path."""

    async def destroy_volume(self, volume: str) -> None:
        """Delete a volume with all it holds."""

    async def inventory(self) -> Inventory:
        """All that is there, mounted or not, whole or half made or half destroyed."""

    async def mounted(self) -> frozenset[str] | None:
        """Trees that are mounted; None from a driver that mounts nothing."""


@dataclass(frozen=True)
class Bind:
    """A host path mounted into a container at `target` (absolute, inside); tmpfs when source is ""."""

    source: str
    target: str
    read_only: bool = False


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
    """"host", "none", or a path of a network namespace."""
    binds: tuple[Bind, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    """Files mounted over the container's: target -> host path (/etc/hosts, /etc/resolv.conf)."""
    init: bool = False
    """The first process is an init that passes signals on and reaps orphans."""


class Runtime(Protocol):
    """What isolates a process. Processes are started by shims, from the Launch records made here."""

    name: str

    async def prepare(self, isolation: Isolation, process: Process) -> Launch:
        """Write what the runtime needs and say how a shim starts the main process.

        The Launch has the start fields filled (enter, argv, ...); the caller adds log and stdio.
        Mount points missing in the rootfs are made, never through a link that leaves it.
        """

    async def launch_exec(self, isolation: Isolation, process: Process, key: str) -> Launch:
        """How a shim starts one more process in the running container; `key` is unique to this exec."""

    async def signal(self, container: str, pid: int, signum: int) -> None:
        """Send a signal to the main process; no error if it is gone."""

    async def kill_all(self, container: str, pid: int) -> None:
        """KILL every process of the container; returns at once, they may need a moment to go. pid 0: not known."""

    async def destroy(self, isolation: Isolation) -> None:
        """Remove what prepare and the runtime left: states, cgroups, mounts, files. All processes are gone or killed."""

    async def inventory(self) -> frozenset[str]:
        """Ids of all containers of which anything is there, running or not."""

    async def states(self) -> frozenset[str]:
        """Ids of those that it has a state of: others it cannot signal or enter."""


class NetworkDriver(Protocol):
    """What connects containers."""

    name: str

    async def attach(self, container: str, network: str) -> str:
        """Returns what Isolation.network needs for this container on this network."""

    async def detach(self, container: str, network: str) -> None:
        """Undo attach."""
