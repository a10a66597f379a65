"""Health checks with real containers."""

from __future__ import annotations

import glob
import os
import time
from collections.abc import Callable
from typing import Any

from engines import Engine

QUICK = {"interval": 0.1, "timeout": 5, "retries": 2}


def until(engine: Engine, container: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    for _ in range(200):
        found: dict[str, Any] = engine.rpc("container.inspect", container=container)["state"]["health"]
        if holds(found):
            return found
        time.sleep(0.05)
    raise AssertionError(found)


def run(engine: Engine, test: list[str], **check: Any) -> str:
    wish = {"test": test, **QUICK, **check}
    created = engine.rpc("container.create", image="base", cmd=["sleep", "100"], healthcheck=wish)
    engine.rpc("container.start", container=created["id"])
    return str(created["id"])


def test_healthy_and_not_and_healthy_again(shared: Engine) -> None:
    container = run(shared, ["CMD-SHELL", "echo looked; test ! -e /ill"])
    found = until(shared, container, lambda now: now["status"] == "healthy")
    assert found["log"][-1]["exit_code"] == 0 and found["log"][-1]["output"] == "looked\n"
    shared.jocker("exec", container, "sh", "-c", "echo > /ill")
    until(shared, container, lambda now: now["status"] == "unhealthy" and now["failing_streak"] >= 2)
    assert shared.jocker("ps", "-q", "--filter", "health=unhealthy").stdout.strip() == container[:12]
    shared.jocker("exec", container, "busybox", "rm", "/ill")
    until(shared, container, lambda now: now["status"] == "healthy" and now["failing_streak"] == 0)
    shared.jocker("rm", "-f", container)


def test_a_probe_that_hangs_is_killed(shared: Engine) -> None:
    container = run(shared, ["CMD", "sleep", "98765"], timeout=0.3)
    found = until(shared, container, lambda now: len(now["log"]) >= 2)
    assert found["log"][0]["exit_code"] == -1 and "exceeded timeout (0.3s)" in found["log"][0]["output"]
    shared.jocker("rm", "-f", container)
    for _ in range(100):
        if not _running("98765"):
            break
        time.sleep(0.05)
    assert not _running("98765")


def test_a_probe_that_is_not_there_fails(shared: Engine) -> None:
    container = run(shared, ["CMD", "no-such-program"])
    found = until(shared, container, lambda now: now["status"] == "unhealthy")
    assert "no-such-program" in found["log"][-1]["output"]
    shared.jocker("rm", "-f", container)


def test_the_status_outlives_the_engine(own: Engine) -> None:
    container = run(own, ["CMD", "true"])
    until(own, container, lambda now: now["status"] == "healthy")
    own.kill()
    own.start()
    assert until(own, container, lambda now: bool(now["log"]))["status"] == "healthy"


def test_healthcheck_of_an_image(shared: Engine) -> None:
    text = "FROM base\nHEALTHCHECK --interval=100ms --retries=2 CMD test -e /fine\n"
    shared.jocker("build", "-t", "checked", "-", input=text)
    check = shared.rpc("image.inspect", image="checked")["config"]["healthcheck"]
    assert check == {"test": ["CMD-SHELL", "test -e /fine"], "interval": 0.1, "retries": 2}
    container = shared.jocker("run", "-d", "checked", "sleep", "100").stdout.strip()
    until(shared, container, lambda now: now["status"] == "unhealthy")
    shared.jocker("rm", "-f", container)
    refused = shared.jocker("build", "-", input="FROM base\nHEALTHCHECK --interval=5 CMD true\n", check=False)
    assert "Dockerfile:2" in refused.stderr and "span of time" in refused.stderr
    shared.jocker("rmi", "checked")


def _running(mark: str) -> bool:
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            with open(path, "rb") as file:
                if os.fsencode(mark) in file.read().split(b"\0"):
                    return True
        except OSError:
            continue
    return False
