"""Health checks: what options add up to, what probes add up to, and when the next one is due."""

from __future__ import annotations

import pytest

from jocker_engine.containers import health
from jocker_protocol.durations import duration
from jocker_protocol.errors import InvalidParams
from jocker_protocol.types import Health, Healthcheck, Probe

CHECK = Healthcheck(test=["CMD", "true"], interval=10, retries=3, start_period=60, start_interval=2)


def probe(exit_code: int) -> Probe:
    return Probe(start="", end="", exit_code=exit_code, output="")


def test_the_wish_goes_over_the_image_field_by_field() -> None:
    merged = health.merge(CHECK, Healthcheck(retries=5, timeout=1))
    assert merged is not None
    assert (merged.test, merged.retries, merged.timeout, merged.interval) == (["CMD", "true"], 5, 1, 10)
    assert health.merge(CHECK, None) is CHECK
    assert health.merge(None, None) is None
    off = health.merge(CHECK, Healthcheck(test=["NONE"]))
    assert off is not None and off.test == ["NONE"]


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        (Healthcheck(interval=1), "say what to run"),
        (Healthcheck(test=["CMD"]), "nothing after CMD"),
        (Healthcheck(test=["RUN", "x"]), "begins with CMD"),
        (Healthcheck(test=["CMD", "x"], timeout=-1), "timeout must not be negative"),
    ],
)
def test_nonsense_is_refused(wish: Healthcheck, says: str) -> None:
    with pytest.raises(InvalidParams, match=says):
        health.merge(None, wish)


def test_what_is_executed() -> None:
    assert health.argv(Healthcheck(test=["CMD", "a", "b"]), ["/bin/bash", "-c"]) == ["a", "b"]
    assert health.argv(Healthcheck(test=["CMD-SHELL", "a b"]), None) == ["/bin/sh", "-c", "a b"]
    assert health.argv(Healthcheck(test=["CMD-SHELL", "a b"]), ["/bin/bash", "-c"]) == [
        "/bin/bash",
        "-c",
        "a b",
    ]


def test_defaults_are_dockers() -> None:
    monitor = health.Monitor(Healthcheck(test=["CMD", "true"]), 0)
    assert (monitor.delay(0), monitor.timeout) == (30, 30)
    assert [monitor.record(probe(1), at) for at in (30, 60, 90)] == [False, False, True]
    assert monitor.health.status == "unhealthy"


def test_failures_in_the_start_period_do_not_count_and_a_success_ends_it() -> None:
    monitor = health.Monitor(CHECK, 100)
    assert monitor.delay(100) == 2
    for at in range(102, 160, 2):
        assert not monitor.record(probe(1), at)
    assert monitor.health.failing_streak == 0 and monitor.delay(159) == 2
    early = health.Monitor(CHECK, 100)
    assert early.record(probe(0), 110) and early.health.status == "healthy"
    assert early.delay(111) == 10
    assert [early.record(probe(1), at) for at in (120, 130, 140)] == [False, False, True]
    assert early.record(probe(0), 150) and early.health.status == "healthy"


def test_the_last_five_probes_are_kept() -> None:
    monitor = health.Monitor(CHECK, 0)
    for code in range(8):
        monitor.record(probe(code), 100)
    assert [each.exit_code for each in monitor.health.log] == [3, 4, 5, 6, 7]


def test_it_goes_on_from_an_earlier_status() -> None:
    monitor = health.Monitor(CHECK, 0, Health(status="healthy", failing_streak=2))
    assert monitor.delay(1) == 10
    assert monitor.record(probe(1), 10) and monitor.health.status == "unhealthy"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("1m30s", 90), ("500ms", 0.5), ("1.5h", 5400), ("0", 0), ("0s", 0), ("100us", 1e-4)],
)
def test_durations(text: str, seconds: float) -> None:
    assert duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "s", "-1s", "1s x", "one minute"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="span of time"):
        duration(text)
