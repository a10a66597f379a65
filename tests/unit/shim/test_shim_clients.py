"""Clients of a shim: what they get, what they send, and that a slow one harms nobody."""

# ruff: noqa: ASYNC2  (a test may block)

from __future__ import annotations

import json
import os

import pytest
import trio
from shim_bench import Client, bench, eventually

from jocker_protocol import wire

NUMBERS = b"".join(b"%d\n" % number for number in range(1, 200_001))


async def test_standard_input_to_its_end() -> None:
    async with bench() as b:
        client = Client()
        link = await b.sh("cat; echo done; exit 5", (client, True), stdin=True)
        await client.send(wire.STDIN, b"one\n")
        await client.until(b"one\n")
        await client.send(wire.STDIN, b"two\n")
        await client.send(wire.EOF)
        assert await client.result() == {"exit_code": 5}
        assert client.stdout == b"one\ntwo\ndone\n"
        assert await link.wait() == 5


async def test_more_input_than_fits_anywhere() -> None:
    async with bench() as b:
        client = Client()
        await b.sh("sleep 0.2; wc -c", (client, True), stdin=True)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def feed() -> None:
                for start in range(0, len(NUMBERS), 50_000):
                    await client.send(wire.STDIN, NUMBERS[start : start + 50_000])
                await client.send(wire.EOF)

            assert await client.result() == {"exit_code": 0}
        assert int(client.stdout) == len(NUMBERS)


async def test_input_of_a_client_that_goes_at_once() -> None:
    """All it has sent arrives, then the end of file: `docker run -i`'s StdinOnce."""
    async with bench() as b:
        client = Client()
        link = await b.sh("echo loud; sleep 0.2; wc -c", (client, True), stdin=True)
        for _ in range(3):
            await client.send(wire.STDIN, bytes(50_000))
        client.socket.close()
        assert await link.wait() == 0
        assert b.texts() == b"loud\n150000\n"


async def test_a_client_that_sends_no_more_still_gets_all() -> None:
    async with bench() as b:
        client = Client("lines")
        await b.sh("cat; echo after; exit 1", (client, True), stdin=True)
        await client.send(wire.STDIN, b"text\n")
        client.socket.shutdown(trio.socket.SHUT_WR)
        assert await client.result() == {"exit_code": 1}
        assert client.stdout == b"text\nafter\n"


async def test_a_process_that_does_not_read() -> None:
    async with bench() as b:
        client = Client()
        link = await b.sh("exec <&-; echo closed; read x; sleep 0.1; exit 6", (client, True), stdin=True)
        await client.until(b"closed")
        for _ in range(4):
            await client.send(wire.STDIN, bytes(100_000))
        assert await client.result() == {"exit_code": 6}
        assert await link.wait() == 6


async def test_without_stdin_there_is_none() -> None:
    async with bench() as b:
        client = Client()
        await b.sh("readlink /proc/self/fd/0; cat", (client, True))
        await client.send(wire.STDIN, b"lost")
        assert await client.result() == {"exit_code": 0}
        assert client.stdout == b"/dev/null\n"


async def test_signal_frames() -> None:
    async with bench() as b:
        client = Client()
        await b.sh("trap 'echo got; exit 9' HUP; echo ready; while :; do sleep 0.01; done", (client, False))
        await client.until(b"ready")
        await client.send(wire.SIGNAL, b'{"signal": "HUP"}')
        assert await client.result() == {"exit_code": 9}
        assert client.stdout == b"ready\ngot\n"


@pytest.mark.parametrize(
    "payload", [wire.frame(wire.SIGNAL, b'{"signal": "NONE"}'), wire.frame(wire.RESIZE, b"[1]"),
        wire.frame(wire.RESIZE, b"[" * 100_000), b"GET / HTTP/1.0\r\n"]
)  # fmt: skip
async def test_nonsense_costs_only_its_sender(payload: bytes) -> None:
    async with bench() as b:
        bad, good = Client(), Client()
        link = await b.sh("sleep 0.1; cat; echo end", (good, True), (bad, False), stdin=True)
        await bad.socket.send(payload)
        assert await bad.next() is None
        await good.send(wire.EOF)
        assert await good.result() == {"exit_code": 0}
        assert good.stdout == b"end\n"
        assert await link.wait() == 0


async def test_terminal() -> None:
    async with bench() as b:
        client = Client()
        script = "tty; stty size; trap 'stty size; exit 4' WINCH; echo ready; while :; do sleep 0.01; done"
        await b.sh(script, (client, True), tty=True, stdin=True, rows=33, cols=77)
        await client.until(b"ready")
        await client.send(wire.EOF)  # a terminal has none
        await client.send(wire.RESIZE, json.dumps({"rows": 44, "cols": 99}).encode())
        assert await client.result() == {"exit_code": 4}
        lines = client.stdout.split(b"\r\n")
        assert lines[0].startswith(b"/dev/pts/")
        assert lines[1:] == [b"33 77", b"ready", b"44 99", b""]
        assert client.stderr == b""
        assert b.texts() == client.stdout


async def test_typing_on_a_terminal() -> None:
    async with bench() as b:
        client = Client()
        script = 'trap "exit 30" INT; echo ready; read line; echo "<$line>"; while :; do sleep 0.01; done'
        link = await b.sh(script, (client, True), tty=True, stdin=True)
        await client.until(b"ready")
        await client.send(wire.STDIN, b"hello\r")
        await client.until(b"<hello>")
        await client.send(wire.STDIN, b"\x03")  # Ctrl-C: it has a controlling terminal
        assert await client.result() == {"exit_code": 30}
        assert await link.wait() == 30


async def test_two_clients_and_a_third_from_the_start() -> None:
    async with bench() as b:
        first, second = Client(), Client("lines")
        link = await b.sh(
            "echo one; read x; echo two; printf three", (first, True), (second, False), stdin=True
        )
        await first.until(b"one\n")
        third = await b.attach(link, start=True)
        fourth = await b.attach(link)
        await first.send(wire.STDIN, b"\n")
        for client in (first, second, third, fourth):
            assert await client.result() == {"exit_code": 0}
        assert first.stdout == second.stdout == third.stdout == b"one\ntwo\nthree"
        assert fourth.stdout == b"two\nthree"


async def test_attach_in_the_middle_of_a_line() -> None:
    async with bench() as b:
        first = Client()
        link = await b.sh(
            "echo old; printf 'half'; read x; echo ' whole'; echo err >&2", (first, True), stdin=True
        )
        await first.until(b"half")
        second = await b.attach(link, start=True)
        await second.until(b"old\nhalf")
        await first.send(wire.STDIN, b"\n")
        assert await second.result() == {"exit_code": 0}
        assert second.stdout == b"old\nhalf whole\n"
        assert second.stderr == b"err\n"


async def test_from_the_start_means_of_this_run() -> None:
    async with bench() as b:
        await (await b.sh("echo first run")).wait()
        client = Client()
        link = await b.sh("echo second run; read x", (client, True), stdin=True)
        await client.until(b"run")
        other = await b.attach(link, start=True)
        await client.send(wire.STDIN, b"\n")
        await other.result()
        assert other.stdout == b"second run\n"
        assert b.texts() == b"first run\nsecond run\n"


async def test_from_the_start_without_loss_while_it_prints() -> None:
    async with bench() as b:
        link = await b.sh("i=1; while [ $i -le 40000 ]; do echo $i; i=$((i+1)); done; read x", stdin=True)
        clients = []
        for _ in range(5):
            clients.append(await b.attach(link, start=True))
            await trio.sleep(0.01)
        typist = await b.attach(link, stdin=True)
        typist.socket.close()
        wanted = b"".join(b"%d\n" % number for number in range(1, 40001))
        for client in clients:
            assert await client.result() == {"exit_code": 1}
            assert client.stdout == wanted


@pytest.mark.parametrize("tail", ["", "printf 'an end without a newline'"])
async def test_a_slow_client_catches_up_from_the_log(tail: str) -> None:
    async with bench() as b:
        slow = Client()
        link = await b.sh(f"printf 'begin '; sleep 0.05; seq 200000; {tail}", (slow, False), log_max_size=300_000,
                          log_max_files=20)  # fmt: skip
        assert await link.wait() == 0  # it has read nothing so far
        os.rename(b.log, b.log + "-gone")  # as if the container was removed
        assert await slow.result() == {"exit_code": 0}
        assert slow.stdout == b"begin " + NUMBERS + (b"an end without a newline" if tail else b"")


async def test_without_a_log_a_slow_client_bounds_the_speed() -> None:
    async with bench() as b:
        slow, quick = Client(), Client()
        marker = b.directory + "/done"
        link = await b.sh(f"seq 200000; echo x > {marker}", (slow, False), (quick, False), log="", status="")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(quick.result)
            await trio.sleep(0.3)
            assert not os.path.exists(marker)
            assert await slow.result() == {"exit_code": 0}
        assert slow.stdout == quick.stdout == NUMBERS
        assert await link.wait() == 0


async def test_without_a_log_and_without_clients_output_is_thrown_away() -> None:
    async with bench() as b:
        client = Client()
        link = await b.sh("seq 200000; exit 2", (client, False), log="", status="")
        await client.until(b"1\n")
        client.socket.close()
        assert await link.wait() == 2
        assert os.listdir(b.directory) == []


async def test_a_shim_stays_for_its_slow_client_but_not_for_one_that_left() -> None:
    async with bench() as b:
        slow, gone = Client(), Client()
        link = await b.sh("seq 200000", (slow, False), (gone, False))
        shim = await shim_of(b.pids[0])
        assert await link.wait() == 0
        gone.socket.close()
        assert os.path.exists(f"/proc/{shim}")
        await slow.result()
        await eventually(lambda: not os.path.exists(f"/proc/{shim}"))


async def shim_of(pid: int) -> int:
    with open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[1])
