"""The command `jocker`. Commands are found in tables and imported on use: `jocker ps` must feel instant.

One implementation per command; management groups (`jocker container ls`) and short forms (`jocker ps`) are
rows of the tables.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import click

from ..connection import Connection

_C, _I, _V, _S, _N, _A, _F = "containers", "images", "volumes", "system", "networks", "archives", "foreground"

CONTAINER = {
    "attach": (_F, "attach"), "cp": ("cp", "cp"), "create": ("run", "create"), "exec": (_F, "exec_"), "inspect": (_C, "inspect"),
    "kill": (_C, "kill"), "logs": ("logs", "logs"), "ls": ("ps", "ps"), "list": ("ps", "ps"), "ps": ("ps", "ps"),
    "port": (_N, "port"), "rename": (_C, "rename"), "restart": (_C, "restart"), "rm": (_C, "rm"), "run": ("run", "run"),
    "start": (_F, "start"), "stop": (_C, "stop"), "wait": (_C, "wait"),
    "commit": (_A, "commit"), "diff": (_A, "diff"), "export": (_A, "export"),
    "pause": ("watch", "pause"), "prune": ("prune", "containers"), "stats": ("watch", "stats"), "top": ("watch", "top"),
    "unpause": ("watch", "unpause"), "update": ("watch", "update"),
}  # fmt: skip
IMAGE = {
    "build": ("build", "build"), "create": ("base", "create"), "inspect": (_I, "inspect"), "ls": (_I, "images"),
    "list": (_I, "images"), "rm": (_I, "rmi"), "tag": (_I, "tag"),
    "history": ("stories", "history"), "import": (_A, "import_"), "load": (_A, "load"),
    "prune": ("stories", "prune"), "save": (_A, "save"),
}  # fmt: skip
BUILDER = {"build": ("build", "build"), "du": ("builder", "du"), "prune": ("builder", "prune")}
VOLUME = {
    "create": (_V, "create"), "inspect": (_V, "inspect"), "ls": (_V, "ls"), "list": (_V, "ls"), "rm": (_V, "rm"),
    "export": (_V, "export"), "import": (_V, "import_"), "prune": (_V, "prune"), "restore": (_V, "restore"),
    "snapshot": (_V, "snapshot"), "snapshot-rm": (_V, "snapshot_rm"), "snapshots": (_V, "snapshots"),
}  # fmt: skip
NETWORK = {
    "connect": (_N, "connect"), "create": (_N, "create"), "disconnect": (_N, "disconnect"),
    "inspect": (_N, "inspect"), "ls": (_N, "ls"), "list": (_N, "ls"), "prune": (_N, "prune"), "rm": (_N, "rm"),
}  # fmt: skip
SYSTEM = {
    "backup": ("upkeep", "backup"), "check": ("upkeep", "check"), "df": ("usage", "df"), "events": ("events", "events"),
    "info": (_S, "info"), "prune": ("prune", "everything"), "shutdown": ("upkeep", "shutdown"), "tree": ("tree", "tree"),
}  # fmt: skip
TOP = {
    **{name: CONTAINER[name] for name in CONTAINER if name not in ("inspect", "ls", "list", "prune")},
    **{name: IMAGE[name] for name in ("history", "import", "load", "save")},
    "build": ("build", "build"), "images": (_I, "images"), "rmi": (_I, "rmi"), "tag": (_I, "tag"),
    "events": ("events", "events"), "inspect": (_S, "inspect"), "info": (_S, "info"), "rpc": (_S, "rpc"), "version": (_S, "version"),
}  # fmt: skip
GROUPS = {
    "builder": ("Manage builds and their cache.", BUILDER),
    "container": ("Manage containers.", CONTAINER),
    "image": ("Manage images.", IMAGE),
    "volume": ("Manage volumes.", VOLUME),
    "network": ("Manage networks.", NETWORK),
    "system": ("Look at the engine, and after it.", SYSTEM),
}
_DOCKER_125 = frozenset({"run", "create", "exec"})
"""Commands whose own errors have exit status 125, to be told from the container's."""


class Table(click.Group):
    """A group whose commands are rows: name -> (module, attribute)."""

    def __init__(self, rows: dict[str, tuple[str, str]], groups: bool = False, **attrs: Any) -> None:
        super().__init__(**attrs)
        self._rows = rows
        self._groups = GROUPS if groups else {}

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            return _unread()  # click's answer to it would be 1

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*self._rows, *self._groups])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in self._groups:
            text, rows = self._groups[cmd_name]
            return Table(rows, name=cmd_name, help=text, context_settings=_SETTINGS)
        if cmd_name not in self._rows:
            return None
        from importlib import import_module

        module, attribute = self._rows[cmd_name]
        command: click.Command = getattr(import_module(f".{module}", __name__), attribute)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            from difflib import get_close_matches

            likely = get_close_matches(name, self.list_commands(ctx), n=1)
            hint = (
                f"did you mean `{ctx.command_path} {likely[0]}`?"
                if likely
                else f"see `{ctx.command_path} --help`"
            )
            raise click.UsageError(f"no command {name!r}; {hint}")
        return super().resolve_command(ctx, args)


_SETTINGS: dict[str, Any] = {"help_option_names": ["--help"], "max_content_width": 110}


class State:
    """What the top-level options say; the connection is made when a command asks for it."""

    def __init__(self, host: str | None, debug: bool) -> None:
        self.host = host
        self.debug = debug
        self._connection: Connection | None = None

    @property
    def engine(self) -> Connection:
        """The connection to the engine."""
        if self._connection is None:
            self._connection = Connection(self.host)
        return self._connection


def _top(ctx: click.Context, host: str | None, debug: bool) -> None:
    ctx.obj = State(host, debug)


root = Table(
    TOP,
    groups=True,
    name="jocker",
    help="Containers on jails, OCI runtimes or chroot: the client of jocker-engine.",
    context_settings=_SETTINGS,
    callback=click.pass_context(_top),
    params=[
        click.Option(
            ["-H", "--host"], metavar="unix:///PATH", help="The engine's socket (also JOCKER_HOST)."
        ),
        click.Option(["-D", "--debug"], is_flag=True, help="Show tracebacks of errors."),
    ],
)


def _command(args: list[str]) -> str:
    """The command's own name, also behind `container`."""
    words = iter(args)
    for word in words:
        if word in ("-H", "--host"):
            next(words, None)
        elif word != "container" and not word.startswith("-"):
            return word
    return ""


def _point_at(data: dict[str, Any]) -> None:
    """The line of a Dockerfile that an error is about, and a caret under the place."""
    if data.get("source", "").strip():
        from .render import excerpt

        line, source = data["line"], data["source"]
        print(excerpt([""] * (line - 1) + [source], line, line, data.get("column", 1)), file=sys.stderr)


def _unread() -> int:
    """Nobody reads any more, which is their right; the interpreter must not complain at exit either."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 128 + signal.SIGPIPE


def main() -> int:
    """The exit status: every way to end has its own, and no traceback without -D."""
    args = sys.argv[1:]
    debug = bool({"-D", "--debug"} & set(args[:4]))
    from jocker_protocol.errors import JockerError

    fails_with = 125 if _command(args) in _DOCKER_125 else 1
    try:
        code = root.main(args=args, prog_name="jocker", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Abort:
        code = 130
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "jocker"
        print(f"jocker: {error.format_message()} (see `{where} --help`)", file=sys.stderr)
        code = 64 if fails_with == 1 else fails_with
    except click.ClickException as error:
        print(f"jocker: {error.format_message()}", file=sys.stderr)
        code = fails_with
    except JockerError as error:
        if debug:
            raise
        print(f"jocker: {error.message}", file=sys.stderr)
        _point_at(error.data)
        code = int(error.data.get("exit_code") or fails_with) if error.kind == "cannot_start" else fails_with
    except BrokenPipeError:
        code = _unread()
    except KeyboardInterrupt:
        code = 130
    except OSError as error:
        if debug:
            raise
        print(f"jocker: {error.filename or 'error'}: {error.strerror or error}", file=sys.stderr)
        code = fails_with
    return code if isinstance(code, int) else 0
