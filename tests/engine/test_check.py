"""`system.check`: names what database and platform do not agree on, and mends it; events; backup."""

from __future__ import annotations

import glob
import json
import os
import shutil
import sqlite3
import subprocess
import time
from typing import Any

from engines import Engine
from jocker_client.connection import Connection


def check(engine: Engine, *, repair: bool = False) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = engine.rpc("system.check", repair=repair)["differences"]
    return found


def storage(engine: Engine, *more: str) -> str:
    return os.path.join(engine.root, "overlay" if engine.platform == "linux" else "copy", *more)


def volumes(engine: Engine) -> str:
    return os.path.join(engine.root, "volumes") if engine.platform == "linux" else storage(engine, "volumes")


def test_an_engine_at_work_has_no_differences(own: Engine) -> None:
    own.jocker("volume", "create", "data")
    own.jocker("run", "-d", "--name", "sleeper", "-v", "data:/data", "base", "sleep", "100")
    own.jocker("create", "--name", "idle", "base")
    assert check(own) == []


def test_strays_are_named_and_taken_away(own: Engine) -> None:
    other = "ab" * 32
    os.makedirs(storage(own, "trees", other))
    os.makedirs(storage(own, "layers", other))
    os.makedirs(os.path.join(volumes(own), "stray"))
    os.makedirs(os.path.join(own.root, "containers", other))
    os.makedirs(os.path.join(own.root, "builds", other))
    found = {(each["part"], each["subject"]) for each in check(own)}
    assert found == {
        ("storage", other),
        ("storage", "stray"),
        ("directory", os.path.join(own.root, "containers", other)),
        ("directory", os.path.join(own.root, "builds", other)),
    }
    assert all(each["repaired"] for each in check(own, repair=True))
    assert check(own) == []
    assert not os.path.exists(storage(own, "trees", other))


def test_what_is_lost_is_named(own: Engine) -> None:
    own.jocker("volume", "create", "data")
    container = own.jocker("create", "--name", "idle", "base").stdout.strip()
    shutil.rmtree(os.path.join(volumes(own), "data"))
    shutil.rmtree(storage(own, "trees", container))
    found = {(each["part"], each["subject"]) for each in check(own)}
    assert found == {("storage", "data"), ("storage", container)}
    check(own, repair=True)
    assert check(own) == []
    detail = own.rpc("container.list", all=True)["containers"][0]
    assert detail["status"] == "dead"
    own.jocker("rm", "idle")


def test_a_layer_that_is_lost_takes_its_images_with_it(own: Engine) -> None:
    own.jocker("build", "-t", "made", "-", input="FROM base\nRUN echo a > /a\nRUN echo b > /b\n")
    *_, lower, _ = own.rpc("image.inspect", image="made")["layers"]
    own.jocker("create", "--name", "user", "made")
    shutil.rmtree(storage(own, "layers", lower))
    (found,) = check(own, repair=True)
    assert found["subject"] == lower and not found["repaired"] and "remove container user" in found["remedy"]
    own.jocker("rm", "user")
    assert [each["repaired"] for each in check(own, repair=True)] == [True]
    assert check(own) == []
    assert [each["tags"] for each in own.rpc("image.list")["images"]] == [["base:latest"]]
    own.jocker("build", "-t", "made", "-", input="FROM base\nRUN echo a > /a\n")
    assert own.jocker("run", "--rm", "made", "cat", "/a").stdout == "a\n"


def test_a_running_container_without_its_state_or_socket(own: Engine) -> None:
    runtime = "oci" if own.platform == "linux" else "chroot"
    for _ in range(2):
        own.jocker("run", "-d", "base", "sleep", "100")
    first, second = own.jocker("ps", "-q", "--no-trunc").stdout.split()
    state = os.path.join(own.root, runtime, first)
    if own.platform == "linux":
        shutil.rmtree(state)
    else:
        os.unlink(state)
    os.unlink(os.path.join(own.root, "run", second[:12]))
    found = {(each["part"], each["subject"]) for each in check(own, repair=True)}
    assert found == {("process", first), ("shim", second)}
    for _ in range(100):
        if not own.jocker("ps", "-q").stdout:
            break
        time.sleep(0.05)
    assert check(own) == []


def test_a_runtime_state_without_a_running_container(own: Engine) -> None:
    container = own.jocker("create", "--name", "idle", "base").stdout.strip()
    runtime = "oci" if own.platform == "linux" else "chroot"
    state = os.path.join(own.root, runtime, container)
    if own.platform == "linux":
        os.makedirs(state)
    else:
        with open(state, "w", encoding="utf-8") as file:
            file.write(storage(own, "trees", container, "root"))
    assert [(each["part"], each["subject"]) for each in check(own)] == [("runtime", container)]
    check(own, repair=True)
    assert check(own) == [] and not os.path.exists(state)


def test_a_control_group_that_is_left(own: Engine) -> None:
    if own.platform != "linux":
        return  # there are none
    container = own.jocker("run", "-d", "base", "sleep", "100").stdout.strip()
    (group,) = {
        path.rpartition("/")[2]
        for path in glob.glob(f"/sys/fs/cgroup/**/jocker-*-{container}", recursive=True)
    }
    own.jocker("stop", "-t", "0", container)
    assert not glob.glob(f"/sys/fs/cgroup/**/{group}", recursive=True)
    stray = group.replace(container, "ef" * 32)
    hierarchy = "/sys/fs/cgroup/pids" if os.path.isdir("/sys/fs/cgroup/pids") else "/sys/fs/cgroup"
    for name, subject in ((group, container), (stray, "ef" * 32)):
        os.mkdir(os.path.join(hierarchy, name))
        assert [(each["part"], each["subject"]) for each in check(own)] == [("runtime", subject)]
        check(own, repair=True)
        assert not os.path.exists(os.path.join(hierarchy, name))
    own.jocker("rm", container)


def test_a_mount_that_is_left(own: Engine) -> None:
    if own.platform != "linux":
        return  # nothing is mounted
    container = own.jocker("create", "--name", "idle", "base").stdout.strip()
    merged = storage(own, "trees", container, "merged")
    os.makedirs(merged, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", merged], check=True)
    assert [(each["part"], each["subject"]) for each in check(own)] == [("mount", container)]
    check(own, repair=True)
    assert check(own) == [] and not os.path.ismount(merged)


def test_a_record_that_cannot_be_read_is_a_dead_container(own: Engine) -> None:
    own.jocker("run", "-d", "--name", "fine", "base", "sleep", "100")
    own.jocker("create", "--name", "broken", "base")
    own.kill()
    with sqlite3.connect(os.path.join(own.root, "jocker.sqlite")) as database:
        database.execute("UPDATE containers SET doc = '{\"id\": 5}' WHERE name = 'broken'")
    database.close()
    own.start()
    shown = {each["name"]: each["status"] for each in own.rpc("container.list", all=True)["containers"]}
    assert shown == {"fine": "running", "broken": "dead"}
    refused = own.jocker("start", "broken", check=False)
    assert refused.returncode == 1 and "cannot be read" in refused.stderr
    own.jocker("rm", "broken")
    assert check(own) == []


def test_a_backup_is_a_whole_database(own: Engine) -> None:
    own.jocker("create", "--name", "idle", "base")
    path = os.path.join(own.root, "backup.sqlite")
    made = own.rpc("system.backup", path=path)
    assert made == {"path": path, "size": os.path.getsize(path)}
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT name FROM containers").fetchall() == [("idle",)]
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    database.close()
    for refused in (path, "relative", "/nowhere/at/all"):
        done = own.jocker("rpc", "system.backup", json.dumps({"path": refused}), check=False)
        assert done.returncode == 1 and done.stderr.count("\n") == 1, done
    assert not os.path.exists(path + ".partial")


def events(engine: Engine, **params: Any) -> list[dict[str, Any]]:
    with Connection(f"unix://{engine.socket}") as connection:
        ticket = connection.call("system.events", **params)
        with connection.stream(ticket["token"]) as stream:
            return [json.loads(payload) for _, payload in stream.frames()][:-1]


def test_events_are_kept_in_order_and_filtered(shared: Engine) -> None:
    begin = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(time.time() - 1))}.5+00:00"
    shared.jocker(
        "run", "--rm", "--name", "heard", "-l", "colour=red", "base", "sh", "-c", "exit 5", check=False
    )
    end = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(time.time() + 1))}Z"
    found = events(shared, since=begin, until=end, filters={"container": ["heard"]})
    assert [event["action"] for event in found] == ["create", "start", "die", "destroy"]
    assert found[2]["attributes"]["exitCode"] == "5"
    assert found[0]["attributes"] == {"image": "base", "name": "heard", "colour": "red"}
    assert [event["seq"] for event in found] == sorted(event["seq"] for event in found)
    red = events(shared, since=begin, until=end, filters={"label": ["colour=red"], "action": ["die"]})
    assert [event["action"] for event in red] == ["die"]
    refused = shared.jocker("rpc", "system.events", '{"since": "yesterday"}', check=False)
    assert "since: 'yesterday' is no RFC 3339 time" in refused.stderr


def test_live_events_come_as_they_happen(shared: Engine) -> None:
    with Connection(f"unix://{shared.socket}") as connection:
        ticket = connection.call("system.events", filters={"type": ["volume"]})
        with connection.stream(ticket["token"]) as stream:
            shared.jocker("volume", "create", "noted")
            _, payload = next(stream.frames())
            assert json.loads(payload)["action"] == "create"
            shared.jocker("volume", "rm", "noted")
            _, payload = next(stream.frames())
            assert json.loads(payload)["action"] == "destroy"


def test_events_outlive_the_engine(own: Engine) -> None:
    own.jocker("create", "--name", "idle", "base")
    own.kill()
    own.start()
    past = events(own, since="2020-01-01T00:00:00Z", until="2020-01-02T00:00:00Z")
    assert past == []
    now = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(time.time() + 1))}Z"
    assert "create" in [event["action"] for event in events(own, since="2020-01-01T00:00:00Z", until=now)]
