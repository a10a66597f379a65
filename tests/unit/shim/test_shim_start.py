"""A shim starts a process: as whom, where, with what; and says why it could not."""

# ruff: noqa: ASYNC2  (a test may block)

from __future__ import annotations

import os
import signal
import stat
import subprocess
from pathlib import Path

import pytest
import trio
from shim_bench import ROOT, Client, alive, bench, eventually, parent

from conftest import need
from jocker_engine.platform.shims import ShimRefused, StartFailed, read_status


async def test_exit_code_log_and_status() -> None:
    async with bench() as b:
        link = await b.sh("echo out; echo err >&2; exit 42")
        assert await link.wait() == 42
        assert await link.wait() == 42
        assert b.texts() == b"out\n"
        assert b.texts("stderr") == b"err\n"
        status = read_status(b.status)
        assert status is not None
        assert (status["exit_code"], status["error"], status["pid"]) == (42, "", b.pids[0])
        assert status["started_at"] < status["finished_at"]
        assert not os.path.exists(b.socket)
        assert read_status(b.directory + "/none") is None


async def test_the_end_of_the_last_descendant() -> None:
    """A process that leaves daemons behind, as /etc/rc does: the run ends with them, with its own exit code."""
    async with bench() as b:
        fifo = b.directory + "/fifo"
        os.mkfifo(fifo)
        script = f"(setsid sh -c 'read x; echo late; exit 9' <>{fifo} &); echo early; exit 3"
        link = await b.start(b.launch("sh", "-c", script, linger=True))
        await eventually(lambda: b.texts() == b"early\n" and not alive(b.pids[0]))
        with pytest.raises(ShimRefused, match="does not run"):
            await link.signal(signal.SIGTERM)
        assert not os.path.exists(b.status)
        Path(fifo).write_text("go\n")
        assert await link.wait() == 3
        assert b.texts() == b"early\nlate\n"
        assert await (await b.start(b.launch("true", linger=True))).wait() == 0


async def test_killed_by_a_signal() -> None:
    async with bench() as b:
        link = await b.sh("kill -KILL $$")
        assert await link.wait() == 137
        link = await b.sh("trap 'exit 7' USR1; echo ready; while :; do sleep 0.01; done")
        client = await b.attach(link, start=True)
        await client.until(b"ready")
        await link.signal(signal.SIGUSR1)
        assert await link.wait() == 7
        assert await client.result() == {"exit_code": 7}


@pytest.mark.parametrize(
    ("program", "exit_code", "error"),
    [
        ("no-such-program", 127, 'exec: "no-such-program": executable file not found in $PATH'),
        ("/no/such/program", 127, 'exec: "/no/such/program": no such file or directory'),
        ("", 127, 'exec: "": executable file not found in $PATH'),
        ("/etc", 126, 'exec: "/etc": is a directory'),
        ("/etc/passwd", 126, 'exec: "/etc/passwd": permission denied'),
        ("{}/garbage", 126, 'exec: "{}/garbage": exec format error'),
        ("{}/interpreter", 127, 'exec: "{}/interpreter": no such file or directory'),
    ],
)
async def test_cannot_be_executed(program: str, exit_code: int, error: str, tmp_path: Path) -> None:
    for name, text in (("garbage", "\0\0"), ("interpreter", "#!/no/such/interpreter\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    program, error = program.format(tmp_path), error.format(tmp_path)
    async with bench() as b:
        client = Client()
        with pytest.raises(StartFailed) as caught:
            await b.start(b.launch(program), (client, False))
        assert (caught.value.exit_code, caught.value.error) == (exit_code, error)
        assert await client.result() == {"exit_code": exit_code, "error": error}
        status = read_status(b.status)
        assert status is not None
        assert (status["exit_code"], status["error"], status["pid"]) == (exit_code, error, 0)
        assert not os.path.exists(b.socket)


async def test_no_such_working_directory() -> None:
    async with bench() as b:
        with pytest.raises(StartFailed) as caught:
            await b.start(b.launch("true", cwd="/no/such"))
        assert caught.value.exit_code == 126
        assert caught.value.error == 'chdir to "/no/such" failed: no such file or directory'


async def test_refusals() -> None:
    async with bench() as b:
        with pytest.raises(ShimRefused, match="not a key"):
            await b.zygote.shim("../../etc/xyz")
        link = await b.sh("exec sleep 1000")
        with pytest.raises(ShimRefused, match="in use"):
            await b.zygote.shim(b.key)
        with pytest.raises(ShimRefused, match="started already"):
            await link.start(b.launch("true"))
        with pytest.raises(ShimRefused, match="unknown way"):
            await (await b.zygote.shim("ffffffffffff")).start(b.launch("true", enter="door"))
        await link.signal(signal.SIGKILL)
        assert await link.wait() == 137


async def test_nothing_of_the_engine_leaks_in() -> None:
    async with bench() as b:
        secret = os.open("/etc/passwd", os.O_RDONLY)
        os.set_inheritable(secret, True)
        try:
            client = Client()
            link = await b.sh(
                "exec 2>&1; ls -l /proc/self/fd; exec 3</dev/null; echo; trap; "
                "grep -E 'Sig(Ign|Blk)' /proc/self/status; ps -o sid= -p $$ || true; echo $$; env; umask",
                (client, False),
            )
        finally:
            os.close(secret)
        assert await link.wait() == 0
        listing, rest = b.texts().decode().split("\n\n")
        opened = {line.split()[-3]: line.split()[-1] for line in listing.splitlines() if "->" in line}
        assert sorted(opened) == ["0", "1", "2", "3"]
        assert opened["0"] == "/dev/null"
        assert opened["3"].startswith("/proc/")  # ls reads the directory
        lines = rest.split("\n")
        assert "SigBlk:\t0000000000000000" in lines
        (ignored,) = (line.split()[1] for line in lines if line.startswith("SigIgn:"))
        assert int(ignored, 16) & ~(3 << 31) == 0  # 32 and 33 are the C library's own (nptl(7))
        assert "0022" in lines
        assert not [line for line in lines if line.startswith("HOME=")]
        assert sorted(os.listdir(f"/proc/{b.zygote.pid}/fd"), key=int)[:3] == ["0", "1", "2"]
        assert {os.readlink(f"/proc/{b.zygote.pid}/fd/{fd}") for fd in range(3)} == {"/dev/null"}
        assert len(os.listdir(f"/proc/{b.zygote.pid}/fd")) == 4  # and the engine's socket


async def test_what_the_engine_ignores_or_blocks_the_process_does_not() -> None:
    deaf = {signum: signal.signal(signum, signal.SIG_IGN) for signum in (signal.SIGHUP, signal.SIGQUIT)}
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGUSR1,))
    try:
        async with bench() as b:
            link = await b.sh("grep -E 'Sig(Ign|Blk)' /proc/self/status")
            assert await link.wait() == 0
            masks = [int(line.split()[1], 16) & ~(3 << 31) for line in b.texts().decode().splitlines()]
            assert masks == [0, 0]
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGUSR1,))
        for signum, before in deaf.items():
            signal.signal(signum, before)


async def test_a_session_of_its_own() -> None:
    async with bench() as b:
        link = await b.sh("kill -KILL 0")  # its whole process group, in which the shim must not be
        assert await link.wait() == 137


async def test_root_user_and_working_directory(tmp_path: Path) -> None:
    need(ROOT, "changing ids needs root")
    busybox = await rootfs(tmp_path)
    async with bench() as b:
        launch = b.launch(
            "sh", "-c", "id -u; id -g; id -G; pwd; ls /", root=busybox, uid=7, gid=8, groups=[9, 8], cwd="/bin",
            env=["PATH=/nothing:/bin"],
        )  # fmt: skip
        link = await b.start(launch)
        assert await link.wait() == 0
        assert b.texts() == b"7\n8\n8 9\n/bin\nbin\ndata\n"


async def rootfs(tmp_path: Path) -> str:
    found = await trio.run_process(["sh", "-c", "command -v busybox"], capture_stdout=True, check=False)
    path = found.stdout.decode().strip()
    need(path and b"statically" in (await trio.run_process(["file", "-L", path], capture_stdout=True)).stdout
         if path and os.path.exists("/usr/bin/file") else path, "needs busybox-static")  # fmt: skip
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    (root / "data").mkdir()
    (root / "bin" / "busybox").write_bytes(Path(path).read_bytes())
    (root / "bin" / "busybox").chmod(0o755)
    root.chmod(0o755)
    for parent_ in (root, *root.parents):
        if str(parent_) != "/tmp" and str(parent_).startswith("/tmp"):
            parent_.chmod(parent_.stat().st_mode | stat.S_IXOTH)
    for name in ("sh", "id", "ls", "pwd", "cat", "touch", "sleep", "echo", "mount"):
        (root / "bin" / name).symlink_to("busybox")
    return str(root)


def can_mount() -> bool:
    return subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode == 0


async def test_binds_and_an_exec_that_sees_them(tmp_path: Path) -> None:
    need(ROOT and can_mount(), "mount namespaces cannot be made here")
    root = await rootfs(tmp_path)
    (tmp_path / "host").mkdir()
    (tmp_path / "host" / "file").write_text("from the host\n")
    (tmp_path / "root" / "ro").mkdir()
    (tmp_path / "root" / "tmp").mkdir()
    async with bench() as b:
        host = str(tmp_path / "host")
        binds = [[host, "/data", False], [host, "/ro", True], ["", "/tmp", False]]
        link = await b.start(
            b.launch("sh", "-c", "touch /data/new /tmp/x; touch /ro/no; echo up; exec sleep 1000", root=root, binds=binds,
                     env=["PATH=/bin"])
        )  # fmt: skip
        client = await b.attach(link, start=True)
        await client.until(b"up")
        assert (tmp_path / "host" / "new").exists()
        assert not (tmp_path / "host" / "no").exists()
        assert os.listdir(root + "/tmp") == []
        assert str(tmp_path) not in Path("/proc/self/mounts").read_text()
        main = b.pids[0]
        inside = Client()
        exec_ = await b.start(
            b.launch("sh", "-c", "cat /data/file; ls /tmp", root=root, join_pid=main, log="", status="",
                     env=["PATH=/bin"]),
            (inside, False),
        )  # fmt: skip
        assert await exec_.wait() == 0
        assert await inside.result() == {"exit_code": 0}
        assert inside.stdout == b"from the host\nx\n"
        await link.signal(signal.SIGKILL)
        await link.wait()


async def test_a_user_namespace_of_one_id(tmp_path: Path) -> None:
    need(os.path.exists("/proc/self/ns/user"), "there are no user namespaces")
    async with bench() as b:
        try:
            link = await b.sh("id -u; id -g; cat /proc/self/uid_map", user_namespace=True, uid=5, gid=6)
        except StartFailed as error:
            need(False, f"user namespaces are refused: {error}")
        assert await link.wait() == 0
        uid, gid, uid_map = b.texts().decode().splitlines()
        assert (uid, gid, uid_map.split()) == ("5", "6", ["5", str(os.geteuid()), "1"])


async def test_what_is_left_of_a_process_is_killed() -> None:
    async with bench() as b:
        sleep = f"sleep {10**6 + os.getpid()}"  # told apart from all others
        script = f"(trap '' HUP TERM; setsid sh -c '{sleep} & {sleep}' & ); {sleep} & echo $!; exit 3"
        link = await b.sh(script, kill_rest=True)
        assert await link.wait() == 3
        assert not alive(int(b.texts()))
        commands = [Path(f"/proc/{pid}/cmdline") for pid in os.listdir("/proc") if pid.isdigit()]
        wanted = sleep.replace(" ", "\0").encode() + b"\0"
        assert wanted not in [path.read_bytes() for path in commands if path.exists()]


async def test_others_may_hold_the_output_open_only_so_long() -> None:
    async with bench() as b:
        link = await b.sh("sleep 1000 & echo $!")
        assert await link.wait() == 0
        other = int(b.texts())
        b.pids.append(other)
        assert alive(other)


async def test_orphans_are_the_shims() -> None:
    async with bench() as b:
        link = await b.sh("sh -c 'sleep 1000 & echo $!'; sleep 1000", kill_rest=True)
        client = await b.attach(link, start=True)
        await client.until(b"\n")
        orphan = int(client.stdout)
        await eventually(lambda: parent(orphan) == parent(b.pids[0]))
        await link.signal(signal.SIGTERM)
        assert await link.wait() == 143
        assert not alive(orphan)
