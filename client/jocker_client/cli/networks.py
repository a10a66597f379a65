"""Commands on networks, and `port`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

from jocker_protocol.errors import NotFound

from . import netview, options, render


@click.command()
@click.option(
    "-d",
    "--driver",
    default=None,
    type=click.Choice(["bridge", "loopback"]),
    help="bridge: a stack for each container; loopback: addresses on the host's (FreeBSD).",
)
@click.option("--subnet", "subnets", multiple=True, metavar="CIDR", help="Its addresses; one v4, one v6.")
@click.option(
    "--gateway", "gateways", multiple=True, metavar="ADDRESS", help="The host's address in a subnet."
)
@click.option(
    "--ip-range", "ranges", multiple=True, metavar="CIDR", help="The part of a subnet for containers."
)
@click.option("--ipv6", is_flag=True, help="With v6 addresses too.")
@click.option("--internal", is_flag=True, help="Without a way out.")
@click.option("--interface", default="", metavar="NAME", help="Name of the host's interface.")
@click.option(
    "--nat", default="", metavar="IF|off", help="Translate only what leaves through IF, or nothing."
)
@click.option("--mtu", type=int, default=0, metavar="BYTES", help="The largest packet on it.")
@click.option(
    "-o",
    "--opt",
    "opts",
    multiple=True,
    metavar="KEY=VALUE",
    help="Such of docker's options as mean one of these.",
)
@click.option("--attachable", is_flag=True, help="As all networks here are.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE")
@click.argument("name")
@click.pass_context
def create(ctx: click.Context, /, **given: Any) -> None:
    """Make a network."""
    for text in given["opts"]:
        given |= _opt(text)
    made = ctx.obj.engine.call(
        "network.create",
        name=given["name"],
        driver=given["driver"] or "",
        subnets=_subnets(given["subnets"], given["gateways"], given["ranges"]),
        ipv6=given["ipv6"],
        internal=given["internal"],
        interface=given["interface"],
        nat=given["nat"],
        mtu=given["mtu"],
        labels=options.pairs(given["labels"], "--label"),
    )
    click.echo(made["id"])  # fmt: skip


_OPTS = {
    "com.docker.network.bridge.name": "interface",
    "com.docker.network.driver.mtu": "mtu",
    "mtu": "mtu",
    "com.docker.network.bridge.enable_ip_masquerade": "nat",
}
"""Docker's names for options of a bridge, and ours."""


def _opt(text: str) -> dict[str, Any]:
    key, _, value = text.partition("=")
    name = _OPTS.get(key)
    if name is None:
        raise click.UsageError(f"--opt {text!r}: there are {', '.join(_OPTS)}")
    if name == "mtu":
        if not value.isdigit():
            raise click.UsageError(f"--opt {text!r}: must be a number of bytes")
        return {name: int(value)}
    if name == "nat":
        if value not in ("true", "false"):
            raise click.UsageError(f"--opt {text!r}: must be true or false")
        return {name: "off"} if value == "false" else {}
    return {name: value}


def _subnets(
    subnets: tuple[str, ...], gateways: tuple[str, ...], ranges: tuple[str, ...]
) -> list[dict[str, str]]:
    """Gateways and ranges belong to the subnet of their family."""
    made = [{"subnet": subnet} for subnet in subnets]
    for key, option, values in (("gateway", "--gateway", gateways), ("ip_range", "--ip-range", ranges)):
        for value in values:
            mine = [each for each in made if (":" in each["subnet"]) == (":" in value) and key not in each]
            if not mine:
                raise click.UsageError(f"{option} {value}: there is no --subnet that it belongs to")
            mine[0][key] = value
    return made


_COLUMNS: list[tuple[str, str, Callable[[dict[str, Any]], str]]] = [
    ("NETWORK ID", "ID", lambda item: item["id"]),
    ("NAME", "Name", lambda item: item["name"]),
    ("DRIVER", "Driver", lambda item: item["driver"]),
    ("SCOPE", "Scope", lambda item: "local"),
    ("SUBNETS", "Subnets", lambda item: ",".join(each["subnet"] for each in item["subnets"])),
    ("", "Interface", lambda item: item["interface"]),
    ("", "Internal", lambda item: str(item["internal"]).lower()),
    ("", "IPv6", lambda item: str(any(":" in each["subnet"] for each in item["subnets"])).lower()),
    ("", "CreatedAt", lambda item: item["created_at"]),
    ("", "Labels", lambda item: ",".join(f"{key}={value}" for key, value in item["labels"].items())),
]


@click.command()
@click.option("-q", "--quiet", is_flag=True, help="Ids only.")
@click.option("-f", "--filter", "filters", multiple=True, metavar="KEY=VALUE")
@click.option("--no-trunc", is_flag=True, help="Whole ids.")
@click.option("--format", "format_", default="", metavar="table|json|TEMPLATE")
@click.pass_context
def ls(ctx: click.Context, quiet: bool, filters: tuple[str, ...], no_trunc: bool, format_: str) -> None:
    """List networks."""
    found = ctx.obj.engine.call("network.list", filters=options.filters(filters))["networks"]
    if not no_trunc:
        found = [{**item, "id": render.short(item["id"])} for item in found]
    if quiet:
        sys.stdout.write("".join(f"{item['id']}\n" for item in found))
    else:
        render.listing(found, _COLUMNS, format_)


@click.command()
@click.option("-f", "--format", "format_", default="", metavar="TEMPLATE")
@click.option("-v", "--verbose", is_flag=True, help="As always.")
@click.argument("networks", nargs=-1, required=True, metavar="NETWORK...")
@click.pass_context
def inspect(ctx: click.Context, format_: str, verbose: bool, networks: tuple[str, ...]) -> None:
    """All there is to know of networks, as JSON."""
    options.inspect(
        ctx,
        networks,
        lambda engine, name: netview.network(engine.call("network.inspect", network=name)),
        format_,
    )


@click.command()
@click.option("-f", "--force", is_flag=True, help="One that is not there is no error.")
@click.argument("networks", nargs=-1, required=True, metavar="NETWORK...")
@click.pass_context
def rm(ctx: click.Context, force: bool, networks: tuple[str, ...]) -> None:
    """Remove networks that no container is on."""
    options.each(ctx, networks, lambda engine, name: engine.call("network.remove", network=name, force=force))


@click.command()
@click.option("-f", "--force", is_flag=True, help="Without a question.")
@options.PRUNE_FILTER
@click.pass_context
def prune(ctx: click.Context, force: bool, filters: tuple[str, ...]) -> None:
    """Remove all networks that no container is on."""
    if not options.sure("all networks that no container is on", force):
        return
    gone = ctx.obj.engine.call("network.prune", filters=options.filters(filters))["networks"]
    if gone:
        click.echo("Deleted Networks:")
    for name in gone:
        click.echo(name)


@click.command()
@click.option("--ip", default="", metavar="ADDRESS", help="Its address there.")
@click.option("--ip6", default="", metavar="ADDRESS", help="Its v6 address there.")
@click.option("--alias", "aliases", multiple=True, metavar="NAME", help="One more name there.")
@click.option("--mac-address", default="", metavar="MAC", help="Its hardware address there.")
@click.argument("network")
@click.argument("container")
@click.pass_context
def connect(ctx: click.Context, /, **given: Any) -> None:
    """Put a container, running or not, on one more network."""
    ctx.obj.engine.call("network.connect", **{**given, "aliases": list(given["aliases"])})


@click.command()
@click.option("-f", "--force", is_flag=True, help="One that is not there is no error.")
@click.argument("network")
@click.argument("container")
@click.pass_context
def disconnect(ctx: click.Context, network: str, container: str, force: bool) -> None:
    """Take a container off a network."""
    ctx.obj.engine.call("network.disconnect", network=network, container=container, force=force)


@click.command()
@click.argument("container")
@click.argument("port", default="", metavar="[PORT[/PROTOCOL]]")
@click.pass_context
def port(ctx: click.Context, container: str, port: str) -> None:
    """Show which ports of the host lead into a container."""
    wanted = f"{port}/tcp" if port and "/" not in port else port
    found = False
    for each in ctx.obj.engine.call("container.inspect", container=container)["ports"]:
        inside = f"{each['container_port']}/{each['protocol']}"
        if wanted in ("", inside):
            found = True
            host = f"[{each['host_ip']}]" if ":" in each["host_ip"] else each["host_ip"]
            click.echo(f"{'' if wanted else f'{inside} -> '}{host}:{each['host_port']}")
    if wanted and not found:
        raise NotFound(f"port {wanted} of container {container} is not published")
