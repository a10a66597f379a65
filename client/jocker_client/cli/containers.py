"""Commands on containers."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

from jocker_protocol.errors import JockerError, NotFound

from . import netview, options, render
from .creation import create as create_container
from .creation import creation

_COMMAND_FOLLOWS = {
    "ignore_unknown_options": True,
    "allow_interspersed_args": False,
    "help_option_names": ["--help"],
}
_NAMES = click.argument("containers", nargs=-1, required=True, metavar="CONTAINER...")


@click.command(context_settings=_COMMAND_FOLLOWS)
@creation
@click.pass_context
def create(ctx: click.Context, /, **given: Any) -> None:
    """Make a container, not started."""
    click.echo(create_container(ctx.obj.engine, given))


@click.command(context_settings=_COMMAND_FOLLOWS)
@click.option("-d", "--detach", is_flag=True, help="Print its id and leave it running.")
@click.option("--cidfile", default=None, metavar="FILE", help="Write its id to this file.")
@creation
@click.pass_context
def run(ctx: click.Context, /, detach: bool, cidfile: str | None, **given: Any) -> None:
    """Make a container from IMAGE and start it."""
    from . import terminal

    if given["tty"] and given["interactive"] and not detach:
        terminal.require_terminal()
    engine = ctx.obj.engine
    if cidfile:
        with open(cidfile, "x", encoding="utf-8") as file:
            container = create_container(engine, given)
            file.write(container)
    else:
        container = create_container(engine, given)
    if detach:
        engine.call("container.start", container=container)
        click.echo(container)
        return
    ended = False
    try:
        _foreground(ctx, container, stdin=given["interactive"], tty=given["tty"])
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


def _foreground(ctx: click.Context, container: str, *, stdin: bool, tty: bool) -> None:
    """Attach, start, and end as it ends; returns when its user has left it."""
    from . import terminal

    engine = ctx.obj.engine
    ticket = engine.call("container.attach", container=container, stdin=stdin)
    size = terminal.console_size() if tty else None
    with engine.stream(ticket["token"]) as stream:
        engine.call("container.start", container=container, **({"console_size": size} if size else {}))
        _finish(ctx, terminal, stream, stdin, tty)


def _finish(ctx: click.Context, terminal: Any, stream: Any, stdin: bool, tty: bool) -> None:
    try:
        result = terminal.attach(stream, stdin=stdin, tty=tty)
    except terminal.Detached:
        return
    if result.get("error"):
        click.echo(f"jocker: {result['error']}", err=True)
    raise click.exceptions.Exit(result["exit_code"])


@click.command()
@click.option("-a", "--attach", "attached", is_flag=True, help="Show its output, and end as it ends.")
@click.option("-i", "--interactive", is_flag=True, help="Attach standard input too.")
@_NAMES
@click.pass_context
def start(ctx: click.Context, attached: bool, interactive: bool, containers: tuple[str, ...]) -> None:
    """Start containers."""
    if attached or interactive:
        if len(containers) > 1:
            raise click.UsageError("-a and -i take one container")
        detail = ctx.obj.engine.call("container.inspect", container=containers[0])
        _foreground(ctx, containers[0], stdin=interactive, tty=detail["tty"])
    options.each(ctx, containers, lambda engine, name: engine.call("container.start", container=name))


@click.command()
@click.option("--no-stdin", is_flag=True, help="Leave standard input alone.")
@click.argument("container")
@click.pass_context
def attach(ctx: click.Context, no_stdin: bool, container: str) -> None:
    """Join the main process of a running container."""
    from . import terminal

    engine = ctx.obj.engine
    detail = engine.call("container.inspect", container=container)
    if detail["state"]["status"] != "running":
        raise JockerError(
            f"cannot attach to container {container}: it is {detail['state']['status']}; start it first"
        )
    stdin = detail["interactive"] and not no_stdin
    ticket = engine.call("container.attach", container=container, stdin=stdin)
    with engine.stream(ticket["token"]) as stream:
        _finish(ctx, terminal, stream, stdin, detail["tty"])


@click.command("exec", context_settings=_COMMAND_FOLLOWS)
@click.option("-i", "--interactive", is_flag=True, help="Keep standard input open.")
@click.option("-t", "--tty", is_flag=True, help="Give it a terminal.")
@click.option("-d", "--detach", is_flag=True, help="Leave it running.")
@click.option("-e", "--env", multiple=True, metavar="NAME[=VALUE]")
@click.option("-w", "--workdir", default="")
@click.option("-u", "--user", default="", metavar="USER[:GROUP]")
@click.argument("container")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def exec_(ctx: click.Context, /, **given: Any) -> None:
    """Run one more program in a running container."""
    from . import terminal

    if given["tty"] and given["interactive"] and not given["detach"]:
        terminal.require_terminal()
    engine = ctx.obj.engine
    size = terminal.console_size() if given["tty"] else None
    ticket = engine.call(
        "container.exec",
        container=given["container"],
        cmd=list(given["command"]),
        env=options.env(given["env"]),
        working_dir=given["workdir"],
        user=given["user"],
        tty=given["tty"],
        interactive=given["interactive"],
        detach=given["detach"],
        **({"console_size": size} if size else {}),
    )
    if given["detach"]:
        return
    with engine.stream(ticket["token"]) as stream:
        _finish(ctx, terminal, stream, given["interactive"], given["tty"])


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


@click.command()
@click.option(
    "-t", "--time", "timeout", type=int, default=None, metavar="SECONDS", help="Wait so long before KILL."
)
@_NAMES
@click.pass_context
def stop(ctx: click.Context, timeout: int | None, containers: tuple[str, ...]) -> None:
    """Stop containers: their stop signal, and KILL when the time is up."""
    wait = {} if timeout is None else {"timeout": timeout}
    options.each(ctx, containers, lambda engine, name: engine.call("container.stop", container=name, **wait))


@click.command()
@click.option("-t", "--time", "timeout", type=int, default=None, metavar="SECONDS")
@_NAMES
@click.pass_context
def restart(ctx: click.Context, timeout: int | None, containers: tuple[str, ...]) -> None:
    """Stop, if running, and start."""
    wait = {} if timeout is None else {"timeout": timeout}
    options.each(
        ctx,
        containers,
        lambda engine, name: engine.call("container.restart", container=name, **wait),
    )


@click.command()
@click.option("-s", "--signal", default="KILL", help="Name or number.")
@_NAMES
@click.pass_context
def kill(ctx: click.Context, signal: str, containers: tuple[str, ...]) -> None:
    """Send a signal to the main process."""
    options.each(
        ctx,
        containers,
        lambda engine, name: engine.call("container.kill", container=name, signal=signal),
    )


@click.command()
@_NAMES
@click.pass_context
def wait(ctx: click.Context, containers: tuple[str, ...]) -> None:
    """Wait until they have ended; print their exit codes."""
    options.each(
        ctx, containers, lambda engine, name: str(engine.call("container.wait", container=name)["exit_code"])
    )


@click.command()
@click.option("-f", "--force", is_flag=True, help="Kill a running one first.")
@click.option("-v", "--volumes", is_flag=True, help="With its anonymous volumes.")
@_NAMES
@click.pass_context
def rm(ctx: click.Context, force: bool, volumes: bool, containers: tuple[str, ...]) -> None:
    """Remove containers."""
    params = {"force": force, "volumes": volumes}
    options.each(
        ctx,
        containers,
        lambda engine, name: engine.call("container.remove", container=name, **params),
    )


@click.command()
@click.argument("container")
@click.argument("name")
@click.pass_context
def rename(ctx: click.Context, container: str, name: str) -> None:
    """Give a container another name."""
    ctx.obj.engine.call("container.rename", container=container, name=name)


@click.command()
@click.option("-f", "--format", "format_", default="", metavar="TEMPLATE")
@_NAMES
@click.pass_context
def inspect(ctx: click.Context, format_: str, containers: tuple[str, ...]) -> None:
    """All there is to know of containers, as JSON."""
    found = [ctx.obj.engine.call("container.inspect", container=name) for name in containers]
    render.details([netview.settings(each) for each in found], format_)
