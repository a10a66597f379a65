"""Images and containers as files: save, load, export, import, commit."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import IO, Any

import click

from jocker_protocol import wire

from . import render

_CHUNK = 1 << 19
_FORMATS = ("oci-archive", "docker-archive", "oci-dir")


@click.command()
@click.option(
    "-o", "--output", default="", metavar="FILE", help="Write to this file, not to standard output."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(_FORMATS),
    default="oci-archive",
    help="oci-archive has Docker's manifest.json too; docker-archive is for tools that know nothing newer.",
)
@click.option(
    "--compress", type=click.Choice(["none", "gzip", "zstd"]), default="none", help="Of the layers inside."
)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.pass_context
def save(ctx: click.Context, output: str, form: str, compress: str, images: tuple[str, ...]) -> None:
    """Write images, with all their layers, to an archive.

    Docker, podman, skopeo and buildah read it, and so does `jocker load`. A name without a tag means all its tags.
    """
    if form == "oci-dir" and not output:
        raise click.UsageError("--format oci-dir wants a directory: -o DIR")
    _refuse_terminal(output, "save")
    engine = ctx.obj.engine
    asked = "oci-archive" if form == "oci-dir" else form
    ticket = engine.call("image.save", images=list(images), format=asked, compress=compress)
    if form == "oci-dir":
        _to_directory(engine, ticket, output)
    else:
        _to_file(engine, ticket, output)


@click.command()
@click.option(
    "-o", "--output", default="", metavar="FILE", help="Write to this file, not to standard output."
)
@click.argument("container")
@click.pass_context
def export(ctx: click.Context, output: str, container: str) -> None:
    """Write a container's file system, without volumes, to a tar archive."""
    _refuse_terminal(output, "export")
    engine = ctx.obj.engine
    _to_file(engine, engine.call("container.export", container=container), output)


def _refuse_terminal(output: str, command: str) -> None:
    if not output and sys.stdout.isatty():
        raise click.ClickException(
            f"an archive is nothing for a terminal: give `{command} -o FILE`, or redirect standard output"
        )


def _to_file(engine: Any, ticket: dict[str, Any], output: str) -> None:
    with engine.stream(ticket["token"]) as stream:
        if not output:
            sys.stdout.flush()
            with open(os.dup(sys.stdout.fileno()), "wb", buffering=0) as out:
                _receive(stream, out, out.fileno())
            return
        with _whole_or_nothing(output) as file, _progress(file) as shown:
            _receive(stream, shown)


def _receive(stream: Any, file: Any, watched: int | None = None) -> None:
    for kind, payload in stream.frames(watched):
        if kind == wire.STDOUT:
            view = memoryview(payload)
            while view:
                try:
                    view = view[file.write(view) :]
                except BrokenPipeError:
                    raise BrokenPipeError from None  # one with a number click takes for its own


@contextlib.contextmanager
def _whole_or_nothing(path: str) -> Iterator[IO[bytes]]:
    """A file that has its name only when it is whole; killed in between, nothing is left where the system can do that."""
    if os.path.isdir(path):
        raise click.ClickException(f"{path} is a directory; name a file")
    if os.path.lexists(path) and not os.path.isfile(path):  # a pipe, /dev/null
        with open(path, "wb", buffering=0) as file:
            yield file
        return
    directory = os.path.dirname(os.path.realpath(path))
    if not os.path.isdir(directory):
        raise click.ClickException(f"{path}: there is no directory {directory}")
    temporary = os.path.join(directory, f".{os.path.basename(path)}.{os.getpid()}")
    mode = 0o666
    nameless = getattr(os, "O_TMPFILE", 0)
    try:
        descriptor = os.open(directory, os.O_WRONLY | nameless, mode) if nameless else -1
    except OSError:
        descriptor = -1
    named = descriptor < 0
    if named:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with open(descriptor, "wb", buffering=0) as file:
            yield file
            if not named:
                # A directory's descriptor makes it linkat(2), which follows links; the path is absolute.
                os.link(f"/proc/self/fd/{file.fileno()}", temporary, src_dir_fd=file.fileno())
        os.rename(temporary, os.path.realpath(path))
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


class _Counting:
    """Says on the terminal how much has passed."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._bytes = self._shown = 0

    def write(self, data: Any) -> int:
        """To the file."""
        done: int = self._file.write(data)
        self.count(done)
        return done

    def count(self, done: int) -> None:
        """So many more."""
        self._bytes += done
        if self._bytes - self._shown >= 1 << 24:
            self._shown = self._bytes
            print(f"\r{render.size(self._bytes):<10}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """The line is free again."""
        if self._shown:
            print("\r" + " " * 10 + "\r", end="", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _progress(file: Any) -> Iterator[Any]:
    if not sys.stderr.isatty():
        yield file
        return
    counting = _Counting(file)
    try:
        yield counting
    finally:
        counting.clear()


def _to_directory(engine: Any, ticket: dict[str, Any], output: str) -> None:
    """An OCI layout as a directory, which must not be there, or be empty."""
    import shutil
    import tarfile

    if os.path.lexists(output) and (not os.path.isdir(output) or os.listdir(output)):
        raise click.ClickException(f"{output} is there already; choose another name, or move it away")
    above = os.path.dirname(os.path.abspath(output))
    temporary = tempfile.mkdtemp(prefix=f".{os.path.basename(output)}.", dir=above)
    try:
        with engine.stream(ticket["token"]) as stream:
            source: Any = _Reader(stream)
            with tarfile.open(fileobj=source, mode="r|") as archive:
                archive.extractall(temporary, filter="data")
            source.drain()
        os.chmod(temporary, 0o755)
        os.rename(temporary, output)
    except BaseException:
        shutil.rmtree(temporary)
        raise


class _Reader:
    """The bytes of a stream, to be read as a file."""

    def __init__(self, stream: Any) -> None:
        self._pieces: Iterator[bytes] = (payload for kind, payload in stream.frames() if kind == wire.STDOUT)
        self._rest = b""

    def read(self, size: int) -> bytes:
        """Fewer bytes only at the end."""
        buffer = bytearray(self._rest)
        while len(buffer) < size and (piece := next(self._pieces, None)) is not None:
            buffer += piece
        self._rest = bytes(buffer[size:])
        return bytes(buffer[:size])

    def drain(self) -> None:
        """Up to the result."""
        for _ in self._pieces:
            pass


@click.command()
@click.option(
    "-i", "--input", "source", default="-", metavar="FILE|DIR", help="Read this, not standard input."
)
@click.option("-q", "--quiet", is_flag=True, help="Print nothing.")
@click.pass_context
def load(ctx: click.Context, source: str, quiet: bool) -> None:
    """Take the images of an archive: what save, docker, podman, skopeo and buildah write, plain or compressed.

    DIR is an OCI layout, or what skopeo writes to dir:DIR.
    """
    engine = ctx.obj.engine
    with _open_source(source, "load") as chunks:
        ticket = engine.call("image.load")
        with engine.stream(ticket["token"]) as stream:
            _send(stream, chunks)
            loaded = stream.result()
    if quiet:
        return
    for image in loaded["images"]:
        for tag in image["tags"]:
            print(f"Loaded image: {tag}")
        if not image["tags"]:
            print(f"Loaded image ID: {image['id']}")


@click.command(name="import")
@click.option(
    "-c", "--change", "changes", multiple=True, metavar="INSTRUCTION", help="Of a Dockerfile: CMD, ENV ..."
)
@click.option("-m", "--message", default="", help="A comment for the image's history.")
@click.argument("source", metavar="FILE|URL|-")
@click.argument("tag", default="", metavar="[REPOSITORY[:TAG]]")
@click.pass_context
def import_(ctx: click.Context, changes: tuple[str, ...], message: str, source: str, tag: str) -> None:
    """Make an image of a root file system: a tar archive, plain or compressed, of a file or an http(s) URL."""
    from . import download

    engine = ctx.obj.engine
    remote = download.is_url(source)
    with download.opened(source) if remote else _open_source(source, "import") as chunks:
        said = message or f"Imported from {download.without_password(source) if remote else source}"
        ticket = engine.call("image.import", tag=tag, changes=list(changes), message=said)
        with engine.stream(ticket["token"]) as stream:
            _send(stream, chunks)
            print(stream.result()["id"])


@contextlib.contextmanager
def _open_source(source: str, command: str) -> Iterator[Iterator[bytes]]:
    if source == "-":
        if sys.stdin.isatty():
            raise click.ClickException(
                f"an archive does not come from a terminal: name a file, or redirect standard input to {command}"
            )
        with open(os.dup(sys.stdin.fileno()), "rb", buffering=0) as file:
            yield _read(file.read)
    elif os.path.isdir(source) and command == "load":
        from ..context import ContextError, pack_dir

        try:
            yield pack_dir(source)
        except ContextError as error:
            raise click.ClickException(str(error)) from None
    else:
        with open(source, "rb", buffering=0) as file:
            yield _read(file.read)


def _read(read: Callable[[int], bytes]) -> Iterator[bytes]:
    while chunk := read(_CHUNK):
        yield chunk


def _send(stream: Any, chunks: Iterator[bytes]) -> None:
    shown = _Counting(None) if sys.stderr.isatty() else None
    try:
        for chunk in chunks:
            for start in range(0, len(chunk), wire.MAX_FRAME):
                stream.send(wire.STDIN, chunk[start : start + wire.MAX_FRAME])
            if shown is not None:
                shown.count(len(chunk))
        stream.send(wire.EOF)
    finally:
        if shown is not None:
            shown.clear()


@click.command()
@click.option("-a", "--author", default="", metavar="NAME")
@click.option("-m", "--message", default="", help="A comment for the image's history.")
@click.option(
    "-c", "--change", "changes", multiple=True, metavar="INSTRUCTION", help="Of a Dockerfile: CMD, ENV ..."
)
@click.option(
    "-p", "--pause/--no-pause", default=True, help="Let its processes stand still meanwhile (the default)."
)
@click.argument("container")
@click.argument("tag", default="", metavar="[REPOSITORY[:TAG]]")
@click.pass_context
def commit(
    ctx: click.Context,
    author: str,
    message: str,
    changes: tuple[str, ...],
    pause: bool,
    container: str,
    tag: str,
) -> None:
    """Make an image of what a container has changed."""
    created = ctx.obj.engine.call(
        "container.commit",
        container=container, tag=tag, author=author, message=message, changes=list(changes), pause=pause,
    )  # fmt: skip
    print(created["id"])


@click.command()
@click.option("--format", "form", default="", metavar="json|TEMPLATE")
@click.argument("container")
@click.pass_context
def diff(ctx: click.Context, form: str, container: str) -> None:
    """What a container has changed in its file system: A added, C changed, D deleted."""
    changes = ctx.obj.engine.call("container.diff", container=container)["changes"]
    if form == "json":
        print(json.dumps([render.docker(change) for change in changes]))
    elif form:
        render.details(changes, form)
    else:
        for change in changes:
            print(change["kind"], change["path"])
