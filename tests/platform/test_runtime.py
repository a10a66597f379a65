"""What every runtime driver must do. Each driver that can run here runs the whole of it for real."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from containers import KILLED, LIMIT, PATH, Containers, alive, open_containers, standing_in, traces

from conftest import need
from jocker_engine.platform.commands import Commands, PlatformError
from jocker_engine.platform.interfaces import Bind, Process
from jocker_engine.platform.rootfs import NoSuchUser
from jocker_engine.platform.shims import StartFailed

ROOT = os.geteuid() == 0


@pytest.fixture(params=["runc", "crun", "chroot", "jail"])
async def containers(
    request: pytest.FixtureRequest, where: str, commands: Commands
) -> AsyncIterator[Containers]:
    """Containers of each driver; afterwards nothing may be left of them."""
    async with open_containers(request.param, where, commands) as made:
        yield made


async def test_exit_code_and_output(containers: Containers) -> None:
    isolation = containers.isolation()
    script = Process(("sh", "-c", "echo out; echo err >&2; exit 42"), (PATH,))
    code, output = await containers.run(isolation, script)
    assert code == 42
    assert sorted(output.split()) == ["err", "out"]
    assert await containers.runtime.inventory() == {isolation.id}
    await containers.runtime.destroy(isolation)
    assert await containers.runtime.inventory() == frozenset()
    assert traces(containers) == []


async def test_a_container_is_started_again(containers: Containers) -> None:
    """With and without a destroy between, and what it wrote is still there."""
    isolation = containers.isolation()
    process = Process(("sh", "-c", "echo >> /times; echo $(cat /times | wc -l)"), (PATH,))
    assert await containers.run(isolation, process) == (0, "1\n")
    assert await containers.run(isolation, process) == (0, "2\n")
    await containers.runtime.destroy(isolation)
    assert await containers.run(isolation, process) == (0, "3\n")
    for _ in range(2):
        await containers.runtime.destroy(isolation)


async def test_destroy_of_what_never_ran(containers: Containers) -> None:
    isolation = containers.isolation()
    await containers.runtime.destroy(isolation)
    await containers.runtime.prepare(isolation, Process(("true",), (PATH,)))
    await containers.runtime.kill_all(isolation.id, 0)
    await containers.runtime.signal(isolation.id, 2**22 + 1, signal.SIGTERM)
    await containers.runtime.destroy(isolation)
    assert await containers.runtime.inventory() == frozenset()


async def test_environment(containers: Containers) -> None:
    async def env(*given: str) -> list[str]:
        code, output = await containers.run(containers.isolation(), Process(("env",), given))
        assert code == 0, output
        return sorted(output.splitlines())

    assert await env(PATH, "A=b c", "EMPTY=") == ["A=b c", "EMPTY=", "HOME=/root", PATH]
    assert await env(PATH, "HOME=/x") == ["HOME=/x", PATH]


@pytest.mark.parametrize("cwd", ["/", "/made/for/it", "/link/below", "//tmp/../tmp/."])
async def test_working_directory(containers: Containers, cwd: str) -> None:
    isolation = containers.isolation()
    os.symlink("../../../made", os.path.join(isolation.rootfs, "link"))
    code, output = await containers.run(isolation, Process(("pwd",), (PATH,), cwd=cwd))
    expected = {"/link/below": "/made/below", "//tmp/../tmp/.": "/tmp"}.get(cwd, cwd)
    assert (code, output.strip()) == (0, expected)


async def test_a_working_directory_that_cannot_be(containers: Containers) -> None:
    with pytest.raises((PlatformError, OSError, StartFailed)):
        await containers.run(containers.isolation(), Process(("true",), (PATH,), cwd="/data"))


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", "0 0 0 /root"),
        ("me", "1000 1001 1001 1002 /home/me"),
        ("1000", "1000 1001 1001 1002 /home/me"),
        ("me:mine", "1000 1001 1001 /home/me"),
        ("me:0", "1000 0 0 /home/me"),
        ("77", "77 0 0 /"),
        ("77:88", "77 88 88 /"),
    ],
)
async def test_user(containers: Containers, user: str, expected: str) -> None:
    need(ROOT, "without root there is one user")
    assert (
        " ".join((await containers.shell("id -u; id -g; id -G; echo $HOME", user=user)).split()) == expected
    )


async def test_a_user_that_is_not_there(containers: Containers) -> None:
    isolation = containers.isolation()
    process = Process(("true",), (PATH,), user="nobody")
    with pytest.raises((PlatformError, NoSuchUser), match="no user 'nobody' in the container's /etc/passwd"):
        await containers.runtime.prepare(isolation, process)


@pytest.mark.parametrize(
    ("program", "code", "what"),
    [
        ("nothing", 127, "not found"),
        ("/bin/nothing", 127, "no such file"),
        ("/data", 126, "permission denied"),
        ("/tmp", 126, ""),
    ],
)
async def test_a_program_that_cannot_be_run(
    containers: Containers, program: str, code: int, what: str
) -> None:
    isolation = containers.isolation()
    with pytest.raises(StartFailed) as caught:
        await containers.run(isolation, Process((program,), (PATH,)))
    assert caught.value.exit_code == code
    assert program in caught.value.error
    assert what in caught.value.error.lower()
    assert await containers.shell("echo works", isolation) == "works\n"


async def test_what_a_process_starts_with(containers: Containers) -> None:
    """Nothing of the shim's: descriptors, ignored signals, umask; and what scripts count on is there."""
    if containers.runtime.name == "jail":
        output = await containers.shell(
            """
            umask; ls /dev/fd; trap
            echo x > /dev/null; head -c 3 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c
            kill -l $(sh -c 'kill -PIPE $$; echo $?'; echo $?)
            """
        )
        assert output.split() == ["0022", "0", "1", "2", "3", "3", "PIPE"]
        return
    output = await containers.shell(
        """
        ls /proc/self/fd | wc -w
        grep -E 'SigIgn|SigBlk' /proc/self/status
        umask
        echo x > /dev/null; head -c 3 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c
        echo out > /dev/stdout; echo err > /dev/stderr; ls -d /dev/fd /dev/tty /dev/full /dev/random
        echo shm > /dev/shm/x; cat /dev/shm/x
        [ -r /proc/self/status ]; [ -c /dev/ptmx ]; [ -d /dev/pts ]
        """
    )
    words = output.split()
    assert words[0] == "4"  # the fourth is the directory that ls reads
    assert (words[1], words[3]) == ("SigBlk:", "SigIgn:")
    assert words[2] == "0" * 16
    assert int(words[4], 16) & ~(3 << 31) == 0  # 32 and 33 are the C library's own (nptl(7))
    assert words[5] == "0022"
    assert words[6:8] == ["3", "3"]
    assert sorted(words[8:]) == "/dev/fd /dev/full /dev/random /dev/tty err out shm".split()


async def test_terminal(containers: Containers) -> None:
    isolation = containers.isolation()
    process = Process(("sh", "-c", "tty; stty size; echo x > /dev/tty"), (PATH,), tty=True, rows=33, cols=77)
    code, output = await containers.run(isolation, process)
    assert code == 0
    lines = output.replace("\r", "").splitlines()
    assert lines[0].startswith("/dev/pts/")
    assert lines[1:] == ["33 77", "x"]


async def test_binds(containers: Containers) -> None:
    volume, file = containers.directory / "volume", containers.directory / "one-file"
    (volume / "inner").mkdir(parents=True)
    file.write_text("one file")
    isolation = containers.isolation(
        binds=(
            Bind(str(volume), "/deep/volume"),
            Bind(str(volume), "/deep/volume/inner"),
            Bind(str(volume), "/deep/ro", read_only=True),
            Bind(str(file), "/deep/file", read_only=True),
            Bind("", "/scratch"),
            *(() if containers.runtime.name == "jail" else (Bind(str(volume), "/dev/volume"),)),
        )
    )
    output = await containers.shell(
        """
        echo new > /deep/volume/inner/new
        cat /deep/ro/new
        if [ -d /dev/volume ]; then cat /dev/volume/new; else cat /deep/ro/new; fi
        cat /deep/file
        echo; ls -ld /scratch | head -c 10; echo; touch /scratch/x
        if touch /deep/ro/x 2>&1; then echo WRITTEN; fi
        if echo x 2>&1 > /deep/file; then echo WRITTEN; fi
        ls /deep/volume/inner
        """,
        isolation,
    )
    assert output.splitlines()[:4] == ["new", "new", "one file", "drwxrwxrwt"]
    assert output.count("Read-only file system") == 2
    assert "WRITTEN" not in output
    assert output.split()[-2:] == ["inner", "new"]
    assert (volume / "new").read_text() == "new\n"
    assert file.read_text() == "one file"
    assert os.listdir(os.path.join(isolation.rootfs, "scratch")) == []


async def test_files_of_its_own(containers: Containers) -> None:
    """Mounted over the image's, also where that has a link, or nothing."""
    isolation = containers.isolation(hosts="1.2.3.4 host\n", resolv="nameserver 1.2.3.4\n")
    root = Path(isolation.rootfs)
    (root / "etc" / "hosts").write_text("the image's")
    (root / "etc" / "resolv").symlink_to("../run/resolv/stub")
    assert await containers.shell("cat /etc/hosts /etc/resolv", isolation) == (
        "1.2.3.4 host\nnameserver 1.2.3.4\n"
    )
    assert (root / "etc" / "hosts").read_text() == "the image's"


async def test_mount_points_stay_in_the_root(containers: Containers) -> None:
    """An image may have any link: what is mounted there, or made for it, is in the container or nowhere."""
    outside, volume = containers.directory / "outside", containers.directory / "volume"
    for path in (outside, volume):
        path.mkdir()
    (volume / "file").write_text("mounted")
    isolation = containers.isolation(
        binds=(
            Bind(str(volume), "/absolute/a"),
            Bind(str(volume), "/relative/b"),
            Bind(str(volume / "file"), "/final"),
            Bind(str(volume), "/../../../../c"),
            Bind(str(volume), "/chain/d"),
        ),
        hosts="hosts\n",
    )
    root = Path(isolation.rootfs)
    (root / "absolute").symlink_to(outside)
    (root / "relative").symlink_to("../" * 20 + str(outside)[1:])
    (root / "final").symlink_to(outside / "file")
    (root / "chain").symlink_to("relative/../relative")
    shutil.rmtree(root / "etc")
    (root / "etc").symlink_to(outside)
    process = replace(
        Process(("sh", "-c", "cat /absolute/a/file /relative/b/file /final /c/file /chain/d/file"), (PATH,)),
        cwd="/absolute/cwd",
    )
    code, output = await containers.run(isolation, process)
    assert (code, output.rstrip("\n")) == (0, "mounted" * 5)
    assert os.listdir(outside) == []


async def test_exec(containers: Containers) -> None:
    """One more process: the same root, the same mounts, what its own record says of the rest."""
    volume = containers.directory / "volume"
    volume.mkdir()
    (volume / "file").write_text("mounted\n")
    isolation = containers.isolation(binds=(Bind(str(volume), "/volume"),))
    await containers.start(isolation, Process(("sh", "-c", "echo up > /tmp/up; exec sleep 100"), (PATH,)))
    with trio.fail_after(LIMIT):
        while not os.path.exists(os.path.join(isolation.rootfs, "tmp", "up")):
            await trio.sleep(0.01)
    script = Process(
        ("sh", "-c", "cat /tmp/up /volume/file; pwd; echo $A $HOME; exit 7"), (PATH, "A=b"), cwd="/etc"
    )
    assert await containers.run(isolation, script, exec_key="e" * 12) == (7, "up\nmounted\n/etc\nb /root\n")
    if ROOT:
        me = Process(("sh", "-c", "id -u; echo $HOME"), (PATH,), user="me")
        assert await containers.run(isolation, me, exec_key="d" * 12) == (0, "1000\n/home/me\n")
    with pytest.raises(StartFailed) as caught:
        await containers.run(isolation, Process(("nothing",), (PATH,)), exec_key="c" * 12)
    assert caught.value.exit_code == 127
    terminal = Process(("tty",), (PATH,), tty=True)
    code, output = await containers.run(isolation, terminal, exec_key="b" * 12)
    assert (code, output.startswith("/dev/pts/")) == (0, True)
    with pytest.raises((PlatformError, NoSuchUser), match="no user 'nobody'"):
        await containers.runtime.launch_exec(isolation, replace(script, user="nobody"), "a" * 12)
    await containers.runtime.kill_all(isolation.id, 0)
    assert await containers.wait(isolation.id) == KILLED


async def test_signals(containers: Containers) -> None:
    isolation = containers.isolation()
    script = "trap 'echo told; exit 5' TERM; echo ready; while :; do sleep 0.02; done"
    pid = await containers.start(isolation, Process(("sh", "-c", script), (PATH,)))
    await containers.until(isolation.id, "ready")
    assert alive(pid)
    await containers.runtime.signal(isolation.id, pid, signal.SIGTERM)
    assert await containers.wait(isolation.id) == 5
    assert "told" in containers.output(isolation.id)
    await containers.runtime.signal(isolation.id, pid, signal.SIGTERM)  # gone


async def test_kill_all(containers: Containers) -> None:
    """Also who has left its parent and its session, and an exec; nobody of another container."""
    isolation, other = containers.isolation(), containers.isolation()
    script = "trap '' TERM; setsid sh -c 'setsid sleep 100 & sleep 100' & echo ready; sleep 100"
    pid = await containers.start(isolation, Process(("sh", "-c", script), (PATH,)))
    await containers.start(isolation, Process(("sleep", "100"), (PATH,)), exec_key="e" * 12)
    bystander = await containers.start(other, Process(("sleep", "100"), (PATH,)))
    await containers.until(isolation.id, "ready")
    await containers.runtime.kill_all(isolation.id, pid)
    with trio.fail_after(LIMIT):
        assert await containers.wait(isolation.id) == KILLED
        assert await containers.wait("e" * 12) == KILLED
        await containers.runtime.destroy(isolation)
        del containers.made[isolation.id]
        while standing_in(isolation.rootfs):
            await trio.sleep(0.01)
    assert alive(bystander)
    assert await containers.runtime.inventory() == {other.id}


async def test_the_end_of_the_main_process_ends_all(containers: Containers) -> None:
    isolation = containers.isolation()
    script = "setsid sleep 100 & sleep 0.1; echo ready"
    code, _ = await containers.run(isolation, Process(("sh", "-c", script), (PATH,)))
    assert code == 0
    with trio.fail_after(LIMIT):
        while standing_in(isolation.rootfs):
            await trio.sleep(0.01)


async def test_destroy_of_what_runs(containers: Containers) -> None:
    """Killed, and destroyed at once."""
    isolation = containers.isolation()
    pid = await containers.start(isolation, Process(("sleep", "100"), (PATH,)))
    await containers.runtime.kill_all(isolation.id, pid)
    await containers.runtime.destroy(isolation)
    assert await containers.wait(isolation.id) == KILLED
    assert await containers.runtime.inventory() == frozenset()


async def test_containers_side_by_side(containers: Containers) -> None:
    async def life(number: int) -> None:
        assert await containers.shell(f"echo {number} > /tmp/x; cat /tmp/x") == f"{number}\n"

    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(life, number)
