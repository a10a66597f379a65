"""A docker daemon of our own, for the bench and the tests: its data, socket and containerd in a directory that goes with
it, its control groups under a name of its own.

Without bridge and firewall rules, so that it touches nothing of the machine's: containers have the network `none`
or `host`.
"""

from __future__ import annotations

import glob
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

_PATIENCE = 30.0
"""Seconds for the daemon to answer."""


@contextmanager
def daemon(directory: str) -> Iterator[list[str]]:
    """The command that speaks to it, [] where none can run: why is printed. `directory` is there, its path short."""
    if not shutil.which("dockerd") or not shutil.which("docker"):
        print("  (docker is not installed)")
        yield []
        return
    socket = f"unix://{directory}/docker.sock"
    command = ["docker", "--host", socket]
    group = f"/jocker-test-{os.path.basename(directory)}"
    options = ("--iptables=false", "--ip6tables=false", "--bridge=none", "--host", socket)
    options += ("--cgroup-parent", group)
    places = {"data-root": "docker", "exec-root": "docker-run", "pidfile": "docker.pid"}
    with open(os.path.join(directory, "docker.log"), "w+b") as output:
        process = subprocess.Popen(
            ["dockerd", *options, *(f"--{option}={directory}/{place}" for option, place in places.items())],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        try:
            yield command if _answers(command, process) else _complain(output.name)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()
            for path in (f"/sys/fs/cgroup{group}", *glob.glob(f"/sys/fs/cgroup/*{group}")):
                for found, _, _ in os.walk(path, topdown=False):
                    os.rmdir(found)


def _answers(command: list[str], process: subprocess.Popen[bytes]) -> bool:
    until = time.monotonic() + _PATIENCE
    while process.poll() is None and time.monotonic() < until:
        if subprocess.run([*command, "info"], capture_output=True, check=False).returncode == 0:
            return True
        time.sleep(0.1)
    return False


def _complain(log: str) -> list[str]:
    with open(log, encoding="utf-8", errors="replace") as file:
        lines = file.read().splitlines() or ["it said nothing"]
    print(f"  (docker: its daemon does not run here: {lines[-1][:200]})")
    return []
