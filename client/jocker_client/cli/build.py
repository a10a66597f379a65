"""`jocker build`: an image from a Dockerfile and a context."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from jocker_protocol.errors import BuildFailed

from ..connection import Connection
from ..context import ContextError, ignore_lines
from . import ingredients, options
from .conversation import Conversation
from .progress import choose

_O = click.option


@click.command()
@_O("-t", "--tag", "tags", multiple=True, metavar="NAME[:TAG]", help="Name of the image.")
@_O(
    "-f",
    "--file",
    "dockerfile",
    default="",
    metavar="FILE",
    help="The Dockerfile (default PATH/Dockerfile); - for standard input.",
)
@_O("--build-arg", "build_args", multiple=True, metavar="NAME[=VALUE]", help="Value of an ARG.")
@_O(
    "--build-context",
    "named",
    multiple=True,
    metavar="NAME=PATH|docker-image://IMAGE",
    help="One more context, for FROM, COPY --from and --mount from=.",
)
@_O("--label", "labels", multiple=True, metavar="KEY=VALUE")
@_O("--target", default="", metavar="STAGE", help="Build up to this stage.")
@_O("--no-cache", is_flag=True, help="Make every step anew.")
@_O(
    "--no-cache-filter",
    "no_cache_filter",
    multiple=True,
    metavar="STAGE[,STAGE]",
    help="Make the steps of these stages anew.",
)
@_O("--pull", is_flag=True, help="Accepted: base images are always the engine's own.")
@_O("--network", default="", help="Of RUN steps: host, none or default.")
@_O(
    "--secret",
    "secrets",
    multiple=True,
    metavar="id=ID[,src=FILE|,env=NAME]",
    help="For RUN --mount=type=secret; in no layer and no cache.",
)
@_O("--ssh", multiple=True, metavar="default|ID[=SOCKET]", help="An ssh agent, for RUN --mount=type=ssh.")
@_O(
    "-J",
    "--jail-param",
    "jail_params",
    multiple=True,
    metavar="NAME[=VALUE]",
    help="A parameter of jail(8) for RUN steps (FreeBSD).",
)
@_O(
    "--reproducible",
    is_flag=True,
    help="The same files, base and arguments give the same image at any time and anywhere: times are those of "
    "SOURCE_DATE_EPOCH (build argument or variable), else of the newest commit of the context's git repository, "
    "else 1980-01-01.",
)
@_O("--verify", is_flag=True, help="Build twice without cache, and refuse what is not --reproducible.")
@_O("--debug", "shell", is_flag=True, help="When an instruction fails, open a shell in the state before it.")
@_O("-q", "--quiet", is_flag=True, help="Print the image's id only.")
@_O(
    "--progress",
    type=click.Choice(["auto", "plain", "tty", "quiet", "rawjson"]),
    default="auto",
    help="How to show what happens.",
)
@_O(
    "--check",
    is_flag=True,
    help="Look for mistakes in the Dockerfile; build nothing. Exit status 1 if there are any.",
)
@_O(
    "--format",
    "format_",
    type=click.Choice(["text", "json"]),
    default="text",
    help="How --check shows what it finds.",
)
@_O("--iidfile", default=None, metavar="FILE", help="Write the image's id to this file.")
@click.argument("path")
@click.pass_context
def build(ctx: click.Context, /, path: str, dockerfile: str, **given: Any) -> None:  # fmt: skip
    """Build an image from a Dockerfile and the files in PATH; - reads a tar, or a Dockerfile alone."""
    arguments = {item.partition("=")[0]: item.partition("=")[2] for item in options.env(given["build_args"])}
    if given["check"]:
        ctx.exit(_check(ctx.obj.engine, path, dockerfile, given, arguments))
    wish, contexts = ingredients.contexts(path, dockerfile, given["named"])
    if given["shell"] and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.ClickException("--debug needs a terminal for its shell")
    agents = dict(ingredients.agent(item) for item in given["ssh"])
    reproducible: dict[str, Any] = {}
    if given["reproducible"] or given["verify"]:
        from ..epoch import source_date_epoch

        given["no_cache"] = given["no_cache"] or given["verify"]
        reproducible = {"epoch": source_date_epoch(path, arguments), "verify": given["verify"]}
    if given["network"] == "default":
        given["network"] = ""
    engine = ctx.obj.engine
    ticket = engine.call(
        "image.build",
        **wish,
        **reproducible,
        tags=list(given["tags"]),
        build_args=arguments,
        labels=options.pairs(given["labels"], "--label"),
        no_cache=given["no_cache"],
        no_cache_filter=[name.lower() for item in given["no_cache_filter"] for name in item.split(",")],
        target=given["target"],
        network=given["network"],
        secrets=dict(ingredients.secret(item) for item in given["secrets"]),
        ssh=list(agents),
        jail_params=list(given["jail_params"]),
    )
    show = choose("quiet" if given["quiet"] else given["progress"])
    try:
        with _orderly_end(), engine.stream(ticket["token"]) as stream:
            try:
                result = Conversation(stream, show, contexts, agents).run()
            finally:
                show.close()
    except BuildFailed as error:
        if given["shell"] and "state" in error.data:
            click.echo(f"jocker: {error.message}", err=True)
            ctx.exit(_look_inside(engine, error.data))
        raise
    show.result(result)
    if result["warnings"] and not given["quiet"] and given["progress"] not in ("quiet", "rawjson"):
        from .check import summary

        click.echo(summary(result["warnings"]), err=True)
    if given["iidfile"]:
        with open(given["iidfile"], "w", encoding="ascii") as file:
            file.write(result["image_id"])


def _check(
    engine: Connection, path: str, dockerfile: str, given: dict[str, Any], arguments: dict[str, str]
) -> int:
    """The exit status of --check."""
    from .check import check

    file = os.path.join(path, "Dockerfile") if dockerfile in ("", "-") else dockerfile
    if "-" in (path, dockerfile):
        name, text = "Dockerfile", ingredients.decode(sys.stdin.buffer.read(), "-")
    else:
        name, text = os.path.basename(file), ingredients.read_dockerfile(path, file)
    try:
        ignore = ignore_lines(path, file) if path != "-" else []
    except ContextError as error:
        raise click.ClickException(str(error)) from None
    contexts = [item.partition("=")[0].lower() for item in given["named"]]
    clean = check(
        engine,
        text,
        given["format_"],
        dockerfile=name,
        build_args=arguments,
        target=given["target"],
        ignore=ignore,
        contexts=contexts,
    )
    return 0 if clean else 1


@contextmanager
def _orderly_end() -> Iterator[None]:
    """TERM ends as Ctrl-C does: the terminal is put right."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


# --- --debug ---


def _look_inside(engine: Any, data: dict[str, Any]) -> int:
    """A shell where the instruction failed would have begun; its exit status."""
    from . import terminal

    state = data["state"]
    container = engine.call(
        "container.create",
        image=data["layer"],
        entrypoint=[],
        cmd=state["shell"],
        env=state["env"],
        working_dir=state["working_dir"],
        user=state["user"],
        tty=True,
        interactive=True,
    )["id"]
    click.echo(f"a shell before `{data['instruction']}`; exit ends it", err=True)
    try:
        ticket = engine.call("container.attach", container=container, stdin=True)
        with engine.stream(ticket["token"]) as stream:
            size = terminal.console_size()
            engine.call("container.start", container=container, **({"console_size": size} if size else {}))
            try:
                terminal.attach(stream, stdin=True, tty=True)
            except terminal.Detached:
                pass
    finally:
        engine.call("container.remove", container=container, force=True)
    return 1
