"""Calls between actors: the reply a caller waits for, and the reference it calls through.

The chain of a call is the actors that wait for it, outermost first. It lives in a context variable, which a
handler's task sees as the chain of the message at hand plus the actor itself.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import outcome
import trio

from .errors import CallCycle, CallTimeout

if TYPE_CHECKING:
    from .system import System

chain: ContextVar[tuple[str, ...]] = ContextVar("chain", default=())
"""The actors that wait for what this task does."""


class Reply:
    """The answer to one call: sent or failed once, by whoever holds it; dropped when nobody waits any more."""

    __slots__ = ("_abandoned", "_outcome", "_task", "chain", "on_abandon")

    def __init__(self, waiting: tuple[str, ...]) -> None:
        self.chain = waiting
        self.on_abandon: Callable[[], None] | None = None
        """Called when the caller stops waiting (cancelled, timed out)."""
        self._task: trio.lowlevel.Task | None = None
        self._outcome: outcome.Outcome[Any] | None = None
        self._abandoned = False

    @property
    def abandoned(self) -> bool:
        """Whether the caller has stopped waiting."""
        return self._abandoned

    @property
    def done(self) -> bool:
        """Whether it was sent or failed."""
        return self._outcome is not None

    def send(self, value: Any = None) -> None:
        """Answer. RuntimeError: it was answered before."""
        self._settle(outcome.Value(value))

    def fail(self, error: BaseException) -> None:
        """Raise this at the caller. RuntimeError: it was answered before."""
        self._settle(outcome.Error(error))

    def _settle(self, result: outcome.Outcome[Any]) -> None:
        if self._outcome is not None:
            raise RuntimeError("answered twice")
        self._outcome = result
        if self._task is not None:
            trio.lowlevel.reschedule(self._task, result)
            self._task = None

    async def wait(self) -> Any:
        """The caller's side; once."""
        if self._outcome is not None:
            await trio.lowlevel.checkpoint()
            return self._outcome.unwrap()
        self._task = trio.lowlevel.current_task()
        return await trio.lowlevel.wait_task_rescheduled(self._abort)

    def _abort(self, _: Any) -> trio.lowlevel.Abort:
        self._task = None
        self._abandoned = True
        if self.on_abandon is not None:
            self.on_abandon()
        return trio.lowlevel.Abort.SUCCEEDED


class Ref:
    """An actor by name: good whoever runs under the name when it is used."""

    __slots__ = ("_system", "name")

    def __init__(self, system: System, name: str) -> None:
        self._system = system
        self.name = name

    def __repr__(self) -> str:
        return f"<Ref {self.name}>"

    async def call(self, message: Any, timeout: float | None = None) -> Any:
        """Send and wait for the answer; the handler's answer-exceptions are raised here. `timeout` in seconds.

        Raises ActorDown (NoSuchActor, Poisoned), MailboxFull, CallTimeout, CallCycle; TypeError for a message
        that the actor does not take. A cancelled call is taken out of the mailbox, or stops the work done for
        it by `answer_later`.
        """
        waiting = chain.get()
        if self.name in waiting:
            raise CallCycle(f"cycle of calls: {' -> '.join((*waiting, self.name))}")
        life = self._system.life(self.name)
        reply = Reply(waiting)
        life.put(message, reply)
        try:
            if timeout is None:
                return await reply.wait()
            with trio.move_on_after(timeout):
                return await reply.wait()
            raise CallTimeout(f"{self.name} did not answer {type(message).__name__} within {timeout} s")
        finally:
            life.pending.discard(reply)

    def cast(self, message: Any) -> None:
        """Send and go on. Lost when nobody runs under the name. Raises MailboxFull."""
        life = self._system.alive(self.name)
        if life is not None:
            life.put(message, None)
