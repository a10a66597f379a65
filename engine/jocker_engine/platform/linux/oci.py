"""Runtime driver `oci`: containers run by runc or crun, which are told what spec.py says.

The runtime's state is in ROOT/oci/ID, a container's bundle in its own directory, its control groups are
called jocker-TAG-ID, where TAG tells one root's from another's. Source: OCI runtime specification (runtime.md), runc(8).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import time
from typing import Any

from jocker_protocol.limits import Limits, Security

from ...shim.launch import Launch
from ..commands import Commands, PlatformError
from ..interfaces import Isolation, Process, Usage, no_jail_params
from ..refusals import refuse
from ..work import work
from . import cgroup
from .capabilities import granted
from .resources import unlimited
from .seccomp import chosen
from .spec import config, describe

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_STATE_FILES = (
    ("state.json", "init_process_pid", "init_process_start"),
    ("status", "pid", "process-start-time"),
)
"""Of runc and of crun: where the main process's id and start time are."""

_SPENT = 600.0
"""Seconds after which an exec has long been started, and its files may go."""


class OciRuntime:
    """See interfaces.Runtime."""

    name = "oci"

    def __init__(self, root: str, commands: Commands, binary: str) -> None:
        self._commands = commands
        self._binary = binary
        self._states = os.path.join(root, "oci")
        self._sockets = os.path.join(root, "run")
        tag = hashlib.sha256(os.path.realpath(root).encode()).hexdigest()[:8]
        self._groups = f"/jocker-{tag}-"
        os.makedirs(self._states, mode=0o700, exist_ok=True)
        os.makedirs(self._sockets, mode=0o700, exist_ok=True)

    async def check_jail_params(self, params: tuple[str, ...]) -> None:
        no_jail_params(self.name, params)

    async def prepare(self, isolation: Isolation, process: Process) -> Launch:
        bundle = _bundle(isolation)
        os.makedirs(bundle, mode=0o700, exist_ok=True)
        _write(os.path.join(bundle, "config.json"), config(isolation, process, self._cgroup(isolation.id)))
        await self._clear(isolation.id)  # of a run that was cut off
        return self._launch(process, bundle, isolation.id[:12], ["run", "--bundle", bundle], isolation.id)

    async def launch_exec(self, isolation: Isolation, process: Process, key: str) -> Launch:
        bundle = _bundle(isolation)
        _remove_spent(bundle)
        directory = os.path.join(bundle, key)
        what = os.path.join(directory, "process.json")
        description = describe(isolation, process)
        os.makedirs(directory, mode=0o700, exist_ok=True)
        _write(what, description)
        return self._launch(process, directory, key, ["exec", "--process", what], isolation.id)

    def _launch(
        self, process: Process, directory: str, key: str, command: list[str], container: str
    ) -> Launch:
        pid_file, error_log = os.path.join(directory, "pid"), os.path.join(directory, "error.json")
        for path in (pid_file, error_log):  # of an earlier run
            if os.path.exists(path):
                os.unlink(path)
        console = os.path.join(self._sockets, f"{key}.tty") if process.tty else ""
        return Launch(
            enter="command",
            argv=[
                *(self._binary, "--root", self._states, "--log", error_log, "--log-format", "json"),
                *(*command, "--detach", "--pid-file", pid_file),
                *(["--console-socket", console] if console else []),
                container,
            ],
            status="",
            env=[f"PATH={PATH}"],
            pid_file=pid_file,
            error_log=error_log,
            console_socket=console,
            tty=process.tty,
            rows=process.rows,
            cols=process.cols,
        )

    def check(self, limits: Limits, security: Security) -> None:
        refuse(self.name, limits, security)
        chosen(security, granted(security))

    async def signal(self, container: str, pid: int, signum: int) -> None:
        self._signal(container, signum)
        if signum == signal.SIGKILL:
            cgroup.thaw(self._cgroup(container))

    async def stop(self, container: str, pid: int, signum: int) -> None:
        self._signal(container, signum)

    async def kill_all(self, container: str, pid: int) -> None:
        """The first process of a pid namespace takes all others with it (pid_namespaces(7)); what a runtime
        that was cut off has left in the control groups goes too.
        """
        self._signal(container, signal.SIGKILL)
        cgroup.kill(self._cgroup(container))
        cgroup.thaw(self._cgroup(container))

    async def update(self, isolation: Isolation) -> None:
        wanted = json.dumps(unlimited(isolation.limits)).encode()
        await self._run("update", "--resources", "-", isolation.id, input=wanted)

    async def pause(self, container: str) -> None:
        await self._run("pause", container)

    async def resume(self, container: str) -> None:
        """The freezer alone: runtimes look there for whether a container is paused, and so it cannot fail."""
        cgroup.thaw(self._cgroup(container))

    async def is_paused(self, container: str) -> bool:
        return cgroup.is_frozen(self._cgroup(container))

    async def usage(self, container: str, pid: int) -> Usage:
        return cgroup.usage(self._cgroup(container), pid)

    async def processes(self, container: str, pid: int) -> list[int]:
        return cgroup.processes(self._cgroup(container))

    async def oom_kills(self, container: str) -> int:
        return cgroup.oom_kills(self._cgroup(container))

    async def root(self, isolation: Isolation, pid: int) -> str:
        return f"/proc/{pid}/root"

    async def _run(self, *words: str, input: bytes | None = None) -> None:
        await self._commands.run([self._binary, "--root", self._states, *words], input=input)

    def _cgroup(self, container: str) -> str:
        return self._groups + container

    def _signal(self, container: str, signum: int) -> None:
        fd = self._main_process(container)
        if fd is None:
            return
        try:
            signal.pidfd_send_signal(fd, signum)
        except ProcessLookupError:
            pass
        finally:
            os.close(fd)

    def _main_process(self, container: str) -> int | None:
        """A pidfd, by the runtime's own state; None when it is gone, or its number is another's by now."""
        for name, pid_key, start_key in _STATE_FILES:
            try:
                with open(os.path.join(self._states, container, name), encoding="utf-8") as file:
                    state = json.load(file)
                pid, start = int(state[pid_key]), int(state[start_key])
            except (FileNotFoundError, ValueError, KeyError):
                continue
            if pid > 0 and (fd := _open_process(pid, start)) is not None:
                return fd
        return None

    async def destroy(self, isolation: Isolation) -> None:
        await self._clear(isolation.id)
        bundle = _bundle(isolation)
        if os.path.isdir(bundle):
            shutil.rmtree(bundle)

    async def _clear(self, container: str) -> None:
        """No state and no control groups are left. The state of a process that has ended is removed by hand: that
        is all that `delete` would do, and it would take as long as a start.
        """
        state = os.path.join(self._states, container)
        if (fd := self._main_process(container)) is not None:
            os.close(fd)
            done = await self._commands.run(
                [self._binary, "--root", self._states, "delete", "--force", container], check=False
            )
            if (fd := self._main_process(container)) is not None:
                os.close(fd)
                raise PlatformError(
                    f"{os.path.basename(self._binary)} could not delete container {container[:12]}: "
                    f"{' '.join(done.stderr.split())}",
                    argv=done.argv,
                    exit_code=done.exit_code,
                    stderr=done.stderr,
                )
        if os.path.isdir(state):
            shutil.rmtree(state)
        await cgroup.remove(self._cgroup(container))

    async def inventory(self) -> frozenset[str]:
        """By the runtime's states and by control groups: one that was cut off may have made the one or the other."""
        return await self.states() | cgroup.beginning(self._groups)

    async def states(self) -> frozenset[str]:
        return frozenset(os.listdir(self._states))


async def why_not(commands: Commands, binary: str) -> str:
    """Why this OCI runtime cannot be used; "" if it can."""
    if os.geteuid() != 0:
        return "it needs root"
    path = shutil.which(binary, path=PATH)
    if path is None:
        return f"{binary} is not installed"
    if why := cgroup.why_not_writable():
        return why
    if binary == "crun" and cgroup.kind() == "hybrid":
        return "crun refuses hybrid control groups"
    done = await commands.run([path, "--version"], check=False)
    if done.exit_code != 0:
        return f"{binary} --version failed: {' '.join(done.stderr.split())}"
    why = (await work(commands, "probe_isolation"))["why"]
    return f"namespaces are refused: {why}" if why else ""


def _bundle(isolation: Isolation) -> str:
    return os.path.join(isolation.directory, "bundle")


def _open_process(pid: int, start: int) -> int | None:
    """A pidfd of the process that has this id and start time (proc_pid_stat(5), field 22), in this order."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        fields = []
    if fields and int(fields[19]) == start:
        return fd
    os.close(fd)
    return None


def _remove_spent(bundle: str) -> None:
    """The files of execs started long ago: a health check makes many in a container's life."""
    with os.scandir(bundle) as entries:
        for entry in entries:
            if entry.is_dir() and entry.stat().st_mtime < time.time() - _SPENT:
                shutil.rmtree(entry.path)


def _write(path: str, value: dict[str, Any]) -> None:
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file)
