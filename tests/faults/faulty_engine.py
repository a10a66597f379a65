"""The engine with faults on demand: the real one, wrapped before it starts.

Three more methods: `test.arm` counts boundaries from now on and kills the engine (SIGKILL) at the one asked for,
`test.boundaries` says which were reached, `test.crash` makes an actor crash. A boundary is the instant before or
after a command, a commit, a step of a shim, or a driver's change to the platform.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import msgspec

from jocker_engine.otp import actor
from jocker_protocol import types as t
from jocker_protocol.methods import METHODS, Method


class Crash(msgspec.Struct, frozen=True):
    """To any actor: crash."""


class Wanted(Exception):
    """The crash that was asked for."""


class Arm(t.Params, frozen=True):
    """`at`: the number of the boundary to die at; 0 counts only."""

    at: int


class CrashActor(t.Params, frozen=True):
    """By its name in the tree."""

    actor: str


class Reached(t.Result):
    """In order."""

    boundaries: list[str]


class Boundaries:
    """Counts, and dies when it is time."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.at = 0

    def reach(self, name: str) -> None:
        self.names.append(name)
        if len(self.names) == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


BOUNDARIES = Boundaries()


def around(owner: type, method: str, name: Callable[..., str] | None = None) -> None:
    """A boundary before and after each call of an async method."""
    original = getattr(owner, method)

    @functools.wraps(original)
    async def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        what = name(*args) if name else f"{owner.__name__}.{method}"
        BOUNDARIES.reach(f"before {what}")
        try:
            return await original(self, *args, **kwargs)
        finally:
            BOUNDARIES.reach(f"after {what}")

    setattr(owner, method, wrapped)


def command(argv: list[str], *_: Any) -> str:
    """What a command is called in a list of boundaries."""
    if argv[0] == sys.executable:  # of a streamed one the parameters are the last word
        return f"worker {argv[-2] if argv[-1].startswith('{') else argv[-1]}"
    return " ".join([os.path.basename(argv[0]), *(word for word in argv[1:] if word.isalpha())])


async def _crash(self: actor.Actor, message: Crash) -> None:
    raise Wanted(f"{self.name} was told to crash")


def install() -> None:
    """Before any actor's class is made, since a class takes its table of handlers when it is."""
    actor.Actor.crash = actor.handles(Crash)(_crash)  # type: ignore[attr-defined]
    from jocker_engine.api import handlers as api
    from jocker_engine.db.database import Database
    from jocker_engine.platform.commands import Commands
    from jocker_engine.platform.freebsd.zfs import ZfsStorage
    from jocker_engine.platform.portable.chroot import ChrootRuntime
    from jocker_engine.platform.portable.copytree import CopyStorage
    from jocker_engine.platform.shims import ShimLink, Zygote

    drivers: list[type] = [ChrootRuntime, CopyStorage, ZfsStorage]
    if sys.platform == "linux":
        from jocker_engine.platform.linux.oci import OciRuntime
        from jocker_engine.platform.linux.overlay import OverlayStorage
        from jocker_engine.platform.linux.veth import VethNetwork

        drivers += [OciRuntime, OverlayStorage, VethNetwork]
        if binary := os.environ.get("JOCKER_TEST_RUNTIME"):
            choose = OciRuntime.__init__

            def of_its_own(self: Any, root: str, commands: Any, _: str) -> None:
                choose(self, root, commands, binary)

            OciRuntime.__init__ = of_its_own  # type: ignore[method-assign]
    around(Commands, "run", command)
    around(Commands, "stream", command)
    around(Database, "_transact", lambda *_: "commit")
    around(Zygote, "shim", lambda *_: "new shim")
    around(ShimLink, "start", lambda *_: "start by shim")
    for driver in drivers:
        for method in (
            *("clone", "mount", "unmount", "seal", "import_tar", "destroy_tree", "destroy_layer"),
            *("create_volume", "destroy_volume", "prepare", "launch_exec", "signal", "kill_all", "destroy"),
            *("snapshot_volume", "restore_volume", "destroy_snapshot", "import_volume", "_remove_place"),
            *("update", "pause", "resume", "oom_kills"),
            *("create", "attach", "detach", "release", "publish", "route"),
        ):
            if hasattr(driver, method):
                around(driver, method)

    original = api.handlers

    def handlers(system: Any, house: Any, broker: Any) -> dict[str, Any]:
        async def arm(params: Arm, peer: Any) -> t.Done:
            BOUNDARIES.names.clear()
            BOUNDARIES.at = params.at
            return t.Done()

        async def boundaries(params: t.Empty, peer: Any) -> Reached:
            return Reached(boundaries=list(BOUNDARIES.names))

        async def crash(params: CrashActor, peer: Any) -> t.Done:
            system.ref(params.actor).cast(Crash())
            return t.Done()

        more = {"test.arm": arm, "test.boundaries": boundaries, "test.crash": crash}
        return {**original(system, house, broker), **more}

    api.handlers = handlers
    METHODS["test.arm"] = Method("test.arm", Arm, t.Done, "")
    METHODS["test.boundaries"] = Method("test.boundaries", t.Empty, Reached, "")
    METHODS["test.crash"] = Method("test.crash", CrashActor, t.Done, "")


if __name__ == "__main__":
    install()
    from jocker_engine.__main__ import main

    main()
