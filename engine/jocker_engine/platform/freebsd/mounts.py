"""What is mounted in a jail's root, in which order, and how all of it is taken away again.

Sources: mount(8), mount_nullfs(8), devfs(5), fdescfs(5), procfs(5), tmpfs(5), umount(8).
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass

import trio

from ..commands import Commands, PlatformError
from ..interfaces import Bind
from ..rootfs import resolve

TABLE = ["mount", "--libxo:J"]

_VIRTUAL = frozenset("autofs devfs fdescfs linprocfs linsysfs procfs".split())
"""File systems below a bound directory that do not go with it."""
_TMPFS = frozenset("gid inodes maxfilesize mode size uid".split())
_PATIENCE = (0.0, 0.05, 0.2, 0.5, 1.0)
"""Seconds before each attempt to unmount in good order; then by force."""


@dataclass(frozen=True)
class Mount:
    """One mount; `target` is the path on the host."""

    kind: str
    source: str
    target: str
    options: tuple[str, ...] = ()

    def argv(self) -> list[str]:
        """mount(8)."""
        options = ["-o", ",".join(self.options)] if self.options else []
        return ["mount", "-t", self.kind, *options, self.source, self.target]


@dataclass(frozen=True)
class Mounted:
    """A line of the mount table."""

    source: str
    target: str
    kind: str


def parse_table(text: str) -> list[Mounted]:
    """What TABLE prints, in the order of mounting."""
    rows = json.loads(text)["mount"]["mounted"]
    return [Mounted(row["special"], row["node"], row["fstype"]) for row in rows]


def below(table: Sequence[Mounted], root: str) -> list[str]:
    """Paths of mounts inside a root, the last mounted first; not the root itself."""
    inside = root.rstrip("/") + "/"
    return [entry.target for entry in reversed(table) if entry.target.startswith(inside)]


def plan(
    root: str,
    binds: Sequence[Bind],
    files: dict[str, str],
    table: Sequence[Mounted],
    *,
    ruleset: str,
    devfs: bool = True,
    fdescfs: bool = False,
    procfs: bool = False,
) -> list[Mount]:
    """All mounts of a container, each after what it lies in. Makes the mount points, none outside the root."""
    mounts = []
    if devfs:
        mounts.append(Mount("devfs", "devfs", _point(root, "/dev"), (f"ruleset={ruleset}",)))
    if fdescfs:
        mounts.append(Mount("fdescfs", "fdescfs", os.path.join(_point(root, "/dev"), "fd")))
    if procfs:
        mounts.append(Mount("procfs", "procfs", _point(root, "/proc")))
    wanted = [*(Bind(source, target) for target, source in files.items()), *binds]
    for bind in sorted(wanted, key=lambda each: os.path.normpath(each.target).count("/")):
        mounts += _bind(root, bind, table, devfs=devfs)
    return mounts


def _bind(root: str, bind: Bind, table: Sequence[Mounted], *, devfs: bool) -> list[Mount]:
    inside = os.path.normpath("/" + bind.target.lstrip("/"))
    if inside == "/":
        raise PlatformError("cannot mount over the root directory of a container")
    if devfs and inside.startswith("/dev/"):
        raise PlatformError(
            f"cannot mount {bind.target}: /dev of a jail is a devfs, in which nothing can be made; choose another path"
        )
    if not bind.source:
        return [Mount("tmpfs", "tmpfs", _point(root, inside), _tmpfs(bind))]
    if not os.path.exists(bind.source):
        raise PlatformError(f"cannot mount {bind.source}: it is not there")
    source, options = os.path.realpath(bind.source), ("ro",) if bind.read_only else ()
    directory = os.path.isdir(source)
    target = _point(root, inside, directory=directory)
    mounts = [Mount("nullfs", source, target, options)]
    if directory:
        # nullfs shows the directory itself, not what is mounted in it.
        mounts += [
            Mount("nullfs", entry.target, target + entry.target.removeprefix(source.rstrip("/")), options)
            for entry in table
            if entry.target.startswith(source.rstrip("/") + "/")
            and entry.kind not in _VIRTUAL
            and not entry.target.startswith(root)
        ]
    return mounts


def _tmpfs(bind: Bind) -> tuple[str, ...]:
    """Docker's options of a tmpfs in tmpfs(5)'s words; those that FreeBSD has not, such as nodev, mean nothing there."""
    given = [option for option in bind.options if option.partition("=")[0] in _TMPFS]
    mode = () if any(option.startswith("mode=") for option in given) else ("mode=1777",)
    noexec = () if "exec" in bind.options else ("noexec",)
    return (*mode, "nosuid", *noexec, *given, *(("ro",) if bind.read_only else ()))


def _point(root: str, target: str, *, directory: bool = True) -> str:
    """The real path of a mount point in the root, made if it is not there."""
    try:
        path = resolve(root, target)
        if directory:
            os.makedirs(path, exist_ok=True)
        elif not os.path.exists(path):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
    except OSError as error:
        raise PlatformError(f"cannot mount at {target}: {os.strerror(error.errno or 0)}") from None
    return path


def covered(mount: Mount, before: Sequence[Mount], root: str) -> bool:
    """Whether it lies in what is mounted before it, other than the root itself."""
    return any(mount.target.startswith(each.target + "/") for each in before if each.target != root)


def make_point(mount: Mount) -> None:
    """Where to mount, when what has been mounted before it covers what `plan` made. Raises PlatformError."""
    directory = mount.kind != "nullfs" or os.path.isdir(mount.source)
    try:
        if not os.path.lexists(mount.target):
            os.makedirs(mount.target if directory else os.path.dirname(mount.target), exist_ok=True)
        if not directory and not os.path.lexists(mount.target):
            os.close(os.open(mount.target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
    except OSError as error:
        raise PlatformError(f"cannot mount at {mount.target}: {os.strerror(error.errno or 0)}") from None
    if os.path.realpath(mount.target) != mount.target:
        raise PlatformError(f"cannot mount at {mount.target}: a link in a volume leads elsewhere")


async def table(commands: Commands) -> list[Mounted]:
    """What is mounted on this machine."""
    return parse_table((await commands.run(TABLE)).stdout)


async def unmount_below(commands: Commands, root: str) -> None:
    """Unmount all that lies in a root, the last mounted first; what is busy again and again, by force.

    Raises PlatformError when something withstands even that. What somebody else unmounts meanwhile is no error.
    """
    for pause in _PATIENCE:
        await trio.sleep(pause)
        found = below(await table(commands), root)
        if not found:
            return
        for path in found:
            await commands.run(["umount", path], check=False)
    for path in below(await table(commands), root):
        await commands.run(["umount", "-f", path], check=False)
    if left := below(await table(commands), root):
        raise PlatformError(f"cannot unmount {left[0]}: who uses it is shown by `fstat -f {left[0]}`")


async def unmount_at(commands: Commands, path: str) -> None:
    """Unmount what is mounted at this path itself. Raises PlatformError when it withstands."""
    for command in (["umount", path], ["umount", "-f", path]):
        if path not in {entry.target for entry in await table(commands)}:
            return
        await commands.run(command, check=False)
    if path in {entry.target for entry in await table(commands)}:
        raise PlatformError(f"cannot unmount {path}: who uses it is shown by `fstat -f {path}`")
