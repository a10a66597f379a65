"""`jocker system check`, `backup`, `shutdown`: for whoever looks after the machine."""

from __future__ import annotations

import json
import os

import click

from . import render


@click.command()
@click.option("--repair", is_flag=True, help="Mend what can be mended.")
@click.option("--format", "format_", default="", metavar="json|table|TEMPLATE")
@click.pass_context
def check(ctx: click.Context, repair: bool, format_: str) -> None:
    """Compare what the engine's database says with what is really there.

    Exit status 0: they agree, or all was repaired; 1: there are differences.
    """
    engine = ctx.obj.engine
    found = engine.call("system.check", repair=repair)["differences"]
    if format_ == "json":
        print(json.dumps(render.docker(found)))
    elif found or format_:
        render.listing(found, _COLUMNS, format_)
    else:
        print("no differences")
    if not format_:
        for driver in engine.call("engine.info")["probed"]:
            if not driver["usable"]:
                print(
                    f"not usable here: {driver['part']} {driver['driver']}: {driver['why']}; {driver['mend']}"
                )
    if any(not each["repaired"] for each in found):
        ctx.exit(1)


_COLUMNS = [
    ("PART", "Part", lambda item: item["part"]),
    ("SUBJECT", "Subject", lambda item: _short(item["subject"])),
    ("PROBLEM", "Problem", lambda item: item["problem"]),
    ("REMEDY", "Remedy", lambda item: f"done: {item['remedy']}" if item["repaired"] else item["remedy"]),
]  # fmt: skip


def _short(subject: str) -> str:
    return render.short(subject) if len(subject) == 64 else subject


@click.command()
@click.argument("file")
@click.pass_context
def backup(ctx: click.Context, file: str) -> None:
    """Copy the engine's database to a new FILE of its machine, while all goes on."""
    made = ctx.obj.engine.call("system.backup", path=os.path.abspath(file))
    print(f"{made['path']}: {render.size(made['size'])}")


@click.command()
@click.option(
    "-t", "--time", "timeout", type=int, default=None, metavar="SECONDS", help="Wait so long before KILL."
)
@click.pass_context
def shutdown(ctx: click.Context, timeout: int | None) -> None:
    """Stop all containers because the machine is going down.

    Each gets its own stop signal and timeout, dependents first. It is not as if somebody had stopped them: those
    with a restart policy run again when the next engine starts, and until then none is started. The engine itself
    goes on; rc.d and systemd stop it afterwards.
    """
    wait = {} if timeout is None else {"timeout": timeout}
    for container in ctx.obj.engine.call("system.shutdown", **wait)["containers"]:
        print(container)
