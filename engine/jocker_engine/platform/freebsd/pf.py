"""The packet filter: one anchor for each network, below "jocker/*" of the main ruleset, which is never ours to write.

Pure: texts of rules, command lines, and what pfctl(8) prints. Interfaces are named literally, since
macros of the main ruleset do not exist in an anchor; "jocker" is the interface group of all our bridges.
Sources: pf.conf(5), GRAMMAR; pfctl(8).
"""

from __future__ import annotations

from collections.abc import Sequence

from ..interfaces import Network, Publication
from .ifconfig import GROUP, family

ANCHORS = "jocker"
TAG = "jocker"
"""What a packet for a published port carries from its translation to the filter."""

LINES = ('nat-anchor "jocker/*"', 'rdr-anchor "jocker/*"', 'anchor "jocker/*"')
"""What the main ruleset needs: the first two in its translation part, the last in its filter part."""

_ANY = frozenset({"", "0.0.0.0", "::"})


def anchor(tag: str, network: str) -> str:
    """The name of a network's anchor; `tag` tells one engine's from another's."""
    return f"{ANCHORS}/{tag}-{network[:12]}"


def rules(network: Network, publications: Sequence[Publication], outer: dict[str, frozenset[str]]) -> str:
    """All rules of a network. `outer`: interfaces of the host that lead outside -> families they have addresses of.

    The translation first, as pf wants it: addresses of what goes out, ports from outside and from other containers,
    and for a container that reaches itself or a neighbour by the host's address, the way back through the host.
    """
    subnets = {family(each.subnet): each.subnet for each in network.subnets}
    translation, filters = [], []
    for af, subnet in subnets.items():
        if not network.internal and network.nat != "off":
            translation += [
                f"nat on {name} {af} from {subnet} to ! {subnet} -> ({name}:0)"
                for name, families in sorted(outer.items())
                if af in families and network.nat in ("", name)
            ]
    for each in publications:
        af = family(each.container_ip)
        if af in subnets and each.translated:
            hosts = sorted(name for name, families in outer.items() if af in families)
            translation += _published(network, each, af, subnets[af], hosts)
            filters.append(
                f"pass in {af} proto {each.protocol} from any to {each.container_ip} port {each.container_port} tagged {TAG}"
            )
    if network.kind == "bridge":
        for af, subnet in subnets.items():
            filters = [*_guard(network, af, subnet), *filters]
    return "".join(line + "\n" for line in [*translation, *filters])


def _published(network: Network, each: Publication, af: str, subnet: str, outer: list[str]) -> list[str]:
    target = f"{each.container_ip} port {each.container_port}"
    bridge = [network.interface]  # its gateway's address is the host's, too
    own = _braces([f"({name})" for name in (*outer, *bridge)])
    to = own if each.host_ip in _ANY else each.host_ip
    lines = [
        f"rdr on {_braces([*outer, GROUP])} {af} proto {each.protocol} from any to {to} port {each.host_port} "
        f"tag {TAG} -> {target}"
    ]
    if network.kind == "bridge":
        lines.insert(
            0,
            f"nat on {network.interface} {af} proto {each.protocol} from {subnet} to {target} -> ({network.interface})",
        )
    return lines


def _guard(network: Network, af: str, subnet: str) -> list[str]:
    """Only this network's containers, and who comes by a published port, reach them; nothing leaves an internal one."""
    bridge = network.interface
    if network.internal:
        return [
            f"pass in quick on {bridge} {af} from {subnet} to {{ ({bridge}), {subnet} }}",
            f"block drop in quick on {bridge} {af} from any to any",
            f"block drop out quick on {bridge} {af} from ! ({bridge}) to any",
        ]
    return [
        f"block drop in quick on ! {bridge} {af} from any to {subnet} ! tagged {TAG}",
        f"pass in on {bridge} {af} from {subnet} to any",
    ]


def _braces(words: Sequence[str]) -> str:
    """A list, as pf.conf(5) has it; each of its words makes a rule of its own."""
    return words[0] if len(words) == 1 else "{ " + ", ".join(words) + " }"


def check(name: str) -> list[str]:
    """Parse rules on standard input, load nothing."""
    return ["pfctl", "-a", name, "-nf", "-"]


def load(name: str) -> list[str]:
    """Replace an anchor's rules by those on standard input, in one step."""
    return ["pfctl", "-a", name, "-f", "-"]


def flush(name: str) -> list[list[str]]:
    """Empty an anchor. One by one: `-F all` fails where there are no tables."""
    return [["pfctl", "-a", name, "-F", what] for what in ("nat", "rules")]


def show(name: str) -> list[list[str]]:
    """Its translation and its filter rules; an anchor that is not there is an error with exit status 0."""
    return [["pfctl", "-a", name, what] for what in ("-sn", "-sr")]


INFO = ["pfctl", "-s", "info"]
LIST = ["pfctl", "-vsA"]
"""FreeBSD 14 shows what is below an anchor only with -v."""
MAIN = [["pfctl", "-sn"], ["pfctl", "-sr"]]


def parse_enabled(text: str) -> bool:
    """Of INFO."""
    return text.startswith("Status: Enabled")


def parse_anchors(text: str) -> list[str]:
    """Of LIST: full names, one a line."""
    return [line.strip() for line in text.splitlines() if line.startswith("  ")]


def missing_lines(main: str) -> list[str]:
    """Those of LINES that the main ruleset, as MAIN prints it, has not."""
    there = [line.strip() for line in main.splitlines()]
    return [line for line in LINES if not any(each == line or each.startswith(line + " ") for each in there)]


def why_not(info: str | None, main: str) -> tuple[str, str]:
    """(why, mend) when containers' rules have no effect; ("", ""). `info` None: pfctl could not ask the kernel."""
    if info is None:
        return "pf is not there", "run `kldload pf` and `sysrc pf_enable=YES`"
    if not parse_enabled(info):
        return "pf is off", "run `sysrc pf_enable=YES && service pf start`"
    if missing := missing_lines(main):
        return (
            f"the main ruleset of pf lacks {', '.join(missing)}",
            "add that to /etc/pf.conf and run `service pf reload`, or run `jocker-engine setup --apply`",
        )
    return "", ""
