"""Launches with enter="command": a real OCI runtime that detaches."""

# ruff: noqa: ASYNC2  (a test may block)

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from shim_bench import ROOT, Bench, Client, alive, bench

from conftest import need
from jocker_engine.platform.shims import StartFailed, read_status
from jocker_engine.shim.launch import Launch
from jocker_engine.shim.process import command_failed
from jocker_protocol import wire


class Bundle:
    """A minimal OCI bundle, and how runc starts it."""

    def __init__(self, b: Bench, directory: Path) -> None:
        self.bench = b
        self.directory = directory
        self.id = "jockertest" + os.path.basename(b.directory)
        self.root = str(directory / "state")
        (directory / "rootfs" / "bin").mkdir(parents=True)
        busybox = shutil.which("busybox")
        assert busybox is not None
        shutil.copy(busybox, directory / "rootfs" / "bin" / "busybox")
        for name in ("sh", "cat", "sleep", "stty", "tty", "ls", "echo"):
            (directory / "rootfs" / "bin" / name).symlink_to("busybox")
        (directory / "rootfs" / "data").write_text("no program")

    def process(
        self, *argv: str, tty: bool = False, cwd: str = "/", rows: int = 0, cols: int = 0
    ) -> dict[str, Any]:
        """As the driver does, with the size: the process may look before the shim has the terminal."""
        return {
            "terminal": tty,
            **({"consoleSize": {"height": rows, "width": cols}} if rows else {}),
            "user": {"uid": 0, "gid": 0},
            "args": list(argv),
            "env": ["PATH=/bin"],
            "cwd": cwd,
        }

    def runtime(self, *arguments: str, **fields: Any) -> Launch:
        log = str(self.directory / "runc.log")
        Path(log).unlink(missing_ok=True)
        return self.bench.launch(
            "runc", "--root", self.root, "--log", log, "--log-format", "json", *arguments, enter="command",
            env=[], error_log=log, pid_file=str(self.directory / "pid"),
            console_socket=str(self.directory / "c"), user_namespace=False, **fields,
        )  # fmt: skip

    def run(self, *argv: str, tty: bool = False, cwd: str = "/", **fields: Any) -> Launch:
        config = {
            "ociVersion": "1.0.2",
            "process": self.process(
                *argv, tty=tty, cwd=cwd, rows=fields.get("rows", 0), cols=fields.get("cols", 0)
            ),
            "root": {"path": "rootfs"},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
                {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666"]},
            ],
            "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}]},
        }  # fmt: skip
        (self.directory / "config.json").write_text(json.dumps(config))
        arguments = [
            "run",
            "--detach",
            "--pid-file",
            str(self.directory / "pid"),
            "--bundle",
            str(self.directory),
        ]
        if tty:
            arguments += ["--console-socket", str(self.directory / "c")]
        return self.runtime(*arguments, self.id, tty=tty, **fields)

    def exec(self, *argv: str, **fields: Any) -> Launch:
        (self.directory / "process.json").write_text(json.dumps(self.process(*argv)))
        return self.runtime(
            "exec", "--detach", "--pid-file", str(self.directory / "pid"),
            "--process", str(self.directory / "process.json"), self.id, log="", status="", **fields,
        )  # fmt: skip

    def delete(self) -> None:
        subprocess.run(
            ["runc", "--root", self.root, "delete", "--force", self.id], capture_output=True, check=False
        )


@asynccontextmanager
async def bundle(directory: Path) -> AsyncIterator[Bundle]:
    need(ROOT and shutil.which("runc") and shutil.which("busybox"), "needs root, runc and busybox-static")
    async with bench() as b:
        made = Bundle(b, directory)
        try:
            yield made
        finally:
            made.delete()


async def test_run(tmp_path: Path) -> None:
    async with bundle(tmp_path) as made:
        client = Client()
        launch = made.run("sh", "-c", "cat; echo err >&2; ls /proc/self/fd; exit 42", stdin=True)
        link = await made.bench.start(launch, (client, True))
        pid = made.bench.pids[0]
        assert pid == int((tmp_path / "pid").read_text())
        await client.send(wire.STDIN, b"text\n")
        await client.send(wire.EOF)
        assert await client.result() == {"exit_code": 42}
        assert await link.wait() == 42
        assert client.stdout == b"text\n0\n1\n2\n3\n"  # 3 is the directory that ls reads
        assert client.stderr == b"err\n"
        assert made.bench.texts() == client.stdout
        status = read_status(made.bench.status)
        assert status is not None
        assert (status["exit_code"], status["pid"]) == (42, pid)
        mount_point = tmp_path / "rootfs" / "proc"  # made by runc, not with the zygote's own umask
        assert mount_point.stat().st_mode & 0o777 == 0o755


async def test_a_process_that_ends_before_its_runtime(tmp_path: Path) -> None:
    async with bundle(tmp_path) as made:
        for _ in range(5):
            link = await made.bench.start(made.run("sh", "-c", "exit 3"))
            assert await link.wait() == 3
            made.delete()


async def test_a_terminal(tmp_path: Path) -> None:
    async with bundle(tmp_path) as made:
        client = Client()
        script = "tty; stty size; read x; stty size; exit 5"
        link = await made.bench.start(
            made.run("sh", "-c", script, tty=True, stdin=True, rows=33, cols=77), (client, True)
        )
        assert not (tmp_path / "c").exists()
        await client.until(b"33 77\r\n")
        await client.send(wire.RESIZE, b'{"rows": 20, "cols": 40}')
        await client.send(wire.STDIN, b"\r")
        assert await client.result() == {"exit_code": 5}
        assert client.stdout == b"/dev/pts/0\r\n33 77\r\n\r\n20 40\r\n"
        assert await link.wait() == 5


async def test_exec_and_the_end_of_all(tmp_path: Path) -> None:
    async with bundle(tmp_path) as made:
        link = await made.bench.start(made.run("sleep", "1000"))
        main = made.bench.pids[0]
        client = Client()
        one = await made.bench.start(made.exec("sh", "-c", "cat /data; exit 4"), (client, False))
        assert await client.result() == {"exit_code": 4}
        assert client.stdout == b"no program"
        assert await one.wait() == 4
        two = await made.bench.start(made.exec("sleep", "1000"))
        with pytest.raises(StartFailed) as caught:
            await made.bench.start(made.exec("nothing"))
        assert caught.value.exit_code == 127
        await link.signal(signal.SIGKILL)
        assert await link.wait() == 137
        assert await two.wait() == 137
        assert not alive(main)


@pytest.mark.parametrize(
    ("program", "cwd", "exit_code", "error"),
    [
        ("nothing", "/", 127, 'exec: "nothing": executable file not found in $PATH'),
        ("/bin/nothing", "/", 127, 'exec: "/bin/nothing": stat /bin/nothing: no such file or directory'),
        ("/data", "/", 126, 'exec: "/data": permission denied'),
        ("sh", "/data", 125, "mkdir /data: not a directory"),
    ],
)
async def test_cannot_start(
    tmp_path: Path, program: str, cwd: str, exit_code: int, error: str | None
) -> None:
    async with bundle(tmp_path) as made:
        client = Client()
        with pytest.raises(StartFailed) as caught:
            await made.bench.start(made.run(program, cwd=cwd), (client, False))
        assert (caught.value.exit_code, caught.value.error) == (exit_code, error)
        assert (await client.result())["exit_code"] == exit_code
        assert client.stderr == b""  # the runtime's own words are no output of the container
        assert made.bench.texts("stderr") == b""


async def test_a_runtime_that_is_not_there(tmp_path: Path) -> None:
    async with bundle(tmp_path) as made:
        launch = made.run("true")
        with pytest.raises(StartFailed) as caught:
            await made.bench.start(Launch.from_json({**launch.to_json(), "argv": ["no-runtime"]}))
        assert caught.value.exit_code == 125
        with pytest.raises(StartFailed) as caught:
            await made.bench.start(
                Launch.from_json({**launch.to_json(), "argv": ["sh", "-c", "echo oh no >&2; exit 1"]})
            )
        assert (caught.value.exit_code, caught.value.error) == (125, "oh no")
        with pytest.raises(StartFailed, match="wrote no process id"):
            await made.bench.start(Launch.from_json({**launch.to_json(), "argv": ["true"]}))


@pytest.mark.parametrize(
    ("message", "exit_code", "error"),
    [
        (
            'runc run failed: unable to start container process: exec: "foo": executable file not found in $PATH',
            127,
            'exec: "foo": executable file not found in $PATH',
        ),
        (
            'exec failed: unable to start container process: exec: "/x": permission denied',
            126,
            'exec: "/x": permission denied',
        ),
        (
            "executable file `foo` not found in $PATH: No such file or directory",
            127,
            "executable file `foo` not found in $PATH: No such file or directory",
        ),
        (
            "runc run failed: container with given ID already exists",
            125,
            "container with given ID already exists",
        ),
        (
            'runc run failed: unable to start container process: error mounting "/x" to rootfs: no such file or directory',
            125,
            'error mounting "/x" to rootfs: no such file or directory',
        ),
        ("two\nlines  here", 125, "two lines here"),
    ],
)
def test_what_runtimes_say(tmp_path: Path, message: str, exit_code: int, error: str) -> None:
    log = tmp_path / "log"
    entries = [
        {"level": "error", "msg": "older"},
        {"level": "error", "msg": message},
        {"level": "warning", "msg": "x"},
    ]
    log.write_text("garbage\n" + "\n".join(json.dumps(entry) for entry in entries))
    found = command_failed(
        Launch(enter="command", argv=["runc"], status="", error_log=str(log)), 1, b"printed"
    )
    assert (found.exit_code, found.error) == (exit_code, error)
