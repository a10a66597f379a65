"""Commands on volumes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from . import options, render


@click.command()
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE")
@click.argument("name", default="")
@click.pass_context
def create(ctx: click.Context, labels: tuple[str, ...], name: str) -> None:
    """Make a volume; without a name it gets a random one."""
    made = ctx.obj.engine.call("volume.create", name=name, labels=options.pairs(labels, "--label"))
    click.echo(made["name"])


_COLUMNS: list[tuple[str, str, Callable[[dict[str, Any]], str]]] = [
    ("DRIVER", "Driver", lambda item: item["driver"]),
    ("VOLUME NAME", "Name", lambda item: item["name"]),
    ("", "Mountpoint", lambda item: item["mountpoint"]),
    ("", "CreatedAt", lambda item: item["created_at"]),
]


@click.command()
@click.option("-q", "--quiet", is_flag=True, help="Names only.")
@click.option("-f", "--filter", "filters", multiple=True, metavar="KEY=VALUE")
@click.option("--format", "format_", default="", metavar="table|json|TEMPLATE")
@click.pass_context
def ls(ctx: click.Context, quiet: bool, filters: tuple[str, ...], format_: str) -> None:
    """List volumes."""
    found = ctx.obj.engine.call("volume.list", filters=options.filters(filters))["volumes"]
    if quiet:
        for item in found:
            print(item["name"])
    else:
        render.listing(found, _COLUMNS, format_)


@click.command()
@click.option("-f", "--format", "format_", default="", metavar="TEMPLATE")
@click.argument("volumes", nargs=-1, required=True, metavar="VOLUME...")
@click.pass_context
def inspect(ctx: click.Context, format_: str, volumes: tuple[str, ...]) -> None:
    """All there is to know of volumes, as JSON."""
    render.details([ctx.obj.engine.call("volume.inspect", volume=name) for name in volumes], format_)


@click.command()
@click.option("-f", "--force", is_flag=True, help="One that is not there is no error.")
@click.argument("volumes", nargs=-1, required=True, metavar="VOLUME...")
@click.pass_context
def rm(ctx: click.Context, force: bool, volumes: tuple[str, ...]) -> None:
    """Remove volumes that no container uses."""
    options.each(ctx, volumes, lambda engine, name: engine.call("volume.remove", volume=name, force=force))
