"""Options of restart, health and init; `events`, `system check`, `backup`, `shutdown`, `tree --watch`."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time

import pytest

from engines import Engine


def test_creation_options_arrive(shared: Engine) -> None:
    shared.jocker("create", "--name", "first", "base")
    options = "--restart on-failure:4 --depends-on first --init --health-cmd true --health-interval 1m30s --health-retries 2"
    shared.jocker("create", "--name", "second", *options.split(), "base")
    detail = shared.rpc("container.inspect", container="second")
    assert detail["restart_policy"] == {"name": "on-failure", "maximum_retry_count": 4}
    assert detail["depends_on"] == [shared.rpc("container.inspect", container="first")["id"]]
    assert detail["init"] is True
    assert detail["config"]["healthcheck"] == {"test": ["CMD-SHELL", "true"], "interval": 90.0, "retries": 2}
    assert (
        shared.jocker("inspect", "-f", "{{.RestartCount}} {{.State.Status}}", "second").stdout
        == "0 created\n"
    )
    shared.jocker("rm", "first", "second")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--restart sometimes", "must be one of no, on-failure"),
        ("--restart always:3", "only on-failure takes a count"),
        ("--restart on-failure:x", "only on-failure takes a count"),
        ("--restart always --rm", "exclude each other"),
        ("--health-cmd true --no-healthcheck", "exclude each other"),
        ("--health-cmd true --health-interval 5", "no span of time"),
        ("--health-interval 5s", "say what to run"),
        ("--depends-on nobody", "no such container: nobody"),
    ],
)
def test_options_that_make_no_sense_are_one_line(shared: Engine, options: str, says: str) -> None:
    refused = shared.jocker("run", *options.split(), "base", "true", check=False)
    assert refused.returncode == 125 and says in refused.stderr and refused.stderr.count("\n") == 1


def test_init_reaps_orphans_and_passes_signals_on(own: Engine) -> None:
    script = "(sleep 0.1 &); sleep 0.4; busybox ps -o stat,args | busybox grep -c '^Z' ; echo $$"
    zombies, pid = own.jocker("run", "--rm", "--init", "base", "sh", "-c", script).stdout.split()
    assert pid != "1"
    if own.platform == "linux":
        assert zombies == "0"
    own.jocker("run", "-d", "--name", "sleeper", "--init", "base", "sleep", "100")
    own.jocker("stop", "-t", "20", "sleeper")
    assert own.rpc("container.inspect", container="sleeper")["state"]["exit_code"] == 143
    missing = own.jocker("run", "--rm", "--init", "base", "no-such-program", check=False)
    assert missing.returncode == 127


def shown(engine: Engine, text: str) -> None:
    """`ps` says so, sooner or later."""
    for _ in range(100):
        if text in engine.jocker("ps").stdout:
            return
        time.sleep(0.05)
    raise AssertionError(engine.jocker("ps").stdout)


def test_status_shows_health_and_restarts(shared: Engine) -> None:
    options = (
        "-d --name ill --health-cmd false --health-interval 100ms --health-retries 1 --restart always".split()
    )
    shared.jocker("run", *options, "base", "sleep", "100")
    assert "(health: starting)" in shared.jocker("ps").stdout or "(unhealthy)" in shared.jocker("ps").stdout
    shown(shared, "(unhealthy)")
    shared.jocker("rm", "-f", "ill")
    shared.jocker("run", "-d", "--name", "again", "--restart", "always", "base", "sh", "-c", "exit 4")
    shown(shared, "Restarting (4)")
    shared.jocker("rm", "-f", "again")


def test_events_as_docker_prints_them(shared: Engine) -> None:
    following = shared.popen("events", "--filter", "container=seen", stdout=subprocess.PIPE)
    assert following.stdout is not None
    time.sleep(0.5)
    identity = shared.jocker("run", "-d", "--name", "seen", "base", "true").stdout.strip()
    lines = [following.stdout.readline().decode() for _ in range(2)]
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z"
    assert re.fullmatch(rf"{stamp} container create {identity} \(image=base, name=seen\)\n", lines[0])
    assert " container start " in lines[1]
    following.send_signal(signal.SIGINT)
    assert following.wait(10) == 130
    following.stdout.close()
    shared.jocker("wait", "seen")
    shared.jocker("rm", "seen")
    past = ("events", "--since", "1m", "--until", "0s", "-f", "container=seen")
    shown = shared.jocker(*past, "--format", "{{.Type}} {{.Action}} {{.Actor.Attributes.name}}").stdout
    assert shown.splitlines() == [f"container {what} seen" for what in ("create", "start", "die", "destroy")]
    objects = [json.loads(line) for line in shared.jocker(*past, "--format", "json").stdout.splitlines()]
    assert objects[2]["Actor"]["Attributes"]["exitCode"] == "0" and objects[2]["Type"] == "container"


def test_check_tells_by_its_exit_status(own: Engine) -> None:
    clean = own.jocker("system", "check")
    assert clean.stdout.startswith("no differences\n")
    assert own.jocker("system", "check", "--format", "json").stdout == "[]\n"
    stray = os.path.join(own.root, "containers", "cd" * 32)
    os.makedirs(stray)
    found = own.jocker("system", "check", check=False)
    assert found.returncode == 1 and stray in found.stdout
    listed = own.jocker("system", "check", "--format", "json", check=False)
    assert listed.returncode == 1
    assert [(each["Part"], each["Repaired"]) for each in json.loads(listed.stdout)] == [("directory", False)]
    mended = own.jocker("system", "check", "--repair")
    assert "done: remove it" in mended.stdout
    assert own.jocker("system", "check").returncode == 0


def test_backup_and_shutdown(own: Engine) -> None:
    own.jocker("run", "-d", "--name", "sleeper", "base", "sleep", "100")
    path = os.path.join(own.root, "copy.sqlite")
    assert own.jocker("system", "backup", path).stdout.startswith(f"{path}: ")
    again = own.jocker("system", "backup", path, check=False)
    assert again.returncode == 1 and "is there already" in again.stderr
    identity = own.jocker("ps", "-q", "--no-trunc").stdout
    assert own.jocker("system", "shutdown", "-t", "0").stdout == identity
    assert own.jocker("ps", "-q").stdout == ""


def test_tree_is_drawn_again_and_again(shared: Engine) -> None:
    watching = shared.popen("system", "tree", "--watch", "-n", "0.1", stdout=subprocess.PIPE)
    assert watching.stdout is not None
    for _ in range(2):
        while not (line := watching.stdout.readline().decode()).startswith("NAME"):
            assert line or watching.poll() is None
    watching.send_signal(signal.SIGINT)
    assert watching.wait(10) == 130
    watching.stdout.close()
