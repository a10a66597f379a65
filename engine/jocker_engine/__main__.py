"""jocker-engine: options, configuration, locks, then the tree until it is told to stop.

Exit status: 0 after an orderly stop, 1 when it cannot run here, and of sysexits(3): 64 usage, 70 the root
supervisor gave up, 78 configuration.
"""

from __future__ import annotations

import argparse
import logging
import os
import resource
import signal
import sys
from typing import NoReturn

import trio

from jocker_protocol.errors import JockerError

from . import setup
from .config import Config, ConfigError, load
from .db.schema import DatabaseRefused, open_database
from .db.store import Store
from .house import House
from .images.digests import DIGESTS, Digests
from .layout import Layout
from .locks import Locked, lock_commands, lock_root
from .networks.access import Networks
from .otp import GaveUp, StartFailed, System
from .platform.commands import Commands
from .platform.probe import choose
from .tree import tree
from .zygote import Shims

EX_OK, EX_CANNOT, EX_USAGE, EX_SOFTWARE, EX_CONFIG = 0, 1, 64, 70, 78
_SUN_PATH = 104
"""Bytes of a Unix socket's path, the NUL included, on FreeBSD; Linux has four more (unix(4), unix(7))."""

log = logging.getLogger("jocker")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(EX_USAGE, f"jocker-engine: {message}; see jocker-engine --help\n")


def _options(argv: list[str]) -> argparse.Namespace:
    parser = _Parser(
        prog="jocker-engine", description="The engine of Jocker, in the foreground; logs to stderr."
    )
    parser.add_argument(
        "command",
        nargs="?",
        choices=("setup",),
        metavar="setup",
        help="say what this machine lacks, and what mends it; run nothing",
    )
    parser.add_argument("--apply", action="store_true", help="with setup: mend what can be mended")
    parser.add_argument("--config", metavar="FILE", help="configuration file")
    parser.add_argument(
        "--check-config", action="store_true", help="say whether the configuration is good, and end"
    )
    parser.add_argument("--root", metavar="DIR", help="where everything is kept")
    parser.add_argument("--socket", metavar="PATH", help="the socket that clients connect to")
    parser.add_argument(
        "--platform",
        choices=("auto", "freebsd", "linux", "portable"),
        help="which drivers to use (default auto)",
    )
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"))
    options = parser.parse_args(argv)
    if options.apply and options.command != "setup":
        parser.error("--apply is for `jocker-engine setup`")
    return options


def _configure(options: argparse.Namespace) -> Config:
    config = load(options.config)
    if options.root:
        config.root = os.path.abspath(options.root)
    if options.socket:
        config.api_socket = os.path.abspath(options.socket.removeprefix("unix://"))
    platform = options.platform or os.environ.get("JOCKER_PLATFORM")
    if platform:
        if platform not in ("auto", "freebsd", "linux", "portable"):
            raise ConfigError(f"JOCKER_PLATFORM: {platform!r} is none of auto, freebsd, linux, portable")
        config.platform = platform  # type: ignore[assignment]
    if options.log_level:
        config.log_level = options.log_level
    # The longest name of ours in a run directory is KEY.tty.
    longest = max(
        len(os.fsencode(config.api_socket)), len(os.fsencode(config.root)) + len("/run/123456789012.tty")
    )
    if longest >= _SUN_PATH:
        raise ConfigError(
            f"the paths of sockets would be longer than {_SUN_PATH - 1} bytes, which the system does not take: "
            f"choose a shorter root than {config.root}, or a shorter socket than {config.api_socket}"
        )
    return config


def main(argv: list[str] | None = None) -> None:
    """The command."""
    options = _options(sys.argv[1:] if argv is None else argv)
    try:
        config = _configure(options)
    except ConfigError as error:
        sys.exit(_say(str(error), EX_CONFIG))
    if options.check_config:
        print(f"configuration is good: root {config.root}, socket {config.api_socket}")
        return
    if options.command == "setup":
        sys.exit(setup.run(config, apply=options.apply))
    logging.basicConfig(
        level=config.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    for chatty in ("aiosqlite", "asyncio"):
        logging.getLogger(chatty).setLevel(logging.INFO)
    layout = Layout(config.root)
    try:
        for directory in layout.directories():
            os.makedirs(directory, mode=0o711, exist_ok=True)
        root_lock = lock_root(layout)
        open_database(layout.database).close()
        commands = Commands(lock_commands(layout))
    except Locked as error:
        sys.exit(_say(str(error), EX_CANNOT))
    except DatabaseRefused as error:
        sys.exit(_say(str(error), EX_CANNOT))
    except OSError as error:
        sys.exit(_say(f"{error.filename or config.root}: {error.strerror}; choose another --root", EX_CANNOT))
    _raise_file_limit()
    try:
        code = trio.run(_run, config, layout, commands)
    finally:
        os.close(root_lock)
    sys.exit(code)


async def _run(config: Config, layout: Layout, commands: Commands) -> int:
    try:
        drivers = await choose(
            config.platform,
            config.overrides(),
            config.root,
            commands,
            config.zroot,
            config.volume_root,
        )
    except JockerError as error:
        return _say(error.message, EX_CANNOT)
    system = System()
    store = Store(system.ref("db"), system.ref("events"))
    house = House(
        config=config,
        layout=layout,
        commands=commands,
        drivers=drivers,
        store=store,
        shims=Shims(system.ref("zygote")),
        digests=Digests(system.ref(DIGESTS), store),
        networks=Networks(system, store, drivers.network),
    )
    log.info(
        "root %s, %s", layout.root, ", ".join(f"{part} {name}" for part, name in drivers.names().items())
    )
    gave_up: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_stop_on_signal, system)
            await system.run(tree(system, house))
            nursery.cancel_scope.cancel()
    except* (GaveUp, StartFailed) as group:
        gave_up = _first(group)
    if gave_up is not None:
        return _say(str(gave_up), EX_SOFTWARE)
    log.info("stopped; containers go on")
    return EX_OK


async def _stop_on_signal(system: System) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for signum in signals:
            log.info("%s: stopping", signal.Signals(signum).name)
            system.shutdown()


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _raise_file_limit() -> None:
    """A connection, a shim, a build each take descriptors: as many as are allowed."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _say(message: str, code: int) -> int:
    print(f"jocker-engine: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
