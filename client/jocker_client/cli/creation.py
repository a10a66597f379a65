"""The options that `create` and `run` share, and the parameters of `container.create` that they make."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from . import limits, mounts, netoptions, options

F = TypeVar("F", bound=Callable[..., Any])

_O = click.option

_OPTIONS = [
    _O("--name", default="", help="Name of the container."),
    _O("-e", "--env", multiple=True, metavar="NAME[=VALUE]", help="Set a variable."),
    _O("--env-file", multiple=True, metavar="FILE", help="Read variables from a file."),
    _O("-v", "--volume", "volumes", multiple=True, metavar="[SOURCE:]TARGET[:ro]",
       help="Mount a volume or a directory."),
    _O("--mount", "mounts", multiple=True, metavar="KEY=VALUE,...", help="Mount something."),
    _O("--tmpfs", "tmpfs", multiple=True, metavar="TARGET[:OPTIONS]", help="Mount a tmpfs, as /run:size=64m,mode=755."),
    _O("--volumes-from", multiple=True, metavar="CONTAINER[:ro]", help="Mount what that container mounts."),
    _O("-w", "--workdir", default="", help="Working directory inside."),
    _O("-u", "--user", default="", metavar="USER[:GROUP]", help="Name or id."),
    _O("--entrypoint", default=None, help="Replace the image's ENTRYPOINT; '' for none."),
    *netoptions.OPTIONS,
    _O("-l", "--label", "labels", multiple=True, metavar="KEY=VALUE"),
    _O("--label-file", "label_files", multiple=True, metavar="FILE", help="Read labels from a file."),
    _O("--cidfile", default=None, metavar="FILE", help="Write its id to this file."),
    _O("--pull", type=click.Choice(["missing", "never"]), default="missing",
       help="Images are those that are here: either is as ever."),
    _O("--restart", default="no", metavar="POLICY",
       help="no, on-failure[:N], always, unless-stopped, or on-startup: run when the engine starts."),
    _O("--depends-on", multiple=True, metavar="CONTAINER",
       help="Start after it with the engine, and stop before it."),
    _O("--init", is_flag=True, help="Run an init that passes signals on and reaps orphans."),
    _O("-J", "--jail-param", "jail_params", multiple=True, metavar="NAME[=VALUE]",
       help="A parameter of jail(8), as -J allow.mount or -J exec.stop='/bin/sh /etc/rc.shutdown'."),
    _O("--stop-signal", default="", help="Signal of `stop`."),
    _O("--stop-timeout", type=int, default=None, metavar="SECONDS", help="Wait so long before KILL."),
    _O("--health-cmd", default="", metavar="COMMAND", help="Run this to see whether it is healthy."),
    _O("--health-interval", default="", metavar="SPAN", help="Time between probes (30s)."),
    _O("--health-timeout", default="", metavar="SPAN", help="Time for one probe (30s)."),
    _O("--health-retries", type=int, default=None, metavar="N", help="Failures in a row that make it unhealthy (3)."),
    _O("--health-start-period", default="", metavar="SPAN", help="Time in which failures do not count (0s)."),
    _O("--health-start-interval", default="", metavar="SPAN", help="Time between probes in that period (5s)."),
    _O("--no-healthcheck", is_flag=True, help="Without the image's check."),
    *limits.OPTIONS,
    _O("-i", "--interactive", is_flag=True, help="Keep standard input open."),
    _O("-t", "--tty", is_flag=True, help="Give it a terminal."),
    _O("--rm", "auto_remove", is_flag=True, help="Remove it when it has ended."),
    click.argument("image"),
    click.argument("command", nargs=-1, type=click.UNPROCESSED),
]  # fmt: skip


def creation(command: F) -> F:
    """Adds the options."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def create(engine: Any, given: dict[str, Any]) -> str:
    """Make the container; its id, which is in the --cidfile too."""
    path = given["cidfile"]
    if path is None:
        return _create(engine, given)
    try:
        with open(path, "x", encoding="utf-8") as file:
            container = _create(engine, given)
            file.write(container)
    except FileExistsError:
        raise click.UsageError(f"--cidfile {path}: is there already; remove it, or name another") from None
    except BaseException:
        with contextlib.suppress(OSError):
            if not os.path.getsize(path):
                os.unlink(path)
        raise
    return container


def _create(engine: Any, given: dict[str, Any]) -> str:
    params: dict[str, Any] = {
        "image": given["image"],
        "env": options.env(given["env"], given["env_file"]),
        "labels": options.pairs(
            (*options.lines(given["label_files"], "--label-file"), *given["labels"]), "--label"
        ),
        "mounts": [
            *(mounts.volume(text) for text in given["volumes"]),
            *(mounts.mount(text) for text in given["mounts"]),
            *(mounts.tmpfs(text) for text in given["tmpfs"]),
        ],
        "working_dir": given["workdir"],
        "depends_on": list(given["depends_on"]),
        "volumes_from": list(given["volumes_from"]),
        "jail_params": list(given["jail_params"]),
    }
    for key in (
        "name",
        "user",
        "stop_signal",
        "interactive",
        "tty",
        "auto_remove",
        "init",
    ):
        params[key] = given[key]
    params |= {
        name: said
        for name, said in (("limits", limits.limits(given)), ("security", limits.security(given)))
        if said
    }
    if given["restart"] != "no":
        params["restart_policy"] = restart_policy(given["restart"], given["auto_remove"])
    if check := healthcheck(given):
        params["healthcheck"] = check
    if given["stop_timeout"] is not None:
        params["stop_timeout"] = given["stop_timeout"]
    if given["command"]:
        params["cmd"] = list(given["command"])
    if given["entrypoint"] is not None:
        params["entrypoint"] = [given["entrypoint"]] if given["entrypoint"] else []
    params |= netoptions.params(given)
    made = engine.call("container.create", **params)
    for warning in made["warnings"]:
        click.echo(f"WARNING: {warning}", err=True)
    identity: str = made["id"]
    return identity


_POLICIES = ("no", "on-failure", "always", "unless-stopped", "on-startup")


def restart_policy(text: str, auto_remove: bool = False) -> dict[str, Any]:
    """--restart NAME[:N]."""
    name, colon, count = text.partition(":")
    if name not in _POLICIES:
        raise click.UsageError(f"--restart {text!r}: must be one of {', '.join(_POLICIES)}")
    if colon and (name != "on-failure" or not count.isdigit()):
        raise click.UsageError(f"--restart {text!r}: only on-failure takes a count, as in on-failure:3")
    if auto_remove and name != "no":
        raise click.UsageError("--restart and --rm exclude each other: choose one")
    return {"name": name, **({"maximum_retry_count": int(count)} if count else {})}


def healthcheck(given: dict[str, Any]) -> dict[str, Any] | None:
    """What the --health-* options say; None when nothing is said."""
    spans = {
        name: given[f"health_{name}"] for name in ("interval", "timeout", "start_period", "start_interval")
    }
    said = [given["health_cmd"], given["health_retries"] is not None, *spans.values()]
    if given["no_healthcheck"]:
        if any(said):
            raise click.UsageError("--no-healthcheck and the other --health options exclude each other")
        return {"test": ["NONE"]}
    if not any(said):
        return None
    from jocker_protocol.durations import duration

    check: dict[str, Any] = {"test": ["CMD-SHELL", given["health_cmd"]]} if given["health_cmd"] else {}
    for name, text in spans.items():
        try:
            check |= {name: duration(text)} if text else {}
        except ValueError as error:
            raise click.UsageError(f"--health-{name.replace('_', '-')}: {error}") from None
    if given["health_retries"] is not None:
        check["retries"] = given["health_retries"]
    return check
