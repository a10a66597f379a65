"""`jocker events`: what happened and happens, a line each."""

from __future__ import annotations

import calendar
import json
import sys
import time
from typing import Any

import click

from jocker_protocol import wire

from . import options, render
from .logs import when


@click.command()
@click.option("--since", default="", metavar="TIME", help="Begin with what happened then.")
@click.option("--until", default="", metavar="TIME", help="End with what happened until then.")
@click.option(
    "-f",
    "--filter",
    "filters",
    multiple=True,
    metavar="KEY=VALUE",
    help="type, action, container, image, volume, label.",
)
@click.option("--format", "format_", default="", metavar="json|TEMPLATE")
@click.pass_context
def events(ctx: click.Context, since: str, until: str, filters: tuple[str, ...], format_: str) -> None:
    """What happens to containers, images and volumes, as it happens; with --since also what has happened."""
    engine = ctx.obj.engine
    ticket = engine.call(
        "system.events", since=when(since), until=when(until), filters=options.filters(filters)
    )
    with engine.stream(ticket["token"]) as stream:
        for kind, payload in stream.frames(sys.stdout.fileno()):
            if kind == wire.PROGRESS:
                sys.stdout.write(line(json.loads(payload), format_) + "\n")
                sys.stdout.flush()


def line(event: dict[str, Any], format: str) -> str:
    """As Docker prints it."""
    if not format:
        facts = ", ".join(f"{key}={value}" for key, value in sorted(event["attributes"].items()))
        said = f"{event['time']} {event['type']} {event['action']} {event['id']}"
        return f"{said} ({facts})" if facts else said
    message = _message(event)
    if format in ("json", "{{json .}}"):
        return json.dumps({name: value for name, _, value in message})
    from .template import render as fill

    return fill(format, {field: value for _, field, value in message})


def _message(event: dict[str, Any]) -> list[tuple[str, str, Any]]:
    """Docker's event message: name in JSON, name in a template, value."""
    attributes = render.Map(event["attributes"])
    whole = calendar.timegm(time.strptime(event["time"][:19], "%Y-%m-%dT%H:%M:%S"))
    return [
        ("status", "Status", event["action"]),
        ("id", "ID", event["id"]),
        ("from", "From", attributes.get("image", "")),
        ("Type", "Type", event["type"]),
        ("Action", "Action", event["action"]),
        ("Actor", "Actor", {"ID": event["id"], "Attributes": attributes}),
        ("scope", "Scope", "local"),
        ("time", "Time", whole),
        ("timeNano", "TimeNano", whole * 10**9 + int(event["time"][20:29])),
    ]
