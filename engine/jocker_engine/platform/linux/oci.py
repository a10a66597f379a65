"""Runtime driver `oci`: containers run by runc or crun, shut in as tightly as Docker's are.

Sources: OCI runtime specification (config.md, config-linux.md); Docker's documentation of its default
capabilities, masked paths and seccomp profile. The runtime's state is in ROOT/oci/ID.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from typing import Any

from ...shim.launch import Launch
from ..commands import Commands, PlatformError
from ..interfaces import Isolation, Process
from ..rootfs import NoSuchUser, lookup_user, resolve
from .seccomp import profile

CAPABILITIES = [
    f"CAP_{name}"
    for name in (
        "AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE NET_RAW SETFCAP SETGID "
        "SETPCAP SETUID SYS_CHROOT"
    ).split()
]
_MASKED = [
    *("/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats"),
    *("/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats"),
    *("/sys/devices/virtual/powercap", "/sys/firmware"),
]
_READ_ONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
_QUIET = ["nosuid", "noexec", "nodev"]
_MOUNTS: list[tuple[str, str, str, list[str]]] = [
    ("/proc", "proc", "proc", _QUIET),
    ("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
    (
        "/dev/pts",
        "devpts",
        "devpts",
        ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    ),
    ("/dev/shm", "tmpfs", "shm", [*_QUIET, "mode=1777", "size=65536k"]),
    ("/dev/mqueue", "mqueue", "mqueue", _QUIET),
    ("/sys", "sysfs", "sysfs", [*_QUIET, "ro"]),
    ("/sys/fs/cgroup", "cgroup", "cgroup", [*_QUIET, "relatime", "ro"]),
]


class OciRuntime:
    """See interfaces.Runtime."""

    name = "oci"

    def __init__(self, root: str, commands: Commands, binary: str) -> None:
        self._commands = commands
        self._binary = binary
        self._states = os.path.join(root, "oci")
        self._sockets = os.path.join(root, "run")
        os.makedirs(self._states, mode=0o700, exist_ok=True)
        os.makedirs(self._sockets, mode=0o700, exist_ok=True)

    async def prepare(self, isolation: Isolation, process: Process) -> Launch:
        bundle = os.path.join(isolation.directory, "bundle")
        os.makedirs(bundle, mode=0o700, exist_ok=True)
        os.makedirs(resolve(isolation.rootfs, process.cwd, create=True), exist_ok=True)
        config = {
            "ociVersion": "1.0.2",
            "process": _process(isolation, process),
            "root": {"path": isolation.rootfs, "readonly": False},
            "hostname": isolation.hostname,
            "mounts": _mounts(isolation),
            "linux": _linux(isolation),
        }
        _write(os.path.join(bundle, "config.json"), config)
        if os.path.exists(os.path.join(self._states, isolation.id)):
            await self._delete(isolation.id)  # of a run that was cut off
        return self._launch(process, bundle, isolation.id[:12], ["run", "--bundle", bundle], isolation.id)

    async def launch_exec(self, isolation: Isolation, process: Process, key: str) -> Launch:
        directory = os.path.join(isolation.directory, "bundle", key)
        os.makedirs(directory, mode=0o700)
        what = os.path.join(directory, "process.json")
        _write(what, _process(isolation, process))
        return self._launch(process, directory, key, ["exec", "--process", what], isolation.id)

    def _launch(
        self, process: Process, directory: str, key: str, command: list[str], container: str
    ) -> Launch:
        pid_file, error_log = os.path.join(directory, "pid"), os.path.join(directory, "error.json")
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
            env=["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            pid_file=pid_file,
            error_log=error_log,
            console_socket=console,
            tty=process.tty,
            rows=process.rows,
            cols=process.cols,
        )

    async def signal(self, container: str, pid: int, signum: int) -> None:
        self._signal(container, signum)

    async def kill_all(self, container: str, pid: int) -> None:
        """The first process of a pid namespace takes all others with it (pid_namespaces(7))."""
        self._signal(container, signal.SIGKILL)

    def _signal(self, container: str, signum: int) -> None:
        pid = self._pid(container)
        if pid:
            try:
                os.kill(pid, signum)
            except ProcessLookupError:
                pass

    def _pid(self, container: str) -> int:
        """The main process, by the runtime's own state; 0 when it is gone, or its number is another's by now."""
        directory = os.path.join(self._states, container)
        for name, pid_key, start_key in (
            ("state.json", "init_process_pid", "init_process_start"),
            ("status", "pid", "process-start-time"),
        ):
            try:
                with open(os.path.join(directory, name), encoding="utf-8") as file:
                    state = json.load(file)
                with open(f"/proc/{state[pid_key]}/stat", encoding="utf-8", errors="replace") as file:
                    started = int(file.read().rpartition(")")[2].split()[19])  # proc_pid_stat(5), field 22
            except (FileNotFoundError, ProcessLookupError, ValueError, KeyError):
                continue
            if started == int(state[start_key]):
                return int(state[pid_key])
        return 0

    async def destroy(self, isolation: Isolation) -> None:
        if os.path.isdir(os.path.join(self._states, isolation.id)):
            await self._delete(isolation.id)
        bundle = os.path.join(isolation.directory, "bundle")
        if os.path.isdir(bundle):
            shutil.rmtree(bundle)

    async def _delete(self, container: str) -> None:
        """`delete --force` is no error where nothing is; a state that it cannot read is removed by hand."""
        done = await self._commands.run(
            [self._binary, "--root", self._states, "delete", "--force", container], check=False
        )
        state = os.path.join(self._states, container)
        if os.path.isdir(state):
            if self._pid(container):
                raise PlatformError(
                    f"{os.path.basename(self._binary)} could not delete container {container[:12]}: "
                    f"{' '.join(done.stderr.split())}",
                    argv=done.argv,
                    exit_code=done.exit_code,
                    stderr=done.stderr,
                )
            shutil.rmtree(state)

    async def inventory(self) -> frozenset[str]:
        return frozenset(os.listdir(self._states))


async def why_not(commands: Commands, binary: str) -> str:
    """Why this OCI runtime cannot be used; "" if it can."""
    if os.geteuid() != 0:
        return "it needs root"
    path = shutil.which(binary, path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    if path is None:
        return f"{binary} is not installed"
    done = await commands.run([path, "--version"], check=False)
    if done.exit_code != 0:
        return f"{binary} --version failed: {done.stderr.strip()}"
    if binary == "crun" and not os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        return "crun refuses cgroup v1 and hybrid hierarchies"
    return ""


def _process(isolation: Isolation, process: Process) -> dict[str, Any]:
    try:
        user = lookup_user(isolation.rootfs, process.user)
    except NoSuchUser as error:
        raise PlatformError(str(error)) from None
    env = list(process.env)
    if not any(item.startswith("HOME=") for item in env):
        env.append(f"HOME={user.home}")
    root = user.uid == 0
    what: dict[str, Any] = {
        "terminal": process.tty,
        "user": {"uid": user.uid, "gid": user.gid, "additionalGids": list(user.groups)},
        "args": list(process.argv),
        "env": env,
        "cwd": os.path.normpath(process.cwd or "/"),
        "capabilities": {
            "bounding": CAPABILITIES,
            "effective": CAPABILITIES if root else [],
            "permitted": CAPABILITIES if root else [],
        },
        "noNewPrivileges": False,
    }
    if process.tty and process.rows and process.cols:
        what["consoleSize"] = {"height": process.rows, "width": process.cols}
    return what


def _mounts(isolation: Isolation) -> list[dict[str, Any]]:
    mounts = [
        {"destination": target, "type": kind, "source": source, "options": options}
        for target, kind, source, options in _MOUNTS
    ]
    for target, source in isolation.files.items():
        mounts.append(
            {"destination": target, "type": "bind", "source": source, "options": ["rbind", "rprivate"]}
        )
    for bind in isolation.binds:
        access = "ro" if bind.read_only else "rw"
        if bind.source:
            options = ["rbind", "rprivate", access]
            mounts.append(
                {"destination": bind.target, "type": "bind", "source": bind.source, "options": options}
            )
        else:
            options = [*_QUIET, access]
            mounts.append(
                {"destination": bind.target, "type": "tmpfs", "source": "tmpfs", "options": options}
            )
    return mounts


def _linux(isolation: Isolation) -> dict[str, Any]:
    namespaces: list[dict[str, str]] = [{"type": kind} for kind in ("pid", "mount", "ipc", "uts", "cgroup")]
    if isolation.network == "none":
        namespaces.append({"type": "network"})
    elif isolation.network != "host":
        namespaces.append({"type": "network", "path": isolation.network})
    linux: dict[str, Any] = {
        "namespaces": namespaces,
        "cgroupsPath": f"/jocker-{isolation.id}",
        "resources": {"devices": [{"allow": False, "access": "rwm"}]},
        "maskedPaths": _MASKED,
        "readonlyPaths": _READ_ONLY,
    }
    if seccomp := profile():
        linux["seccomp"] = seccomp
    return linux


def _write(path: str, value: dict[str, Any]) -> None:
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file)
