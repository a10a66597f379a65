"""Control groups of containers, whichever hierarchies are mounted: version 1, version 2 or both (hybrid).

Sources: cgroups(7), the kernel's cgroup-v1/cgroups.rst and cgroup-v2.rst.
"""

from __future__ import annotations

import errno
import os
import signal

import trio

from ..commands import PlatformError

MOUNTS = "/sys/fs/cgroup"
_PATIENCE = 5.0
"""Seconds that killed processes have to leave their group."""


def kind() -> str:
    """ "v2", "v1", "hybrid", or "" where none is mounted."""
    if os.path.exists(os.path.join(MOUNTS, "cgroup.procs")):
        return "v2"
    if os.path.exists(os.path.join(MOUNTS, "unified", "cgroup.procs")):
        return "hybrid"
    return "v1" if _hierarchies() else ""


def why_not_writable() -> str:
    """Why no group can be made; "" if they can."""
    found = [MOUNTS] if kind() == "v2" else _hierarchies()
    if not found:
        return f"no control groups are mounted at {MOUNTS}"
    return next((f"{path} is read-only" for path in found if not os.access(path, os.W_OK)), "")


def kill(group: str) -> None:
    """KILL every process in a group (a path below the root of each hierarchy); no error if there is none."""
    for directory in _directories(group):
        try:
            with open(os.path.join(directory, "cgroup.procs"), encoding="ascii") as file:
                pids = [int(line) for line in file]
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV):
                raise
            continue
        for pid in pids:
            if pid:  # 0: of another pid namespace
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass


async def remove(group: str) -> None:
    """Kill what is in a group, delete it in all hierarchies. Raises PlatformError if processes do not go."""
    with trio.move_on_after(_PATIENCE):
        while found := _directories(group):
            kill(group)
            for directory in found:
                _remove(directory)
            await trio.sleep(0.005 if _directories(group) else 0)
        return
    raise PlatformError(f"control group {group}: its processes were killed and are still there")


def beginning(prefix: str) -> frozenset[str]:
    """What follows the prefix (a path below the root of each hierarchy) in names of groups that are there."""
    tops = [MOUNTS] if kind() == "v2" else _hierarchies()
    parent, start = os.path.split(prefix.lstrip("/"))
    names: set[str] = set()
    for top in tops:
        directory = os.path.join(top, parent)
        if os.path.isdir(directory):
            names.update(name for name in os.listdir(directory) if name.startswith(start))
    return frozenset(name[len(start) :] for name in names)


def _hierarchies() -> list[str]:
    """Directories of mounted hierarchies of version 1, and "unified" beside them."""
    try:
        names = sorted(os.listdir(MOUNTS))
    except FileNotFoundError:
        return []
    paths = [os.path.join(MOUNTS, name) for name in names]
    return [path for path in paths if os.path.exists(os.path.join(path, "cgroup.procs"))]


def _directories(group: str) -> list[str]:
    tops = [MOUNTS] if kind() == "v2" else _hierarchies()
    return [path for top in tops if os.path.isdir(path := os.path.join(top, group.lstrip("/")))]


def _remove(directory: str) -> None:
    for path, _, _ in os.walk(directory, topdown=False):
        try:
            os.rmdir(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
