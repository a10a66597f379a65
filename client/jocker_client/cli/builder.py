"""`jocker builder du` and `prune`: what the build cache holds, and getting rid of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click

from jocker_protocol.durations import duration

from . import options, render

Item = dict[str, Any]

_COLUMNS: list[tuple[str, str, Callable[[Item], str]]] = [
    ("ID", "ID", lambda item: render.short(item["id"])),
    ("RECLAIMABLE", "Reclaimable", lambda item: "false" if item["in_use"] else "true"),
    ("SIZE", "Size", lambda item: render.size(item["size"])),
    ("LAST ACCESSED", "LastUsedSince", lambda item: f"{render.age(item['used_at'])} ago"),
    ("", "Type", lambda item: item["type"]),
    ("", "Description", lambda item: item["description"]),
    ("", "CreatedAt", lambda item: item["created_at"]),
    ("", "LastUsedAt", lambda item: item["used_at"]),
    ("", "InUse", lambda item: str(item["in_use"]).lower()),
]
_UNITS = {"": 1, "b": 1, "k": 10**3, "kb": 10**3, "m": 10**6, "mb": 10**6, "g": 10**9, "gb": 10**9, "t": 10**12,
          "tb": 10**12}  # fmt: skip


@click.command()
@click.option("--verbose", is_flag=True, help="All that is known of each.")
@click.option("--format", "format_", default="", metavar="table|json|TEMPLATE")
@click.option(
    "-f", "--filter", "filters", multiple=True, metavar="KEY=VALUE", help="type, inuse, description."
)
@click.pass_context
def du(ctx: click.Context, verbose: bool, format_: str, filters: tuple[str, ...]) -> None:
    """What the build cache holds: layers of steps, cache mounts, contents of contexts."""
    wanted = options.filters(filters)
    for key in wanted:
        if key not in ("type", "inuse", "description"):
            raise click.UsageError(f"--filter {key}: unknown; there are type, inuse, description")
    items = [item for item in ctx.obj.engine.call("builder.usage")["items"] if _matches(item, wanted)]
    if verbose:
        for item in items:
            for name, value in _facts(item):
                print(f"{name + ':':<15}{value}")
            print()
    elif format_ == "json":
        for item in items:
            print(json.dumps({field: value(item) for _, field, value in _COLUMNS}))
    else:
        render.listing(items, _COLUMNS, format_)
    if not format_ or format_ == "table":
        free = sum(item["size"] for item in items if not item["in_use"])
        print(f"Reclaimable:\t{render.size(free)}\nTotal:\t\t{render.size(sum(i['size'] for i in items))}")


def _matches(item: Item, wanted: dict[str, list[str]]) -> bool:
    found = {
        "type": item["type"],
        "inuse": "true" if item["in_use"] else "false",
        "description": item["description"],
    }
    return all(
        any(value in found[key] if key == "description" else value == found[key] for value in values)
        for key, values in wanted.items()
    )


def _facts(item: Item) -> list[tuple[str, str]]:
    return [
        ("ID", item["id"]),
        ("Created at", item["created_at"]),
        ("Reclaimable", "false" if item["in_use"] else "true"),
        ("Size", render.size(item["size"])),
        ("Description", item["description"]),
        ("Last used", f"{render.age(item['used_at'])} ago"),
        ("Type", item["type"]),
    ]


@click.command()
@click.option("-a", "--all", "everything", is_flag=True, help="Images' own steps are not found again either.")
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@click.option(
    "--filter", "filters", multiple=True, metavar="until=SPAN", help="Only what was not used for so long."
)
@click.option("--keep-storage", "--reserved-space", "keep", default="0", metavar="SIZE",
              help="So much may stay, as 10GB; the longest unused goes first.")  # fmt: skip
@click.pass_context
def prune(ctx: click.Context, everything: bool, force: bool, filters: tuple[str, ...], keep: str) -> None:
    """Remove what is not in use from the build cache: layers that no image stands on, cache mounts, contexts."""
    span = _until(filters)
    size = _size(keep)
    what = "all build cache" if everything else "all build cache that is not in use"
    if not options.sure(what, force):
        return
    done = ctx.obj.engine.call("builder.prune", all=everything, unused_for=span, keep_storage=size)
    if done["deleted"]:
        render.listing(done["deleted"], _COLUMNS, "")
    print(f"Total:\t{render.size(done['reclaimed'])}")


def _until(filters: tuple[str, ...]) -> float:
    span = 0.0
    for key, values in options.filters(filters).items():
        if key not in ("until", "unused-for"):
            raise click.UsageError(f"--filter {key}: unknown; there is until=SPAN, as until=24h")
        try:
            span = max(duration(value) for value in values)
        except ValueError as error:
            raise click.UsageError(f"--filter {key}: {error}") from None
    return span


def _size(text: str) -> int:
    number = text.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
    unit = text[len(number) :].strip().lower()
    try:
        return int(float(number) * _UNITS[unit])
    except (ValueError, KeyError):
        raise click.UsageError(f"--keep-storage {text!r}: must be a size such as 512MB or 10GB") from None
