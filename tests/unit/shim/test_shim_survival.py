"""Who may die without whom: engine, zygote, shim, process."""

# ruff: noqa: ASYNC2  (a test may block)

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
from pathlib import Path

import pytest
import trio
from shim_bench import Client, alive, bench, eventually, parent

from jocker_engine.platform.shims import ShimLost, ShimRefused, StartFailed, Zygote, connect, read_status
from jocker_engine.shim.launch import Launch
from jocker_protocol import wire


async def test_a_process_goes_on_without_the_engine() -> None:
    async with bench() as b:
        link = await b.sh("echo one; read x; echo two; exit 8", stdin=True)
        await link.aclose()
        again = await connect(b.directory, b.key)
        assert again is not None
        assert await again.watch() == b.pids[0]
        client = await b.attach(again, stdin=True, start=True)
        await client.until(b"one\n")
        await client.send(wire.STDIN, b"\n")
        assert await again.wait() == 8
        assert await client.result() == {"exit_code": 8}
        assert client.stdout == b"one\ntwo\n"
        assert await connect(b.directory, b.key) is None


async def test_a_process_that_ends_while_nobody_looks() -> None:
    async with bench() as b:
        link = await b.sh("sleep 0.1; echo late; exit 3")
        await link.aclose()
        await eventually(lambda: not os.path.exists(b.socket))
        assert await connect(b.directory, b.key) is None
        status = read_status(b.status)
        assert status is not None
        assert status["exit_code"] == 3
        assert b.texts() == b"late\n"


@pytest.mark.parametrize("word", ["watch", "start"])
async def test_the_socket_of_a_dying_shim_goes_though_it_still_listens(word: str, tmp_path: Path) -> None:
    """A killed process closes what it has connected first or its listener first, as the descriptors are numbered."""
    path = tmp_path / "abcdefabcdef"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        link = await connect(str(tmp_path), path.name)
        assert link is not None
        listener.accept()[0].close()
        with pytest.raises(ShimLost):
            await (
                link.watch()
                if word == "watch"
                else link.start(Launch(enter="chroot", argv=["true"], status=""))
            )
        assert not path.exists()
        await link.aclose()


async def test_shims_outlive_the_zygote() -> None:
    async with bench() as b:
        link = await b.sh("read x; exit 5", stdin=True)
        os.kill(b.zygote.pid, signal.SIGKILL)
        await b.zygote.closed()
        with pytest.raises(ShimLost):
            await b.zygote.shim("ffffffffffff")
        second = await Zygote.start(b.directory)
        found = await connect(b.directory, b.key)
        assert found is not None
        assert await found.watch() == b.pids[0]
        client = await b.attach(found, stdin=True)
        client.socket.close()
        assert await link.wait() == 5
        assert await found.wait() == 5
        await second.aclose()


async def test_the_zygote_ends_with_the_engine() -> None:
    async with bench() as b:
        link = await b.sh("exec sleep 1000")
        with trio.fail_after(5):
            await b.zygote.aclose()
        assert not os.path.exists(f"/proc/{b.zygote.pid}")
        assert alive(b.pids[0])
        await link.signal(signal.SIGTERM)
        assert await link.wait() == 143


async def test_a_shim_without_a_start_goes_away() -> None:
    async with bench() as b:
        link = await b.zygote.shim("abcdefabcdef")
        assert os.listdir(b.directory) == ["abcdefabcdef"]
        adopted = await connect(b.directory, "abcdefabcdef")
        assert adopted is not None
        assert await adopted.watch() == 0
        await link.aclose()
        await adopted.aclose()
        await eventually(lambda: os.listdir(b.directory) == [])


async def test_watch_then_start() -> None:
    async with bench() as b:
        link = await b.zygote.shim("abcdefabcdef")
        other = await connect(b.directory, "abcdefabcdef")
        assert other is not None
        assert await other.watch() == 0
        with pytest.raises(ShimRefused, match="does not run"):
            await other.signal(signal.SIGTERM)
        early = await b.attach(other)
        await link.start(b.launch("sh", "-c", "echo x; exit 1"))
        assert await link.wait() == 1
        assert await other.wait() == 1
        assert await early.result() == {"exit_code": 1}
        assert early.stdout == b"x\n"


async def test_a_failed_start_is_told_to_all() -> None:
    async with bench() as b:
        link = await b.zygote.shim("abcdefabcdef")
        other = await connect(b.directory, "abcdefabcdef")
        assert other is not None
        assert await other.watch() == 0
        for each in (link.start(b.launch("nothing")), other.wait()):
            with pytest.raises(StartFailed):
                await each


async def test_a_stale_socket_is_removed() -> None:
    async with bench() as b:
        path = b.directory + "/abcdefabcdef"
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(path)
        assert await connect(b.directory, "abcdefabcdef") is None
        assert not os.path.exists(path)


async def test_a_shim_that_is_killed_takes_its_process_along() -> None:
    async with bench() as b:
        link = await b.sh("exec sleep 1000")
        shim = parent(b.pids[0])
        os.kill(shim, signal.SIGKILL)
        with pytest.raises(ShimLost):
            await link.wait()
        await eventually(lambda: not alive(b.pids[0]))
        with pytest.raises(ShimLost):
            await link.signal(signal.SIGTERM)
        assert read_status(b.status) is None
        assert not os.path.exists(b.socket)


async def test_signals_do_not_end_a_shim() -> None:
    async with bench() as b:
        link = await b.sh("read x; exit 4", stdin=True)
        shim = parent(b.pids[0])
        for signum in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
            os.kill(shim, signum)
        client = await b.attach(link, stdin=True)
        client.socket.close()
        assert await link.wait() == 4


async def test_garbage_on_the_control_socket() -> None:
    async with bench() as b:
        link = await b.sh("read x; exit 4", stdin=True)
        for request in (
            b"nonsense\n",
            b"[]\n",
            b'{"op":"start"}\n',
            b'{"op":"fly"}\n',
            b'{"op":"attach"}\n',
            b'{"op":"signal","signum":1e99}\n',
            b'{"op":"signal","signum":%d}\n' % 10**30,
        ):
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(b.socket)
                sock.send(request)
                assert json.loads(sock.recv(4096))["event"] == "refused"
        client = await b.attach(link, stdin=True)
        client.socket.close()
        assert await link.wait() == 4


async def test_a_wait_that_was_cancelled_can_be_asked_again() -> None:
    async with bench() as b:
        link = await b.sh("sleep 0.2; exit 6")
        with trio.move_on_after(0.05):
            await link.wait()
        assert await link.wait() == 6


async def test_a_large_environment() -> None:
    async with bench() as b:
        env = ["PATH=/usr/bin:/bin", *(f"V{number}={'x' * 1000}" for number in range(300))]
        link = await b.sh("env | wc -c", env=env)
        assert await link.wait() == 0
        assert int(b.texts()) > 300_000


async def test_the_exit_status_on_a_full_disk() -> None:
    """Somebody who listens is told all the same; else the shim waits until it can be written."""
    async with bench() as b:
        os.mkdir(b.status)  # what cannot be replaced by a file stands for a disk that takes none
        link = await b.sh("exit 5")
        assert await link.wait() == 5
        link = await b.sh("sleep 0.1; exit 6")
        await link.aclose()
        await trio.sleep(0.4)
        assert os.path.exists(b.socket)
        os.rmdir(b.status)
        await eventually(lambda: not os.path.exists(b.socket))
        status = read_status(b.status)
        assert status is not None
        assert status["exit_code"] == 6


async def test_no_shim_stays_for_a_container_that_was_removed() -> None:
    async with bench() as b:
        os.mkdir(b.directory + "/container")
        where = b.directory + "/container/"
        link = await b.sh("exec sleep 1000", status=where + "status", log=where + "log")
        shim = parent(b.pids[0])
        await link.aclose()
        shutil.rmtree(where)
        os.kill(b.pids[0], signal.SIGKILL)
        await eventually(lambda: not os.path.exists(f"/proc/{shim}"))


async def test_a_record_that_makes_no_sense() -> None:
    async with bench() as b:
        for bad in ({"log": "/tmp/\0"}, {"argv": ["echo", "\0"]}, {"cwd": "\0"}, {"root": 5}):
            with pytest.raises(StartFailed) as caught:
                await b.start(b.launch("true", **bad) if "argv" not in bad else b.launch(*bad["argv"]))
            assert caught.value.exit_code in (125, 126)
        await eventually(lambda: not [name for name in os.listdir(b.directory) if len(name) == 12])


async def test_memory_of_a_shim() -> None:
    async with bench() as b:
        link = await b.sh("echo up; read x", stdin=True)
        client = await b.attach(link, stdin=True, start=True)
        await client.until(b"up")
        with open(f"/proc/{parent(b.pids[0])}/smaps_rollup", encoding="ascii") as file:
            private = sum(int(line.split()[1]) for line in file if line.startswith("Private_"))
        assert private <= 2048
        client.socket.close()
        assert await link.wait() == 1


async def test_a_client_keeps_its_connection_over_an_engine() -> None:
    async with bench() as b:
        client = Client()
        link = await b.sh("read x; echo there", (client, True), stdin=True)
        await link.aclose()
        await b.zygote.aclose()
        await client.send(wire.STDIN, b"\n")
        assert await client.result() == {"exit_code": 0}
        assert client.stdout == b"there\n"
