"""What all kinds of faults share: an engine that can be killed, a bystander that must not notice, the tally."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from engines import Engine

TICK = "n=0; while :; do n=$((n+1)); echo line $n; sleep 0.05; done"


@dataclass
class Tally:
    """Per kind of fault: how many were injected, and what was lost."""

    injected: dict[str, int] = field(default_factory=dict)
    lost: dict[str, list[str]] = field(default_factory=dict)

    def fault(self, kind: str) -> None:
        if kind not in self.injected:
            print(kind, flush=True)  # the whole takes half an hour
        self.injected[kind] = self.injected.get(kind, 0) + 1

    def loss(self, kind: str, what: str) -> None:
        self.lost.setdefault(kind, []).append(what)
        print(f"LOST {kind}: {what}", file=sys.stderr, flush=True)

    def table(self) -> str:
        rows = [("KIND", "INJECTED", "RECOVERED", "LOST")]
        for kind, count in self.injected.items():
            lost = len(self.lost.get(kind, ()))
            rows.append((kind, str(count), str(count - min(lost, count)), str(lost)))
        total = sum(self.injected.values()), sum(map(len, self.lost.values()))
        rows.append(("total", str(total[0]), str(total[0] - min(total[1], total[0])), str(total[1])))
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        return "\n".join(
            "  ".join(
                [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
            )
            for row in rows
        )


class FaultyEngine(Engine):
    """An engine in which faults can be asked for."""

    def __init__(self, platform: str) -> None:
        super().__init__(platform)
        self.command = [sys.executable, os.path.join(os.path.dirname(__file__), "faulty_engine.py")]
        if platform == "linux":
            binary = os.path.join(self.root, "runc")
            shutil.copy(shutil.which("runc") or shutil.which("crun") or "", binary)
            self.environment["JOCKER_TEST_RUNTIME"] = binary

    def arm(self, at: int) -> None:
        self.rpc("test.arm", at=at)

    def boundaries(self) -> list[str]:
        reached: list[str] = self.rpc("test.boundaries")["boundaries"]
        return reached

    def died(self) -> bool:
        """Whether it has killed itself, after a moment for what follows the answer."""
        assert self.process is not None
        for _ in range(20):
            if self.process.poll() is not None:
                return True
            time.sleep(0.05)
        return False

    def differences(self) -> list[Any]:
        """What `system check` finds, after a moment for what is found again and finished."""
        for _ in range(40):
            found: list[Any] = self.rpc("system.check")["differences"]
            if not found and not self._moving():
                return []
            time.sleep(0.1)
        return found or [f"still moving: {self._moving()}"]

    def _moving(self) -> list[str]:
        listed = self.rpc("container.list", all=True)["containers"]
        return [
            f"{each['name']} {each['status']}"
            for each in listed
            if each["status"] in ("creating", "starting", "stopping", "removing")
        ]

    def on_small_disk(self, size: str) -> None:
        """Its root is a file system of this size; to be called before `start`. Needs root."""
        self.data = os.path.join(self.root, "d")
        os.mkdir(self.data)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", self.data], check=True)

    def close(self) -> None:
        if self.data != self.root:
            assert self.kill(signal.SIGTERM) == 0
            subprocess.run(["umount", self.data], check=True)
        with open(os.path.join(self.root, "engine.log"), encoding="utf-8") as file:
            log = file.read()
        with open(os.path.join(self.root, "engine.log"), "w", encoding="utf-8") as file:
            file.write(without_wanted(log))
        super().close()


_ASKED_FOR = ("Wanted", "ZygoteDied")


def without_wanted(log: str) -> str:
    """The log without the tracebacks of crashes that were asked for. An entry begins with its date."""
    entries: list[list[str]] = [[]]
    for line in log.splitlines():
        if line[:2] == "20" and line[4:5] == "-":
            entries.append([])
        entries[-1].append(line)
    return "\n".join(
        line
        for entry in entries
        if not any(name in each for each in entry for name in _ASKED_FOR)
        for line in entry
    )


class Bystander:
    """A container that has nothing to do with the faults: the same process, and every line of its log."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        engine.jocker("run", "-d", "--name", "bystander", "base", "sh", "-c", TICK)
        self._pid = self._state()["pid"]

    def _state(self) -> dict[str, Any]:
        state: dict[str, Any] = self._engine.rpc("container.inspect", container="bystander")["state"]
        return state

    def complaint(self) -> str:
        """What it has noticed; nothing, if all is well."""
        state = self._state()
        if state["status"] != "running" or state["pid"] != self._pid:
            return f"the bystander noticed: {state}"
        lines = self._engine.jocker("logs", "bystander").stdout.splitlines()
        if lines != [f"line {n}" for n in range(1, len(lines) + 1)]:
            return "the bystander's log has a gap"
        return ""


def eventually(holds: Callable[[], bool], seconds: float = 15.0) -> bool:
    """Whether it comes true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.05)
    return holds()
