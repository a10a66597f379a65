"""A container's limits as an OCI runtime takes them: `linux.resources`, rlimits, devices.

Sources: OCI runtime specification, config-linux.md and config.md; the kernel's cgroup-v1 and cgroup-v2.rst.
Runtimes translate for control groups of version 2.
"""

from __future__ import annotations

import os
import stat
from typing import Any

from jocker_protocol.limits import Device, Limits, Security

from ..commands import PlatformError

_PERIOD = 100_000
"""Microseconds over which --cpus is counted, Docker's and the kernel's default."""
_NOTHING: list[dict[str, Any]] = [{"allow": False, "access": "rwm"}]
_EVERYTHING: list[dict[str, Any]] = [{"allow": True, "access": "rwm"}]


def resources(limits: Limits) -> dict[str, Any]:
    """What can be changed while the container runs: memory, cpu, pids."""
    memory: dict[str, int] = {}
    if limits.memory:
        memory["limit"] = limits.memory
        memory["swap"] = limits.memory_swap or 2 * limits.memory
    if limits.memory_reservation:
        memory["reservation"] = limits.memory_reservation
    cpu: dict[str, Any] = {}
    if limits.cpus:
        cpu.update(period=_PERIOD, quota=round(limits.cpus * _PERIOD))
    if limits.cpu_shares:
        cpu["shares"] = limits.cpu_shares
    if limits.cpuset_cpus:
        cpu["cpus"] = limits.cpuset_cpus
    parts = {"memory": memory, "cpu": cpu, "pids": {"limit": limits.pids} if limits.pids else {}}
    return {name: part for name, part in parts.items() if part}


def unlimited(limits: Limits) -> dict[str, Any]:
    """The same for a container that runs: what is not limited is said, so that an old limit ends."""
    wanted = resources(limits)
    wanted.setdefault("memory", {"limit": -1, "swap": -1}).setdefault("reservation", -1)
    cpu = wanted.setdefault("cpu", {})
    cpu.setdefault("period", _PERIOD)
    cpu.setdefault("quota", -1)
    cpu.setdefault("shares", 1024)
    wanted.setdefault("pids", {"limit": -1})
    return wanted


def rlimits(limits: Limits) -> list[dict[str, Any]]:
    """`process.rlimits`; the specification's numbers have no sign, no limit is the greatest."""
    return [
        {
            "type": f"RLIMIT_{each.name.upper()}",
            "soft": each.soft if each.soft >= 0 else 2**64 - 1,
            "hard": each.hard if each.hard >= 0 else 2**64 - 1,
        }
        for each in limits.ulimits
    ]


def devices(security: Security) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(`linux.devices`, `linux.resources.devices`). Raises PlatformError: no such device on the host."""
    if security.privileged:
        nodes = [node for path in _device_paths("/dev") if (node := _node(path, path)) is not None]
        wanted = {node["path"]: node for node in nodes}
        wanted.update((node["path"], node) for device in security.devices for node, _ in _given(device))
        return list(wanted.values()), _EVERYTHING
    made, allowed = [], list(_NOTHING)
    for device in security.devices:
        for node, permissions in _given(device):
            made.append(node)
            rule = {"allow": True, "type": node["type"], "major": node["major"], "minor": node["minor"]}
            allowed.append({**rule, "access": permissions})
    return made, allowed


def _given(device: Device) -> list[tuple[dict[str, Any], str]]:
    target = device.target or device.source
    if not device.source.startswith("/") or not target.startswith("/"):
        raise PlatformError(f"device {device.source}: paths of devices must be absolute")
    paths = _device_paths(device.source) if os.path.isdir(device.source) else [device.source]
    found = []
    for path in paths:
        inside = target + path.removeprefix(device.source)
        if (node := _node(path, os.path.normpath(inside))) is not None:
            found.append((node, device.permissions))
    if not found:
        what = "has no devices in it" if os.path.isdir(device.source) else "is not a device of the host"
        raise PlatformError(f"device {device.source}: it {what}")
    return found


def _device_paths(directory: str) -> list[str]:
    """All nodes below, but what a container has of its own."""
    own = {"/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/fd", "/dev/.lxc", "/dev/console"}
    found = []
    for where, directories, files in os.walk(directory):
        directories[:] = [name for name in directories if os.path.join(where, name) not in own]
        found += [os.path.join(where, name) for name in files if os.path.join(where, name) not in own]
    return sorted(found)


def _node(path: str, inside: str) -> dict[str, Any] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    kind = {stat.S_IFCHR: "c", stat.S_IFBLK: "b"}.get(stat.S_IFMT(status.st_mode))
    if kind is None:
        return None
    return {
        "path": inside,
        "type": kind,
        "major": os.major(status.st_rdev),
        "minor": os.minor(status.st_rdev),
        "fileMode": stat.S_IMODE(status.st_mode),
        "uid": status.st_uid,
        "gid": status.st_gid,
    }
