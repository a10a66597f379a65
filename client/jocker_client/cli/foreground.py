"""Commands that bring a terminal, or the standard streams, to a container's process: start -a, attach, exec."""

from __future__ import annotations

from typing import Any

import click

from jocker_protocol.errors import JockerError

from . import options


def follow(ctx: click.Context, container: str, *, stdin: bool, tty: bool, once: bool) -> None:
    """Attach, start, and end as it ends; returns when its user has left it. `once`: nothing starts it again, so that
    what `inspect` shows after this is its end.
    """
    from . import terminal

    engine = ctx.obj.engine
    ticket = engine.call("container.attach", container=container, stdin=stdin)
    size = terminal.console_size() if tty else None
    with engine.stream(ticket["token"]) as stream:
        engine.call("container.start", container=container, **({"console_size": size} if size else {}))
        try:
            _finish(ctx, terminal, stream, stdin, tty)
        except click.exceptions.Exit:
            if once:
                engine.call("container.wait", container=container)
            raise


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
@options.CONTAINERS
@click.pass_context
def start(ctx: click.Context, attached: bool, interactive: bool, containers: tuple[str, ...]) -> None:
    """Start containers."""
    if attached or interactive:
        if len(containers) > 1:
            raise click.UsageError("-a and -i take one container")
        detail = ctx.obj.engine.call("container.inspect", container=containers[0])
        once = detail["restart_policy"]["name"] == "no" and not detail["auto_remove"]
        follow(ctx, containers[0], stdin=interactive, tty=detail["tty"], once=once)
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


@click.command("exec", context_settings=options.COMMAND_FOLLOWS)
@click.option("-i", "--interactive", is_flag=True, help="Keep standard input open.")
@click.option("-t", "--tty", is_flag=True, help="Give it a terminal.")
@click.option("-d", "--detach", is_flag=True, help="Leave it running.")
@click.option("-e", "--env", multiple=True, metavar="NAME[=VALUE]")
@click.option("--env-file", multiple=True, metavar="FILE", help="Read variables from a file.")
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
        env=options.env(given["env"], given["env_file"]),
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
