"""`run` and `create`: the commands that know every option of a container."""

from __future__ import annotations

from typing import Any

import click

from jocker_protocol.errors import NotFound

from . import options
from .creation import create as create_container
from .creation import creation
from .foreground import follow


@click.command(context_settings=options.COMMAND_FOLLOWS)
@creation
@click.pass_context
def create(ctx: click.Context, /, **given: Any) -> None:
    """Make a container, not started."""
    click.echo(create_container(ctx.obj.engine, given))


@click.command(context_settings=options.COMMAND_FOLLOWS)
@click.option("-d", "--detach", is_flag=True, help="Print its id and leave it running.")
@creation
@click.pass_context
def run(ctx: click.Context, /, detach: bool, **given: Any) -> None:
    """Make a container from IMAGE and start it."""
    from . import terminal

    if given["tty"] and given["interactive"] and not detach:
        terminal.require_terminal()
    engine = ctx.obj.engine
    container = create_container(engine, given)
    if detach:
        engine.call("container.start", container=container)
        click.echo(container)
        return
    ended = False
    try:
        once = given["restart"] == "no" and not given["auto_remove"]
        follow(ctx, container, stdin=given["interactive"], tty=given["tty"], once=once)
    except click.exceptions.Exit:
        ended = True
        raise
    finally:
        if given["auto_remove"]:
            _await_removal(engine, container, ended)


def _await_removal(engine: Any, container: str, ended: bool) -> None:
    """What --rm promises is true when the command has ended; one that was left, by its user or its reader, runs on."""
    try:
        if ended or engine.call("container.inspect", container=container)["state"]["status"] != "running":
            engine.call("container.wait", container=container, condition="removed")
    except NotFound:
        pass
