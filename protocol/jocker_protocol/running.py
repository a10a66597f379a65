"""Types of what is asked of containers that run: limits changed, figures, processes, pause. Imported through types.py."""

from __future__ import annotations

from typing import Literal

import msgspec

from .base import Params, Result


class RestartPolicy(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """What happens when a container ends by itself, and when the engine starts."""

    name: Literal["no", "on-failure", "always", "unless-stopped", "on-startup"] = "no"
    maximum_retry_count: int = 0
    """Of on-failure; 0: no limit."""


class ContainerUpdate(Params, frozen=True):
    """`container.update`: what is null stays as it is; the rest as in Limits, 0 and "" take a limit away."""

    container: str
    memory: int | None = None
    memory_swap: int | None = None
    memory_reservation: int | None = None
    cpus: float | None = None
    cpu_shares: int | None = None
    cpuset_cpus: str | None = None
    pids: int | None = None
    restart_policy: RestartPolicy | None = None


class ContainerPause(Params, frozen=True):
    """`container.pause`."""

    container: str


class ContainerUnpause(Params, frozen=True):
    """`container.unpause`."""

    container: str


class ContainerTop(Params, frozen=True):
    """`container.top`: options of the host's ps(1), which must show PID; none: -ef."""

    container: str
    ps_args: list[str] = []


class Top(Result):
    """The lines of ps that are the container's, by the host's ids."""

    titles: list[str]
    processes: list[list[str]]


class ContainerStats(Params, frozen=True):
    """`container.stats`: of these containers, or of all that run; `all`: of those that do not, too."""

    containers: list[str] = []
    all: bool = False
    stream: bool = True
    """False: one set of figures, of one second."""


class ContainerFigures(msgspec.Struct, kw_only=True):
    """What one container takes; zeros for one that does not run."""

    id: str
    name: str
    status: str
    cpu_percent: float = 0.0
    """Of one processor, since the figures before."""
    cpu: float = 0.0
    """Seconds of processor time since its start."""
    memory: int = 0
    """Without the page cache that can be given up at once."""
    memory_limit: int = 0
    processes: int = 0
    processes_limit: int = 0
    read: int = 0
    """Bytes from block devices; below to them, and from and to the network."""
    written: int = 0
    received: int = 0
    sent: int = 0


class Figures(Result):
    """A PROGRESS frame of `container.stats`, one a second."""

    time: str
    containers: list[ContainerFigures]
