"""A newer engine takes over from an older one, and an engine starts after a reboot of the machine."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time

import jocker_engine
import jocker_protocol
from conftest import need
from engines import Engine


def newer(directory: str) -> dict[str, str]:
    """A copy of the engine that calls itself newer, and whose shims have learnt something; the environment for it."""
    for package in (jocker_engine, jocker_protocol):
        source = os.path.dirname(str(package.__file__))
        shutil.copytree(source, os.path.join(directory, os.path.basename(source)))
    for name, old, new in (
        ("version.py", "VERSION = ", 'VERSION = "99." + '),
        ("shim/launch.py", "PROTOCOL_VERSION = 1", "PROTOCOL_VERSION = 2"),
        (
            "shim/launch.py",
            "    kill_rest: bool = False",
            "    novelty: int = 5\n    kill_rest: bool = False",
        ),
    ):
        path = os.path.join(directory, "jocker_engine", name)
        with open(path, encoding="utf-8") as file:
            text = file.read()
        assert old in text
        with open(path, "w", encoding="utf-8") as file:
            file.write(text.replace(old, new, 1))
    return {"PYTHONPATH": directory}


def test_a_newer_engine_takes_over_and_containers_run_on(own: Engine) -> None:
    script = "trap 'echo bye; exit 3' TERM; n=0; while :; do n=$((n+1)); echo line $n; sleep 0.05; done"
    own.jocker("run", "-d", "--name", "ticker", "base", "sh", "-c", script)
    pid = own.rpc("container.inspect", container="ticker")["state"]["pid"]
    assert own.kill(signal.SIGTERM) == 0
    own.command = [sys.executable, "-m", "jocker_engine"]
    own.environment = newer(os.path.join(own.root, "newer"))
    own.start()
    assert own.rpc("engine.version")["version"].startswith("99.")
    assert own.rpc("container.inspect", container="ticker")["state"]["pid"] == pid
    assert own.jocker("exec", "ticker", "sh", "-c", "echo inside").stdout == "inside\n"
    own.jocker("stop", "ticker")
    assert own.rpc("container.inspect", container="ticker")["state"]["exit_code"] == 3
    lines = own.jocker("logs", "ticker").stdout.splitlines()
    assert lines[-1] == "bye" and lines[:-1] == [f"line {n}" for n in range(1, len(lines))]
    own.jocker("start", "ticker")  # by a shim of the new engine


def test_a_database_of_the_first_release_is_migrated(own: Engine) -> None:
    own.jocker("create", "--name", "idle", "base")
    image = own.jocker("images", "-q", "--no-trunc").stdout
    own.kill()
    shutil.rmtree(os.path.join(own.root, "recipes"))
    with sqlite3.connect(os.path.join(own.root, "jocker.sqlite")) as database:
        database.executescript(
            """DROP TABLE published;
            DROP TABLE addresses;
            DROP TABLE endpoints;
            DROP TABLE networks;
            DROP TABLE events;
            DROP INDEX layers_by_diff_id;
            ALTER TABLE layers DROP COLUMN diff_id;
            ALTER TABLE layers DROP COLUMN tar_size;
            PRAGMA user_version=1;
            UPDATE images SET id = 'sha256:old',
                              doc = json_set(json_remove(doc, '$.oci', '$.author'), '$.id', 'sha256:old');
            UPDATE tags SET image = 'sha256:old';
            UPDATE containers SET image = 'sha256:old', doc = json_set(doc, '$.image_id', 'sha256:old')"""
        )
        for key in ("restart_policy", "depends_on", "init"):
            database.execute("UPDATE containers SET doc = json_remove(doc, ?)", (f"$.{key}",))
    database.close()
    own.start()
    assert own.jocker("start", "idle").stdout == "idle\n"
    for _ in range(100):  # its digest is computed meanwhile
        if own.jocker("images", "-q", "--no-trunc").stdout == image:
            break
        time.sleep(0.05)
    assert own.jocker("images", "-q", "--no-trunc").stdout == image
    assert "used by container idle" in own.jocker("rmi", "base", check=False).stderr
    assert own.rpc("container.inspect", container="idle")["restart_policy"]["name"] == "no"


def test_another_boot(own: Engine) -> None:
    """A reboot: no process, mount or control group is left, and /proc has another boot id."""
    need(os.geteuid() == 0, "a mount over the boot id needs root")
    pids = {}
    for policy in ("no", "on-failure", "unless-stopped", "on-startup"):
        created = own.rpc(
            "container.create",
            image="base",
            name=policy,
            cmd=["sleep", "100"],
            restart_policy={"name": policy},
        )
        own.rpc("container.start", container=created["id"])
        pids[policy] = own.rpc("container.inspect", container=policy)["state"]["pid"]
    own.kill()
    for pid in pids.values():
        with open(f"/proc/{pid}/status", encoding="utf-8") as file:
            shim = next(int(line.split()[1]) for line in file if line.startswith("PPid:"))
        os.kill(shim, signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)
    for container in os.listdir(os.path.join(own.root, "containers")):
        status = os.path.join(own.root, "containers", container, "status.json")
        assert not os.path.exists(status)
        merged = os.path.join(own.root, "overlay", "trees", container, "merged")
        subprocess.run(["umount", "-l", merged], check=False, capture_output=True)
    boot = os.path.join(own.root, "boot")
    with open(boot, "w", encoding="ascii") as file:
        file.write("00000000-1111-2222-3333-444444444444\n")
    script = f'mount --bind {boot} /proc/sys/kernel/random/boot_id && exec "$@"'
    own.command = ["unshare", "-m", "sh", "-c", script, "-", *own.command]
    own.start()
    for _ in range(100):
        states = {name: own.rpc("container.inspect", container=name)["state"] for name in pids}
        if states["unless-stopped"]["status"] == states["on-startup"]["status"] == "running":
            break
        time.sleep(0.05)
    assert {name: state["status"] for name, state in states.items()} == {
        "no": "exited",
        "on-failure": "exited",
        "unless-stopped": "running",
        "on-startup": "running",
    }
    assert (states["no"]["exit_code"], states["no"]["error"]) == (137, "the machine was restarted")
    assert own.rpc("system.check")["differences"] == []
