"""Actors: a class with handlers, and the life of one instance of it.

A life is: `init`, then one message after the other, then `terminate`; around all of it a nursery for the
tasks that the actor spawns. It ends by the supervisor's wish, by the actor's own `stop`, or by a crash: an
exception from `init`, a handler or a spawned task. Whoever waits for an answer then gets ActorDown.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar

import msgspec
import trio

from .calls import Ref, Reply, chain
from .errors import ActorDown, MailboxFull, NoSuchActor

if TYPE_CHECKING:
    from .system import System

F = TypeVar("F", bound=Callable[..., Any])


class Down(msgspec.Struct, frozen=True):
    """To those who monitor a name: the actor behind it ended. `reason` is None after an orderly end."""

    name: str
    reason: Any


def handles(*messages: type) -> Callable[[F], F]:
    """Marks the method that takes messages of these classes (exactly; subclasses are other messages)."""

    def mark(function: F) -> F:
        function._handles = messages  # type: ignore[attr-defined]
        return function

    return mark


class Actor:
    """Base class. Attributes set before `init`: system, name, ref."""

    mailbox_size: ClassVar[int] = 1000
    answers: ClassVar[tuple[type[BaseException], ...]] = ()
    """Exceptions of handlers that are the caller's answer; any other is a crash."""
    _handlers: ClassVar[dict[type, Any]] = {}

    system: System
    name: str
    ref: Ref
    _life: Life

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        table: dict[type, Any] = {}
        for base in reversed(cls.__mro__):
            for function in vars(base).values():
                for message in getattr(function, "_handles", ()):
                    table[message] = function
        cls._handlers = table

    async def init(self) -> None:
        """Rebuild the state. Awaited by the supervisor; raising is a failed start."""

    async def terminate(self, reason: BaseException | None) -> None:
        """Tidy up. Also after a crash; shielded from cancellation, bounded by the child's shutdown time.

        Spawned tasks still run during it, unless the actor crashed.
        """

    def detail(self) -> str:
        """A few words for the drawing of the tree."""
        return ""

    def stop(self) -> None:
        """End in good order after the message at hand; what waits in the mailbox is dropped."""
        self._life.request_stop()

    def spawn(self, function: Callable[..., Awaitable[Any]], *args: Any) -> None:
        """Run a task in the actor's own nursery; it ends with the actor, and its crash is the actor's.

        The actor does not wait for it, so the task may call whom it likes, this actor too.
        """
        self._life.spawn(function, args, ())

    def defer(self) -> Reply:
        """The reply to the message at hand, to be given later; what the handler returns is then ignored.

        For a cast it is a reply that nobody hears.
        """
        return self._life.take_reply()

    def answer_later(self, function: Callable[..., Awaitable[Any]], *args: Any) -> None:
        """The answer to the message at hand is what this coroutine function returns, run as a task.

        A caller that stops waiting cancels it.
        """
        reply = self.defer()
        if not reply.abandoned:
            self._life.spawn(self._answer, (reply, function, args), reply.chain)

    async def _answer(self, reply: Reply, function: Callable[..., Awaitable[Any]], args: Any) -> None:
        with trio.CancelScope() as scope:
            if reply.abandoned:
                return
            reply.on_abandon = scope.cancel
            try:
                value = await function(*args)
            except self.answers as error:
                reply.fail(error)
            else:
                reply.send(value)

    def monitor(self, target: Ref | str) -> None:
        """Be told by `Down` each time the actor of this name ends; at once when nobody runs under it now."""
        if Down not in self._handlers:
            raise TypeError(f"{type(self).__name__} monitors but has no handler for Down")
        name = target if isinstance(target, str) else target.name
        self.system.watch(name, self.name)
        if self.system.alive(name) is None:
            self.ref.cast(Down(name, NoSuchActor(name)))


class Envelope(NamedTuple):
    """A message on its way."""

    message: Any
    reply: Reply | None


class Life:
    """One incarnation of an actor."""

    kind = "actor"

    def __init__(self, system: System, name: str, actor: Actor) -> None:
        self.name = name
        self.actor = actor
        self.pending: set[Reply] = set()
        """Replies that callers wait for, queued, in work or deferred."""
        self.handled = 0
        self.reason: BaseException | None = None
        self.ended = trio.Event()
        self._system = system
        self._mailbox: deque[Envelope] = deque()
        self._parked: trio.lowlevel.Task | None = None
        self._stopping = False
        self._current: Reply | None = None
        self._deferred = False
        self._scope = trio.CancelScope()
        self._terminating = trio.CancelScope(shield=True)
        actor.system, actor.name, actor.ref = system, name, Ref(system, name)
        actor._life = self

    @property
    def depth(self) -> int:
        """Messages waiting."""
        return len(self._mailbox)

    # --- for callers ---

    def put(self, message: Any, reply: Reply | None) -> None:
        """Into the mailbox. Raises MailboxFull, TypeError."""
        if type(message) not in self.actor._handlers:
            raise TypeError(f"{self.name} takes no {type(message).__name__}")
        if len(self._mailbox) >= self.actor.mailbox_size:
            raise MailboxFull(f"{self.name} has {len(self._mailbox)} messages waiting; try again later")
        if reply is not None:
            self.pending.add(reply)
        self._mailbox.append(Envelope(message, reply))
        self._wake()

    # --- for the supervisor ---

    async def run(
        self, started: Callable[[], None], waiting: tuple[str, ...], shutdown: float | None
    ) -> None:
        """The whole life. Returns after an orderly end or a kill; raises the crash's reason."""
        self._shutdown = shutdown
        self._system.register(self)
        try:
            with self._scope:
                try:
                    await self._live(started, waiting)
                except* Exception as group:
                    if self.reason is None:
                        self.reason = group.exceptions[0]
        finally:
            self._system.unregister(self)
            for reply in list(self.pending):
                if not reply.done:
                    reply.fail(ActorDown(self.name, self.reason))
            self.ended.set()
        if self.reason is not None:
            raise self.reason

    def request_stop(self) -> None:
        """An orderly end, after the message at hand."""
        self._stopping = True
        self._wake()

    def hold(self) -> None:
        """Nobody is below it."""

    def kill(self) -> None:
        """End now, in whatever it is doing."""
        self._terminating.cancel()
        self._scope.cancel()

    # --- inside ---

    async def _live(self, started: Callable[[], None], waiting: tuple[str, ...]) -> None:
        async with trio.open_nursery() as self._tasks:
            try:
                chain.set(waiting)
                await self.actor.init()
                started()
                await self._loop()
            except Exception as error:
                self._crashed(error)
                raise
            finally:
                with self._terminating:
                    if self._shutdown is not None:
                        self._terminating.deadline = trio.current_time() + self._shutdown
                    await self.actor.terminate(self.reason)
                self._tasks.cancel_scope.cancel()

    def _crashed(self, error: BaseException) -> None:
        if self.reason is None:
            self.reason = error

    async def _loop(self) -> None:
        mailbox, handlers, answers = self._mailbox, self.actor._handlers, self.actor.answers
        while not self._stopping:
            if not mailbox:
                await self._park()
                continue
            message, reply = mailbox.popleft()
            if reply is not None and reply.abandoned:
                continue
            self._current, self._deferred = reply, False
            chain.set((*reply.chain, self.name) if reply is not None else (self.name,))
            try:
                value = await handlers[type(message)](self.actor, message)
            except answers as error:
                if reply is None:
                    raise
                reply.fail(error)
            else:
                if reply is not None and not self._deferred:
                    reply.send(value)
            self._current = None
            self.handled += 1
            if mailbox:
                await trio.lowlevel.checkpoint()  # a busy actor lets others run

    def take_reply(self) -> Reply:
        """See Actor.defer."""
        self._deferred = True
        return self._current if self._current is not None else Reply(())

    def spawn(
        self, function: Callable[..., Awaitable[Any]], args: tuple[Any, ...], waiting: tuple[str, ...]
    ) -> None:
        """A task that `waiting` wait for."""
        self._tasks.start_soon(
            self._task, function, args, waiting, name=f"{self.name}: {function.__qualname__}"
        )

    async def _task(
        self, function: Callable[..., Awaitable[Any]], args: tuple[Any, ...], waiting: tuple[str, ...]
    ) -> None:
        chain.set(waiting)
        try:
            await function(*args)
        except Exception as error:
            self._crashed(error)
            raise

    async def _park(self) -> None:
        self._parked = trio.lowlevel.current_task()

        def abort(_: Any) -> trio.lowlevel.Abort:
            self._parked = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def _wake(self) -> None:
        if self._parked is not None:
            trio.lowlevel.reschedule(self._parked)
            self._parked = None
