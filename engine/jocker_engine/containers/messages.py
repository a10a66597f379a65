"""What containers, their manager and those who ask them say to each other, beside the parameters of methods."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable
from typing import Any

import msgspec

from jocker_protocol import types as t
from jocker_protocol.limits import Limits


class Restart(msgspec.Struct, frozen=True):
    """`container.restart`."""

    container: str
    timeout: int | None


class CheckAttach(msgspec.Struct, frozen=True):
    """Whether Attach would be taken now; answered with the id."""

    container: str


class Attach(msgspec.Struct, frozen=True):
    """Join a client's socket to the main process, at its start if it has not begun. The actor takes `fd` over."""

    container: str
    fd: int
    framing: str
    stdin: bool
    logs: bool


class CheckExec(msgspec.Struct, frozen=True):
    """Whether Exec would be taken now; answered with the id."""

    container: str


class Exec(msgspec.Struct, frozen=True):
    """Start one more process, joined to a client's socket if there is one. The actor takes `fd` over."""

    container: str
    wish: t.ContainerExec
    fd: int = -1
    framing: str = "frames"


class Logs(msgspec.Struct, frozen=True):
    """Answered with (id, LogRequest) for the zygote."""

    container: str
    wish: t.ContainerLogs


class TreeOf(msgspec.Struct, frozen=True):
    """The tree that is a container's file system, if it is whole; answered with its id."""

    container: str


# --- a container to itself -----------------------------------------------------------------------


class Started(msgspec.Struct, frozen=True):
    """The main process runs."""

    pid: int


class Found(msgspec.Struct, frozen=True):
    """The main process of an earlier life of the actor, or of an earlier engine, still runs."""


class NotStarted(msgspec.Struct, frozen=True):
    """The main process could not be started."""

    exit_code: int
    error: str


class Exited(msgspec.Struct, frozen=True):
    """The main process ended, and what its run needed is taken down."""

    exit_code: int
    error: str
    finished_at: str
    oom_kills: int = 0
    """How many of the run's processes were killed for want of memory."""


class Held(msgspec.Struct, frozen=True):
    """The runtime holds all processes, or has let them go."""

    paused: bool


class Limited(msgspec.Struct, frozen=True):
    """The running container has its record's limits; with an error it kept the old ones, which are given back."""

    old: Limits
    error: Any = None


class SampleUsage(msgspec.Struct, frozen=True):
    """Answered with [(record, Usage)] of these containers, or of all that run (`all`: of all there are)."""

    containers: list[str]
    all: bool


class OpenFiles(msgspec.Struct, frozen=True):
    """Somebody wants to look into the container's files; answered with Files. CloseFiles ends it."""


class CloseFiles(msgspec.Struct, frozen=True):
    """Nobody looks into it any more."""


class CopyFrom(msgspec.Struct, frozen=True):
    """`container.copy_from`; `into` takes the tar, piece by piece."""

    wish: t.ContainerCopyFrom
    into: Callable[[bytes], Awaitable[None]]


class CopyTo(msgspec.Struct, frozen=True):
    """`container.copy_to`."""

    wish: t.ContainerCopyTo
    pieces: AsyncIterable[bytes]


class Again(msgspec.Struct, frozen=True):
    """The delay of restart number `number` is over."""

    number: int


class Probed(msgspec.Struct, frozen=True):
    """A health check has run."""

    probe: t.Probe


class Gone(msgspec.Struct, frozen=True):
    """Removing came to its end, good (None) or bad."""

    error: Any = None


# --- the engine's start and the machine's end ----------------------------------------------------


class StartUp(msgspec.Struct, frozen=True):
    """The engine has started: run if your policy says so. Answered when that is decided and done."""


class StartByPolicy(msgspec.Struct, frozen=True):
    """The second half of StartUp, when it is known what became of the last run."""


class Quit(msgspec.Struct, frozen=True):
    """Stop as by `container.stop`, but not as if somebody had wished it: the policy holds at the next start."""

    timeout: int | None
