"""Control groups of containers, whichever hierarchies are mounted: version 1, version 2 or both (hybrid).

Sources: cgroups(7), the kernel's cgroup-v1/cgroups.rst and cgroup-v2.rst.
"""

from __future__ import annotations

import errno
import os
import signal

import trio

from ..commands import PlatformError
from ..interfaces import Usage

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


def processes(group: str) -> list[int]:
    """Ids of all processes in a group (a path below the root of each hierarchy) and in those below it."""
    found: set[int] = set()
    for top in _directories(group):
        for directory, _, _ in os.walk(top):
            found.update(int(line) for line in _read(directory, "cgroup.procs").split())
    return sorted(found - {0})  # 0: of another pid namespace


def kill(group: str) -> None:
    """KILL every process in a group; no error if there is none."""
    for pid in processes(group):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def is_frozen(group: str) -> bool:
    """Whether its processes are paused, or on their way to it."""
    return any(
        _read(directory, "freezer.state") in ("FROZEN", "FREEZING")
        or _read(directory, "cgroup.freeze") == "1"
        for directory in _directories(group)
    )


def thaw(group: str) -> None:
    """Undo a pause, whoever made it; a frozen process of version 1 does not even die."""
    for directory in _directories(group):
        for name, word in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
            path = os.path.join(directory, name)
            if os.path.exists(path):
                try:
                    with open(path, "w", encoding="ascii") as file:
                        file.write(word)
                except OSError as error:
                    if error.errno not in (errno.ENOENT, errno.ENODEV):
                        raise


def usage(group: str, pid: int) -> Usage:
    """What its processes take; the network is that of `pid`, if it has one of its own."""
    v2 = kind() == "v2"
    memory = _table(_find(group, "memory.stat"))
    used = _number(_find(group, "memory.current" if v2 else "memory.usage_in_bytes"))
    idle = memory.get("inactive_file" if v2 else "total_inactive_file", 0)
    limit = _number(_find(group, "memory.max" if v2 else "memory.limit_in_bytes"))
    host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if v2:
        cpu = _table(_find(group, "cpu.stat")).get("usage_usec", 0) / 1e6
        pairs = [item.partition("=") for item in _find(group, "io.stat").split() if "=" in item]
        read = sum(int(value) for key, _, value in pairs if key == "rbytes")
        written = sum(int(value) for key, _, value in pairs if key == "wbytes")
    else:
        cpu = _number(_find(group, "cpuacct.usage")) / 1e9
        rows = [line.split() for line in _find(group, "blkio.throttle.io_service_bytes").splitlines()]
        read = sum(int(row[2]) for row in rows if len(row) == 3 and row[1] == "Read")
        written = sum(int(row[2]) for row in rows if len(row) == 3 and row[1] == "Write")
    received, sent = _traffic(pid)
    return Usage(
        cpu=cpu,
        memory=max(0, used - idle),
        memory_limit=limit if 0 < limit < host else host,
        processes=_number(_find(group, "pids.current")),
        processes_limit=_number(_find(group, "pids.max")),
        read=read,
        written=written,
        received=received,
        sent=sent,
    )


def oom_kills(group: str) -> int:
    """Processes of it that were killed for want of memory."""
    events = _find(group, "memory.events") or _find(group, "memory.oom_control")
    return _table(events).get("oom_kill", 0)


def _find(group: str, name: str) -> str:
    """A file of a group, in whichever hierarchy has it; "" where none has."""
    return next((text for directory in _directories(group) if (text := _read(directory, name))), "")


def _read(directory: str, name: str) -> str:
    try:
        with open(os.path.join(directory, name), encoding="ascii") as file:
            return file.read().strip()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
            raise
        return ""


def _number(text: str) -> int:
    """0 for "max" and for nothing."""
    return int(text) if text.isdigit() else 0


def _table(text: str) -> dict[str, int]:
    return {
        key: int(value)
        for key, _, value in (line.partition(" ") for line in text.splitlines())
        if value.isdigit()
    }


def _traffic(pid: int) -> tuple[int, int]:
    """(received, sent) bytes of a process's own network, without lo; proc_net(5)."""
    try:
        if os.stat(f"/proc/{pid}/ns/net").st_ino == os.stat("/proc/self/ns/net").st_ino:
            return 0, 0
        with open(f"/proc/{pid}/net/dev", encoding="ascii") as file:
            rows = [line.partition(":") for line in file.readlines()[2:]]
    except (FileNotFoundError, ProcessLookupError):
        return 0, 0
    counts = [numbers.split() for name, _, numbers in rows if name.strip() != "lo"]
    return sum(int(row[0]) for row in counts), sum(int(row[8]) for row in counts)


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
