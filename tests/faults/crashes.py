"""Every actor crashes in turn while clients work: the tree comes back, containers never notice."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from typing import Any

from harness import Bystander, FaultyEngine, Tally, eventually

_APART = 2.0
"""Seconds between crashes: the root takes three restarts in five seconds, as it should."""


def run(engine: FaultyEngine, tally: Tally) -> None:
    """One crash for every actor that there is when it begins."""
    bystander = Bystander(engine)
    actors = _actors(engine.rpc("system.tree"))  # without those of the clients, which come and go
    clients = [Client(engine, number) for number in range(2)]
    for client in clients:
        client.start()
    for actor in actors:
        kind = f"{engine.platform}: an actor crashes"
        tally.fault(kind)
        before = _restarts(engine, actor)
        engine.rpc("test.crash", actor=actor)
        if not eventually(lambda actor=actor, before=before: _restarts(engine, actor) != before):
            tally.loss(kind, f"{actor} was not started anew")
        if not eventually(lambda: engine.jocker("run", "--rm", "base", "true", check=False).returncode == 0):
            tally.loss(kind, f"after {actor} crashed no container runs")
        if complaint := bystander.complaint():
            tally.loss(kind, f"when {actor} crashed {complaint}")
        time.sleep(_APART)
    tally.fault(kind)
    if complaint := _builder(engine):
        tally.loss(kind, complaint)
    for client in clients:
        client.stop()
        for complaint in client.complaints:
            tally.loss(kind, complaint)
    if found := engine.differences():
        tally.loss(kind, f"differences {found}")
    engine.jocker("rm", "-f", "bystander")


_SHARED = b"""\
FROM base
RUN --mount=type=cache,id=crash,target=/m echo x >> /m/n; echo begun; [ "$(cat /m/n)" = x ] && sleep 1000; true
"""
"""The first time it does not end."""


def _builder(engine: FaultyEngine) -> str:
    """A build is not started anew: its client is told, and nothing of it is left. Another build that waits for the
    step that it was making takes over.
    """
    building = _begin(engine)
    assert building.stderr is not None
    while not (line := building.stderr.readline()).endswith(b" begun\n"):
        if not line:
            return "the build did not begin"
    (builder,) = _builds(engine)
    waiting = _begin(engine)
    if not eventually(lambda: len(_builds(engine)) == 2):
        return "the second build did not begin"
    engine.rpc("test.crash", actor=builder)
    said = building.communicate(timeout=30)[1].decode().splitlines()
    if building.returncode != 1 or not said or not said[-1].startswith("jocker: "):
        return f"the build whose actor crashed ended with {building.returncode} and {said}"
    said = waiting.communicate(timeout=30)[1].decode().splitlines()
    if waiting.returncode != 0:
        return f"the build that waited for the one that crashed said {said}"
    return ""


def _begin(engine: FaultyEngine) -> subprocess.Popen[bytes]:
    building = engine.popen(
        "build", "-", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert building.stdin is not None
    building.stdin.write(_SHARED)
    building.stdin.close()
    building.stdin = None
    return building


def _builds(engine: FaultyEngine) -> list[str]:
    return [name for name in _actors(engine.rpc("system.tree")) if name.startswith("build/")]


def _actors(node: dict[str, Any]) -> list[str]:
    own = [node["name"]] if node["kind"] == "actor" else []
    return own + [name for child in node["children"] for name in _actors(child)]


def _restarts(engine: FaultyEngine, actor: str) -> tuple[int, int]:
    """Of the actor, and of all that stands above it; (-1, -1) while it is not there."""

    def find(node: dict[str, Any], above: int) -> tuple[int, int] | None:
        if node["name"] == actor and node["state"] == "running":
            return node["restarts"], above
        for child in node["children"]:
            if found := find(child, above + node["restarts"]):
                return found
        return None

    asked = engine.jocker("rpc", "system.tree", check=False)
    if asked.returncode != 0:
        return -1, -1
    return find(json.loads(asked.stdout), 0) or (-1, -1)


class Client(threading.Thread):
    """Works all the time; each command succeeds, or fails with one line."""

    def __init__(self, engine: FaultyEngine, number: int) -> None:
        super().__init__(daemon=True)
        self.complaints: list[str] = []
        self._engine = engine
        self._number = number
        self._ended = threading.Event()

    def run(self) -> None:
        name = f"client{self._number}"
        commands = (
            ("run", "--rm", "base", "sh", "-c", "echo done"),
            ("volume", "create", name),
            ("run", "-d", "--name", name, "-v", f"{name}:/data", "base", "sleep", "1000"),
            ("exec", name, "sh", "-c", "echo inside"),
            ("ps", "-a"),
            ("rm", "-f", name),
            ("volume", "rm", name),
        )
        while not self._ended.is_set():
            for command in commands:
                done = self._engine.jocker(*command, check=False)
                if done.returncode != 0 and done.stderr.count("\n") != 1:
                    self.complaints.append(f"{command}: exit status {done.returncode}, {done.stderr!r}")
        for command in commands[-2:]:
            self._engine.jocker(*command, check=False)

    def stop(self) -> None:
        """After the round at hand."""
        self._ended.set()
        self.join()
