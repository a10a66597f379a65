"""A container of any runtime driver, started by real shims, for the tests of runtime drivers."""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import trio

from jocker_engine.platform.interfaces import Bind, Isolation, Process, Runtime
from jocker_engine.platform.shims import ShimLink, Zygote

PATH = "PATH=/bin"
LIMIT = 30
"""Seconds after which a test has hung."""


def make_root(root: Path) -> None:
    """A root directory with busybox and two users."""
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
    (root / "etc" / "passwd").write_text("root:x:0:0::/root:/bin/sh\nme:x:1000:1001::/home/me:/bin/sh\n")
    (root / "etc" / "group").write_text("root:x:0:\nmine:x:1001:\nmore:x:1002:me\n")
    (root / "data").write_text("no program")


class Containers:
    """Containers of one driver; all in one directory."""

    def __init__(self, directory: Path, runtime: Runtime, zygote: Zygote, network: str) -> None:
        self.directory = directory
        self.runtime = runtime
        self.network = network
        self.made: dict[str, Isolation] = {}
        self._zygote = zygote
        self._links: dict[str, ShimLink] = {}
        self._count = 0

    def isolation(
        self, container: str = "", *, network: str = "", binds: tuple[Bind, ...] = (), **files: str
    ) -> Isolation:
        """Surroundings with a fresh root; `files` by the name in /etc."""
        container = container or f"{os.urandom(8).hex()}{len(self.made):048x}"
        own = self.directory / "containers" / container
        make_root(own / "root")
        for name, text in files.items():
            (own / name).write_text(text)
        self.made[container] = Isolation(
            id=container,
            directory=str(own),
            rootfs=str(own / "root"),
            hostname="inside",
            network=network or self.network,
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


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


KILLED = 128 + signal.SIGKILL
