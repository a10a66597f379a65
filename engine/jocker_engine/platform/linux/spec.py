"""What an OCI runtime is told of a container: the same isolation that Docker gives by default.

Sources: OCI runtime specification (config.md, config-linux.md); Docker's documentation of its default
capabilities and seccomp profile ("Runtime privilege and Linux capabilities", "Seccomp security profiles").
"""

from __future__ import annotations

import functools
import glob
import os
import shutil
from dataclasses import replace
from typing import Any

from ..commands import PlatformError
from ..interfaces import Bind, Isolation, Process
from ..rootfs import NoSuchUser, lookup_group, lookup_user, resolve
from .capabilities import granted
from .cgroup import MOUNTS, kind
from .resources import devices, resources, rlimits
from .seccomp import chosen

_MASKED = [
    *("/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats"),
    *("/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats"),
    *("/sys/devices/virtual/powercap", "/sys/firmware"),
]
_READ_ONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
_QUIET = ["nosuid", "noexec", "nodev"]
_MOUNTS: list[tuple[str, str, str, list[str]]] = [
    ("/proc", "proc", "proc", _QUIET),
    ("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
    (
        "/dev/pts",
        "devpts",
        "devpts",
        ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    ),
    ("/dev/shm", "tmpfs", "shm", [*_QUIET, "mode=1777", "size=65536k"]),
    ("/dev/mqueue", "mqueue", "mqueue", _QUIET),
    ("/sys", "sysfs", "sysfs", [*_QUIET, "ro"]),
    ("/sys/fs/cgroup", "cgroup", "cgroup", [*_QUIET, "relatime", "ro"]),
]
_MADE_BY_RUNTIME = ("/dev/", "/proc/", "/sys/")
"""What is mounted below these lies on file systems that are not there yet."""

_INITS = ("docker-init", "tini-static", "catatonit")
"""Init programs of the host, linked statically: they run in the container's own root. All take `-- PROGRAM...`."""
_INIT_INSIDE = "/sbin/docker-init"

_OWN_NETWORK = {
    "net.ipv4.ip_unprivileged_port_start": "0",
    "net.ipv4.ping_group_range": "0 2147483647",
}
"""In a network namespace of its own any user may take low ports and ping, as with Docker since 20.10."""


def config(isolation: Isolation, process: Process, cgroup: str) -> dict[str, Any]:
    """config.json. Makes the working directory and the mount points in the root. Raises PlatformError."""
    what = describe(isolation, process)
    if isolation.init:
        init = Bind(_host_init(), _INIT_INSIDE, read_only=True)
        isolation = replace(isolation, binds=(*isolation.binds, init))
        what["args"] = [_INIT_INSIDE, "--", *what["args"]]
    try:
        os.makedirs(resolve(isolation.rootfs, what["cwd"]), exist_ok=True)
    except OSError as error:
        raise PlatformError(f"working directory {process.cwd}: {os.strerror(error.errno or 0)}") from None
    return {
        "ociVersion": "1.0.2",
        "process": what,
        "root": {"path": isolation.rootfs, "readonly": isolation.security.read_only},
        **({} if isolation.security.uts else {"hostname": isolation.hostname}),
        "mounts": _mounts(isolation),
        "linux": _linux(isolation, cgroup),
    }


def _host_init() -> str:
    for name in _INITS:
        path = shutil.which(name, path=f"/usr/libexec/docker:/usr/libexec/podman:{os.defpath}")
        if path is not None:
            return path
    raise PlatformError(f"--init needs one of {', '.join(_INITS)} on the host; install tini")


def describe(isolation: Isolation, process: Process) -> dict[str, Any]:
    """`process` of config.json, and process.json of an exec. Raises PlatformError: no such user."""
    try:
        user = lookup_user(isolation.rootfs, process.user)
        groups = {lookup_group(isolation.rootfs, name) for name in isolation.security.group_add}
    except NoSuchUser as error:
        raise PlatformError(str(error)) from None
    env = list(process.env)
    if not any(item.startswith("HOME=") for item in env):
        env.append(f"HOME={user.home}")
    security = isolation.security
    bounding = granted(security)
    held = bounding if user.uid == 0 else []
    what: dict[str, Any] = {
        "terminal": process.tty,
        "user": {"uid": user.uid, "gid": user.gid, "additionalGids": sorted(groups.union(user.groups))},
        "args": list(process.argv),
        "env": env,
        "cwd": _clean(process.cwd),
        "capabilities": {"bounding": bounding, "effective": held, "permitted": held},
        "noNewPrivileges": security.no_new_privileges,
    }
    if limits := rlimits(isolation.limits):
        what["rlimits"] = limits
    if isolation.limits.oom_score_adj:
        what["oomScoreAdj"] = isolation.limits.oom_score_adj
    if process.tty and process.rows and process.cols:
        what["consoleSize"] = {"height": process.rows, "width": process.cols}
    return what


def _mounts(isolation: Isolation) -> list[dict[str, Any]]:
    files = [Bind(source, target) for target, source in isolation.files.items()]
    wanted = [(_mount_point(isolation.rootfs, bind), bind) for bind in (*files, *isolation.binds)]
    mounts = [
        {"destination": target, "type": what, "source": source, "options": options}
        for target, what, source, options in _system_mounts(isolation)
    ]
    # A directory comes before what is mounted in it.
    for target, bind in sorted(wanted, key=lambda item: item[0].count("/")):
        access = "ro" if bind.read_only else "rw"
        what, options = ("bind", _bind_options(bind)) if bind.source else ("tmpfs", _tmpfs_options(bind))
        mounts.append(
            {
                "destination": target,
                "type": what,
                "source": bind.source or "tmpfs",
                "options": [*options, access],
            }
        )
    return mounts


def _system_mounts(isolation: Isolation) -> list[tuple[str, str, str, list[str]]]:
    """What every container has, as its limits and privileges have it."""
    security, found = isolation.security, []
    for target, what, source, options in _MOUNTS:
        if security.privileged and what in ("sysfs", "cgroup"):
            options = [option for option in options if option != "ro"]
        if target in ("/dev/shm", "/dev/mqueue") and security.ipc:
            if not os.path.isdir(target):
                continue
            what, source, options = "bind", target, ["rbind", "rprivate"]
        elif target == "/dev/shm" and isolation.limits.shm_size:
            options = [*options[:-1], f"size={isolation.limits.shm_size}"]
        found.append((target, what, source, options))
    return found


_PROPAGATION = ("private", "rprivate", "slave", "rslave", "shared", "rshared")


def _bind_options(bind: Bind) -> list[str]:
    kind = "bind" if "bind" in bind.options else "rbind"
    chosen_one = next((option for option in bind.options if option in _PROPAGATION), "rprivate")
    return [kind, chosen_one]


def _tmpfs_options(bind: Bind) -> list[str]:
    """Docker's defaults, each undone by its opposite."""
    opposite = {"nosuid": "suid", "noexec": "exec", "nodev": "dev"}
    options = [option for option in _QUIET if opposite[option] not in bind.options]
    if not any(option.startswith("mode=") for option in bind.options):
        options.append("mode=1777")
    return [*options, *bind.options]


def _mount_point(root: str, bind: Bind) -> str:
    """Where to mount, as seen inside and without links on the way; made if it is not there."""
    inside = _clean(bind.target)
    if inside == "/":
        raise PlatformError("cannot mount over the root directory of a container")
    if bind.source and not os.path.exists(bind.source):
        raise PlatformError(f"cannot mount {bind.source}: it is not there")
    if inside.startswith(_MADE_BY_RUNTIME):
        return inside
    directory = not bind.source or os.path.isdir(bind.source)
    try:
        path = resolve(root, inside)
        if not os.path.exists(path):
            os.makedirs(path if directory else os.path.dirname(path), exist_ok=True)
            if not directory:
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644))
            elif not bind.source:
                os.chmod(path, 0o1777)
        if not bind.source and (mode := _asked_mode(bind)):
            os.chmod(path, mode)  # runc gives a tmpfs the mode of the directory under it
    except OSError as error:
        raise PlatformError(f"cannot mount {bind.target}: {os.strerror(error.errno or 0)}") from None
    if os.path.isdir(path) != directory:
        kinds = ("a file", "a directory")
        raise PlatformError(
            f"cannot mount {kinds[directory]} at {bind.target}: in the container it is {kinds[not directory]}"
        )
    return "/" + os.path.relpath(path, root)


def _asked_mode(bind: Bind) -> int:
    given = [option.removeprefix("mode=") for option in bind.options if option.startswith("mode=")]
    return int(given[-1], 8) if given else 0


def _clean(path: str) -> str:
    return os.path.normpath("/" + path.lstrip("/"))


def _linux(isolation: Isolation, cgroup: str) -> dict[str, Any]:
    security = isolation.security
    hosts = {"pid": security.pid, "ipc": security.ipc, "uts": security.uts}
    own = [name for name in ("pid", "mount", "ipc", "uts", "cgroup") if not hosts.get(name)]
    namespaces: list[dict[str, str]] = [{"type": name} for name in own]
    if isolation.network == "none":
        namespaces.append({"type": "network"})
    elif isolation.network != "host":
        namespaces.append({"type": "network", "path": isolation.network})
    nodes, allowed = devices(security)
    # The tmpfs in which a runtime mounts the hierarchies of version 1 stays writable by itself.
    linux: dict[str, Any] = {
        "namespaces": namespaces,
        "cgroupsPath": cgroup,
        "resources": {"devices": allowed, **resources(isolation.limits)},
        "devices": nodes,
    }
    if not security.privileged:
        linux["maskedPaths"] = _masked()
        linux["readonlyPaths"] = _READ_ONLY if kind() == "v2" else [*_READ_ONLY, MOUNTS]
    sysctls = {**(_OWN_NETWORK if isolation.network != "host" else {}), **security.sysctls}
    if sysctls:
        linux["sysctl"] = sysctls
    if seccomp := chosen(security, granted(security)):
        linux["seccomp"] = seccomp
    return linux


@functools.cache
def _masked() -> list[str]:
    """With each processor's thermal events, from which one learns what its neighbours do."""
    return [*_MASKED, *sorted(glob.glob("/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle"))]
