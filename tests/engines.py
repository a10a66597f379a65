"""A real engine in a throw-away root, and the real command against it; afterwards nothing may be left."""

from __future__ import annotations

import glob
import hashlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

BIN = os.path.dirname(sys.executable)
FREEBSD = sys.platform.startswith("freebsd")
PROGRAMS = (
    *(() if FREEBSD else ("busybox",)),
    "sh",
    "cat",
    "ls",
    "id",
    "true",
    "sleep",
    "env",
    "tty",
    "stty",
    "dd",
    "chmod",
)


_NUMBERS = itertools.count()


class Engine:
    """Start, kill and restart an engine; run commands against it."""

    def __init__(self, platform: str, where: str = "/tmp") -> None:
        self.platform = platform
        self.root = tempfile.mkdtemp(prefix="jk-", dir=where)
        self.data = self.root
        self.socket = os.path.join(self.root, "s")
        self._log = open(os.path.join(self.root, "engine.log"), "ab")  # noqa: SIM115
        self.process: subprocess.Popen[bytes] | None = None
        self.command = [os.path.join(BIN, "jocker-engine")]
        self.environment: dict[str, str] = {}
        worker, number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]), next(_NUMBERS)
        self._keys = {  # so that engines side by side do not want the same
            "default_subnet": f"10.{60 + worker * 10 + number // 250}.{number % 250}.0/24",
            "default_loopback_name": f"jkt{worker}n{number}",
        }

    def configure(self, **keys: str) -> None:
        """For its configuration file; to be called before `start`."""
        self._keys.update(keys)

    def start(self) -> Engine:
        config = os.path.join(self.root, "config.yaml")
        with open(config, "w", encoding="utf-8") as file:
            file.writelines(f"{key}: {value}\n" for key, value in self._keys.items())
        self.process = subprocess.Popen(
            [
                *self.command,
                *("--config", config, "--root", self.data),
                *("--socket", self.socket, "--platform", self.platform),
            ],
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            stderr=self._log,
            stdout=self._log,
        )
        for _ in range(600):
            if self.jocker("rpc", "engine.ping", check=False).returncode == 0:
                return self
            assert self.process.poll() is None, self.log()
            time.sleep(0.05)
        raise AssertionError(self.log())

    def log(self) -> str:
        with open(os.path.join(self.root, "engine.log"), encoding="utf-8") as file:
            return file.read()

    def kill(self, signum: int = signal.SIGKILL) -> int:
        """End the engine; its exit status."""
        assert self.process is not None
        self.process.send_signal(signum)
        return self.process.wait(30)

    @property
    def env(self) -> dict[str, str]:
        return {**os.environ, "JOCKER_HOST": f"unix://{self.socket}"}

    def jocker(self, *args: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        """The command; `check`: it must succeed."""
        done = subprocess.run(
            [os.path.join(BIN, "jocker"), *args],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=120,
            **({} if "input" in options or "stdin" in options else {"stdin": subprocess.DEVNULL}),
            **options,
        )
        assert not check or done.returncode == 0, (args, done, self.log()[-3000:])
        assert "Traceback" not in done.stderr, done.stderr
        return done

    @property
    def jocker_path(self) -> str:
        return os.path.join(BIN, "jocker")

    def popen(self, *args: str, **options: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen([self.jocker_path, *args], env=self.env, **options)

    def rpc(self, method: str, **params: Any) -> Any:
        return json.loads(self.jocker("rpc", method, json.dumps(params)).stdout)

    def base(self, name: str = "base") -> None:
        self.jocker("image", "create", "-t", name, "--from-host", *PROGRAMS)

    def close(self) -> None:
        """Remove all containers, stop in good order, and see that nothing is left."""
        assert self.process is not None
        if self.process.poll() is None:
            ids = self.jocker("ps", "-aq").stdout.split()
            if ids:
                self.jocker("rm", "-f", *ids, check=False)  # one may be on its way out already
            self.jocker("network", "prune", "-f")
            assert self.kill(signal.SIGTERM) == 0, self.log()[-3000:]
        self._log.close()
        assert "Traceback" not in self.log(), self.log()
        mounts = subprocess.run(["mount"], capture_output=True, text=True, check=True).stdout
        assert self.root not in mounts, mounts
        assert not FREEBSD or self.root not in subprocess.check_output(["jls", "path"], text=True)
        left = processes_of(self.root)
        assert not left, left
        tag = hashlib.sha256(os.path.realpath(self.data).encode()).hexdigest()[:5]
        links = [*glob.glob(f"/sys/class/net/jk{tag}*"), *glob.glob(f"/run/netns/jk{tag}*")]
        assert not links, links
        if shutil.which("nft"):
            tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=False)
            assert tag not in tables.stdout, tables.stdout
        cgroups = glob.glob("/sys/fs/cgroup/**/jocker-*", recursive=True)
        ours = [path for path in cgroups if path.rpartition("-")[2] in self.log()]
        assert not ours, ours  # others may be of another engine on this machine
        crashes = os.path.join(self.root, "run", "crashes.log")
        assert not os.path.exists(crashes), open(crashes).read()  # noqa: SIM115
        shutil.rmtree(self.root)


def processes_of(root: str) -> list[str]:
    """Command lines that name the root, after a moment for those that are ending."""
    for _ in range(100):
        if FREEBSD:
            lines = subprocess.check_output(["ps", "-axww", "-o", "command"], text=True).splitlines()
            found = [line for line in lines if root in line]
        else:
            found = []
        for path in () if FREEBSD else glob.glob("/proc/[0-9]*/cmdline"):
            try:
                with open(path, "rb") as file:
                    line = file.read().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if root in line:
                found.append(line)
        if not found:
            return []
        time.sleep(0.05)
    return found
