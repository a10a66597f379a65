"""`jocker container prune` and `jocker system prune`: what nobody uses goes."""

from __future__ import annotations

from typing import Any

import click

from . import options, render


@click.command("prune")
@click.option("-f", "--force", is_flag=True, help="Without asking.")
@options.PRUNE_FILTER
@click.pass_context
def containers(ctx: click.Context, force: bool, filters: tuple[str, ...]) -> None:
    """Remove all containers that do not run."""
    if not options.sure("all stopped containers", force):
        return
    gone = ctx.obj.engine.call("container.prune", filters=options.filters(filters))
    _tell("Containers", gone["containers"])
    click.echo(f"Total reclaimed space: {render.size(gone['space_reclaimed'])}")


@click.command("prune")
@click.option(
    "-a",
    "--all",
    "everything",
    is_flag=True,
    help="All images without a container, not only those without a name.",
)
@click.option("--volumes", is_flag=True, help="Anonymous volumes that no container uses, too.")
@click.option("-f", "--force", is_flag=True, help="Without asking.")
@options.PRUNE_FILTER
@click.pass_context
def everything(
    ctx: click.Context, everything: bool, volumes: bool, force: bool, filters: tuple[str, ...]
) -> None:
    """Remove stopped containers, networks and images that nobody uses, and the build cache."""
    given = options.filters(filters)
    if volumes and "until" in given:
        raise click.UsageError("--filter until=: volumes have no such filter; leave --volumes out")
    what = [
        "all stopped containers",
        "all networks that no container is on",
        *(["all anonymous volumes not used by at least one container"] if volumes else []),
        "all images without a container" if everything else "all images without a name and a container",
        "all build cache that is not in use",
    ]
    if not options.sure("".join(f"\n  - {each}" for each in what), force):
        return
    engine, space = ctx.obj.engine, 0
    gone = engine.call("container.prune", filters=given)
    _tell("Containers", gone["containers"])
    space += gone["space_reclaimed"]
    _tell("Networks", engine.call("network.prune", filters=given)["networks"])
    if volumes:
        gone = engine.call("volume.prune", filters=given)
        _tell("Volumes", gone["volumes"])
        space += gone["space"]
    gone = engine.call("image.prune", all=everything, filters=given)
    _tell(
        "Images",
        [f"untagged: {tag}" for tag in gone["untagged"]] + [f"deleted: {id}" for id in gone["deleted"]],
    )
    space += gone["space_reclaimed"]
    if not given:
        gone = engine.call("builder.prune", all=False, unused_for=0.0, keep_storage=0)
        _tell("build cache objects", [item["id"] for item in gone["deleted"]])
        space += gone["reclaimed"]
    click.echo(f"Total reclaimed space: {render.size(space)}")


def _tell(what: str, gone: list[Any]) -> None:
    if gone:
        click.echo("\n".join([f"Deleted {what}:", *map(str, gone), ""]))
