"""The contract of supervisors (otp/__init__.py), on a mock clock; and random trees with random crashes."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.lowlevel
from hypothesis import given, settings
from hypothesis import strategies as st
from test_otp_actors import Crash, Echo, Halt, Later, Say, child, system
from trio.testing import MockClock

from jocker_engine.otp import (
    ActorDown,
    ChildSpec,
    Down,
    DynamicSupervisor,
    GaveUp,
    NoSuchActor,
    Poisoned,
    StartFailed,
    Supervisor,
    System,
    handles,
)


class Traced(Echo):
    """Writes its name with what happens to it."""

    def __init__(self, log: list[Any]) -> None:
        super().__init__()
        self.trace = log

    async def init(self) -> None:
        await trio.sleep(0.1)
        self.trace.append(f"+{self.name}")

    async def terminate(self, reason: BaseException | None) -> None:
        self.trace.append(f"-{self.name}")


def traced(log: list[Any], names: str, **options: Any) -> list[ChildSpec]:
    return [ChildSpec(name, lambda: Traced(log), **options) for name in names]


async def crash(s: System, name: str) -> None:
    with pytest.raises(ActorDown):
        await s.ref(name).call(Crash())
    await trio.sleep(1)


async def test_children_start_in_order_and_stop_in_reverse(autojump_clock: MockClock) -> None:
    log: list[Any] = []
    async with system(*traced(log, "abc")):
        assert log == ["+a", "+b", "+c"]
        log.clear()
    assert log == ["-c", "-b", "-a"]


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("one_for_one", ["-b", "+b"]),
        ("one_for_all", ["-b", "-c", "-a", "+a", "+b", "+c"]),
        ("rest_for_one", ["-b", "-c", "+b", "+c"]),
    ],
)
async def test_strategies(autojump_clock: MockClock, strategy: str, expected: list[str]) -> None:
    log: list[Any] = []
    async with system(*traced(log, "abc"), strategy=strategy) as s:
        log.clear()
        await crash(s, "b")
        assert log == expected


@pytest.mark.parametrize(
    ("restart", "after_crash", "after_stop"),
    [("permanent", True, True), ("transient", True, False), ("temporary", False, False)],
)
async def test_restart_types(
    autojump_clock: MockClock, restart: str, after_crash: bool, after_stop: bool
) -> None:
    for message, expected in ((Crash(), after_crash), (Halt(), after_stop)):
        async with system(child("a", restart=restart)) as s:
            s.ref("a").cast(message)
            await trio.sleep(1)
            assert (s.whereis("a") is not None) is expected


async def test_a_failed_start_stops_those_before_and_is_the_supervisors(autojump_clock: MockClock) -> None:
    log: list[Any] = []

    class Broken(Echo):
        async def init(self) -> None:
            raise OSError("cannot")

    with pytest.raises(StartFailed, match="c could not be started: OSError: cannot"):
        await System().run(Supervisor("root", [*traced(log, "ab"), child("c", Broken), *traced(log, "d")]))
    assert log == ["+a", "+b", "-b", "-a"]


async def test_more_than_intensity_restarts_in_the_period_is_giving_up(autojump_clock: MockClock) -> None:
    log: list[Any] = []
    s = System()
    with pytest.RaisesGroup(GaveUp) if hasattr(pytest, "RaisesGroup") else pytest.raises(BaseExceptionGroup):
        async with trio.open_nursery() as nursery:
            root = Supervisor("root", [*traced(log, "ab")], intensity=2, period=5)
            await nursery.start(lambda task_status: s.run(root, task_status=task_status))
            for _ in range(3):
                await crash(s, "b")
                await trio.sleep(3)  # never more than two in five seconds
            log.clear()
            for _ in range(3):
                await crash(s, "b")
            await trio.sleep_forever()
    assert log[-2:] == ["-b", "-a"]


async def test_giving_up_is_a_crash_for_the_supervisor_above(autojump_clock: MockClock) -> None:
    log: list[Any] = []
    inner = ChildSpec("inner", lambda: Supervisor("inner", traced(log, "x"), intensity=0))
    async with system(inner, *traced(log, "y"), strategy="rest_for_one") as s:
        log.clear()
        await crash(s, "x")
        assert log == ["-x", "-y", "+x", "+y"]
        assert s.tree().children[0].restarts == 1


class Leaning(Echo):
    """Asks another actor all the time, from its `init` on; ends when that one does not answer."""

    def __init__(self, log: list[Any], other: str) -> None:
        super().__init__()
        self.trace, self.other = log, other

    async def init(self) -> None:
        await self._ask()
        self.trace.append(f"+{self.name}")
        self.spawn(self._go_on)

    async def _go_on(self) -> None:
        while True:
            await self._ask()
            await trio.sleep(0.01)

    async def _ask(self) -> None:
        await self.system.ref(self.other).call(Say("?"))


class SlowToStop(Echo):
    async def terminate(self, reason: BaseException | None) -> None:
        await trio.sleep(2)


@pytest.mark.parametrize("strategy", ["rest_for_one", "one_for_all"])
async def test_nobody_is_started_again_while_what_it_stands_on_is_down(
    autojump_clock: MockClock, strategy: Any, caplog: pytest.LogCaptureFixture
) -> None:
    log: list[Any] = []
    fixed = Supervisor("fixed", [ChildSpec("inner", lambda: Leaning(log, "base"))], strategy="one_for_all")
    children = [
        ChildSpec("base", Echo),
        ChildSpec("fixed", lambda: fixed),
        ChildSpec("many", lambda: DynamicSupervisor("many")),
        ChildSpec("slow", SlowToStop),
    ]
    async with system(*children, strategy=strategy, intensity=1) as s:
        await s.start_child("many", ChildSpec("one", lambda: Leaning(log, "base")))
        log.clear()
        with pytest.raises(ActorDown):
            await s.ref("base").call(Crash())
        await trio.sleep(1)
        assert s.whereis("one") is None and s.whereis("inner") is None
        await trio.sleep(4)
        assert log == ["+inner"]
        assert [node.restarts for node in s.tree().children] == [1, 0, 0, 0]
        with pytest.raises(NoSuchActor):  # and not Poisoned
            await s.ref("one").call(Say("?"))
        assert caplog.text.count("Traceback") == 1, "only who crashed of itself has one"


async def test_only_who_failed_of_itself_has_a_traceback_in_the_log(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Echo):
        async def init(self) -> None:
            raise OSError("cannot")

    class Starter(Echo):
        @handles(Say)
        async def say(self, message: Say) -> str:
            await self.system.start_child("d", child("broken", Broken, restart="temporary"))
            return message.text

    async with system(ChildSpec("d", lambda: DynamicSupervisor("d")), child("starter", Starter)) as s:
        with pytest.raises(ActorDown, match="cannot"):
            await s.ref("starter").call(Say("go"))
        await trio.sleep(1)
    assert caplog.text.count("Traceback") == 1
    assert "starter crashed: broken could not be started: OSError: cannot" in caplog.text


async def test_a_restart_that_fails_is_tried_again_and_counted(autojump_clock: MockClock) -> None:
    starts: list[int] = []

    class Flaky(Echo):
        async def init(self) -> None:
            starts.append(1)
            if len(starts) in (2, 3):
                raise OSError("not yet")

    async with system(child("a", Flaky), intensity=3) as s:
        await crash(s, "a")
        assert len(starts) == 4 and s.tree().children[0].restarts == 3


async def test_a_child_that_does_not_stop_is_killed(autojump_clock: MockClock) -> None:
    class Deaf(Echo):
        @handles(Later)
        async def later(self, message: Later) -> None:
            await trio.sleep(message.seconds)

    async with system(child("a", Deaf, shutdown=2.0)) as s:
        s.ref("a").cast(Later(1000))
        await trio.sleep(1)
        began = trio.current_time()
    assert trio.current_time() - began < 5


class Watcher(Echo):
    @handles(Down)
    async def down(self, message: Down) -> None:
        self.log.append(message.reason)


async def test_dynamic_children(autojump_clock: MockClock) -> None:
    log: list[Any] = []
    async with system(ChildSpec("d", lambda: DynamicSupervisor("d"))) as s:
        first = await s.start_child("d", traced(log, "a")[0])
        await s.start_child("d", traced(log, "b", restart="transient")[0])
        assert await first.call(Say("x")) == "x"
        with pytest.raises(ValueError, match="already"):
            await s.start_child("d", traced(log, "a")[0])
        await crash(s, "a")
        assert await first.call(Say("again")) == "again"
        s.ref("b").cast(Halt())
        await trio.sleep(1)
        assert [node.name for node in s.tree().children[0].children] == ["a"]
        await s.stop_child("d", "a")
        await s.stop_child("d", "a")
        with pytest.raises(NoSuchActor):
            await first.call(Say("x"))
        with pytest.raises(NoSuchActor):
            await s.start_child("nobody", traced(log, "a")[0])


async def test_a_poisoned_child_is_set_aside_and_takes_nobody_along(autojump_clock: MockClock) -> None:
    log: list[Any] = []
    bad = [True]

    class Sick(Echo):
        async def init(self) -> None:
            if bad[0]:
                raise OSError("sick")

    class Monitor(Watcher):
        async def init(self) -> None:
            self.monitor("p")

    async with system(
        ChildSpec("d", lambda: DynamicSupervisor("d", intensity=3, poison_after=3)),
        child("w", lambda: Monitor(log)),
    ) as s:
        await s.start_child("d", child("fine"))
        for _ in range(5):
            with pytest.raises(Poisoned, match="sick"):
                await s.start_child("d", child("p", Sick))
        with pytest.raises(Poisoned):
            await s.ref("p").call(Say("x"))
        await trio.sleep(1)
        assert isinstance(log[-1], Poisoned)
        nodes = {node.name: node for node in s.tree().children[0].children}
        assert (
            nodes["p"].state == "poisoned"
            and "sick" in nodes["p"].detail
            and nodes["fine"].state == "running"
        )
        assert s.tree().children[0].restarts == 0
        bad[0] = False
        assert await (await s.start_child("d", child("p", Sick))).call(Say("well")) == "well"


async def test_a_temporary_child_that_cannot_start_is_forgotten(autojump_clock: MockClock) -> None:
    class Broken(Echo):
        async def init(self) -> None:
            raise OSError("cannot")

    async with system(ChildSpec("d", lambda: DynamicSupervisor("d"))) as s:
        with pytest.raises(StartFailed):
            await s.start_child("d", child("t", Broken, restart="temporary"))
        assert s.tree().children[0].children == []


STEPS = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.sampled_from(["say", "crash", "later", "sleep"])), max_size=40
)


@settings(max_examples=60, deadline=None)
@given(
    strategies=st.tuples(*[st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"])] * 3),
    steps=STEPS,
)
def test_random_trees_with_random_crashes(strategies: tuple[Any, ...], steps: list[tuple[str, str]]) -> None:
    """Every call ends in an answer or ActorDown, no name is stale, and at the end no task is left."""
    lost: list[str] = []

    async def main() -> None:
        s = System()
        outcomes: list[Any] = []
        calls = 0

        async def call(name: str, message: Any) -> None:
            try:
                with trio.fail_after(1000):
                    outcomes.append(await s.ref(name).call(message))
            except ActorDown as error:
                outcomes.append(error)

        def inner(number: int, names: str) -> ChildSpec:
            specs = [child(name) for name in names]
            return ChildSpec(
                f"s{number}", lambda: Supervisor(f"s{number}", specs, strategies[number], intensity=2)
            )

        top = Supervisor("root", [inner(0, "abc"), inner(1, "def")], strategies[2], intensity=1000)
        async with trio.open_nursery() as running:
            await running.start(lambda task_status: s.run(top, task_status=task_status))
            async with trio.open_nursery() as nursery:
                for name, what in steps:
                    if what == "sleep":
                        await trio.sleep(1)
                        continue
                    calls += 1
                    message = {"say": Say("x"), "crash": Crash(), "later": Later(3)}[what]
                    nursery.start_soon(call, name, message)
                    await trio.lowlevel.checkpoint()
            if len(outcomes) != calls:
                lost.append("reply")
            await trio.sleep(10)
            for name in "abcdef":
                assert await s.ref(name).call(Say(name)) == name
            s.shutdown()
        assert all(s.whereis(name) is None for name in "abcdef")

    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert not lost
