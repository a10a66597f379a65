"""Commands on containers that are there: to stop, kill, remove, rename and inspect them."""

from __future__ import annotations

import click

from . import options


@click.command()
@click.option(
    "-t", "--time", "timeout", type=int, default=None, metavar="SECONDS", help="Wait so long before KILL."
)
@options.CONTAINERS
@click.pass_context
def stop(ctx: click.Context, timeout: int | None, containers: tuple[str, ...]) -> None:
    """Stop containers: their stop signal, and KILL when the time is up."""
    wait = {} if timeout is None else {"timeout": timeout}
    options.each(ctx, containers, lambda engine, name: engine.call("container.stop", container=name, **wait))


@click.command()
@click.option("-t", "--time", "timeout", type=int, default=None, metavar="SECONDS")
@options.CONTAINERS
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
@options.CONTAINERS
@click.pass_context
def kill(ctx: click.Context, signal: str, containers: tuple[str, ...]) -> None:
    """Send a signal to the main process."""
    options.each(
        ctx,
        containers,
        lambda engine, name: engine.call("container.kill", container=name, signal=signal),
    )


@click.command()
@options.CONTAINERS
@click.pass_context
def wait(ctx: click.Context, containers: tuple[str, ...]) -> None:
    """Wait until they have ended; print their exit codes."""
    options.each(
        ctx, containers, lambda engine, name: str(engine.call("container.wait", container=name)["exit_code"])
    )


@click.command()
@click.option("-f", "--force", is_flag=True, help="Kill a running one first.")
@click.option("-v", "--volumes", is_flag=True, help="With its anonymous volumes.")
@options.CONTAINERS
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
@options.CONTAINERS
@click.pass_context
def inspect(ctx: click.Context, format_: str, containers: tuple[str, ...]) -> None:
    """All there is to know of containers, as JSON."""
    from . import netview

    options.inspect(
        ctx,
        containers,
        lambda engine, name: netview.settings(engine.call("container.inspect", container=name)),
        format_,
    )
