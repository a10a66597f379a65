"""Parsing of option values that several commands share."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

import click

from jocker_protocol.errors import JockerError

from ..connection import Connection

COMMAND_FOLLOWS: dict[str, Any] = {
    "allow_interspersed_args": False,
    "help_option_names": ["--help"],
}
"""Settings of a command whose last argument is another command, with options of its own."""
CONTAINERS = click.argument("containers", nargs=-1, required=True, metavar="CONTAINER...")
PRUNE_FILTER = click.option(
    "--filter",
    "filters",
    multiple=True,
    metavar="KEY=VALUE",
    help="until=TIME|DURATION, label[!]=KEY[=VALUE].",
)


def env(values: Iterable[str], files: Iterable[str] = ()) -> list[str]:
    """-e NAME=VALUE, -e NAME (the client's own value, if it has one), --env-file."""
    result = []
    for item in [*lines(files, "--env-file"), *values]:
        name, equals, _ = item.partition("=")
        if not name:
            raise click.UsageError(f"-e {item!r}: must be NAME=VALUE or NAME")
        if equals:
            result.append(item)
        elif name in os.environ:
            result.append(f"{name}={os.environ[name]}")
    return result


def lines(paths: Iterable[str], option: str) -> list[str]:
    """Of files, but for comments and empty ones."""
    found: list[str] = []
    for path in paths:
        try:
            with open(path, encoding="utf-8") as file:
                read = [line.rstrip("\n") for line in file]
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not text"
            raise click.UsageError(f"{option} {path}: {why}") from None
        found += [line for line in read if line.strip() and not line.lstrip().startswith("#")]
    return found


def pairs(values: Iterable[str], option: str) -> dict[str, str]:
    """KEY=VALUE, or KEY for an empty value."""
    result = {}
    for item in values:
        key, _, value = item.partition("=")
        if not key:
            raise click.UsageError(f"{option} {item!r}: must be KEY=VALUE")
        result[key] = value
    return result


def filters(values: Iterable[str]) -> dict[str, list[str]]:
    """--filter KEY=VALUE."""
    result: dict[str, list[str]] = {}
    for item in values:
        key, equals, value = item.partition("=")
        if not equals:
            raise click.UsageError(f"--filter {item!r}: must be KEY=VALUE")
        result.setdefault(key, []).append(value)
    return result


def sure(what: str, force: bool) -> bool:
    """Whether the user wants it: `what`, a line or several, will be removed. Raises ClickException if nobody answers."""
    if force:
        return True
    question = f"WARNING! This will remove {what}.\nAre you sure you want to continue?"
    try:
        return click.confirm(question, err=True)
    except click.exceptions.Abort:
        if sys.stdin.isatty():
            raise
        raise click.ClickException(f"nobody says that {what} may be removed; say so with --force") from None


def inspect(
    ctx: click.Context, names: Iterable[str], get: Callable[[Connection, str], dict[str, Any]], format_: str
) -> None:
    """Print all that is found; what is not is a line each, and exit status 1 at the end."""
    from . import render

    found, missing = [], []
    for name in names:
        try:
            found.append(get(ctx.obj.engine, name))
        except JockerError as error:
            if error.kind == "unreachable":
                raise
            missing.append(error.message)
    render.details(found, format_)
    for message in missing:
        click.echo(f"jocker: {message}", err=True)
    if missing:
        ctx.exit(1)


def each(ctx: click.Context, names: Iterable[str], act: Callable[[Connection, str], Any]) -> None:
    """Do it for each; print the text it gives back, or the name; errors are a line each, and exit status 1 at the end."""
    engine: Connection = ctx.obj.engine
    failed = False
    for name in names:
        try:
            said = act(engine, name)
            click.echo(said if isinstance(said, str) else name)
        except JockerError as error:
            if error.kind == "unreachable":
                raise
            click.echo(f"jocker: {error.message}", err=True)
            failed = True
    if failed:
        ctx.exit(1)
