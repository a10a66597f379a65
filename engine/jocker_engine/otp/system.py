"""The system: one tree of supervisors, and the registry by which its actors find each other."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import trio

from .actor import Down, Life
from .calls import Ref
from .errors import MailboxFull, NoSuchActor, Poisoned
from .supervisor import Child, ChildSpec, DynamicLife, Supervisor, SupervisorLife, _SupervisorBase


class Node(msgspec.Struct, kw_only=True):
    """One place in the tree as it is now."""

    name: str
    kind: str
    """actor or supervisor."""
    state: str
    """starting, running, stopping, stopped or poisoned."""
    restarts: int
    mailbox: int
    handled: int
    detail: str
    children: list[Node]


class System:
    """Names are unique in the whole tree."""

    def __init__(self) -> None:
        self._lives: dict[str, Life] = {}
        self._supervisors: dict[str, _SupervisorBase] = {}
        self._poisoned: dict[str, Poisoned] = {}
        self._watchers: dict[str, set[str]] = {}
        self._root: Child | None = None

    async def run(
        self, root: Supervisor, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Run a tree until `shutdown`. Raises GaveUp, StartFailed. Cancelling it ends everything at once."""
        life = SupervisorLife(self, root)
        self._root = Child(self, ChildSpec(root.name, lambda: root))
        self._root.life, self._root.state = life, "running"
        try:
            await life.run(task_status.started, (), None)
        finally:
            self._root = None

    def shutdown(self) -> None:
        """Begin the orderly end: children stop in reverse order, then `run` returns."""
        if self._root is not None and self._root.life is not None:
            self._root.life.request_stop()

    def ref(self, name: str) -> Ref:
        """A reference that looks the name up each time it is used; nobody need run under it yet."""
        return Ref(self, name)

    def whereis(self, name: str) -> Ref | None:
        """A reference, if somebody runs under the name now."""
        return Ref(self, name) if name in self._lives else None

    async def start_child(self, supervisor: str, spec: ChildSpec) -> Ref:
        """Add a child to a dynamic supervisor and wait for its `init`.

        Raises StartFailed (a temporary child), Poisoned (it failed again and again, and is kept as such),
        NoSuchActor (no such supervisor now), ValueError (the name is taken).
        """
        await self._dynamic(supervisor).start_child(spec)
        return Ref(self, spec.name)

    async def stop_child(self, supervisor: str, name: str) -> None:
        """Stop a child of a dynamic supervisor and forget it. No error if there is none."""
        await self._dynamic(supervisor).stop_child(name)

    def tree(self) -> Node:
        """The whole tree as it is now. RuntimeError: it does not run."""
        if self._root is None:
            raise RuntimeError("the system does not run")
        return self._node(self._root)

    def _node(self, child: Child) -> Node:
        life = child.life
        below: Iterator[Child] = iter(())
        if isinstance(life, SupervisorLife | DynamicLife):
            below = life.children()
        detail = ""
        if isinstance(life, Life) and child.state == "running":  # before that it may have nothing to tell
            detail = life.actor.detail()
        elif life is None and child.reason is not None:
            detail = f"{type(child.reason).__name__}: {child.reason}"
        return Node(
            name=child.spec.name,
            kind="supervisor" if isinstance(life, SupervisorLife | DynamicLife) else "actor",
            state=child.state,
            restarts=child.restarts,
            mailbox=life.depth if isinstance(life, Life) else 0,
            handled=child.handled,
            detail=detail,
            children=[self._node(each) for each in below],
        )

    def _dynamic(self, name: str) -> DynamicLife:
        found = self._supervisors.get(name)
        if not isinstance(found, DynamicLife):
            raise NoSuchActor(name)
        return found

    # --- for this package only ---

    def life(self, name: str) -> Life:
        """Who runs under this name. Raises NoSuchActor, Poisoned."""
        life = self._lives.get(name)
        if life is not None:
            return life
        poisoned = self._poisoned.get(name)
        raise NoSuchActor(name) if poisoned is None else Poisoned(name, poisoned.reason)

    def alive(self, name: str) -> Life | None:
        """Who runs under this name, if anybody."""
        return self._lives.get(name)

    def register(self, life: Life) -> None:
        """A new life. ValueError: the name is taken."""
        if life.name in self._lives:
            raise ValueError(f"there is an actor {life.name} already")
        self._lives[life.name] = life

    def unregister(self, life: Life) -> None:
        """It ended: tell those who monitor it, and forget whom it monitored."""
        if self._lives.get(life.name) is life:
            del self._lives[life.name]
            for watchers in self._watchers.values():
                watchers.discard(life.name)
            self._tell(life.name, life.reason)

    def register_supervisor(self, life: _SupervisorBase) -> None:
        """A supervisor begins. ValueError: the name is taken."""
        if life.name in self._supervisors:
            raise ValueError(f"there is a supervisor {life.name} already")
        self._supervisors[life.name] = life

    def unregister_supervisor(self, life: _SupervisorBase) -> None:
        """A supervisor ended."""
        if self._supervisors.get(life.name) is life:
            del self._supervisors[life.name]

    def poison(self, name: str, reason: Poisoned | None) -> None:
        """A child was set aside, or is forgotten or tried anew (None)."""
        if reason is None:
            self._poisoned.pop(name, None)
        else:
            self._poisoned[name] = reason
            self._tell(name, reason)

    def watch(self, name: str, watcher: str) -> None:
        """`watcher` monitors `name` from now on."""
        self._watchers.setdefault(name, set()).add(watcher)

    def unwatch(self, name: str, watcher: str) -> None:
        """It does not any more."""
        self._watchers.get(name, set()).discard(watcher)

    def _tell(self, name: str, reason: BaseException | None) -> None:
        for watcher in self._watchers.get(name, ()):
            try:
                Ref(self, watcher).cast(Down(name, reason))
            except MailboxFull:
                # A watcher that is told nothing would be wrong for ever; it starts anew and looks around.
                self._lives[watcher].kill()
