"""A container of any runtime driver, started by real shims, for the tests of runtime drivers."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import sweep
import trio

from conftest import need
from jocker_engine.platform.commands import Commands
from jocker_engine.platform.freebsd import probe as freebsd
from jocker_engine.platform.interfaces import Bind, Isolation, Process, Runtime
from jocker_engine.platform.portable.chroot import ChrootRuntime
from jocker_engine.platform.shims import ShimLink, Zygote
from jocker_engine.platform.transcripts import NotVerified
from jocker_engine.platform.work import work
from jocker_engine.platform.worker.hostroot import host_root

PATH = "PATH=/bin"
FREEBSD = sys.platform.startswith("freebsd")
LIMIT = 120 if FREEBSD else 30
"""Seconds after which a test has hung."""


def make_root(root: Path) -> None:
    """A root directory with a shell, the usual programs and two users."""
    if FREEBSD:
        _freebsd_root(root)
    else:
        _busybox_root(root)
    (root / "etc" / "passwd").write_text("root:x:0:0::/root:/bin/sh\nme:x:1000:1001::/home/me:/bin/sh\n")
    (root / "etc" / "group").write_text("root:x:0:\nmine:x:1001:\nmore:x:1002:me\n")
    (root / "data").write_text("no program")


def _freebsd_root(root: Path) -> None:
    """Programs of the base system with their libraries, all of them in /bin too."""
    programs = (
        "sh cat dd echo env grep head hostname id ifconfig kill ls mkdir mount nc ping ps pwd readlink sleep "
        "stat stty sysctl touch true tty umount wc daemon"
    ).split()
    root.mkdir(parents=True)
    host_root(programs, str(root))
    for name in programs:
        path = shutil.which(name)
        if path is not None and not (root / "bin" / name).exists():
            (root / "bin" / name).symlink_to(path)
    # There is no setsid(1): daemon(8) does it too.
    setsid = root / "bin" / "setsid"
    setsid.write_text('#!/bin/sh\nexec /usr/sbin/daemon -f "$@"\n')
    setsid.chmod(0o755)


def _busybox_root(root: Path) -> None:
    for name in ("bin", "etc", "tmp", "root"):
        (root / name).mkdir(parents=True)
    busybox = shutil.which("busybox")
    assert busybox is not None
    shutil.copy(busybox, root / "bin" / "busybox")
    programs = (
        "sh cat chroot dd echo env grep head hostname id ip ls mkdir mknod mount nc ping ps pwd readlink setsid "
        "sleep stat stty sysctl touch true tty umount unshare wc"
    )
    for name in programs.split():
        (root / "bin" / name).symlink_to("busybox")


class Containers:
    """Containers of one driver; all in one directory."""

    def __init__(self, directory: Path, runtime: Runtime, zygote: Zygote) -> None:
        self.directory = directory
        self.runtime = runtime
        self.made: dict[str, Isolation] = {}
        self._zygote = zygote
        self._links: dict[str, ShimLink] = {}
        self._count = 0

    def isolation(self, *, network: str = "host", binds: tuple[Bind, ...] = (), **files: str) -> Isolation:
        """Surroundings with a fresh root; `files` by the name in /etc."""
        container = os.urandom(32).hex()
        own = self.directory / "containers" / container
        make_root(own / "root")
        for name, text in files.items():
            (own / name).write_text(text)
        self.made[container] = Isolation(
            id=container,
            directory=str(own),
            rootfs=str(own / "root"),
            hostname="inside",
            network=network,
            binds=binds,
            files={f"/etc/{name}": str(own / name) for name in files},
        )
        return self.made[container]

    async def start(self, isolation: Isolation, process: Process, *, exec_key: str = "") -> int:
        """Start the main process, or one more; its id on the host. Raises StartFailed."""
        if exec_key:
            launch = await self.runtime.launch_exec(isolation, process, exec_key)
        else:
            launch = await self.runtime.prepare(isolation, process)
        key = f"{os.getpid() & 0xFFFFFF:06x}{self._count:06x}"
        self._count += 1
        name = exec_key or isolation.id
        log = self.log(name)
        log.unlink(missing_ok=True)
        link = await self._zygote.shim(key)
        try:
            pid = await link.start(replace(launch, status=f"{log}.status", log=str(log)))
        except BaseException:
            await link.aclose()
            raise
        self._links[name] = link
        return pid

    async def wait(self, name: str) -> int:
        """The exit code of a container's main process, or of an exec by its key."""
        link = self._links.pop(name)
        code = await link.wait()
        await link.aclose()
        return code

    def log(self, name: str) -> Path:
        return self.directory / f"log-{name}"

    def output(self, name: str) -> str:
        """What it has written so far, both streams."""
        log = self.log(name)
        text = log.read_text() if log.exists() else ""
        lines = [line.split(" ", 3) for line in text.splitlines()]
        return "".join(line[3] + ("\n" if line[2] == "F" else "") for line in lines)

    async def until(self, name: str, text: str) -> None:
        """Until it has written this."""
        with trio.fail_after(LIMIT):
            while text not in self.output(name):
                await trio.sleep(0.01)

    async def run(self, isolation: Isolation, process: Process, *, exec_key: str = "") -> tuple[int, str]:
        """From start to end: the exit code, and what was written."""
        name = exec_key or isolation.id
        with trio.fail_after(LIMIT):
            await self.start(isolation, process, exec_key=exec_key)
            return await self.wait(name), self.output(name)

    async def shell(self, script: str, isolation: Isolation | None = None, *, user: str = "") -> str:
        """What a script prints in a container of its own; it must end well."""
        isolation = isolation or self.isolation()
        process = Process(("sh", "-ec", script), (PATH,), user=user)
        code, output = await self.run(isolation, process)
        assert code == 0, output
        return output

    async def close(self) -> None:
        """Kill and destroy what is left."""
        for container, isolation in self.made.items():
            await self.runtime.kill_all(container, 0)
            if container in self._links:
                with trio.fail_after(LIMIT):
                    await self.wait(container)
            await self.runtime.destroy(isolation)
        for link in self._links.values():
            await link.aclose()


@asynccontextmanager
async def open_containers(
    driver: str, where: str = "/tmp", commands: Commands | None = None
) -> AsyncIterator[Containers]:
    """Containers of the driver chroot, or of oci with runc or crun; afterwards nothing may be left of them."""
    need(FREEBSD or shutil.which("busybox"), "busybox is not installed")
    commands = commands or Commands()
    directory = Path(tempfile.mkdtemp(prefix="jr-", dir=where))  # sockets need a short path
    try:
        runtime = await _runtime(driver, str(directory), commands)
        (directory / "run").mkdir(exist_ok=True)
        zygote = await Zygote.start(str(directory / "run"))
        containers = Containers(directory, runtime, zygote)
        try:
            yield containers
        finally:
            with trio.CancelScope(shield=True):
                await containers.close()
                await zygote.aclose()
        assert await runtime.inventory() == frozenset()
        assert traces(containers) == []
    finally:
        shutil.rmtree(directory)


async def _runtime(driver: str, root: str, commands: Commands) -> Runtime:
    """The driver, or the test is skipped with the reason."""
    if driver == "chroot":
        why = (await work(commands, "probe_chroot"))["mount"]
        need(not why, f"chroot with mounts: {why}")
        return ChrootRuntime(root, commands)
    if driver == "jail":
        if not FREEBSD:
            raise NotVerified(("processes in jails, which need a FreeBSD",))
        why, mend = await freebsd.why_no_jails(commands)
        need(not why, f"{why}; {mend}")
        return await freebsd.jail_runtime(root, commands)
    if sys.platform != "linux":
        pytest.skip("OCI runtimes need Linux")
    from jocker_engine.platform.linux.cgroup import kind
    from jocker_engine.platform.linux.oci import OciRuntime, why_not

    if driver == "crun" and kind() == "hybrid":
        pytest.skip("crun refuses hybrid control groups")
    why = await why_not(commands, driver)
    need(not why, f"{driver}: {why}")
    return OciRuntime(root, commands, shutil.which(driver) or driver)


def traces(containers: Containers) -> list[str]:
    """What containers have left on the host: mounts, control groups, files, processes."""
    if FREEBSD:
        found = sweep.leftovers(str(containers.directory))
        for isolation in containers.made.values():
            found += [
                name for name in os.listdir(isolation.directory) if name.startswith(("jail", "root-ro"))
            ]
        return found
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        found = [line for line in file if str(containers.directory) in line]
    for container, isolation in containers.made.items():
        for pattern in (f"*{container}*", f"*/*{container}*"):
            found += [str(path) for path in Path("/sys/fs/cgroup").glob(pattern)]
        found += [name for name in os.listdir(isolation.directory) if name in ("bundle", "dev")]
        found += standing_in(isolation.rootfs)
    return found


def standing_in(root: str) -> list[str]:
    """Living processes with this root directory."""
    if FREEBSD:
        jails = subprocess.run(["jls", "name", "path"], capture_output=True, text=True, check=True).stdout
        names = [line.split()[0] for line in jails.splitlines() if line.split()[1] == root]
        return [
            line
            for name in names
            for line in subprocess.run(
                ["ps", "-J", name, "-o", "pid="], capture_output=True, text=True, check=False
            ).stdout.split()
        ]
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.path.samefile(process / "root", root):
                found.append(str(process))
        except OSError:
            pass
    return found


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    if FREEBSD:
        done = subprocess.run(
            ["ps", "-o", "state=", "-p", str(pid)], capture_output=True, text=True, check=False
        )
        return done.returncode == 0 and not done.stdout.startswith("Z")
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


KILLED = 128 + signal.SIGKILL
