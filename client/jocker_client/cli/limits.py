"""The options of limits and security that `create`, `run` and `update` take, and the parameters they make."""

from __future__ import annotations

import os
import re
from typing import Any

import click

_O = click.option

CHANGEABLE = [
    _O("-m", "--memory", default=None, metavar="SIZE", help="All it may use, such as 512m; more is killed."),
    _O(
        "--memory-swap",
        default=None,
        metavar="SIZE",
        help="Memory and swap together; -1 for all swap there is.",
    ),
    _O(
        "--memory-reservation",
        default=None,
        metavar="SIZE",
        help="What it is pressed to when the host runs short.",
    ),
    _O("--cpus", type=float, default=None, metavar="N", help="Processors' time it may take, such as 1.5."),
    _O("--cpu-quota", type=int, default=None, metavar="MICROSECONDS", help="The same, in each period."),
    _O("--cpu-period", type=int, default=None, metavar="MICROSECONDS", help="Of --cpu-quota (100000)."),
    _O(
        "-c",
        "--cpu-shares",
        type=int,
        default=None,
        metavar="N",
        help="Weight against others; 1024 is usual.",
    ),
    _O("--cpuset-cpus", default=None, metavar="LIST", help="The processors it may run on, such as 0-2,4."),
    _O("--pids-limit", type=int, default=None, metavar="N", help="Processes it may have; -1 for no limit."),
]
OPTIONS = [
    *CHANGEABLE,
    _O("--ulimit", "ulimits", multiple=True, metavar="NAME=SOFT[:HARD]", help="A limit of each process, such as nofile=1024."),
    _O("--shm-size", default="", metavar="SIZE", help="Of /dev/shm (64m)."),
    _O("--storage-size", default="", metavar="SIZE", help="What it may write to its own root."),
    _O("--storage-opt", "storage_opts", multiple=True, metavar="size=SIZE", help="The same, as docker has it."),
    _O("--oom-score-adj", type=int, default=0, metavar="N", help="How soon it is killed when the host is out of memory."),
    _O("--cap-add", multiple=True, metavar="CAP", help="Give a capability, or ALL."),
    _O("--cap-drop", multiple=True, metavar="CAP", help="Take a capability, or ALL."),
    _O("--privileged", is_flag=True, help="All capabilities and devices; as good as root on the host."),
    _O("--device", "devices", multiple=True, metavar="PATH[:TARGET][:rwm]", help="Give a device of the host."),
    _O("--sysctl", "sysctls", multiple=True, metavar="NAME=VALUE", help="Set a kernel parameter of its own."),
    _O("--security-opt", "security_opts", multiple=True, metavar="OPTION",
       help="no-new-privileges, seccomp=unconfined, seccomp=FILE."),
    _O("--group-add", multiple=True, metavar="GROUP", help="One more group of its process."),
    _O("--read-only", is_flag=True, help="Nothing can be written to its root."),
    _O("--pid", default="", metavar="host", help="Share the host's processes."),
    _O("--ipc", default="", metavar="host", help="Share the host's IPC."),
    _O("--uts", default="", metavar="host", help="Share the host's name."),
]  # fmt: skip

_PERIOD = 100_000
"""Microseconds; the kernel's own (sched-bwc.rst)."""
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtp]?)(?:i?b)?", re.IGNORECASE)


def size(text: str, option: str) -> int:
    """Bytes: 512m, 1.5g, 100k, 4096; units are powers of 1024, as docker has them here. -1 where that means something."""
    if text == "-1" and option == "--memory-swap":
        return -1
    found = _SIZE.fullmatch(text)
    if found is None:
        raise click.UsageError(f"{option} {text!r}: must be a size such as 512m or 1g")
    return int(float(found[1]) * 1024 ** " kmgtp".index(found[2].lower() or " "))


def changes(given: dict[str, Any]) -> dict[str, Any]:
    """What the options say that can be changed later; only those that were given."""
    said = {
        name: size(given[name], f"--{name.replace('_', '-')}")
        for name in ("memory", "memory_swap", "memory_reservation")
        if given[name] is not None
    }
    for option, name in (
        ("cpus", "cpus"), ("cpu_shares", "cpu_shares"), ("cpuset_cpus", "cpuset_cpus"), ("pids_limit", "pids"),
    ):  # fmt: skip
        if given[option] is not None:
            said[name] = given[option]
    quota, period = given["cpu_quota"], given["cpu_period"]
    if quota is None and period is None:
        return said
    if "cpus" in said or quota is None:
        raise click.UsageError("--cpu-period goes with --cpu-quota, and neither with --cpus")
    if not 1000 <= (period or _PERIOD) <= 10 * _PERIOD:
        raise click.UsageError(f"--cpu-period {period}: must be between 1000 and 1000000 microseconds")
    said["cpus"] = max(quota, 0) / (period or _PERIOD)
    return said


def limits(given: dict[str, Any]) -> dict[str, Any]:
    """`limits` of container.create."""
    said = changes(given)
    if given["ulimits"]:
        said["ulimits"] = [_ulimit(text) for text in given["ulimits"]]
    if given["shm_size"]:
        said["shm_size"] = size(given["shm_size"], "--shm-size")
    if given["oom_score_adj"]:
        said["oom_score_adj"] = given["oom_score_adj"]
    for text in given["storage_opts"]:
        key, _, value = text.partition("=")
        if key != "size":
            raise click.UsageError(f"--storage-opt {text!r}: only size=SIZE is known")
        said["storage"] = size(value, "--storage-opt size")
    if given["storage_size"]:
        said["storage"] = size(given["storage_size"], "--storage-size")
    return said


def security(given: dict[str, Any]) -> dict[str, Any]:
    """`security` of container.create."""
    said: dict[str, Any] = {
        name: list(given[name]) for name in ("cap_add", "cap_drop", "group_add") if given[name]
    }
    said |= {name: True for name in ("privileged", "read_only") if given[name]}
    if given["devices"]:
        said["devices"] = [_device(text) for text in given["devices"]]
    if given["sysctls"]:
        said["sysctls"] = dict(_pair(text, "--sysctl") for text in given["sysctls"])
    for name in ("pid", "ipc", "uts"):
        if given[name] not in ("", "host", "private"):
            raise click.UsageError(f"--{name} {given[name]!r}: only host can be shared")
        if given[name] == "host":
            said[name] = "host"
    for text in given["security_opts"]:
        said |= _security_opt(text)
    return said


def _pair(text: str, option: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise click.UsageError(f"{option} {text!r}: must be NAME=VALUE")
    return name, value


def _ulimit(text: str) -> dict[str, Any]:
    name, value = _pair(text, "--ulimit")
    soft, _, hard = value.partition(":")
    try:
        numbers = [-1 if part == "unlimited" else int(part) for part in (soft, hard or soft)]
    except ValueError:
        raise click.UsageError(f"--ulimit {text!r}: must be NAME=SOFT[:HARD], numbers") from None
    return {"name": name, "soft": numbers[0], "hard": numbers[1]}


def _device(text: str) -> dict[str, Any]:
    parts = text.split(":")
    permissions = parts.pop() if len(parts) > 1 and not parts[-1].startswith("/") else "rwm"
    if len(parts) > 2 or not all(part.startswith("/") for part in parts) or not permissions:
        raise click.UsageError(f"--device {text!r}: must be /dev/PATH[:/TARGET][:rwm]")
    return {"source": parts[0], "target": parts[-1], "permissions": permissions}


def _security_opt(text: str) -> dict[str, Any]:
    name, separator, value = text.partition("=")
    if not separator:
        name, _, value = text.partition(":")
    if name == "no-new-privileges" and value in ("", "true", "false"):
        return {"no_new_privileges": value != "false"}
    if name == "seccomp" and value == "unconfined":
        return {"seccomp": value}
    if name == "seccomp" and value:
        try:
            with open(os.path.expanduser(value), encoding="utf-8") as file:
                return {"seccomp": file.read()}
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not text"
            raise click.UsageError(f"--security-opt seccomp={value}: cannot be read: {why}") from None
    if (name, value) in (("apparmor", "unconfined"), ("label", "disable")):
        return {}  # as it is anyhow
    if name in ("apparmor", "label"):
        what = "AppArmor profiles" if name == "apparmor" else "SELinux labels"
        raise click.UsageError(f"--security-opt {text!r}: {what} are not applied by jocker; leave it out")
    raise click.UsageError(
        f"--security-opt {text!r}: there are no-new-privileges, seccomp=unconfined and seccomp=FILE"
    )
