"""Pause, and what can be done to a container that is held; top and stats."""

from __future__ import annotations

import json
import time

from engines import Engine

TICK = "n=0; while :; do n=$((n+1)); echo $n; sleep 0.05; done"


def status(engine: Engine, name: str) -> str:
    return str(engine.rpc("container.inspect", container=name)["state"]["status"])


def lines(engine: Engine, name: str) -> int:
    return engine.jocker("logs", name).stdout.count("\n")


def stands_still(engine: Engine, name: str) -> bool:
    before = lines(engine, name)
    time.sleep(0.4)
    return lines(engine, name) == before


def begin(engine: Engine, name: str) -> None:
    engine.jocker("run", "-d", "--name", name, "base", "sh", "-c", TICK)
    while not lines(engine, name):
        time.sleep(0.05)


def test_a_paused_container_stands_still(shared: Engine) -> None:
    begin(shared, "p")
    shared.jocker("pause", "p")
    assert status(shared, "p") == "paused" and stands_still(shared, "p")
    assert "(Paused)" in shared.jocker("ps").stdout
    for command in (("exec", "p", "true"), ("attach", "p"), ("pause", "p"), ("rm", "p"), ("start", "p")):
        done = shared.jocker(*command, check=False)
        assert done.returncode in (1, 125) and "paused" in done.stderr, done
    assert "sleep" in shared.jocker("top", "p").stdout or "sh" in shared.jocker("top", "p").stdout
    shared.jocker("unpause", "p")
    assert status(shared, "p") == "running" and not stands_still(shared, "p")
    refused = shared.jocker("unpause", "p", check=False)
    assert refused.returncode == 1 and "not held" in refused.stderr
    said = shared.jocker("events", "--since", "1m", "--until", "0s", "-f", "container=p").stdout
    assert " pause " in said and " unpause " in said
    shared.jocker("rm", "-f", "p")


def test_a_paused_container_can_be_ended(shared: Engine) -> None:
    for end, code in ((("stop", "-t", "0"), 137), (("kill",), 137), (("rm", "-f"), None)):
        begin(shared, "q")
        shared.jocker("pause", "q")
        shared.jocker(*end, "q")
        if code is not None:
            assert int(shared.jocker("wait", "q").stdout) in (code, 143)
            shared.jocker("rm", "q")
    polite = "trap 'exit 3' TERM; echo up; while :; do sleep 0.05; done"
    shared.jocker("run", "-d", "--name", "q", "base", "sh", "-c", polite)
    while not lines(shared, "q"):
        time.sleep(0.05)
    shared.jocker("pause", "q")
    shared.jocker("stop", "-t", "60", "q")
    assert shared.jocker("wait", "q").stdout == "3\n"
    shared.jocker("rm", "q")


def test_a_new_engine_finds_it_paused(own: Engine) -> None:
    begin(own, "p")
    own.jocker("pause", "p")
    own.kill()
    own.start()
    assert status(own, "p") == "paused" and stands_still(own, "p")
    assert own.rpc("system.check")["differences"] == []
    own.jocker("unpause", "p")
    assert not stands_still(own, "p")


def test_top_and_stats(shared: Engine) -> None:
    shared.jocker("run", "-d", "--name", "busy", "base", "sh", "-c", "sleep 1000 & while :; do :; done")
    shared.jocker("create", "--name", "idle", "base")
    shown = shared.jocker("top", "busy").stdout.splitlines()
    assert shown[0].split()[:2] == ["UID", "PID"] and any("sleep 1000" in line for line in shown[1:])
    assert len(shown) == 3
    only = shared.jocker("top", "busy", "-o", "pid,comm").stdout.splitlines()
    assert only[0].split() == ["PID", "COMMAND"] and len(only) == 3
    for arguments, said in (
        (("idle",), "not running"),
        (("busy", "-o", "comm"), "PID"),
        (("busy", "--x"), "ps"),
    ):
        done = shared.jocker("top", *arguments, check=False)
        assert done.returncode == 1 and said in done.stderr and done.stderr.count("\n") == 1, done
    (row,) = shared.jocker("stats", "--no-stream").stdout.splitlines()[1:]
    assert "busy" in row and "%" in row
    both = [
        json.loads(line)
        for line in shared.jocker("stats", "-a", "--no-stream", "--format", "json").stdout.splitlines()
    ]
    figures = {each["Name"]: each for each in both}
    assert set(figures) == {"busy", "idle"}
    assert float(figures["busy"]["CPUPerc"].rstrip("%")) > 1 and figures["busy"]["PIDs"] == "2"
    assert figures["idle"]["CPUPerc"] == "0.00%"
    missing = shared.jocker("stats", "--no-stream", "nobody", check=False)
    assert missing.returncode == 1 and "no such container" in missing.stderr
    shared.jocker("rm", "-f", "busy", "idle")


def test_a_container_held_for_a_commit_is_no_difference(shared: Engine) -> None:
    begin(shared, "c")
    shared.jocker("exec", "c", "dd", "if=/dev/urandom", "of=/big", "bs=1M", "count=96")
    committing = shared.popen("commit", "c", "held:1")
    while committing.poll() is None:
        found = shared.rpc("system.check")["differences"]
        assert [each for each in found if each["part"] == "process"] == []
    assert committing.returncode == 0 and not stands_still(shared, "c")
    shared.jocker("rm", "-f", "c")
    shared.jocker("rmi", "held:1")
