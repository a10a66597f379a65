"""Interfaces as ifconfig(8) makes and shows them: command lines, and what they print. Pure.

A few of its ways: `ether` must be a command of its own; a creation that fails half-way has printed the name of what
it made; names have 15 characters; the b end of an epair has the number of the a end.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from dataclasses import dataclass, field

GROUP = "jocker"
"""Interface group of all that is ours on the host."""

ALL = ["ifconfig", "-a"]


@dataclass
class Interface:
    """One interface of the host."""

    name: str
    flags: frozenset[str]
    description: str = ""
    ether: str = ""
    groups: tuple[str, ...] = ()
    addresses: list[str] = field(default_factory=list)
    """With prefix lengths; link-local ones left out."""
    members: list[str] = field(default_factory=list)
    """Of a bridge."""


_HEAD = re.compile(r"(\S+): flags=[0-9a-f]+(?:<([^>]*)>)?")
_INET = re.compile(r"inet (\S+)(?: --> \S+)? netmask 0x([0-9a-f]{8})")
_INET6 = re.compile(r"inet6 (\S+?)(?:%\S+)? prefixlen (\d+)")


def parse(text: str) -> dict[str, Interface]:
    """What ALL prints, by name."""
    found: dict[str, Interface] = {}
    current = Interface("", frozenset())
    for line in text.splitlines():
        if head := _HEAD.match(line):
            current = found[head[1]] = Interface(head[1], frozenset((head[2] or "").split(",")))
            continue
        word, _, rest = line.strip().partition(" ")
        if word == "description:":
            current.description = rest
        elif word == "ether":
            current.ether = rest.split()[0]
        elif word == "groups:":
            current.groups = tuple(rest.split())
        elif word == "member:":
            current.members.append(rest.split()[0])
        elif word == "inet" and (inet := _INET.match(line.strip())):
            current.addresses.append(f"{inet[1]}/{int(inet[2], 16).bit_count()}")
        elif word == "inet6" and (inet6 := _INET6.match(line.strip())) and not inet6[1].startswith("fe80:"):
            current.addresses.append(f"{inet6[1]}/{inet6[2]}")
    return found


def has(interface: Interface, address: str) -> bool:
    """Whether it has this address, with this prefix length."""
    wanted = ipaddress.ip_interface(address)
    return any(ipaddress.ip_interface(each) == wanted for each in interface.addresses)


def family(address: str) -> str:
    """ifconfig's and pf's word for it."""
    return "inet6" if ":" in address else "inet"


def mac(*names: str) -> str:
    """A locally administered address of one's own: the same names, the same address. Never that of the kernel's
    counter, which repeats itself between hosts.
    """
    digest = hashlib.sha256("\0".join(names).encode()).digest()
    return ":".join(f"{byte:02x}" for byte in (0x02, *digest[:5]))


def short(prefix: str, *names: str) -> str:
    """A name of at most 15 characters that nobody else has."""
    return prefix + hashlib.sha256("\0".join(names).encode()).hexdigest()[:8]


def create_bridge(name: str, description: str) -> list[str]:
    """Prints the name, or that of what it made before it failed."""
    return ["ifconfig", "bridge", "create", "name", name, "group", GROUP, "descr", description]


def create_loopback(name: str, description: str) -> list[str]:
    """As create_bridge."""
    return ["ifconfig", "lo", "create", "name", name, "group", GROUP, "descr", description]


CREATE_EPAIR = ["ifconfig", "epair", "create"]
"""Prints the name of the a end."""


def other_end(a: str) -> str:
    """The b end of an epair, by the name that CREATE_EPAIR has printed."""
    return a.removesuffix("a") + "b"


def set_mac(name: str, address: str) -> list[str]:
    """Before anything else is done to it."""
    return ["ifconfig", name, "ether", address]


def name_host_end(a: str, name: str, description: str) -> list[str]:
    """Name, group and description of the end that stays; up."""
    return ["ifconfig", a, "name", name, "group", GROUP, "descr", description, "up"]


def rename(old: str, new: str) -> list[str]:
    """On the host; a name given inside a jail would come back with the interface, and meet others."""
    return ["ifconfig", old, "name", new]


def no_offload(name: str) -> list[str]:
    """The first member's offloads become the whole bridge's: the same for all of them."""
    return ["ifconfig", name, "-txcsum", "-txcsum6"]


def add_member(bridge: str, name: str) -> list[str]:
    """Of a bridge."""
    return ["ifconfig", bridge, "addm", name]


def add_address(name: str, address: str) -> list[str]:
    """An address of the host; a v6 one is never tentative."""
    no_dad = ["no_dad"] if ":" in address else []
    return ["ifconfig", name, family(address), address, "alias", *no_dad]


def remove_address(name: str, address: str) -> list[str]:
    """Undo add_address."""
    return ["ifconfig", name, family(address), address.partition("/")[0], "-alias"]


def destroy(name: str) -> list[str]:
    """An epair goes with its other end, wherever that is."""
    return ["ifconfig", name, "destroy"]


def inside(jail: str, name: str, addresses: tuple[str, ...], gateways: tuple[str, ...]) -> list[list[str]]:
    """Give an interface of the host to a jail, with addresses and default routes; no program inside is needed."""
    commands = [["/sbin/ifconfig", name, "vnet", jail]]
    for address in addresses:
        no_dad = ["no_dad"] if ":" in address else []
        commands.append(["/sbin/ifconfig", "-j", jail, name, family(address), address, *no_dad, "up"])
    return [*commands, *(default_route(jail, "add", gateway) for gateway in gateways)]


def default_route(jail: str, verb: str, gateway: str) -> list[str]:
    """Of a jail; `verb` is add, or delete, which takes any gateway's when none is given."""
    v6 = ["-inet6"] if ":" in gateway else []
    return ["/sbin/route", "-j", jail, verb, *v6, "default", *([gateway] if verb == "add" else [])]
