"""What images are made of, and those that nobody needs: history, prune."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from . import options, render


def _columns(human: bool, whole: bool) -> list[tuple[str, str, Callable[[dict[str, Any]], str]]]:
    def said(item: dict[str, Any]) -> str:
        text: str = " ".join(item["created_by"].split())
        return text if whole or len(text) <= 45 else text[:44] + "…"

    def comment(item: dict[str, Any]) -> str:
        text: str = item["comment"]
        return text

    def when(item: dict[str, Any]) -> str:
        if not item["created"]:
            return "N/A"
        return f"{render.age(item['created'])} ago" if human else item["created"][:19] + "Z"

    return [
        ("IMAGE", "ID", lambda item: item["shown"] if whole else render.short(item["shown"])),
        ("CREATED" if human else "CREATED AT", "CreatedSince" if human else "CreatedAt", when),
        ("CREATED BY", "CreatedBy", said),
        ("SIZE", "Size", lambda item: render.size(item["size"]) if human else str(item["size"])),
        ("COMMENT", "Comment", comment),
        ("", "CreatedAt" if human else "CreatedSince", lambda item: item["created"]),
        ("", "Tags", lambda item: ", ".join(item["tags"])),
    ]


@click.command()
@click.option(
    "-H", "--human/--no-human", default=True, help="Sizes and dates that are easy to read (the default)."
)
@click.option("--no-trunc", is_flag=True, help="Whole ids and instructions.")
@click.option("-q", "--quiet", is_flag=True, help="Ids only.")
@click.option("--format", "form", default="", metavar="table|json|TEMPLATE")
@click.argument("image")
@click.pass_context
def history(ctx: click.Context, human: bool, no_trunc: bool, quiet: bool, form: str, image: str) -> None:
    """How an image was made, the newest step first.

    The first row has the image's id, the others those of their layers, which can be run like images.
    """
    found = ctx.obj.engine.call("image.history", image=image)
    steps = found["history"]
    for number, step in enumerate(steps):
        step["shown"] = found["id"] if number == 0 else step["id"] or "<missing>"
        step.setdefault("tags", [])
        step.setdefault("comment", "")
    if quiet:
        for step in steps:
            print(step["shown"] if no_trunc else render.short(step["shown"]))
    else:
        render.listing(steps, _columns(human, no_trunc), form)


@click.command()
@click.option("-a", "--all", "everything", is_flag=True, help="Also those that have names, but no container.")
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@options.PRUNE_FILTER
@click.pass_context
def prune(ctx: click.Context, everything: bool, force: bool, filters: tuple[str, ...]) -> None:
    """Remove images that nobody needs."""
    which = "all images without a container" if everything else "all images without a name and a container"
    if not options.sure(which, force):
        return
    gone = ctx.obj.engine.call("image.prune", all=everything, filters=options.filters(filters))
    if gone["untagged"] or gone["deleted"]:
        print("Deleted Images:")
        for tag in gone["untagged"]:
            print(f"untagged: {tag}")
        for id in gone["deleted"]:
            print(f"deleted: {id}")
        print()
    print(f"Total reclaimed space: {render.size(gone['space_reclaimed'])}")
