"""What an engine stands on goes away: the zygote, a shim, the disk, the runtime's binary, the database, a record."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

from harness import Bystander, FaultyEngine, Tally, eventually


def run(engine: FaultyEngine, tally: Tally) -> None:
    """Each on an engine that goes on afterwards."""
    bystander = Bystander(engine)
    outages: list[Callable[[FaultyEngine], str]] = [_zygote, _shim, _record, _database]
    if engine.platform == "linux":
        outages += [_hanging_runtime, _missing_runtime, _firewall, _bridge]
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
    for problem in _full_disk(engine):
        tally.loss(kind, problem)
    kind = f"{engine.platform}: the disk is full, and somebody took the reserve"
    tally.fault(kind)
    for problem in _without_reserve(engine):
        tally.loss(kind, problem)
    for found in engine.differences():
        tally.loss(kind, str(found))


def _full_disk(engine: FaultyEngine) -> Iterator[str]:
    engine.jocker("run", "-d", "--name", "old", "base", "sleep", "1000")
    _fill(engine)
    refused = [
        engine.jocker("volume", "create", "more", check=False),
        *(engine.jocker("create", "base", "sh", "-c", "x" * 60_000, check=False) for _ in range(5)),
    ]
    if not any(done.returncode for done in refused):
        yield "nothing was refused"
    for done in refused:
        if done.returncode and (
            done.stderr.count("\n") != 1 or ("full" not in done.stderr and "space" not in done.stderr)
        ):
            yield f"refused as {done.stderr!r}"
    if engine.jocker("ps", check=False).returncode != 0:
        yield "the engine did not live on"
    removed = engine.jocker("rm", "-f", "old", check=False)
    if removed.returncode != 0:
        yield f"rm did not work: {removed.stderr}"
    yield from _make_room(engine)


def _without_reserve(engine: FaultyEngine) -> Iterator[str]:
    """The container's end is known, if it cannot be written, and is written later."""
    if not eventually(lambda: os.path.exists(os.path.join(engine.data, "reserve"))):
        yield "the reserve was not taken again"
    engine.jocker("run", "-d", "--name", "old", "base", "sleep", "1000")
    os.unlink(os.path.join(engine.data, "reserve"))
    _fill(engine)
    os.kill(_state(engine, "old")["pid"], signal.SIGKILL)
    if engine.jocker("wait", "old").stdout != "137\n":
        yield "its end was not noticed"
    yield from _make_room(engine)
    if not eventually(lambda: "Exited (137)" in engine.jocker("ps", "-a").stdout):
        yield f"its end was not written: {engine.jocker('ps', '-a').stdout}"
    engine.jocker("rm", "old")


def _fill(engine: FaultyEngine) -> None:
    with open(os.path.join(engine.data, "filler"), "ab", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


def _make_room(engine: FaultyEngine) -> Iterator[str]:
    os.unlink(os.path.join(engine.data, "filler"))
    if problem := _runs(engine):
        yield problem
    ids = [line.split()[0] for line in engine.jocker("ps", "-a").stdout.splitlines() if "Created" in line]
    if ids:
        engine.jocker("rm", "-f", *ids)


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


def _firewall(engine: FaultyEngine) -> str:
    """The firewall is flushed."""
    return _lost(engine, "firewall", lambda _: ["nft", "delete", "table", "inet", f"jocker-{_tag(engine)}"])


def _bridge(engine: FaultyEngine) -> str:
    """A network's bridge is deleted."""
    return _lost(engine, "interface", lambda interface: ["ip", "link", "del", interface])


def _lost(engine: FaultyEngine, part: str, command: Callable[[str], list[str]]) -> str:
    """What was lost is named, and made again: the container is reached by the host's port as before."""
    listen = "while :; do echo here | busybox nc -l -p 80; done"
    engine.jocker("run", "-d", "--name", "open", "-p", "127.0.0.1:28082:80", "base", "sh", "-c", listen)

    def reached() -> bool:
        try:
            with socket.create_connection(("127.0.0.1", 28082), 3) as sock:
                return sock.recv(100) == b"here\n"
        except OSError:
            return False

    before = eventually(reached)
    subprocess.run(command(engine.rpc("network.inspect", network="default")["interface"]), check=True)
    parts = [each["part"] for each in engine.rpc("system.check")["differences"]]
    engine.jocker("system", "check", "--repair", check=False)
    after = eventually(reached)
    engine.jocker("rm", "-f", "open")
    if before and after and part in parts:
        return ""
    return f"reached before: {before}, after: {after}; found {parts}"


def _tag(engine: FaultyEngine) -> str:
    return hashlib.sha256(os.path.realpath(engine.data).encode()).hexdigest()[:5]


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
