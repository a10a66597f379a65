"""`jocker stats`, `top`, `pause`, `unpause`, `update`: looking after containers that run."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import click

from jocker_protocol import wire

from . import limits, options, render
from .creation import restart_policy

_NAMES = click.argument("containers", nargs=-1, required=True, metavar="CONTAINER...")
_CLEAR, _HOME, _TO_END_OF_LINE, _BELOW = "\033[2J", "\033[H", "\033[K", "\033[J"


@click.command()
@_NAMES
@click.pass_context
def pause(ctx: click.Context, containers: tuple[str, ...]) -> None:
    """Hold all processes of containers."""
    options.each(ctx, containers, lambda engine, name: engine.call("container.pause", container=name))


@click.command()
@_NAMES
@click.pass_context
def unpause(ctx: click.Context, containers: tuple[str, ...]) -> None:
    """Let the processes of paused containers go on."""
    options.each(ctx, containers, lambda engine, name: engine.call("container.unpause", container=name))


def _changeable(command: Any) -> Any:
    for option in reversed(limits.CHANGEABLE):
        command = option(command)
    return command


@click.command()
@_changeable
@click.option(
    "--restart",
    default=None,
    metavar="POLICY",
    help="no, on-failure[:N], always, unless-stopped, on-startup.",
)
@_NAMES
@click.pass_context
def update(ctx: click.Context, /, containers: tuple[str, ...], restart: str | None, **given: Any) -> None:
    """Change limits and the restart policy of containers, also of running ones; 0 takes a limit away."""
    changes = limits.changes(given)
    if restart is not None:
        changes["restart_policy"] = restart_policy(restart)
    if not changes:
        raise click.UsageError("say what to change, as in --memory 512m")
    options.each(
        ctx, containers, lambda engine, name: engine.call("container.update", container=name, **changes)
    )


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("container")
@click.argument("ps_args", nargs=-1, type=click.UNPROCESSED, metavar="[PS OPTIONS]")
@click.pass_context
def top(ctx: click.Context, container: str, ps_args: tuple[str, ...]) -> None:
    """The processes of a container, as the host's ps shows them (-ef)."""
    found = ctx.obj.engine.call("container.top", container=container, ps_args=list(ps_args))
    render.table([found["titles"], *found["processes"]])


_COLUMNS: list[tuple[str, str, Callable[[dict[str, Any]], str]]] = [
    ("CONTAINER ID", "ID", lambda item: item["id"]),
    ("NAME", "Name", lambda item: item["name"]),
    ("CPU %", "CPUPerc", lambda item: f"{item['cpu_percent']:.2f}%"),
    ("MEM USAGE / LIMIT", "MemUsage",
     lambda item: f"{render.binary(item['memory'])} / {render.binary(item['memory_limit'])}"),
    ("MEM %", "MemPerc", lambda item: f"{_percent(item['memory'], item['memory_limit']):.2f}%"),
    ("NET I/O", "NetIO", lambda item: f"{render.size(item['received'])} / {render.size(item['sent'])}"),
    ("BLOCK I/O", "BlockIO", lambda item: f"{render.size(item['read'])} / {render.size(item['written'])}"),
    ("PIDS", "PIDs", lambda item: str(item["processes"])),
    ("", "Container", lambda item: item["id"]),
]  # fmt: skip


def _percent(part: int, whole: int) -> float:
    return part / whole * 100 if whole else 0.0


@click.command()
@click.option("-a", "--all", "everything", is_flag=True, help="Those that do not run, too.")
@click.option("--no-stream", is_flag=True, help="Figures of one second, once.")
@click.option("--no-trunc", is_flag=True, help="Whole ids.")
@click.option("--format", "format_", default="", metavar="table|json|TEMPLATE")
@click.argument("containers", nargs=-1, metavar="[CONTAINER...]")
@click.pass_context
def stats(
    ctx: click.Context,
    everything: bool,
    no_stream: bool,
    no_trunc: bool,
    format_: str,
    containers: tuple[str, ...],
) -> None:
    """What containers take of the machine, anew every second."""
    engine = ctx.obj.engine
    ticket = engine.call("container.stats", containers=list(containers), all=everything, stream=not no_stream)
    live = not no_stream and sys.stdout.isatty() and format_ in ("", "table")
    if live:
        sys.stdout.write(_CLEAR)
    with engine.stream(ticket["token"]) as stream:
        for kind, payload in stream.frames(sys.stdout.fileno()):
            if kind == wire.PROGRESS:
                items = json.loads(payload)["containers"]
                if not no_trunc:
                    items = [{**item, "id": render.short(item["id"])} for item in items]
                _show(items, format_, live)


def _show(items: list[dict[str, Any]], format_: str, live: bool) -> None:
    if not live:
        render.listing(items, _COLUMNS, format_)
        sys.stdout.flush()
        return
    import shutil

    rows, width = shutil.get_terminal_size()[::-1]
    lines = render.lines(items, _COLUMNS)[: max(1, rows - 1)]
    sys.stdout.write(_HOME + "".join(f"{line[:width]}{_TO_END_OF_LINE}\n" for line in lines) + _BELOW)
    sys.stdout.flush()
