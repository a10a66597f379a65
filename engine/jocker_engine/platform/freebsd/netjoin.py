"""What a network driver tells the jail runtime in Isolation.network: how a jail comes to its network. Pure.

"host", "none", or the JSON of a Join. The commands are run by jail(8) itself, as exec.created, so that the network
is complete before any process of the container, the hooks of exec.start included.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

from ..commands import PlatformError
from .params import Param

JAIL = "{jail}"
"""Stands for the jail's name in commands."""


@dataclass(frozen=True)
class Join:
    """A stack of its own with interfaces moved into it, or addresses of the host's stack."""

    vnet: bool
    commands: list[list[str]] = field(default_factory=list)
    """Run on the host when the jail is there."""
    ip4: list[str] = field(default_factory=list)
    ip6: list[str] = field(default_factory=list)

    def to_text(self) -> str:
        """For Isolation.network."""
        return json.dumps(asdict(self), separators=(",", ":"))


LOOPBACK = [
    ["/sbin/ifconfig", "-j", JAIL, "lo0", "inet", "127.0.0.1/8", "up"],
]
"""A stack of its own begins with a loopback that is down."""


def parse(text: str) -> Join:
    """Raises PlatformError for what is none, such as the network of another container."""
    if not text.startswith("{"):
        raise PlatformError(f"a jail cannot join network {text!r}: a stack of its own belongs to one jail")
    return Join(**json.loads(text))


def params(network: str, jail: str, kernel: frozenset[str]) -> list[Param]:
    """The parameters that give a jail its network."""
    own_stack = "vnet" in kernel
    if network == "host":
        return [Param("ip4", "inherit"), *([Param("ip6", "inherit")] if "ip6" in kernel else [])]
    if network == "none":
        if own_stack:
            return [Param("vnet"), *_created(LOOPBACK, jail)]
        return [Param("ip4", "disable"), *([Param("ip6", "disable")] if "ip6" in kernel else [])]
    join = parse(network)
    if join.vnet:
        return [Param("vnet"), *_created([*LOOPBACK, *join.commands], jail)]
    found = []
    for family, addresses in (("ip4", join.ip4), ("ip6", join.ip6)):
        if addresses:
            found.append(Param(f"{family}.addr", ",".join(addresses)))
        elif family in kernel:
            found.append(Param(family, "disable"))
    return [*found, *_created(join.commands, jail)]


def filled(command: list[str], jail: str) -> list[str]:
    """A command for this jail."""
    return [word.replace(JAIL, jail) for word in command]


def _created(commands: list[list[str]], jail: str) -> list[Param]:
    return [Param("exec.created", " ".join(filled(command, jail))) for command in commands]
