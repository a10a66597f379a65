"""The contract of actors (otp/__init__.py), sentence by sentence, on a mock clock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock

from jocker_engine.otp import (
    Actor,
    ActorDown,
    CallCycle,
    CallTimeout,
    ChildSpec,
    Down,
    MailboxFull,
    NoSuchActor,
    Reply,
    Supervisor,
    System,
    handles,
)


class Say(msgspec.Struct, frozen=True):
    text: str


class Refuse(msgspec.Struct, frozen=True):
    pass


class Crash(msgspec.Struct, frozen=True):
    pass


class Slow(msgspec.Struct, frozen=True):
    seconds: float


class Later(msgspec.Struct, frozen=True):
    seconds: float


class Ask(msgspec.Struct, frozen=True):
    whom: str
    message: Any


class Halt(msgspec.Struct, frozen=True):
    pass


class Unknown(msgspec.Struct, frozen=True):
    pass


class Echo(Actor):
    mailbox_size = 5
    answers = (ValueError,)

    def __init__(self, log: list[Any] | None = None) -> None:
        self.log = log if log is not None else []
        self.deferred: list[Reply] = []

    async def init(self) -> None:
        self.log.append("init")

    async def terminate(self, reason: BaseException | None) -> None:
        self.log.append(("terminate", type(reason)))

    @handles(Say)
    async def say(self, message: Say) -> str:
        self.log.append(message.text)
        return message.text

    @handles(Refuse)
    async def refuse(self, message: Refuse) -> None:
        raise ValueError("no")

    @handles(Crash)
    async def crash(self, message: Crash) -> None:
        raise ZeroDivisionError("oops")

    @handles(Slow)
    async def slow(self, message: Slow) -> str:
        await trio.sleep(message.seconds)
        return "slow"

    @handles(Later)
    async def later(self, message: Later) -> None:
        self.answer_later(self._later, message.seconds)

    async def _later(self, seconds: float) -> str:
        try:
            await trio.sleep(seconds)
        except trio.Cancelled:
            self.log.append("cancelled")
            raise
        return "later"

    @handles(Ask)
    async def ask(self, message: Ask) -> Any:
        return await self.system.ref(message.whom).call(message.message)

    @handles(Halt)
    async def halt(self, message: Halt) -> None:
        self.stop()

    @handles(Down)
    async def down(self, message: Down) -> None:
        self.log.append((message.name, type(message.reason)))


@asynccontextmanager
async def system(*children: ChildSpec, **options: Any) -> AsyncIterator[System]:
    made = System()
    async with trio.open_nursery() as nursery:
        await nursery.start(
            lambda task_status: made.run(Supervisor("root", children, **options), task_status=task_status)
        )
        yield made
        made.shutdown()


def child(name: str, start: Callable[[], Actor] = Echo, **options: Any) -> ChildSpec:
    return ChildSpec(name, start, **options)


async def test_a_call_is_answered_with_what_the_handler_returns(autojump_clock: MockClock) -> None:
    async with system(child("a")) as s:
        assert await s.ref("a").call(Say("x")) == "x"


async def test_answers_are_raised_at_the_caller_and_are_no_crash(autojump_clock: MockClock) -> None:
    log: list[Any] = []
    async with system(child("a", lambda: Echo(log))) as s:
        with pytest.raises(ValueError, match="no"):
            await s.ref("a").call(Refuse())
        assert log == ["init"]


async def test_messages_are_handled_in_order(autojump_clock: MockClock) -> None:
    log: list[Any] = []
    async with system(child("a", lambda: Echo(log))) as s:
        for number in range(5):
            s.ref("a").cast(Say(str(number)))
        await trio.sleep(1)
        assert log == ["init", "0", "1", "2", "3", "4"]


async def test_a_crash_is_told_to_all_who_wait_at_once_and_the_name_stays_good(
    autojump_clock: MockClock,
) -> None:
    outcomes: list[Any] = []

    async def call(message: Any) -> None:
        try:
            outcomes.append(await s.ref("a").call(message))
        except ActorDown as error:
            outcomes.append(type(error.reason))

    async with system(child("a")) as s:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call, Later(100))  # deferred
            await trio.sleep(0.1)
            nursery.start_soon(call, Slow(1))  # in work
            await trio.sleep(0.1)
            for message in (Crash(), Say("queued")):
                nursery.start_soon(call, message)
                await trio.sleep(0.1)
        assert outcomes == ["slow", *[ZeroDivisionError] * 3]
        assert trio.current_time() < 2
        await trio.sleep(0.1)
        assert await s.ref("a").call(Say("again")) == "again"


async def test_a_crash_in_a_spawned_task_is_the_actors(autojump_clock: MockClock) -> None:
    class Spawner(Echo):
        @handles(Crash)
        async def crash(self, message: Crash) -> None:
            self.spawn(self._fail)

        async def _fail(self) -> None:
            await trio.sleep(1)
            raise KeyError("task")

    log: list[Any] = []
    async with system(child("a", lambda: Spawner(log))) as s:
        await s.ref("a").call(Crash())
        await trio.sleep(2)
        assert log == ["init", ("terminate", KeyError), "init"]


async def test_full_mailboxes_refuse(autojump_clock: MockClock) -> None:
    async with system(child("a")) as s:
        s.ref("a").cast(Slow(10))
        await trio.sleep(1)
        for _ in range(5):
            s.ref("a").cast(Say("x"))
        with pytest.raises(MailboxFull):
            s.ref("a").cast(Say("x"))
        with pytest.raises(MailboxFull):
            await s.ref("a").call(Say("x"))


async def test_messages_are_handled_while_an_answer_is_deferred(autojump_clock: MockClock) -> None:
    async with system(child("a")) as s:
        with trio.move_on_after(1) as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(s.ref("a").call, Later(60))
                await trio.sleep(0.1)
                assert await s.ref("a").call(Say("x")) == "x"
                nursery.cancel_scope.cancel()
        assert not scope.cancelled_caught


async def test_a_cancelled_call_leaves_the_mailbox_and_cancels_its_work(autojump_clock: MockClock) -> None:
    log: list[Any] = []
    async with system(child("a", lambda: Echo(log))) as s:
        with trio.move_on_after(1):
            await s.ref("a").call(Later(60))
        s.ref("a").cast(Slow(5))
        with trio.move_on_after(1):
            await s.ref("a").call(Say("never"))
        await trio.sleep(10)
        assert log == ["init", "cancelled"]


async def test_timeouts(autojump_clock: MockClock) -> None:
    async with system(child("a")) as s:
        with pytest.raises(CallTimeout, match="Slow within 1 s"):
            await s.ref("a").call(Slow(5), timeout=1)
        assert await s.ref("a").call(Say("x"), timeout=10) == "x"


async def test_cycles_are_refused(autojump_clock: MockClock) -> None:
    async with system(child("a"), child("b"), intensity=10) as s:
        with pytest.raises(ActorDown) as caught:
            await s.ref("a").call(Ask("b", Ask("a", Say("x"))))
        reason: Any = caught.value
        while not isinstance(reason, CallCycle):
            reason = reason.reason
        assert "a -> b -> a" in str(reason)
        await trio.sleep(0.1)
        assert await s.ref("a").call(Ask("b", Say("fine"))) == "fine"


async def test_unknown_messages_are_the_senders_mistake(autojump_clock: MockClock) -> None:
    async with system(child("a")) as s:
        with pytest.raises(TypeError, match="a takes no Unknown"):
            await s.ref("a").call(Unknown())
        with pytest.raises(NoSuchActor):
            await s.ref("nobody").call(Say("x"))
        s.ref("nobody").cast(Say("lost"))
        assert s.whereis("nobody") is None and s.whereis("a") is not None


async def test_monitors_are_told_each_time(autojump_clock: MockClock) -> None:
    log: list[Any] = []

    class Watcher(Echo):
        async def init(self) -> None:
            self.monitor("a")
            self.monitor("nobody")

    async with system(child("a"), child("w", lambda: Watcher(log))) as s:
        for _ in range(2):
            with pytest.raises(ActorDown):
                await s.ref("a").call(Crash())
            await trio.sleep(1)
        s.ref("a").cast(Halt())
        await trio.sleep(1)
        assert log[:1] == [("nobody", NoSuchActor)]
        assert log[1:] == [("a", ZeroDivisionError), ("a", ZeroDivisionError), ("a", type(None))]


async def test_terminate_is_called_once_per_life_and_bounded(autojump_clock: MockClock) -> None:
    log: list[Any] = []

    class Stubborn(Echo):
        async def terminate(self, reason: BaseException | None) -> None:
            self.log.append("terminating")
            await trio.sleep(1000)
            self.log.append("never")

    async with system(child("a", lambda: Stubborn(log), shutdown=3.0)) as s:
        began = trio.current_time()
        s.shutdown()
        await trio.sleep(10)
        assert log == ["init", "terminating"]
        assert trio.current_time() - began < 11


async def test_the_message_at_hand_is_finished_at_an_orderly_end(autojump_clock: MockClock) -> None:
    async with system(child("a")) as s:
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                assert await s.ref("a").call(Slow(2)) == "slow"

            nursery.start_soon(ask)
            await trio.sleep(0.5)
            s.shutdown()
