"""Parameters of jail(8): what --jail-param may say, checked against the kernel, and the file that describes a jail.

Pure. Sources: jail(8), "Jail Parameters"; jail.conf(5), "String format".
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..commands import PlatformError

SYSCTL = "security.jail.param."

LISTS = frozenset(
    f"exec.{when}"
    for when in "prepare prestart created start poststart prestop stop poststop release".split()
) | {"mount", "vnet.interface", "zfs.dataset"}
"""Pseudo-parameters that may be given several times: each adds one."""
ADDRESSES = frozenset({"ip4.addr", "ip6.addr"})
"""Parameters whose value is a list with commas."""
SINGLES = frozenset(
    "exec.clean exec.consolelog exec.fib exec.jail_user exec.system_jail_user exec.system_user exec.timeout "
    "interface ip_hostname mount.fstab stop.timeout".split()
)
"""The other pseudo-parameters, which jail(8) has and the kernel does not know."""
MOUNTS = frozenset({"mount.devfs", "mount.fdescfs", "mount.procfs"})
"""Pseudo-parameters that the driver does itself, since it also has to undo them."""

REFUSED = {
    "name": "the engine names jails",
    "jid": "the kernel numbers jails",
    "path": "it is the container's own file system",
    "persist": "a container's jail is there as long as the container runs",
    "command": "give the command after the image",
    "depend": "use --depends-on",
    "allow.dying": "it is deprecated, and no run has the name of another",
    "parent": "it is read-only",
    "dying": "it is read-only",
    "cpuset.id": "it is read-only; use --cpuset-cpus",
    "children.cur": "it is read-only; use children.max",
}
"""Parameter -> why a user cannot set it."""

IPC = ("sysvmsg", "sysvsem", "sysvshm")
"""System V IPC, each with a name space of the jail's own; allow.sysvipc would share the host's."""


@dataclass(frozen=True)
class Param:
    """One line of a description; None: a boolean that is set by its name alone."""

    name: str
    value: str | None = None


def kernel_parameters(text: str) -> frozenset[str]:
    """What `sysctl -N security.jail.param` lists, without the prefix; a dot at the end marks a group."""
    names = (line.strip() for line in text.split())
    return frozenset(name.removeprefix(SYSCTL) for name in names if name.startswith(SYSCTL))


def check(given: Iterable[str], kernel: frozenset[str]) -> list[Param]:
    """Parameters as the user gave them, NAME or NAME=VALUE. Raises PlatformError: unknown, or not the user's."""
    params = []
    for text in given:
        name, equals, value = text.partition("=")
        name = name.strip().removesuffix("+")
        base = positive(name, kernel)
        if base in REFUSED:
            raise PlatformError(f"jail parameter {name}: {REFUSED[base]}")
        if base not in kernel | LISTS | SINGLES | MOUNTS:
            known = [each for each in kernel if not each.endswith(".")]
            likely = difflib.get_close_matches(name, [*known, *LISTS, *SINGLES, *MOUNTS], n=1)
            hint = f"; did you mean {likely[0]}?" if likely else ""
            raise PlatformError(
                f"no jail parameter {name}{hint} `sysctl -d security.jail.param` and jail(8) list them"
                if hint
                else f"no jail parameter {name}; `sysctl -d security.jail.param` and jail(8) list them"
            )
        if base in LISTS | ADDRESSES and not value:
            raise PlatformError(f"jail parameter {name}: it needs a value, as {name}=VALUE")
        if "\0" in value:
            raise PlatformError(f"jail parameter {name}: a value has no NUL")
        if base == "allow.sysvipc":
            params += [Param(ipc, "new") for ipc in IPC if ipc in kernel and is_true(name, value, equals)]
        else:
            params.append(Param(name, value if equals else None))
    return params


def positive(name: str, kernel: frozenset[str]) -> str:
    """A boolean's own name: allow.raw_sockets of allow.noraw_sockets (jail(8))."""
    group, dot, last = name.rpartition(".")
    base = f"{group}{dot}{last[2:]}"
    if last.startswith("no") and name not in kernel and base in kernel | SINGLES | MOUNTS | REFUSED.keys():
        return base
    return name


def is_true(name: str, value: str, equals: str) -> bool:
    """What a boolean parameter says."""
    if name.rpartition(".")[2].startswith("no"):
        return False
    return not equals or value.lower() in ("true", "1", "yes")


def wants(params: Sequence[Param], mount: str, default: bool) -> bool:
    """Whether one of MOUNTS is asked for; the last word counts."""
    group, _, last = mount.rpartition(".")
    for param in reversed(params):
        if param.name in (mount, f"{group}.no{last}"):
            return is_true(param.name, param.value or "", "" if param.value is None else "=")
    return default


def value_of(params: Sequence[Param], name: str) -> str | None:
    """The last value of a parameter."""
    return next((param.value for param in reversed(params) if param.name == name), None)


def quote(value: str) -> str:
    """A string that means itself: in single quotes only the backslash is special."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def describe(name: str, params: Sequence[Param]) -> str:
    """The text of a jail.conf(5) file for one jail. Later parameters win over earlier ones; lists grow."""
    lines, seen = [f"{name} {{"], set()
    for param in params:
        if param.name in MOUNTS or param.name.replace(".no", ".") in MOUNTS:
            continue
        if param.value is None:
            lines.append(f"\t{param.name};")
            continue
        sign = "+=" if param.name in LISTS and param.name in seen else "="
        seen.add(param.name)
        values = param.value.split(",") if param.name in ADDRESSES else [param.value]
        lines.append(f"\t{param.name} {sign} {', '.join(quote(value.strip()) for value in values)};")
    return "\n".join([*lines, "}", ""])
