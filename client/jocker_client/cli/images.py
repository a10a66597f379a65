"""Commands on images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import click

from jocker_protocol import wire

from ..context import ContextError
from . import options, render


def upload(stream: Any, chunks: Iterator[bytes]) -> None:
    """Send what the engine wants to have, up to its end."""
    try:
        for chunk in chunks:
            for start in range(0, len(chunk), wire.MAX_FRAME):
                stream.send(wire.STDIN, chunk[start : start + wire.MAX_FRAME])
    except ContextError as error:
        raise click.ClickException(str(error)) from None
    stream.send(wire.EOF)


_COLUMNS: list[tuple[str, str, Callable[[dict[str, Any]], str]]] = [
    ("REPOSITORY", "Repository", lambda item: item["tag"].rpartition(":")[0] if item["tag"] else "<none>"),
    ("TAG", "Tag", lambda item: item["tag"].rpartition(":")[2] if item["tag"] else "<none>"),
    ("IMAGE ID", "ID", lambda item: item["id"]),
    ("CREATED", "CreatedSince", lambda item: f"{render.age(item['created_at'])} ago"),
    ("SIZE", "Size", lambda item: render.size(item["size"])),
    ("", "CreatedAt", lambda item: item["created_at"]),
    ("", "Containers", lambda item: str(item["containers"])),
]


@click.command()
@click.option("-a", "--all", "everything", is_flag=True)
@click.option("-q", "--quiet", is_flag=True, help="Ids only.")
@click.option("-f", "--filter", "filters", multiple=True, metavar="KEY=VALUE")
@click.option("--no-trunc", is_flag=True, help="Whole ids.")
@click.option("--format", "format_", default="", metavar="table|json|TEMPLATE")
@click.argument("reference", default="")
@click.pass_context
def images(
    ctx: click.Context,
    everything: bool,
    quiet: bool,
    filters: tuple[str, ...],
    no_trunc: bool,
    format_: str,
    reference: str,
) -> None:
    """List images."""
    wanted = options.filters([*filters, *([f"reference={reference}"] if reference else [])])
    found = ctx.obj.engine.call("image.list", all=everything, filters=wanted)["images"]
    rows = [
        {**item, "tag": tag, "id": item["id"] if no_trunc else render.short(item["id"])}
        for item in found
        for tag in (item["tags"] or [""])
    ]
    if quiet:
        for identity in dict.fromkeys(row["id"] for row in rows):
            print(identity)
    else:
        render.listing(rows, _COLUMNS, format_)


@click.command()
@click.argument("image")
@click.argument("tag")
@click.pass_context
def tag(ctx: click.Context, image: str, tag: str) -> None:
    """Give an image one more name."""
    ctx.obj.engine.call("image.tag", image=image, tag=tag)


@click.command()
@click.option("-f", "--force", is_flag=True)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.pass_context
def rmi(ctx: click.Context, force: bool, images: tuple[str, ...]) -> None:
    """Remove images."""

    def act(engine: Any, name: str) -> str:
        gone = engine.call("image.remove", image=name, force=force)
        return "\n".join(
            [*(f"Untagged: {tag}" for tag in gone["untagged"]), *(f"Deleted: {id}" for id in gone["deleted"])]
        )

    options.each(ctx, images, act)


@click.command()
@click.option("-f", "--format", "format_", default="", metavar="TEMPLATE")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.pass_context
def inspect(ctx: click.Context, format_: str, images: tuple[str, ...]) -> None:
    """All there is to know of images, as JSON."""
    options.inspect(ctx, images, lambda engine, name: engine.call("image.inspect", image=name), format_)
