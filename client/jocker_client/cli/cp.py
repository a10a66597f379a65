"""`jocker cp`: Docker's rules for what becomes of SRC at DEST."""

from __future__ import annotations

import json
import os
import posixpath
import tarfile
from collections.abc import Iterator
from typing import Any, NamedTuple

import click

from jocker_protocol import wire
from jocker_protocol.errors import JockerError, NotFound

from ..context import ContextError, pack_path
from ..unpack import UnpackError, unpack
from . import render, tars

_MAX_LINKS = 40


class Place(NamedTuple):
    """One side: `container` is "" here."""

    container: str
    path: str


def place(text: str) -> Place:
    """CONTAINER:PATH or a path; one that begins with / or . is always of this side, as docker has it."""
    container, colon, path = text.partition(":")
    if not colon or text.startswith(("/", ".")) or not container:
        return Place("", text)
    if not path:
        raise click.UsageError(f"{text!r}: a path in the container is missing after the colon")
    return Place(container, path if path.startswith("/") else "/" + path)


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("-a", "--archive", "keep_ids", is_flag=True, help="Keep owners.")
@click.option("-L", "--follow-link", "follow", is_flag=True, help="Copy what SRC links to.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing.")
@click.argument("source", metavar="SRC")
@click.argument("destination", metavar="DEST")
@click.pass_context
def cp(ctx: click.Context, keep_ids: bool, follow: bool, quiet: bool, source: str, destination: str) -> None:
    """Copy files between a container, running or not, and here.

    \b
    jocker cp CONTAINER:SRC DEST|-
    jocker cp SRC|- CONTAINER:DEST

    Of a SRC that ends in /. the content is copied. - is a tar on standard input or output. A directory is merged into
    one that is there.
    """
    here, there = place(source), place(destination)
    if bool(here.container) == bool(there.container):
        which = "between two containers" if here.container else "here"
        raise click.UsageError(f"one of the two must be CONTAINER:PATH; cp does not copy {which}")
    engine = ctx.obj.engine
    try:
        if here.container:
            size = _from(engine, here, there.path, keep_ids, follow)
        else:
            size = _to(engine, here.path, there, keep_ids, follow)
    except (ContextError, UnpackError) as error:
        raise click.ClickException(str(error)) from None
    except tarfile.TarError as error:
        raise click.ClickException(f"what came is not a whole tar: {error}") from None
    if size is not None and not quiet:
        click.echo(f"Successfully copied {render.size(size)} to {destination}", err=True)


# --- to a container ------------------------------------------------------------------------------


def _to(engine: Any, source: str, there: Place, keep_ids: bool, follow: bool) -> int | None:
    if source == "-":
        if _kind(engine, there) != "directory":
            raise click.ClickException(f"destination {there.container}:{there.path} must be a directory")
        _upload(engine, there.container, there.path, tars.read("-"), True)
        return None
    real = os.path.realpath(source) if follow or source.endswith("/") else source
    if not os.path.lexists(real):
        raise click.ClickException(f"{source}: there is no such file or directory")
    directory = os.path.isdir(real) and not os.path.islink(real)
    if source.endswith(("/", "/.")) and not os.path.isdir(source):
        raise click.ClickException(f"{source} is not a directory")
    if _is_content(source):
        real, directory = os.path.realpath(source), True
    into, name = _target(engine, there, directory, _name(source))
    if _is_content(source) and into == there.path:
        name = "."
    return _upload(engine, there.container, into, pack_path(real, name), keep_ids)


def _target(engine: Any, there: Place, directory: bool, base: str) -> tuple[str, str]:
    """(the directory in the container that it goes into, its name there)."""
    path = there.path
    for _ in range(_MAX_LINKS):
        found = _stat(engine, there.container, path.rstrip("/") or "/")
        if found is None or found["kind"] != "link":
            break
        path = posixpath.join(posixpath.dirname(path.rstrip("/")), found["target"])
    where = f"{there.container}:{there.path}"
    if found is not None and found["kind"] == "directory":
        return there.path, base
    if found is not None and directory:
        raise click.ClickException(f"cannot copy a directory to {where}, which is a file")
    if there.path.endswith(("/", "/.")) and not (found is None and directory):
        what = "there is no such directory" if found is None else "it is not a directory"
        raise click.ClickException(f"{where}: {what}")
    parent, _, name = path.rstrip("/").rpartition("/")
    if _kind(engine, Place(there.container, parent or "/")) != "directory":
        raise click.ClickException(f"{where}: there is no directory {parent or '/'}")
    return parent or "/", name


def _upload(engine: Any, container: str, path: str, chunks: Iterator[bytes], keep_ids: bool) -> int:
    ticket = engine.call("container.copy_to", container=container, path=path, keep_ids=keep_ids)
    with engine.stream(ticket["token"]) as stream:
        try:
            tars.upload(stream, chunks)
        except BrokenPipeError:
            pass  # the engine wants no more of it, and says why
        return int(stream.result()["bytes"])


def _kind(engine: Any, there: Place) -> str:
    """Of what is there, links followed; "" for nothing."""
    found = _stat(engine, there.container, there.path, follow=True)
    return found["kind"] if found else ""


def _stat(engine: Any, container: str, path: str, follow: bool = False) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = engine.call(
            "container.stat_path", container=container, path=path, follow=follow
        )
    except NotFound as error:
        if error.message.startswith("no such container"):
            raise
        return None
    return found


# --- from a container ----------------------------------------------------------------------------


def _from(engine: Any, there: Place, target: str, keep_ids: bool, follow: bool) -> int | None:
    found = engine.call("container.stat_path", container=there.container, path=there.path, follow=follow)
    if target == "-":
        tars.refuse_terminal("a redirection")
        with _download(engine, there, follow) as stream:
            tars.download(stream, "-")
        return None
    directory = found["kind"] == "directory"
    into, name = _local_target(target, directory, _name(there.path), _is_content(there.path))
    with _download(engine, there, follow) as stream:
        return unpack(_pieces(stream), into, name, keep_ids=keep_ids)


def _local_target(target: str, directory: bool, base: str, content: bool) -> tuple[str, str]:
    """(the directory here that it goes into, its name there; "" for the directory itself)."""
    if os.path.isdir(target):
        return target, "" if content else base
    if os.path.lexists(target):
        if directory:
            raise click.ClickException(f"cannot copy a directory to {target}, which is a file")
        if target.endswith("/"):
            raise click.ClickException(f"{target} is not a directory")
        real = os.path.realpath(target)
        return os.path.dirname(real), os.path.basename(real)
    if target.endswith(("/", "/.")) and not directory:
        raise click.ClickException(f"{target}: there is no such directory")
    parent, name = os.path.split(target.rstrip("/"))
    if not os.path.isdir(parent or "."):
        raise click.ClickException(f"{target}: there is no directory {parent}")
    return parent or ".", name


def _download(engine: Any, there: Place, follow: bool) -> Any:
    ticket = engine.call("container.copy_from", container=there.container, path=there.path, follow=follow)
    return engine.stream(ticket["token"])


def _pieces(stream: Any) -> Iterator[bytes]:
    ended = False
    for kind, payload in stream.frames():
        if kind == wire.STDOUT:
            yield payload
        elif kind == wire.RESULT:
            ended = json.loads(payload)["entries"] > 0
    if not ended:
        raise JockerError("nothing was copied")


def _is_content(path: str) -> bool:
    return path.endswith("/.") or path in (".", "/") or path == "/."


def _name(path: str) -> str:
    return os.path.basename(os.path.normpath(path)) if not _is_content(path) else "."
