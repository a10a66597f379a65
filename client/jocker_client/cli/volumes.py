"""Commands on volumes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from . import options, render, tars
from .limits import size


@click.command()
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE")
@click.option("--quota", default="", metavar="SIZE", help="What it can hold, such as 10g.")
@click.option("-d", "--driver", default="local", metavar="local", help="There is one.")
@click.option("-o", "--opt", "opts", multiple=True, metavar="size=SIZE", help="The same as --quota.")
@click.argument("name", default="")
@click.pass_context
def create(
    ctx: click.Context, labels: tuple[str, ...], quota: str, driver: str, opts: tuple[str, ...], name: str
) -> None:
    """Make a volume; without a name it gets a random one."""
    if driver != "local":
        raise click.UsageError(f"--driver {driver!r}: the only driver of volumes is local")
    for item in opts:
        key, _, value = item.partition("=")
        if key != "size":
            raise click.UsageError(
                f"--opt {item!r}: only size=SIZE is known; a directory of the host is mounted with -v /PATH:/TARGET"
            )
        quota = value
    made = ctx.obj.engine.call(
        "volume.create",
        name=name,
        labels=options.pairs(labels, "--label"),
        **({"quota": size(quota, "--quota")} if quota else {}),
    )
    click.echo(made["name"])


_COLUMNS: list[tuple[str, str, Callable[[dict[str, Any]], str]]] = [
    ("DRIVER", "Driver", lambda item: item["driver"]),
    ("VOLUME NAME", "Name", lambda item: item["name"]),
    ("", "Mountpoint", lambda item: item["mountpoint"]),
    ("", "CreatedAt", lambda item: item["created_at"]),
    ("", "Labels", lambda item: ",".join(f"{key}={value}" for key, value in item["labels"].items())),
    ("", "Quota", lambda item: render.binary(item["quota"]) if item["quota"] else ""),
    ("", "Scope", lambda item: "local"),
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
    options.inspect(ctx, volumes, lambda engine, name: engine.call("volume.inspect", volume=name), format_)


@click.command()
@click.option("-f", "--force", is_flag=True, help="One that is not there is no error.")
@click.argument("volumes", nargs=-1, required=True, metavar="VOLUME...")
@click.pass_context
def rm(ctx: click.Context, force: bool, volumes: tuple[str, ...]) -> None:
    """Remove volumes that no container uses."""
    options.each(ctx, volumes, lambda engine, name: engine.call("volume.remove", volume=name, force=force))


@click.command()
@click.option("-a", "--all", "everything", is_flag=True, help="Those with a name, too.")
@click.option("-f", "--force", is_flag=True, help="Without asking.")
@click.option("--filter", "filters", multiple=True, metavar="label=KEY[=VALUE]")
@click.pass_context
def prune(ctx: click.Context, everything: bool, force: bool, filters: tuple[str, ...]) -> None:
    """Remove anonymous volumes that no container uses."""
    which = "all volumes" if everything else "anonymous volumes"
    if not options.sure(f"{which} not used by at least one container", force):
        return
    gone = ctx.obj.engine.call("volume.prune", all=everything, filters=options.filters(filters))
    if gone["volumes"]:
        click.echo("Deleted Volumes:\n" + "".join(f"{name}\n" for name in gone["volumes"]))
    click.echo(f"Total reclaimed space: {render.size(gone['space'])}")


# --- snapshots -----------------------------------------------------------------------------------


@click.command()
@click.argument("volume")
@click.argument("name", default="")
@click.pass_context
def snapshot(ctx: click.Context, volume: str, name: str) -> None:
    """Keep what a volume holds now; without a NAME it is called by the time."""
    click.echo(ctx.obj.engine.call("volume.snapshot", volume=volume, snapshot=name)["name"])


_SNAPSHOT_COLUMNS: list[tuple[str, str, Callable[[dict[str, Any]], str]]] = [
    ("SNAPSHOT", "Name", lambda item: item["name"]),
    ("CREATED", "CreatedSince", lambda item: f"{render.age(item['created_at'])} ago"),
    ("", "CreatedAt", lambda item: item["created_at"]),
]


@click.command()
@click.option("-q", "--quiet", is_flag=True, help="Names only.")
@click.option("--format", "format_", default="", metavar="table|json|TEMPLATE")
@click.argument("volume")
@click.pass_context
def snapshots(ctx: click.Context, quiet: bool, format_: str, volume: str) -> None:
    """List the snapshots of a volume, the oldest first."""
    found = ctx.obj.engine.call("volume.inspect", volume=volume)["snapshots"]
    if quiet:
        for item in found:
            print(item["name"])
    else:
        render.listing(found, _SNAPSHOT_COLUMNS, format_)


@click.command("snapshot-rm")
@click.argument("volume")
@click.argument("snapshots", nargs=-1, required=True, metavar="SNAPSHOT...")
@click.pass_context
def snapshot_rm(ctx: click.Context, volume: str, snapshots: tuple[str, ...]) -> None:
    """Forget snapshots of a volume."""
    options.each(
        ctx,
        snapshots,
        lambda engine, name: engine.call("volume.snapshot_remove", volume=volume, snapshot=name),
    )


@click.command()
@click.argument("volume")
@click.argument("snapshot")
@click.pass_context
def restore(ctx: click.Context, volume: str, snapshot: str) -> None:
    """Go back to a snapshot: the volume holds what it held then.

    Containers that use it must be stopped. Other snapshots stay.
    """
    ctx.obj.engine.call("volume.restore", volume=volume, snapshot=snapshot)
    click.echo(volume)


@click.command("export")
@click.option("-o", "--output", default="-", metavar="FILE", help="Write to a file.")
@click.option("--snapshot", default="", metavar="NAME", help="What it held then.")
@click.argument("volume")
@click.pass_context
def export(ctx: click.Context, output: str, snapshot: str, volume: str) -> None:
    """Write what a volume holds as a tar, to standard output or a file."""
    engine = ctx.obj.engine
    if output == "-":
        tars.refuse_terminal("-o FILE")
    ticket = engine.call("volume.export", volume=volume, snapshot=snapshot)
    with engine.stream(ticket["token"]) as stream:
        tars.download(stream, output)


@click.command("import")
@click.option("-i", "--input", "source", default="-", metavar="FILE", help="Read from a file.")
@click.argument("volume")
@click.argument("file", default="")
@click.pass_context
def import_(ctx: click.Context, source: str, volume: str, file: str) -> None:
    """Fill a volume from a tar, plain or compressed, from standard input or a file: all of it or nothing.

    It is made if it is not there; what it holds is replaced. Containers that use it must be stopped.
    """
    chunks = tars.read(file or source)
    engine = ctx.obj.engine
    ticket = engine.call("volume.import", volume=volume)
    with engine.stream(ticket["token"]) as stream:
        try:
            tars.upload(stream, chunks)
        except BrokenPipeError:
            pass  # the engine wants no more of it, and says why
        made = stream.result()
    click.echo(made["name"])
