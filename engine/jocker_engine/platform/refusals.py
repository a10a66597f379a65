"""Which runtime driver enforces which limit: one table. What a driver cannot enforce it refuses, never ignores."""

from __future__ import annotations

import os
import re
from typing import Any

from jocker_protocol.errors import InvalidParams
from jocker_protocol.limits import Limits, Security

_OPTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "memory": ("--memory", ("oci", "jail")),
    "memory_swap": ("--memory-swap", ("oci", "jail")),
    "memory_reservation": ("--memory-reservation", ("oci",)),
    "cpus": ("--cpus", ("oci", "jail")),
    "cpu_shares": ("--cpu-shares", ("oci",)),
    "cpuset_cpus": ("--cpuset-cpus", ("oci", "jail")),
    "pids": ("--pids-limit", ("oci", "jail")),
    "ulimits": ("--ulimit", ("oci", "chroot", "jail")),
    "shm_size": ("--shm-size", ("oci", "chroot")),
    "storage": ("--storage-size", ("oci", "chroot", "jail")),  # the storage driver says whether
    "oom_score_adj": ("--oom-score-adj", ("oci", "chroot")),
    "privileged": ("--privileged", ("oci",)),
    "cap_add": ("--cap-add", ("oci",)),
    "cap_drop": ("--cap-drop", ("oci",)),
    "no_new_privileges": ("--security-opt no-new-privileges", ("oci", "chroot", "jail")),
    "seccomp": ("--security-opt seccomp", ("oci",)),
    "devices": ("--device", ("oci",)),
    "sysctls": ("--sysctl", ("oci", "jail")),
    "group_add": ("--group-add", ("oci", "chroot", "jail")),
    "read_only": ("--read-only", ("oci", "chroot", "jail")),
    "pid": ("--pid host", ("oci", "chroot")),
    "ipc": ("--ipc host", ("oci", "chroot")),
    "uts": ("--uts host", ("oci", "chroot")),
}
"""Field -> the command's option, and the drivers that enforce it."""

ULIMITS = (
    *("as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss"),
    *("rtprio", "rttime", "sigpending", "stack"),
)
MIN_MEMORY = 6 << 20
"""Bytes; with less hardly any program starts (Docker's bound)."""
_CPUSET = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*")


def refuse(driver: str, limits: Limits, security: Security) -> None:
    """Raise InvalidParams for the first thing asked for that this driver does not have, or that makes no sense."""
    asked: tuple[Any, ...] = (limits, security)
    for part in asked:
        for field in part.__struct_fields__:
            option, drivers = _OPTIONS[field]
            if getattr(part, field) and driver not in drivers:
                raise InvalidParams(
                    f"{field}: the runtime driver {driver} cannot enforce {option}; {_who(drivers)}"
                )
    if wrong := _nonsense(limits, security):
        raise InvalidParams(wrong)


def cpu_list(text: str) -> set[int]:
    """ "0-2,4", as cpuset(7) has it."""
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        found.update(range(int(first), min(int(last or first), 1 << 16) + 1))
    return found


def online() -> set[int]:
    """The host's processors."""
    try:
        with open("/sys/devices/system/cpu/online", encoding="ascii") as file:
            return cpu_list(file.read().strip())
    except OSError:
        return set(range(os.cpu_count() or 1))


def _who(drivers: tuple[str, ...]) -> str:
    return f"{' and '.join(drivers)} can" if drivers else "no driver can"


def _nonsense(limits: Limits, security: Security) -> str:
    """What is wrong with these on any platform; "" if nothing is."""
    if limits.memory and limits.memory < MIN_MEMORY:
        return f"memory: {limits.memory} bytes are too few; at least 6m"
    if limits.memory_swap and not limits.memory:
        return "memory_swap: give --memory too; this is the sum of memory and swap"
    if 0 < limits.memory_swap < limits.memory:
        return "memory_swap: must not be less than --memory, being the sum of memory and swap"
    if limits.memory_reservation and 0 < limits.memory < limits.memory_reservation:
        return "memory_reservation: must not be more than --memory"
    cpus = online()
    if limits.cpus and not 0.01 <= limits.cpus <= len(cpus):
        return f"cpus: {limits.cpus:g} is not between 0.01 and {len(cpus)}, the processors there are"
    if limits.cpu_shares and limits.cpu_shares < 2:
        return "cpu_shares: at least 2"
    if limits.cpuset_cpus and not _CPUSET.fullmatch(limits.cpuset_cpus):
        return f"cpuset_cpus: {limits.cpuset_cpus!r} must be a list such as 0-2,4"
    if limits.cpuset_cpus and (missing := cpu_list(limits.cpuset_cpus) - cpus):
        some = ", ".join(map(str, sorted(missing)[:10]))
        return f"cpuset_cpus: there is no processor {some}; there are {min(cpus)}-{max(cpus)}"
    if limits.pids < -1:
        return "pids: must be a number of processes, or -1 for no limit"
    if not -1000 <= limits.oom_score_adj <= 1000:
        return "oom_score_adj: must be from -1000 to 1000"
    for each in limits.ulimits:
        if each.name not in ULIMITS:
            return f"ulimits: no limit {each.name!r}; there are: {', '.join(ULIMITS)}"
        if each.soft > each.hard >= 0 or (each.soft < 0 <= each.hard):
            return f"ulimits: {each.name}: the soft limit must not be above the hard one"
    for device in security.devices:
        if not device.permissions or set(device.permissions) - set("rwm"):
            return (
                f"devices: permissions {device.permissions!r} of {device.source} must be letters of r, w, m"
            )
    if min(limits.memory, limits.memory_reservation, limits.shm_size, limits.storage, limits.cpu_shares) < 0:
        return "limits: a size must not be negative"
    return ""
