"""The options of `create` and `run` that concern networks, and the parameters that they make."""

from __future__ import annotations

from typing import Any

import click

_O = click.option

OPTIONS = [
    _O("--network", "--net", "networks", multiple=True, metavar="NAME",
       help="A network, also several; host, none, container:NAME; or name=N,ip=A,alias=B."),
    _O("--ip", default="", metavar="ADDRESS", help="Its address on the (first) network."),
    _O("--ip6", default="", metavar="ADDRESS", help="Its v6 address there."),
    _O("--network-alias", "aliases", multiple=True, metavar="NAME", help="One more name there."),
    _O("--mac-address", default="", metavar="MAC", help="Its hardware address there."),
    _O("-p", "--publish", "ports", multiple=True, metavar="[IP|IF:]HOST[:CONTAINER][/udp]",
       help="Lead a port of the host, or a range of them, into the container."),
    _O("-P", "--publish-all", is_flag=True, help="Lead ports of the host to all that are exposed."),
    _O("--expose", multiple=True, metavar="PORT[/udp]", help="Expose a port, beside the image's."),
    _O("-h", "--hostname", default="", help="Host name inside."),
    _O("--add-host", "extra_hosts", multiple=True, metavar="NAME:ADDRESS",
       help="One more line in its hosts file; ADDRESS may be host-gateway."),
    _O("--dns", multiple=True, metavar="ADDRESS", help="Name servers, in place of the host's."),
    _O("--dns-search", multiple=True, metavar="DOMAIN", help="Search domains; . for none."),
    _O("--dns-option", "--dns-opt", "dns_options", multiple=True, metavar="OPTION", help="Options of resolv.conf(5)."),
]  # fmt: skip

_ALONE = ("host", "none")
_KEYS = {"name": "network", "ip": "ip", "ip6": "ip6", "mac-address": "mac_address", "alias": "aliases"}


def params(given: dict[str, Any]) -> dict[str, Any]:
    """Of `container.create`; what was not said is left out."""
    made: dict[str, Any] = {
        "ports": [wish for text in given["ports"] for wish in publish(text)],
        "publish_all": given["publish_all"],
        "expose": list(given["expose"]),
        "hostname": given["hostname"],
        "extra_hosts": [_host(text) for text in given["extra_hosts"]],
        "dns": list(given["dns"]),
        "dns_search": list(given["dns_search"]),
        "dns_options": list(given["dns_options"]),
        **_networks(given),
    }
    return {key: value for key, value in made.items() if value}


def _networks(given: dict[str, Any]) -> dict[str, Any]:
    first = {key: given[key] for key in ("ip", "ip6", "mac_address") if given[key]}
    if given["aliases"]:
        first["aliases"] = list(given["aliases"])
    asked = [connection(text) for text in given["networks"]]
    alone = [each["network"] for each in asked if _is_alone(each["network"])]
    if alone:
        if len(asked) > 1:
            raise click.UsageError(f"--network {alone[0]} cannot be combined with other networks")
        if first or len(asked[0]) > 1:
            raise click.UsageError(
                f"--network {alone[0]}: --ip, --ip6, --network-alias and --mac-address need a network that was created"
            )
        return {"network": alone[0]}
    if first:
        asked = asked or [{"network": ""}]
        asked[0] |= first
    return {"networks": asked}


def _is_alone(network: str) -> bool:
    return network in _ALONE or network.startswith("container:")


def connection(text: str) -> dict[str, Any]:
    """--network NAME, or name=NAME,ip=ADDRESS,alias=OTHER."""
    if "=" not in text:
        return {"network": text}
    made: dict[str, Any] = {}
    for item in text.split(","):
        key, equals, value = item.partition("=")
        if key not in _KEYS or not equals or not value:
            raise click.UsageError(f"--network: {item!r} is not understood; {'=, '.join(_KEYS)}= are")
        if key == "alias":
            made.setdefault("aliases", []).append(value)
        else:
            made[_KEYS[key]] = value
    if "network" not in made:
        raise click.UsageError(f"--network {text!r}: name= is missing")
    return made


def _host(text: str) -> str:
    name, separator, address = text.partition("=") if "=" in text else text.partition(":")
    if not separator or not name or not address:
        raise click.UsageError(f"--add-host {text!r}: must be NAME:ADDRESS")
    return f"{name}:{address.removeprefix('[').removesuffix(']')}"


def publish(text: str) -> list[dict[str, Any]]:
    """-p [IP:]HOST[:CONTAINER][/PROTOCOL], IF:HOST:CONTAINER, ranges; HOST may be left empty for a free one."""
    ports, slash, protocol = text.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    if protocol not in ("tcp", "udp"):
        raise click.UsageError(f"-p {text!r}: the protocol is tcp or udp, not {protocol!r}")
    host_ip = ""
    if ports.startswith("["):
        host_ip, bracket, ports = ports[1:].partition("]:")
        if not bracket:
            raise click.UsageError(f"-p {text!r}: a v6 address is written as [::1]:8080:80")
    else:
        parts = ports.rsplit(":", 2)
        if len(parts) == 3 or (len(parts) == 2 and not _is_range(parts[0]) and parts[0]):
            host_ip, ports = parts[0], ":".join(parts[1:])
    host, colon, inside = ports.partition(":")
    first, last = _range(inside if colon else host, text)
    wish = {"protocol": protocol, **({"host_ip": host_ip} if host_ip else {})}
    if host in ("", "0"):
        return [{"container_port": port, **wish} for port in range(first, last + 1)]
    low, high = _range(host, text)
    if first == last and low < high:  # the first of them that is free
        return [{"container_port": first, "host_port": low, "host_port_last": high, **wish}]
    if high - low != last - first:
        raise click.UsageError(
            f"-p {text!r}: the two ranges have not the same length; only a single port of the container takes any of a range"
        )
    return [
        {"container_port": port, "host_port": low + number, **wish}
        for number, port in enumerate(range(first, last + 1))
    ]


def _is_range(text: str) -> bool:
    return text.replace("-", "", 1).isdigit()


def _range(text: str, whole: str) -> tuple[int, int]:
    low, dash, high = text.partition("-")
    if not low.isdigit() or (dash and not high.isdigit()):
        raise click.UsageError(
            f"-p {whole!r}: must be [IP:]HOST[:CONTAINER][/udp], such as 8080:80 or 127.0.0.1:53:53/udp"
        )
    first, last = int(low), int(high or low)
    if not 0 < first <= last <= 65535:
        raise click.UsageError(f"-p {whole!r}: ports are between 1 and 65535, the lower one first")
    return first, last
