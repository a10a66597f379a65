"""`jocker events`: what happened and happens, a line each."""

from __future__ import annotations

import calendar
import json
import sys
import time
from typing import Any

import click

from jocker_protocol import wire

from . import options
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
        for kind, payload in stream.frames():
            if kind == wire.PROGRESS:
                sys.stdout.write(line(json.loads(payload), format_) + "\n")
                sys.stdout.flush()


def line(event: dict[str, Any], format: str) -> str:
    """As Docker prints it."""
    if not format:
        facts = ", ".join(f"{key}={value}" for key, value in sorted(event["attributes"].items()))
        said = f"{event['time']} {event['type']} {event['action']} {event['id']}"
        return f"{said} ({facts})" if facts else said
    spelled = _docker(event)
    if format == "json":
        return json.dumps(spelled)
    from .template import render

    return render(format, spelled)


def _docker(event: dict[str, Any]) -> dict[str, Any]:
    """The fields of Docker's event messages."""
    whole = calendar.timegm(time.strptime(event["time"][:19], "%Y-%m-%dT%H:%M:%S"))
    return {
        "status": event["action"],
        "id": event["id"],
        "Type": event["type"],
        "Action": event["action"],
        "Actor": {"ID": event["id"], "Attributes": event["attributes"]},
        "ID": event["id"],
        "Time": event["time"],
        "time": whole,
        "timeNano": whole * 10**9 + int(event["time"][20:29]),
        "scope": "local",
    }
