"""`ps`: typed all day, so in a module that imports little."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

from . import options, render

_COLUMNS: list[tuple[str, str, Callable[[dict[str, Any]], str]]] = [
    ("CONTAINER ID", "ID", lambda item: item["id"]),
    ("IMAGE", "Image", lambda item: item["image"]),
    ("COMMAND", "Command", lambda item: " ".join(item["command"])),
    ("CREATED", "RunningFor", lambda item: f"{render.age(item['created_at'])} ago"),
    ("STATUS", "Status", render.status),
    ("PORTS", "Ports", lambda item: ", ".join(item["ports"])),
    ("NAMES", "Names", lambda item: item["name"]),
    ("", "State", lambda item: item["status"]),
    ("", "Health", lambda item: item["health"]),
    ("", "CreatedAt", lambda item: item["created_at"]),
    ("", "Labels", lambda item: ",".join(f"{key}={value}" for key, value in item["labels"].items())),
    ("", "Mounts", lambda item: ",".join(item["mounts"])),
    ("", "Networks", lambda item: ",".join(item["networks"])),
]


def _cut(item: dict[str, Any]) -> dict[str, Any]:
    command = " ".join(item["command"])
    shown = command if len(command) <= 20 else command[:19] + "…"
    return {**item, "id": render.short(item["id"]), "command": [f'"{shown}"']}


@click.command()
@click.option("-a", "--all", "everything", is_flag=True, help="Those that do not run, too.")
@click.option("-q", "--quiet", is_flag=True, help="Ids only.")
@click.option("-n", "--last", type=int, default=0, metavar="N", help="The N newest.")
@click.option("-l", "--latest", is_flag=True, help="The newest.")
@click.option("-f", "--filter", "filters", multiple=True, metavar="KEY=VALUE")
@click.option("-s", "--size", "sizes", is_flag=True, help="What each has written, and that with its image.")
@click.option("--no-trunc", is_flag=True, help="Whole ids and commands.")
@click.option("--format", "format_", default="", metavar="table|json|TEMPLATE")
@click.pass_context
def ps(
    ctx: click.Context,
    everything: bool,
    quiet: bool,
    last: int,
    latest: bool,
    filters: tuple[str, ...],
    sizes: bool,
    no_trunc: bool,
    format_: str,
) -> None:
    """List containers."""
    params = {"all": everything, "filters": options.filters(filters), "limit": 1 if latest else last}
    items = ctx.obj.engine.call("container.list", **params)["containers"]
    columns = _COLUMNS
    if sizes:
        used = {item["id"]: item for item in ctx.obj.engine.call("system.df")["containers"]}
        items = [{**item, "used": used.get(item["id"])} for item in items]
        columns = [*_COLUMNS, ("SIZE", "Size", _sizes)]
    if not no_trunc:
        items = [_cut(item) for item in items]
    if quiet:
        sys.stdout.write("".join(f"{item['id']}\n" for item in items))
    else:
        render.listing(items, columns, format_)


def _sizes(item: dict[str, Any]) -> str:
    used = item["used"]
    return f"{render.size(used['size'])} (virtual {render.size(used['size_root_fs'])})" if used else ""
