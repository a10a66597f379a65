"""`jocker image create`: base images."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import click

from jocker_protocol import wire

from ..context import ContextError, pack_dir
from . import render
from .images import upload

METHODS = {
    "fetch": ("URL or FILE", True, "image create -t base fetch https://download.freebsd.org/.../base.txz"),
    "fetch-auto": ("", False, "image create fetch-auto"),
    "zfs-copy": ("DATASET", True, "image create -t base zfs-copy zroot/basejail"),
    "zfs-clone": ("DATASET", True, "image create -t base zfs-clone zroot/basejail@clean"),
    "from-tar": ("FILE", True, "image create -t base from-tar root.tar.xz"),
    "from-dir": ("DIR", True, "image create -t base from-dir /jails/base"),
    "from-host": ("PROGRAM...", True, "image create -t base from-host sh ls cat"),
}
"""Method -> what it takes, whether it must have it, an example."""


@click.command()
@click.option("-t", "--tag", default="", metavar="NAME[:TAG]", help="Required, but with fetch-auto.")
@click.option("--from-tar", default=None, metavar="FILE", help="The method from-tar.")
@click.option("--from-dir", default=None, metavar="DIR", help="The method from-dir.")
@click.option("--from-host", is_flag=True, help="The method from-host.")
@click.option(
    "-d/", "--dns/--no-dns", default=True, help="fetch: copy the host's resolv.conf in (the default)."
)
@click.option(
    "-l/", "--localtime/--no-localtime", default=True, help="fetch: its localtime too (the default)."
)
@click.option(
    "-f",
    "--force",
    is_flag=True,
    help="fetch: also what cannot be verified; fetch-auto: whatever the kernel is.",
)
@click.option(
    "-a", "--autotag", is_flag=True, help="fetch-auto: call it freebsd:RELEASE (the default without -t)."
)
@click.option("-q", "--quiet", is_flag=True, help="No progress; print the id only.")
@click.argument("words", nargs=-1, metavar="METHOD [SOURCE]...")
@click.pass_context
def create(
    ctx: click.Context,
    /,
    tag: str,
    from_tar: str | None,
    from_dir: str | None,
    from_host: bool,
    dns: bool,
    localtime: bool,
    force: bool,
    autotag: bool,
    quiet: bool,
    words: tuple[str, ...],
) -> None:
    """Make a base image.

    METHOD is one of:

    \b
    fetch URL|FILE     a system's archive, verified by the MANIFEST beside it (FreeBSD's base.txz)
    fetch-auto         the base.txz of the release that the engine's machine runs
    zfs-copy DATASET   a copy of a ZFS dataset, or of DATASET@SNAPSHOT
    zfs-clone DATASET  a clone of it, at once and without space; the dataset must stay
    from-tar FILE      a tar of a root file system; - for standard input
    from-dir DIR       a directory that is a root file system
    from-host PROGRAM...  programs of the engine's host, with the libraries they need
    """
    method, sources = _method(from_tar, from_dir, from_host, words)
    if not tag and method != "fetch-auto":
        raise click.UsageError("give the image a name: -t NAME[:TAG]")
    if autotag and (tag or method != "fetch-auto"):
        raise click.UsageError("--autotag goes with fetch-auto, and without -t")
    chunks: Iterator[bytes] = iter(())
    try:
        if method == "from-tar":
            chunks = _chunks(sources[0])
        elif method == "from-dir":
            chunks = pack_dir(sources[0])
    except ContextError as error:
        raise click.ClickException(str(error)) from None
    location = ""
    if method in ("fetch", "zfs-copy", "zfs-clone"):
        location = sources[0]
        if method == "fetch" and "://" not in location:
            location = os.path.abspath(location)
    ticket = ctx.obj.engine.call(
        "image.create",
        tag=tag,
        source={"from-tar": "tar", "from-dir": "tar", "from-host": "host"}.get(method, method),
        programs=sources if method == "from-host" else [],
        location=location,
        dns=dns,
        localtime=localtime,
        force=force,
    )
    show = _Progress(quiet)
    with ctx.obj.engine.stream(ticket["token"]) as stream:
        upload(stream, chunks)
        for kind, payload in stream.frames():
            if kind == wire.PROGRESS:
                show.event(json.loads(payload))
            elif kind == wire.RESULT:
                show.end()
                click.echo(json.loads(payload)["id"])


def _method(
    from_tar: str | None, from_dir: str | None, from_host: bool, words: tuple[str, ...]
) -> tuple[str, list[str]]:
    """The method by its name or by the option of its name, and what it takes."""
    by_option = [
        *([("from-tar", [from_tar])] if from_tar is not None else []),
        *([("from-dir", [from_dir])] if from_dir is not None else []),
        *([("from-host", list(words))] if from_host else []),
    ]
    if len(by_option) > 1 or (by_option and words and not from_host):
        raise click.UsageError("give one METHOD: " + ", ".join(METHODS))
    if by_option:
        method, sources = by_option[0]
    elif words:
        method, sources = words[0], list(words[1:])
    else:
        raise click.UsageError("give a METHOD: " + ", ".join(METHODS))
    if method not in METHODS:
        raise click.UsageError(f"no method {method!r}; there are: {', '.join(METHODS)}")
    takes, must, example = METHODS[method]
    if must != bool(sources) or (len(sources) > 1 and method != "from-host"):
        raise click.UsageError(f"{method} takes {takes or 'nothing more'}, such as: jocker {example}")
    return method, sources


def _chunks(path: str) -> Iterator[bytes]:
    file = sys.stdin.buffer if path == "-" else open(path, "rb")  # noqa: SIM115

    def read() -> Iterator[bytes]:
        with file:
            while chunk := file.read(1 << 18):
                yield chunk

    return read()


class _Progress:
    """On standard error: one line that changes on a terminal, elsewhere one for each thing that begins."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._terminal = sys.stderr.isatty()
        self._last = ""

    def event(self, item: dict[str, Any]) -> None:
        """One PROGRESS frame."""
        if self._quiet:
            return
        what = {"fetch": "fetching", "unpack": "unpacking"}.get(item["event"], item["event"])
        if self._terminal:
            size = f" {render.size(item['bytes'])}" if item["bytes"] else ""
            print(f"\r\x1b[K{what} {item['text']}{size}", end="", file=sys.stderr, flush=True)
        elif what != self._last:
            print(f"{what} {item['text']}", file=sys.stderr, flush=True)
        self._last = what

    def end(self) -> None:
        """Nothing more comes."""
        if self._terminal and self._last:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
