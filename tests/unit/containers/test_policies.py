"""Restart policies as pure rules, the order of dependency, and the lifecycle's rows for both."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from jocker_engine.containers import lifecycle, order, restarts
from jocker_engine.db.records import ContainerRecord
from jocker_protocol.errors import InvalidParams
from jocker_protocol.types import ContainerState, ImageConfig, RestartPolicy


def policy(name: str, retries: int = 0) -> RestartPolicy:
    return RestartPolicy(name=name, maximum_retry_count=retries)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "exit_code", "stopped", "expected"),
    [
        ("no", 1, False, False),
        ("on-failure", 0, False, False),
        ("on-failure", 1, False, True),
        ("on-failure", 1, True, False),
        ("always", 0, False, True),
        ("always", 137, True, False),
        ("unless-stopped", 0, False, True),
        ("unless-stopped", 0, True, False),
        ("on-startup", 1, False, False),
    ],
)
def test_whether_it_is_started_again(name: str, exit_code: int, stopped: bool, expected: bool) -> None:
    state = ContainerState(status="running", stopped=stopped)
    assert restarts.again(policy(name), state, exit_code) is expected


def test_on_failure_counts() -> None:
    wish = policy("on-failure", 3)
    states = [ContainerState(status="running", restart_count=count) for count in range(5)]
    assert [restarts.again(wish, state, 1) for state in states] == [True, True, True, False, False]


@pytest.mark.parametrize(
    ("name", "finished", "stopped", "expected"),
    [
        ("no", True, False, False),
        ("on-failure", True, False, False),
        ("always", True, True, True),
        ("always", False, False, False),
        ("unless-stopped", True, False, True),
        ("unless-stopped", True, True, False),
        ("on-startup", False, False, True),
        ("on-startup", True, True, True),
    ],
)
def test_whether_it_starts_with_the_engine(name: str, finished: bool, stopped: bool, expected: bool) -> None:
    state = ContainerState(status="exited", finished_at="then" if finished else "", stopped=stopped)
    assert restarts.at_startup(policy(name), state) is expected


def test_delays_double_up_to_a_minute_and_begin_anew_after_a_good_run() -> None:
    backoff = restarts.Backoff()
    assert [backoff.next(0) for _ in range(12)] == [
        *(0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 60.0, 60.0)
    ]
    assert backoff.next(10) == 0.1
    assert backoff.next(9.9) == 0.2


@pytest.mark.parametrize(
    ("wish", "auto_remove", "says"),
    [
        (policy("on-failure", -1), False, "negative"),
        (policy("always", 3), False, "on-failure"),
        (policy("always"), True, "--rm"),
    ],
)
def test_what_makes_no_sense_is_refused(wish: RestartPolicy, auto_remove: bool, says: str) -> None:
    with pytest.raises(InvalidParams, match=says):
        restarts.check(wish, auto_remove=auto_remove)


def record(id: str, *depends_on: str) -> ContainerRecord:
    return ContainerRecord(
        id=id, name=id, image="i", image_id="i", layer=None, created_at="", config=ImageConfig(), mounts=[],
        network="host", hostname="", tty=False, interactive=False, auto_remove=False, stop_timeout=10,
        state=ContainerState(status="running"), depends_on=list(depends_on),
    )  # fmt: skip


async def test_order_of_dependency(autojump_clock: trio.testing.MockClock) -> None:
    records = [
        record("app", "cache", "store"),
        record("cache", "store"),
        record("store"),
        record("alone", "gone"),
    ]
    done: list[str] = []

    async def act(id: str) -> None:
        await trio.sleep({"store": 3, "cache": 1, "app": 1, "alone": 2}[id])
        done.append(id)

    await order.dependencies_first(records, act)
    assert done == ["alone", "store", "cache", "app"]
    done.clear()
    await order.dependents_first(records, act)
    assert done == ["app", "alone", "cache", "store"] or done == ["app", "cache", "alone", "store"]


def test_every_state_can_be_left_by_removal_or_death() -> None:
    for state in lifecycle.STATES - {"removing"}:
        alive = state in lifecycle.ALIVE
        assert alive or lifecycle.allows(state, "remove"), state
        assert lifecycle.allows(state, "failed"), state
