"""Restart policies and the start of the engine, with real containers."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

from engines import Engine


def create(engine: Engine, *cmd: str, policy: str = "no", retries: int = 0, **more: Any) -> str:
    wish = {"name": policy, "maximum_retry_count": retries}
    created = engine.rpc("container.create", image="base", cmd=list(cmd), restart_policy=wish, **more)
    return str(created["id"])


def start(engine: Engine, *cmd: str, policy: str = "no", retries: int = 0, **more: Any) -> str:
    container = create(engine, *cmd, policy=policy, retries=retries, **more)
    engine.rpc("container.start", container=container)
    return container


def state(engine: Engine, container: str) -> dict[str, Any]:
    found: dict[str, Any] = engine.rpc("container.inspect", container=container)["state"]
    return found


def until(engine: Engine, container: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    for _ in range(200):
        now = state(engine, container)
        if holds(now):
            return now
        time.sleep(0.05)
    raise AssertionError(now)


def runs(now: dict[str, Any]) -> bool:
    return bool(now["status"] == "running")


def test_on_failure_is_started_again_so_often_and_no_more(shared: Engine) -> None:
    container = start(shared, "sh", "-c", "exit 3", policy="on-failure", retries=2)
    assert shared.rpc("container.wait", container=container)["exit_code"] == 3
    now = state(shared, container)
    assert (now["status"], now["restart_count"], now["exit_code"]) == ("exited", 2, 3)
    assert len(shared.rpc("container.list", all=True, filters={"id": [container]})["containers"]) == 1
    shared.jocker("rm", container)


def test_on_failure_leaves_success_alone(shared: Engine) -> None:
    container = start(shared, "true", policy="on-failure")
    assert shared.rpc("container.wait", container=container)["exit_code"] == 0
    assert state(shared, container)["restart_count"] == 0
    shared.jocker("rm", container)


def test_always_is_started_again_also_after_success_until_somebody_stops_it(shared: Engine) -> None:
    script = "[ -e /2 ] && exec sleep 1000; [ -e /1 ] && echo > /2; echo > /1"  # the third run stays
    container = start(shared, "sh", "-c", script, policy="always")
    until(shared, container, lambda now: now["restart_count"] == 2 and runs(now))
    shared.rpc("container.stop", container=container, timeout=0)
    now = state(shared, container)
    assert now["status"] == "exited" and now["stopped"]
    time.sleep(0.5)
    assert state(shared, container)["restart_count"] == now["restart_count"]
    shared.rpc("container.start", container=container)
    assert state(shared, container)["restart_count"] == 0
    shared.jocker("rm", "-f", container)


def test_killed_by_its_user_is_not_started_again(shared: Engine) -> None:
    container = start(shared, "sleep", "100", policy="always")
    shared.jocker("kill", container)
    assert until(shared, container, lambda now: now["status"] == "exited")["exit_code"] == 137
    time.sleep(0.3)
    assert state(shared, container)["status"] == "exited"
    shared.jocker("rm", container)


def test_killed_by_others_it_is(shared: Engine) -> None:
    container = start(shared, "sleep", "100", policy="unless-stopped")
    os.kill(until(shared, container, runs)["pid"], signal.SIGKILL)
    assert until(shared, container, lambda now: now["restart_count"] == 1 and runs(now))
    shared.jocker("rm", "-f", container)


def test_one_that_waits_to_be_restarted_can_be_stopped_and_removed(shared: Engine) -> None:
    for end in (["stop"], ["rm", "-f"]):
        container = start(shared, "sh", "-c", "exit 1", policy="always")
        until(shared, container, lambda now: now["restart_count"] >= 3)  # the delay is 0.8 s by now
        refused = shared.jocker("rm", container, check=False)
        assert refused.returncode == 1 and "it is " in refused.stderr
        shared.jocker(*end, container)
    assert shared.jocker("ps", "-q").stdout == ""
    shared.jocker("rm", *shared.jocker("ps", "-aq").stdout.split())


def test_a_policy_and_rm_do_not_go_together(shared: Engine) -> None:
    wish = '{"image": "base", "auto_remove": true, "restart_policy": {"name": "always"}}'
    refused = shared.jocker("rpc", "container.create", wish, check=False)
    assert refused.returncode == 1 and "--rm" in refused.stderr and refused.stderr.count("\n") == 1


def test_what_the_policies_say_when_the_engine_starts(own: Engine) -> None:
    never = create(own, "sleep", "100", policy="always")
    created = create(own, "sleep", "100", policy="on-startup")
    stopped = {}
    for policy in ("no", "on-failure", "always", "unless-stopped", "on-startup"):
        stopped[policy] = start(own, "sleep", "100", policy=policy)
        own.rpc("container.stop", container=stopped[policy], timeout=0)
    left = {}
    for policy in ("no", "always", "unless-stopped"):
        left[policy] = start(own, "sleep", "100", policy=policy)
    shut = own.rpc("system.shutdown", timeout=0)["containers"]
    assert sorted(shut) == sorted(left.values())
    refused = own.jocker("start", never, check=False)
    assert refused.returncode == 1 and "shut down" in refused.stderr
    assert own.kill(signal.SIGTERM) == 0
    own.start()
    expected = {created, stopped["always"], stopped["on-startup"], left["always"], left["unless-stopped"]}
    for container in expected:
        until(own, container, runs)
    running = set(own.jocker("ps", "-q", "--no-trunc").stdout.split())
    assert running == expected


def test_a_crash_of_an_engine_starts_nothing_that_runs_and_goes_on_restarting(own: Engine) -> None:
    sleeper = start(own, "sleep", "100", policy="always")
    before = state(own, sleeper)
    failing = start(own, "sh", "-c", "exit 1", policy="always")
    until(own, failing, lambda now: now["restart_count"] >= 2)
    own.kill()
    own.start()
    assert state(own, sleeper)["pid"] == before["pid"]
    count = state(own, failing)["restart_count"]
    until(own, failing, lambda now: now["restart_count"] > count)


def test_dependencies_come_first_at_the_start_and_last_at_the_end(own: Engine) -> None:
    store = start(own, "sleep", "100", policy="always", name="store")
    cache = start(own, "sleep", "100", policy="always", name="cache", depends_on=["store"])
    app = start(own, "sleep", "100", policy="always", name="app", depends_on=["cache", "store"])
    own.rpc("system.shutdown", timeout=0)
    ended = [state(own, container)["finished_at"] for container in (app, cache, store)]
    assert ended == sorted(ended)
    assert own.kill(signal.SIGTERM) == 0
    own.start()
    begun = [until(own, container, runs)["started_at"] for container in (store, cache, app)]
    assert begun == sorted(begun)
    missing = own.jocker(
        "rpc", "container.create", '{"image": "base", "depends_on": ["nobody"]}', check=False
    )
    assert missing.returncode == 1 and "no such container: nobody" in missing.stderr
