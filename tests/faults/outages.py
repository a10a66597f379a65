"""What an engine stands on goes away: the zygote, a shim, the disk, the runtime's binary, the database, a record."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable
from typing import Any

from harness import Bystander, FaultyEngine, Tally, eventually


def run(engine: FaultyEngine, tally: Tally) -> None:
    """Each on an engine that goes on afterwards."""
    bystander = Bystander(engine)
    outages: list[Callable[[FaultyEngine], str]] = [_zygote, _shim, _record, _database]
    if engine.platform == "linux":
        outages += [_hanging_runtime, _missing_runtime]
    for outage in outages:
        kind = f"{engine.platform}: {(outage.__doc__ or '').rstrip('.').lower()}"
        tally.fault(kind)
        for problem in (outage(engine), bystander.complaint(), *map(str, engine.differences())):
            if problem:
                tally.loss(kind, problem)
    engine.jocker("rm", "-f", "bystander")


def full_disk(engine: FaultyEngine, tally: Tally) -> None:
    """On an engine whose root is a small file system of its own."""
    kind = f"{engine.platform}: the disk is full"
    tally.fault(kind)
    engine.jocker("run", "-d", "--name", "old", "base", "sleep", "1000")
    filler = os.path.join(engine.data, "filler")
    with open(filler, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError:
            pass
    refused = [
        engine.jocker("volume", "create", "more", check=False),
        *(engine.jocker("create", "base", "sh", "-c", "x" * 60_000, check=False) for _ in range(5)),
    ]
    if not any(done.returncode for done in refused):
        tally.loss(kind, "nothing was refused")
    for done in refused:
        if done.returncode and (
            done.stderr.count("\n") != 1 or ("full" not in done.stderr and "space" not in done.stderr)
        ):
            tally.loss(kind, f"refused as {done.stderr!r}")
    if engine.jocker("ps", check=False).returncode != 0:
        tally.loss(kind, "the engine did not live on")
    removed = engine.jocker("rm", "-f", "old", check=False)
    if removed.returncode != 0:
        tally.loss(kind, f"rm did not work: {removed.stderr}")
    os.unlink(filler)
    if not eventually(lambda: engine.jocker("run", "--rm", "base", "true", check=False).returncode == 0):
        tally.loss(kind, "with room again nothing runs")
    ids = engine.jocker("ps", "-aq").stdout.split()
    if ids:
        engine.jocker("rm", "-f", *ids)
    if found := engine.differences():
        tally.loss(kind, f"differences {found}")


def _runs(engine: FaultyEngine) -> str:
    if eventually(lambda: engine.jocker("run", "--rm", "base", "true", check=False).returncode == 0):
        return ""
    return "nothing runs afterwards: " + engine.jocker("run", "--rm", "base", "true", check=False).stderr


def _zygote(engine: FaultyEngine) -> str:
    """The zygote is killed."""
    parts = engine.rpc("system.tree")["children"]
    zygote = next(node for part in parts for node in part["children"] if node["name"] == "zygote")
    os.kill(int(zygote["detail"].split()[1]), signal.SIGKILL)
    return _runs(engine)


def _shim(engine: FaultyEngine) -> str:
    """A shim is killed."""
    engine.jocker("run", "-d", "--name", "victim", "base", "sleep", "1000")
    pid = _state(engine, "victim")["pid"]
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        shim = next(int(line.split()[1]) for line in file if line.startswith("PPid:"))
    os.kill(shim, signal.SIGKILL)
    code = engine.jocker("wait", "victim").stdout
    error = _state(engine, "victim")["error"]
    engine.jocker("rm", "victim")
    return "" if (code, error) == ("137\n", "shim lost") else f"it ended as {code!r}, {error!r}"


def _state(engine: FaultyEngine, name: str) -> dict[str, Any]:
    state: dict[str, Any] = engine.rpc("container.inspect", container=name)["state"]
    return state


def _record(engine: FaultyEngine) -> str:
    """A container's record cannot be read."""
    engine.jocker("create", "--name", "broken", "base")
    engine.kill()
    with sqlite3.connect(os.path.join(engine.root, "jocker.sqlite")) as database:
        database.execute("UPDATE containers SET doc = '{\"id\": 5}' WHERE name = 'broken'")
    database.close()
    engine.start()
    listed = {each["name"]: each["status"] for each in engine.rpc("container.list", all=True)["containers"]}
    removed = engine.jocker("rm", "broken", check=False)
    if listed["broken"] != "dead" or removed.returncode != 0:
        return f"it is {listed['broken']}; rm says {removed.stderr!r}"
    return ""


def _database(engine: FaultyEngine) -> str:
    """The database cannot be written."""
    lock = sqlite3.connect(os.path.join(engine.root, "jocker.sqlite"), isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    refused = engine.jocker("volume", "create", "never", check=False)
    read = engine.jocker("ps", check=False)
    lock.execute("ROLLBACK")
    lock.close()
    if refused.returncode != 1 or refused.stderr.count("\n") != 1 or "database" not in refused.stderr:
        return f"a change is answered with {refused}"
    if read.returncode != 0:
        return "nothing can be read meanwhile"
    return _runs(engine)


def _hanging_runtime(engine: FaultyEngine) -> str:
    """The runtime's binary hangs."""
    return _with_runtime(engine, "#!/bin/sh\nexec sleep 98754\n", _start_and_remove)


def _start_and_remove(engine: FaultyEngine) -> str:
    engine.jocker("create", "--name", "stuck", "base", "sleep", "1000")
    starting = engine.popen("start", "stuck", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if not eventually(lambda: _state(engine, "stuck")["status"] == "starting"):
        return f"it is {_state(engine, 'stuck')}"
    removed = engine.jocker("rm", "-f", "stuck", check=False)
    said = starting.communicate(timeout=20)[1].decode()
    if removed.returncode != 0 or said.count("\n") != 1:
        return f"rm -f says {removed.stderr!r}, start {said!r}"
    return ""


def _missing_runtime(engine: FaultyEngine) -> str:
    """The runtime's binary disappears."""

    def start(engine: FaultyEngine) -> str:
        refused = engine.jocker("run", "base", "true", check=False)
        ended = engine.jocker("kill", "ends", check=False)
        code = engine.jocker("wait", "ends").stdout
        if refused.returncode != 125 or refused.stderr.count("\n") != 1:
            return f"run is answered with {refused}"
        return "" if ended.returncode == 0 and code == "137\n" else f"kill: {ended}, {code}"

    engine.jocker("run", "-d", "--name", "ends", "base", "sleep", "1000")
    problem = _with_runtime(engine, "", start)
    ids = [
        each
        for each in engine.jocker("ps", "-aq").stdout.split()
        if each not in engine.jocker("ps", "-q").stdout
    ]
    engine.jocker("system", "check", "--repair", check=False)
    engine.jocker("rm", *ids)
    return problem


def _with_runtime(engine: FaultyEngine, script: str, act: Callable[[FaultyEngine], str]) -> str:
    """The engine's own copy of the runtime is another program, or none, for a while."""
    binary = engine.environment["JOCKER_TEST_RUNTIME"]
    shutil.move(binary, binary + ".kept")
    if script:
        with open(binary, "w", encoding="utf-8") as file:
            file.write(script)
        os.chmod(binary, 0o755)
    try:
        problem = act(engine)
    finally:
        shutil.move(binary + ".kept", binary)
    return problem or _runs(engine)
