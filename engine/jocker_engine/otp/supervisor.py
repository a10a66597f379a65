"""Supervisors: what a child is, the ordered supervisor with its three strategies, the dynamic one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import trio

from .actor import Actor, Life
from .calls import chain
from .errors import ActorDown, GaveUp, Poisoned, StartFailed

if TYPE_CHECKING:
    from .system import System

log = logging.getLogger("jocker.otp")

Restart = Literal["permanent", "transient", "temporary"]
Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]


class ChildSpec(NamedTuple):
    """How to start a child, and what its end means.

    `restart`: permanent, always; transient, after a crash; temporary, never. `shutdown`: seconds for an orderly
    end before it is killed; a supervisor always gets the time that its children need.
    """

    name: str
    start: Callable[[], Actor | Supervisor | DynamicSupervisor]
    restart: Restart = "permanent"
    shutdown: float = 5.0


class Supervisor(NamedTuple):
    """A fixed list of children, started in this order and stopped in reverse."""

    name: str
    children: Sequence[ChildSpec]
    strategy: Strategy = "one_for_one"
    intensity: int = 3
    """Restarts allowed in `period` seconds."""
    period: float = 5.0


class DynamicSupervisor(NamedTuple):
    """Children that come and go, each for itself; they are started and stopped side by side."""

    name: str
    intensity: int = 3
    """Restarts allowed in `period` seconds, all children together; those of a poisoned child do not count."""
    period: float = 5.0
    poison_after: int = 3
    """A child that fails so often, less than `period` seconds apart, is set aside with its reason."""


class SomeLife(Protocol):
    """What a supervisor does with a child, actor or supervisor."""

    kind: str
    ended: trio.Event
    handled: int
    reason: BaseException | None

    async def run(
        self, started: Callable[[], None], waiting: tuple[str, ...], shutdown: float | None
    ) -> None: ...
    def request_stop(self) -> None: ...
    def hold(self) -> None: ...
    def kill(self) -> None: ...


class Child:
    """A place in a supervisor: it outlives the lives that fill it."""

    def __init__(self, system: System, spec: ChildSpec) -> None:
        self.spec = spec
        self.state = "starting"
        self.restarts = 0
        self.reason: BaseException | None = None
        self.failures: list[float] = []
        self.life: SomeLife | None = None
        self._system = system
        self._handled = 0

    @property
    def handled(self) -> int:
        """Messages, over all lives."""
        return self._handled + (self.life.handled if self.life else 0)

    async def live(self, started: Callable[[], None], waiting: tuple[str, ...]) -> BaseException | None:
        """One life from start to end; returns why it ended. Raises StartFailed."""
        self.state = "starting"
        running = False

        def up() -> None:
            nonlocal running
            running = True
            self.state = "running"
            started()

        try:
            self.life = _bring_to_life(self._system, self.spec)
            shutdown = self.spec.shutdown if self.life.kind == "actor" else None
            await self.life.run(up, waiting, shutdown)
        except Exception as error:
            self.reason = error
            # Who crashed because another is down, or could not be started, is no riddle: the other's traceback is in the log.
            anothers = isinstance(error, ActorDown | StartFailed)
            what, trace = (f": {error}", None) if anothers else ("", error)
            log.error(
                "%s %s%s",
                self.spec.name,
                "crashed" if running else "could not be started",
                what,
                exc_info=trace,
            )
            if not running:
                raise StartFailed(self.spec.name, error) from error
            return error
        else:
            return None
        finally:
            self.state = "stopped"
            if self.life is not None:
                self._handled += self.life.handled
                self.life = None

    async def end(self) -> None:
        """Stop it in good order, or by force when its time is up."""
        life = self.life
        if life is None:
            return
        self.state = "stopping"
        life.request_stop()
        limit = self.spec.shutdown if life.kind == "actor" else float("inf")
        with trio.move_on_after(limit):
            await life.ended.wait()
        if not life.ended.is_set():
            log.warning("%s did not stop within %s s and is killed", self.spec.name, limit)
            life.kill()
            await life.ended.wait()

    def wants_restart(self, reason: BaseException | None) -> bool:
        """What its restart type says about this end."""
        return self.spec.restart == "permanent" or (self.spec.restart == "transient" and reason is not None)


def _bring_to_life(system: System, spec: ChildSpec) -> SomeLife:
    made = spec.start()
    if isinstance(made, Supervisor):
        return SupervisorLife(system, made)
    if isinstance(made, DynamicSupervisor):
        return DynamicLife(system, made)
    return Life(system, spec.name, made)


class _SupervisorBase:
    """What both kinds share: being stopped, and the count of restarts."""

    kind = "supervisor"
    handled = 0

    def __init__(self, system: System, spec: Supervisor | DynamicSupervisor) -> None:
        self.name = spec.name
        self.ended = trio.Event()
        self.reason: BaseException | None = None
        self.nursery: trio.Nursery
        self._system = system
        self._spec = spec
        self._loop = trio.CancelScope()
        self._all = trio.CancelScope()
        self._held = False
        self._restarts: list[float] = []

    def children(self) -> Iterator[Child]:
        raise NotImplementedError

    def request_stop(self) -> None:
        """An orderly end: children first."""
        self._loop.cancel()

    def hold(self) -> None:
        """It will be stopped when its turn comes: until then nobody below is started again."""
        self._held = True
        for child in self.children():
            if child.life is not None:
                child.life.hold()

    def kill(self) -> None:
        """An end at once."""
        self._all.cancel()

    async def run(
        self, started: Callable[[], None], waiting: tuple[str, ...], shutdown: float | None
    ) -> None:
        """Start the children, watch them, stop them. Raises StartFailed, GaveUp."""
        self._system.register_supervisor(self)
        try:
            with self._all:
                async with trio.open_nursery() as self.nursery:
                    try:
                        with self._loop:
                            await self._watch(started, waiting)
                    finally:
                        with trio.CancelScope(shield=True):
                            await self._stop_all()
                        self.nursery.cancel_scope.cancel()
        finally:
            self._system.unregister_supervisor(self)
            self.ended.set()
        if self.reason is not None:
            raise self.reason

    async def _watch(self, started: Callable[[], None], waiting: tuple[str, ...]) -> None:
        raise NotImplementedError

    async def _stop_all(self) -> None:
        raise NotImplementedError

    def _too_many(self) -> bool:
        """Count one restart; whether it is one too many."""
        now = trio.current_time()
        self._restarts = [at for at in self._restarts if at > now - self._spec.period] + [now]
        return len(self._restarts) > self._spec.intensity


class SupervisorLife(_SupervisorBase):
    """One incarnation of a Supervisor: a loop that takes the ends of its children one by one."""

    def __init__(self, system: System, spec: Supervisor) -> None:
        super().__init__(system, spec)
        self._strategy = spec.strategy
        self._children = [Child(system, child) for child in spec.children]
        # Unbounded: a child ends at most once per start, so it holds no more than there are children.
        self._ends, self._ended = trio.open_memory_channel[tuple[Child, object, BaseException | None]](
            float("inf")
        )
        self._incarnations: dict[str, object] = {}

    def children(self) -> Iterator[Child]:
        """In the order of their start."""
        return iter(self._children)

    async def _watch(self, started: Callable[[], None], waiting: tuple[str, ...]) -> None:
        try:
            for child in self._children:
                await self._start(child)
        except StartFailed as error:
            self.reason = error
            return
        started()
        async for child, incarnation, reason in self._ended:
            if self._held or self._incarnations.get(child.spec.name) is not incarnation:
                continue  # all will be stopped; or it was stopped or replaced meanwhile
            if not child.wants_restart(reason):
                if child.spec.restart == "temporary":
                    self._children.remove(child)
            elif not await self._restart(child, reason):
                return

    async def _restart(self, child: Child, reason: BaseException | None) -> bool:
        """By the strategy; False when that is one too many."""
        while not self._too_many():
            child.restarts += 1
            group = self._group(child)
            for other in group:
                if other.life is not None:
                    other.life.hold()
            for other in reversed(group):
                await self._stop(other)
            try:
                for other in group:
                    if other.spec.restart != "temporary":
                        await self._start(other)
                return True
            except StartFailed as error:
                if self._held:
                    return True
                child, reason = next(c for c in group if c.spec.name == error.name), error.reason
        self.reason = GaveUp(self.name, reason)
        log.error("%s", self.reason)
        return False

    def _group(self, child: Child) -> list[Child]:
        """Who is restarted when this child ended."""
        index = self._children.index(child)
        return {
            "one_for_one": [child],
            "one_for_all": list(self._children),
            "rest_for_one": self._children[index:],
        }[self._strategy]

    async def _start(self, child: Child) -> None:
        await self.nursery.start(self._host, child)

    async def _host(self, child: Child, task_status: trio.TaskStatus[None]) -> None:
        incarnation = self._incarnations[child.spec.name] = object()
        reason = await child.live(task_status.started, ())
        self._ends.send_nowait((child, incarnation, reason))

    async def _stop(self, child: Child) -> None:
        self._incarnations.pop(child.spec.name, None)
        await child.end()

    async def _stop_all(self) -> None:
        for child in reversed(self._children):
            await self._stop(child)


class DynamicLife(_SupervisorBase):
    """One incarnation of a DynamicSupervisor: a task per child that starts it again as long as it should be."""

    def __init__(self, system: System, spec: DynamicSupervisor) -> None:
        super().__init__(system, spec)
        self._poison_after = spec.poison_after
        self._children: dict[str, Child] = {}
        self._stopping: set[str] = set()
        self._stop_now = trio.Event()

    def children(self) -> Iterator[Child]:
        """In the order of their coming."""
        return iter(self._children.values())

    async def _watch(self, started: Callable[[], None], waiting: tuple[str, ...]) -> None:
        started()
        await self._stop_now.wait()

    async def start_child(self, spec: ChildSpec) -> None:
        """Add and start a child. Raises StartFailed (temporary children), Poisoned; ValueError: the name is taken."""
        old = self._children.get(spec.name)
        if old is not None and old.state != "poisoned":
            raise ValueError(f"{self.name} has a child {spec.name} already")
        child = self._children[spec.name] = Child(self._system, spec)
        self._system.poison(spec.name, None)
        await self.nursery.start(self._tend, child, chain.get())

    async def stop_child(self, name: str) -> None:
        """Stop and forget a child, also a poisoned one; no error if there is none."""
        child = self._children.get(name)
        if child is None:
            return
        self._stopping.add(name)
        try:
            await child.end()
        finally:
            self._stopping.discard(name)
            self._forget(child)

    async def _tend(self, child: Child, waiting: tuple[str, ...], task_status: trio.TaskStatus[None]) -> None:
        first = True

        def started() -> None:
            nonlocal first
            if first:
                first = False
                task_status.started()

        reason: BaseException | None
        try:
            while True:
                try:
                    reason = await child.live(started, waiting if first else ())
                except StartFailed as error:
                    if first and (self._held or child.spec.restart == "temporary"):
                        raise
                    reason = error.reason
                if self._held or child.spec.name in self._stopping or not child.wants_restart(reason):
                    return
                if reason is not None and self._is_poisoned(child):
                    self._set_aside(child, reason)
                    if first:
                        raise Poisoned(child.spec.name, reason)
                    return
                if not first:
                    child.restarts += 1
                    if self._too_many():
                        self._give_up(reason)
                        return
        finally:
            if child.state != "poisoned":
                self._forget(child)

    def _is_poisoned(self, child: Child) -> bool:
        now = trio.current_time()
        if child.failures and now - child.failures[-1] > self._spec.period:
            child.failures.clear()
        child.failures.append(now)
        return len(child.failures) >= self._poison_after

    def _set_aside(self, child: Child, reason: BaseException) -> None:
        child.state = "poisoned"
        counted = set(child.failures[:-1])
        self._restarts = [at for at in self._restarts if at not in counted]
        log.error("%s failed %d times in a row and is set aside", child.spec.name, len(child.failures))
        self._system.poison(child.spec.name, Poisoned(child.spec.name, reason))

    def _give_up(self, reason: BaseException | None) -> None:
        self.reason = GaveUp(self.name, reason)
        log.error("%s", self.reason)
        self._stop_now.set()

    def _forget(self, child: Child) -> None:
        if self._children.get(child.spec.name) is child:
            del self._children[child.spec.name]
            self._system.poison(child.spec.name, None)

    async def _stop_all(self) -> None:
        self._stopping.update(self._children)
        async with trio.open_nursery() as nursery:
            for child in list(self._children.values()):
                nursery.start_soon(child.end)
