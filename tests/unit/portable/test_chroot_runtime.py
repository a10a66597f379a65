"""The runtime driver `chroot`: what its Launch says, what it makes and takes away, whom it kills."""

# ruff: noqa: ASYNC220  (a test may block)

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import need
from jocker_engine.platform.commands import Commands, PlatformError
from jocker_engine.platform.interfaces import Bind, Isolation, Process
from jocker_engine.platform.portable import chroot
from jocker_engine.platform.portable.chroot import ChrootRuntime
from jocker_engine.platform.worker.hostroot import host_root

ROOT = os.geteuid() == 0
PROCESS = Process(("true",), ("PATH=/bin",), cwd="/work/dir")


@pytest.fixture
def runtime(tmp_path: Path) -> ChrootRuntime:
    return ChrootRuntime(str(tmp_path), Commands())


@pytest.fixture
def isolation(tmp_path: Path) -> Isolation:
    rootfs = tmp_path / "rootfs"
    (rootfs / "etc").mkdir(parents=True)
    (rootfs / "etc" / "passwd").write_text("root:x:0:0::/root:/bin/sh\nme:x:7:8::/home/me:/bin/sh\n")
    (rootfs / "etc" / "group").write_text("root:x:0:\nmine:x:8:\nmore:x:9:me\n")
    (tmp_path / "container").mkdir()
    (tmp_path / "hosts").write_text("127.0.0.1 localhost\n")
    return Isolation(
        "c1",
        str(tmp_path / "container"),
        str(rootfs),
        "name",
        "host",
        files={"/etc/hosts": str(tmp_path / "hosts")},
    )


def probe() -> dict[str, str]:
    """Asked in a process of its own, which it changes."""
    code = (
        "import jocker_engine.platform.worker.namespaces as n; print(*map(bool, n.probe_chroot().values()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return dict(zip(("chroot", "mount"), done.stdout.split(), strict=True))


def needs_mounts() -> None:
    need(probe() == {"chroot": "False", "mount": "False"}, "mount namespaces cannot be made here")


async def test_launch(runtime: ChrootRuntime, isolation: Isolation) -> None:
    needs_mounts()
    launch = await runtime.prepare(isolation, PROCESS)
    assert (launch.enter, launch.root, launch.cwd) == ("chroot", isolation.rootfs, "/work/dir")
    assert launch.kill_rest
    assert launch.user_namespace is not ROOT
    assert launch.env == ["PATH=/bin", "HOME=/root"]
    assert os.path.isdir(isolation.rootfs + "/work/dir")
    sources = {bind[1]: bind[0] for bind in launch.binds}
    assert sources["/dev"] == isolation.directory + "/dev"
    assert sources["/dev/null"] == "/dev/null"
    assert sources["/dev/shm"] == ""
    assert sources["/proc"] == "/proc"
    assert sources["/etc/hosts"] == isolation.files["/etc/hosts"]
    for target in sources:
        base = isolation.directory if target.startswith("/dev/") else isolation.rootfs
        assert os.path.exists(base + target)
    assert os.readlink(isolation.directory + "/dev/stdout") == "fd/1"
    assert os.listdir(isolation.rootfs + "/dev") == []
    assert await runtime.prepare(isolation, PROCESS) == launch


async def test_users_come_from_the_image(runtime: ChrootRuntime, isolation: Isolation) -> None:
    needs_mounts()
    launch = await runtime.prepare(isolation, Process(("true",), ("HOME=/x",), user="me"))
    assert (launch.uid, launch.gid, launch.env) == (7, 8, ["HOME=/x"])
    assert launch.groups == ([9] if ROOT else [])


async def test_mount_points_stay_in_the_root(
    runtime: ChrootRuntime, isolation: Isolation, tmp_path: Path
) -> None:
    """The shim mounts from outside, so a target must not lead through a link: not out of the root either."""
    needs_mounts()
    volume, file = tmp_path / "volume", tmp_path / "file"
    volume.mkdir()
    file.touch()
    os.symlink(str(tmp_path / "outside"), isolation.rootfs + "/escape")
    os.symlink("/real", isolation.rootfs + "/link")
    binds = (
        Bind(str(volume), "/link/data", True),
        Bind(str(file), "/escape/file"),
        Bind("", "/a/../scratch"),
        Bind(str(file), "/dev/special"),
    )
    asked = Isolation("c2", isolation.directory, isolation.rootfs, "", "host", binds=binds)
    launch = await runtime.prepare(asked, PROCESS)
    assert launch.binds[-4:] == [
        [str(volume), "/real/data", True],
        [str(file), f"{tmp_path}/outside/file", False],
        ["", "/scratch", False],
        [str(file), "/dev/special", False],
    ]
    assert not (tmp_path / "outside").exists()
    assert os.path.isdir(isolation.rootfs + "/real/data")
    assert os.path.isfile(isolation.rootfs + f"{tmp_path}/outside/file")
    assert os.path.isfile(isolation.directory + "/dev/special")


async def test_another_network_is_refused(runtime: ChrootRuntime, isolation: Isolation) -> None:
    alone = Isolation("c3", isolation.directory, isolation.rootfs, "", "none")
    with pytest.raises(PlatformError, match="cannot isolate the network: use --network host, not 'none'"):
        await runtime.prepare(alone, PROCESS)


async def test_destroy_and_inventory(runtime: ChrootRuntime, isolation: Isolation) -> None:
    needs_mounts()
    await runtime.prepare(isolation, PROCESS)
    assert await runtime.inventory() == {"c1"}
    for _ in range(2):
        await runtime.destroy(isolation)
        assert await runtime.inventory() == frozenset()
    assert os.listdir(isolation.directory) == []
    await runtime.kill_all("c1", 2**22 + 1)


async def test_an_exec_joins_the_process_that_was_there_first(
    runtime: ChrootRuntime, isolation: Isolation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers of processes begin anew: a child that is about to end can have a smaller one than the main process."""
    need(sys.platform == "linux", "needs /proc")
    table = {20: ("S", 100, 50), 30: ("S", 7, 60), 100: ("S", 7, 50)}  # pid -> state, parent, start

    def stat(pid: int) -> list[bytes]:
        state, parent, start = table[pid]
        return [word.encode() for word in (state, str(parent), *["0"] * 17, str(start))]

    monkeypatch.setattr(chroot, "_processes", lambda rootfs: sorted(table))
    monkeypatch.setattr(chroot, "_stat", stat)
    await runtime.prepare(isolation, PROCESS)
    assert (await runtime.launch_exec(isolation, PROCESS, "e1")).join_pid == 100


async def test_kill_all_finds_processes_by_their_root(
    runtime: ChrootRuntime, isolation: Isolation, tmp_path: Path
) -> None:
    need(ROOT and sys.platform == "linux", "needs root for chroot")
    host_root(["sh", "sleep"], isolation.rootfs)
    Path(isolation.rootfs, "dev", "null").touch()  # sh opens it for what runs in the background
    await runtime.prepare(isolation, PROCESS)
    with pytest.raises(PlatformError, match="container c1 has no process"):
        await runtime.launch_exec(isolation, PROCESS, "e1")

    def inside(program: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["/bin/sh", "-c", program],
            preexec_fn=lambda: os.chroot(isolation.rootfs),
            cwd="/",
            stdout=subprocess.PIPE,
        )

    # One that left its parent and its session, and one outside in the same directory.
    main = inside("trap '' TERM; (sleep 100 & sleep 100 & echo; wait) & wait; sleep 100")
    bystander = subprocess.Popen(["sleep", "100"], cwd=isolation.rootfs)
    assert main.stdout is not None
    try:
        main.stdout.readline()
        launch = await runtime.launch_exec(isolation, PROCESS, "e1")
        assert os.path.samefile(f"/proc/{launch.join_pid}/root", isolation.rootfs)
        assert not launch.kill_rest
        assert launch.binds == []
        await runtime.signal("c1", main.pid, signal.SIGTERM)
        assert main.poll() is None
        await runtime.kill_all("c1", main.pid)
        assert main.wait(10) == -signal.SIGKILL
        assert main.stdout.read() == b""  # all who held the pipe are gone
        assert bystander.poll() is None
    finally:
        for process in (main, bystander):
            process.kill()
            process.wait()
        main.stdout.close()
    await runtime.signal("c1", main.pid, signal.SIGTERM)


async def test_pause_without_proc(runtime: ChrootRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing tells the processes of a container, it is not called paused while it runs on."""
    monkeypatch.setattr(chroot, "_LINUX", False)
    with pytest.raises(PlatformError, match="cannot tell here"):
        await runtime.pause("c1")
    assert not await runtime.is_paused("c1")
