"""Commands on the engine, and those that know all kinds of things."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import click

from jocker_protocol.errors import NotFound

from ..connection import Connection
from . import netview, options, render


@click.command()
@click.option("-f", "--format", "format_", default="", metavar="json|TEMPLATE")
@click.pass_context
def version(ctx: click.Context, format_: str) -> None:
    """Versions of client and engine."""
    from importlib.metadata import version as installed

    client = {"version": installed("jocker"), "python": sys.version.split()[0]}
    if format_:
        both = {"client": client, "engine": ctx.obj.engine.call("engine.version")}
        if format_ == "json":
            print(json.dumps(render.docker(both)))
        else:
            render.details([both], format_)
        return
    _facts("Client", client)  # also when there is no engine to ask
    _facts("Engine", ctx.obj.engine.call("engine.version"))


def _facts(title: str, facts: dict[str, str]) -> None:
    print(f"{title}:")
    for key, value in facts.items():
        print(f"  {key + ':':<14} {value}")


@click.command()
@click.option("-f", "--format", "format_", default="", metavar="json|TEMPLATE")
@click.pass_context
def info(ctx: click.Context, format_: str) -> None:
    """What the engine runs on and how much it holds."""
    facts = ctx.obj.engine.call("engine.info")
    if format_ == "json":
        print(json.dumps(render.docker(facts)))
    elif format_:
        render.details([facts], format_)
    else:
        drivers = ", ".join(f"{part} {name}" for part, name in facts["platform"].items())
        rows = {
            "Engine": f"{facts['version']}, pid {facts['pid']}, up {facts['uptime']:.0f} s",
            "Root": facts["root"],
            "Drivers": drivers,
            "Containers": f"{facts['containers']} ({facts['running']} running)",
            "Images": facts["images"],
            "Volumes": facts["volumes"],
            "Host": f"{facts['hostname']}, {facts['os']} {facts['kernel']} {facts['arch']}",
            "Machine": f"{facts['cpus']} CPUs, {render.size(facts['memory'])} memory",
        }
        for key, value in rows.items():
            print(f"{key + ':':<12} {value}")
        for found in facts["probed"]:
            if not found["usable"]:
                print(f"Not usable:  {found['part']} {found['driver']}: {found['why']}; {found['mend']}")
        for warning in facts["warnings"]:
            print(f"Warning:     {warning}")


def _same(value: Any) -> Any:
    return value


_KINDS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "container": netview.settings,
    "image": _same,
    "volume": _same,
    "network": netview.network,
}
"""Kind -> how what the engine says of one is shown."""


@click.command()
@click.option("-f", "--format", "format_", default="", metavar="TEMPLATE")
@click.option("--type", "kind", type=click.Choice(list(_KINDS)), default=None)
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.pass_context
def inspect(ctx: click.Context, format_: str, kind: str | None, names: tuple[str, ...]) -> None:
    """All there is to know of containers, images, volumes or networks, as JSON."""

    def get(engine: Connection, name: str) -> dict[str, Any]:
        for each, show in _KINDS.items():
            if kind in (None, each):
                try:
                    return show(engine.call(f"{each}.inspect", **{each: name}))
                except NotFound:
                    if kind == each:
                        raise
        raise NotFound(f"no such container, image, volume or network: {name}")

    options.inspect(ctx, names, get, format_)


@click.command()
@click.argument("method")
@click.argument("params", default="{}", metavar="[JSON]")
@click.pass_context
def rpc(ctx: click.Context, method: str, params: str) -> None:
    """Call a method of the engine; JSON is its parameters, - reads them from standard input."""
    try:
        given = json.loads(sys.stdin.read() if params == "-" else params)
    except ValueError as error:
        raise click.UsageError(f"the parameters are not JSON: {error}") from None
    if not isinstance(given, dict):
        raise click.UsageError("the parameters must be a JSON object")
    print(json.dumps(ctx.obj.engine.call(method, **given), indent=2))
