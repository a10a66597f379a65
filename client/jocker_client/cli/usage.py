"""`jocker system df`: what takes room."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from . import render

Item = dict[str, Any]
Columns = list[tuple[str, str, Callable[[Item], str]]]

_KINDS = {
    "images": "Images",
    "containers": "Containers",
    "volumes": "Local Volumes",
    "build_cache": "Build Cache",
}


def _reclaimable(item: Item) -> str:
    share = 100 * item["reclaimable"] // item["size"] if item["size"] else 0
    return f"{render.size(item['reclaimable'])} ({share}%)"


_SUMMARY: Columns = [
    ("TYPE", "Type", lambda item: item["type"]),
    ("TOTAL", "TotalCount", lambda item: str(item["total"])),
    ("ACTIVE", "Active", lambda item: str(item["active"])),
    ("SIZE", "Size", lambda item: render.size(item["size"])),
    ("RECLAIMABLE", "Reclaimable", _reclaimable),
]
_IMAGES: Columns = [
    ("REPOSITORY", "Repository", lambda item: item["tag"].rpartition(":")[0] or "<none>"),
    ("TAG", "Tag", lambda item: item["tag"].rpartition(":")[2] or "<none>"),
    ("IMAGE ID", "ID", lambda item: render.short(item["id"])),
    ("CREATED", "CreatedSince", lambda item: f"{render.age(item['created_at'])} ago"),
    ("SIZE", "Size", lambda item: render.size(item["size"])),
    ("UNIQUE SIZE", "UniqueSize", lambda item: render.size(item["unique"])),
    ("CONTAINERS", "Containers", lambda item: str(item["containers"])),
]
_CONTAINERS: Columns = [
    ("CONTAINER ID", "ID", lambda item: render.short(item["id"])),
    ("IMAGE", "Image", lambda item: item["image"]),
    ("SIZE", "Size", lambda item: render.size(item["size"])),
    ("CREATED", "CreatedSince", lambda item: f"{render.age(item['created_at'])} ago"),
    ("STATUS", "Status", lambda item: item["status"]),
    ("NAMES", "Names", lambda item: item["name"]),
]
_VOLUMES: Columns = [
    ("VOLUME NAME", "Name", lambda item: item["name"]),
    ("LINKS", "Links", lambda item: str(item["links"])),
    ("SIZE", "Size", lambda item: render.size(item["size"])),
]


@click.command()
@click.option("-v", "--verbose", is_flag=True, help="Each image, container and volume.")
@click.option("--format", "format_", default="", metavar="table|json|TEMPLATE")
@click.pass_context
def df(ctx: click.Context, verbose: bool, format_: str) -> None:
    """What images, containers, volumes and the build cache take, and what pruning would free."""
    used = ctx.obj.engine.call("system.df")
    if not verbose:
        rows = [{**used["summary"][kind], "type": name} for kind, name in _KINDS.items()]
        render.listing(rows, _SUMMARY, format_)
        return
    if format_:
        raise click.UsageError("--format goes without -v")
    images = [{**image, "tag": tag} for image in used["images"] for tag in (image["tags"] or [""])]
    for title, items, columns in (
        ("Images space usage:", images, _IMAGES),
        ("Containers space usage:", used["containers"], _CONTAINERS),
        ("Local Volumes space usage:", used["volumes"], _VOLUMES),
    ):
        print(f"{title}\n")
        render.listing(items, columns, "")
        print()
