"""The log: its format, its rotation, and reading it, with `tail`, `since`, `until` and `follow`."""

# ruff: noqa: ASYNC2  (a test may block)

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from shim_bench import Client, bench, eventually, now, text_of

from jocker_engine.shim.cri import HEAD, LIMIT, STDERR, STDOUT, Lines, LogFile, nanoseconds, stamp, texts
from jocker_engine.shim.launch import LogRequest
from jocker_engine.shim.logs import _Reader
from jocker_protocol import wire


@given(st.lists(st.tuples(st.sampled_from([STDOUT, STDERR]), st.binary(max_size=40)), max_size=30))
def test_any_output_comes_back(chunks: list[tuple[bytes, bytes]]) -> None:
    lines = Lines()
    log = b"".join(lines.add(stream, chunk.replace(b"z", bytes(LIMIT))) for stream, chunk in chunks)
    log += lines.end()
    for stream in (STDOUT, STDERR):
        wanted = b"".join(chunk.replace(b"z", bytes(LIMIT)) for of, chunk in chunks if of == stream)
        assert text_of(log, stream.decode()) == wanted
        assert b"".join(text for of, text in texts(log) if of == stream) == wanted
    assert all(len(line) <= HEAD + LIMIT for line in log.split(b"\n"))


@pytest.mark.parametrize(
    ("sizes", "tags"),
    [
        ([LIMIT], "F"),
        ([LIMIT + 1], "PF"),
        ([2 * LIMIT], "PF"),
        ([2 * LIMIT + 1], "PPF"),
        ([1, LIMIT + 1, 1], "FPFF"),
        ([0, 0], "FF"),
    ],
)
def test_long_lines_go_in_parts(sizes: list[int], tags: str) -> None:
    data = b"".join(b"x" * size + b"\n" for size in sizes)
    for chunk in (1000, LIMIT, LIMIT + 1, 1 << 17):
        lines = Lines()
        log = b"".join(lines.add(STDOUT, data[start : start + chunk]) for start in range(0, len(data), chunk))
        assert "".join(line.split(b" ")[2].decode() for line in log.splitlines()) == tags
        assert lines.end() == b""
        assert text_of(log) == data


def test_what_has_no_newline_is_a_part() -> None:
    lines = Lines()
    assert lines.add(STDERR, b"half") == b""
    rest = lines.end()
    assert rest[30:] == b" stderr P half\n"
    assert lines.end() == b""


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("2026-11-23T12:00:00Z", "2026-11-23T12:00:00.000000000Z"),
        ("2026-11-23T12:00:00.5+02:00", "2026-11-23T10:00:00.500000000Z"),
        ("2026-11-23t12:00:00.123456789-01:30", "2026-11-23T13:30:00.123456789Z"),
        ("1969-12-31T23:59:59.25Z", "1969-12-31T23:59:59.250000000Z"),
    ],
)
def test_times(text: str, normal: str) -> None:
    assert stamp(nanoseconds(text)) == normal


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2026-11-23", "2026-11-23T12:00:00", "2026-13-23T12:00:00Z"]
)
def test_no_times(text: str) -> None:
    with pytest.raises(ValueError):
        nanoseconds(text)


def line(number: int, size: int = 10) -> bytes:
    return f"{stamp(number * 10**9)} stdout F ".encode() + (b"%d" % number).ljust(size, b".") + b"\n"


def test_rotation_by_size_at_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = LogFile(str(path), 3 * len(line(0)), 2)
    for number in range(100, 110):
        log.write(line(number))
    assert path.read_bytes() == line(109)
    assert (tmp_path / "log.1").read_bytes() == line(106) + line(107) + line(108)
    assert (tmp_path / "log.2").read_bytes() == line(103) + line(104) + line(105)
    assert sorted(os.listdir(tmp_path)) == ["log", "log.1", "log.2"]
    block = b"".join(line(number) for number in range(200, 207))
    log.write(block)  # at once, as a busy process prints
    assert path.read_bytes() == line(205) + line(206)
    assert (tmp_path / "log.1").read_bytes() == line(202) + line(203) + line(204)
    log.write(line(300, size=500))  # longer than a file may be
    log.write(line(301))
    assert path.read_bytes() == line(301)
    assert (tmp_path / "log.1").read_bytes() == line(300, size=500)


def test_no_rotated_files_are_kept(tmp_path: Path) -> None:
    log = LogFile(str(tmp_path / "log"), 2 * len(line(0)), 0)
    for number in range(100, 103):
        log.write(line(number))
    assert os.listdir(tmp_path) == ["log"]
    assert (tmp_path / "log").read_bytes() == line(102)


def test_positions_count_over_rotations(tmp_path: Path) -> None:
    log = LogFile(str(tmp_path / "log"), 3 * len(line(0)), 3)
    position, seen = log.start, b""
    for number in range(100, 120):
        log.write(line(number))
        if number % 4 == 0:
            while True:
                block, position = log.read(position)
                if not block:
                    break
                seen += block
    assert seen == b"".join(line(number) for number in range(100, 117))
    block, _ = log.read(0)  # long gone: what there is
    assert block == line(109) + line(110) + line(111)


def test_a_torn_line_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(line(100) + line(101)[:20])
    log = LogFile(str(path), 0, 1)
    assert log.start == len(line(100))
    log.write(line(102))
    assert path.read_bytes() == line(100) + line(102)


def test_a_full_disk_costs_lines_and_no_more(tmp_path: Path) -> None:
    """A file size limit stands for the disk; in a process of its own, since it cannot be raised again."""
    pid = os.fork()
    if pid == 0:
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        limit = len(line(100)) * 5 // 2
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        log = LogFile(str(tmp_path / "log"), 0, 1)
        for number in (100, 101, 102, 103):
            log.write(line(number))
        os._exit(0 if log.end == 2 * len(line(100)) else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert (tmp_path / "log").read_bytes() == line(100) + line(101)


class Collector:
    """Takes what a reader sends."""

    def __init__(self) -> None:
        self.data = b""

    def send(self, kind: int, payload: bytes) -> None:
        assert kind == wire.LOG
        self.data += payload


def read(path: Path, since: int | None = None, until: int | None = None, **request: Any) -> bytes:
    client = Collector()
    wanted = [None if time is None else time * 10**9 for time in (since, until)]
    _Reader(client, LogRequest(log=str(path), **request), *wanted).run(None)  # type: ignore[arg-type]
    return client.data


@pytest.fixture(params=[0, 3, 1000])
def numbers(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Lines 100 to 299, with so many lines to a file."""
    log = LogFile(str(tmp_path / "log"), request.param * len(line(0)), 100)
    for number in range(100, 300):
        log.write(line(number))
    return tmp_path / "log"


def lines_of(first: int, end: int) -> bytes:
    return b"".join(line(number) for number in range(first, end))


def test_read_all(numbers: Path) -> None:
    assert read(numbers) == lines_of(100, 300)


@pytest.mark.parametrize(
    ("tail", "first"), [(0, 300), (1, 299), (7, 293), (199, 101), (200, 100), (201, 100)]
)
def test_tail(numbers: Path, tail: int, first: int) -> None:
    assert read(numbers, tail=tail) == lines_of(first, 300)


def test_since_and_until(numbers: Path) -> None:
    for first in (0, 99, 100, 101, 150, 298, 299):
        assert read(numbers, since=first) == lines_of(max(first, 100), 300)
    assert read(numbers, since=300) == b""
    for last in (100, 150, 299, 400):
        assert read(numbers, until=last) == lines_of(100, min(last + 1, 300))
    assert read(numbers, until=99) == b""
    assert read(numbers, since=120, until=130) == lines_of(120, 131)
    assert read(numbers, since=120, until=130, tail=3) == lines_of(128, 131)
    assert read(numbers, since=129, until=130, tail=3) == lines_of(129, 131)
    assert read(numbers, since=140, until=130, tail=3) == b""


def test_parts_belong_to_their_line(tmp_path: Path) -> None:
    data = line(1) + line(2).replace(b" F ", b" P ") + line(3).replace(b" F ", b" P ") + line(4)
    (tmp_path / "log").write_bytes(data)
    assert read(tmp_path / "log", tail=1) == data[len(line(1)) :]
    assert read(tmp_path / "log", tail=2) == data
    open_end = data + line(5).replace(b" F ", b" P ")
    (tmp_path / "log").write_bytes(open_end)
    assert read(tmp_path / "log", tail=1) == line(5).replace(b" F ", b" P ")
    assert read(tmp_path / "log", tail=2) == open_end[len(line(1)) :]


def test_no_log_and_an_empty_one(tmp_path: Path) -> None:
    assert read(tmp_path / "log", tail=5, since=1) == b""
    (tmp_path / "log").write_bytes(b"")
    assert read(tmp_path / "log", tail=5, since=1) == b""


def test_tail_of_long_lines(tmp_path: Path) -> None:
    log = LogFile(str(tmp_path / "log"), 100_000, 50)
    for number in range(100, 200):
        log.write(line(number, size=LIMIT))
    assert read(tmp_path / "log", tail=30) == b"".join(line(number, size=LIMIT) for number in range(170, 200))


async def test_the_reader_of_a_finished_process() -> None:
    async with bench() as b:
        link = await b.sh("echo one >&2; sleep 0.05; echo two; echo three")
        await link.wait()
        for framing in ("frames", "lines"):
            client = await b.logs(framing, follow=True, socket=b.socket)
            assert await client.result() == {}
            with open(b.log, "rb") as file:
                assert client.seen[wire.LOG] == file.read()
        client = await b.logs(tail=1)
        await client.result()
        assert text_of(client.seen[wire.LOG]) == b"three\n"
        client = await b.logs(since="yesterday")
        assert (await client.result())["data"] == {"kind": "invalid_params"}


async def test_follow() -> None:
    async with bench() as b:
        typist = Client()
        link = await b.sh(
            "echo zero; echo one; read x; echo two; read x; printf rest", (typist, True), stdin=True
        )
        await typist.until(b"one\n")
        client = await b.logs(follow=True, socket=b.socket)
        later = await b.logs(follow=True, socket=b.socket, tail=1)
        await client.until(b"F one\n", wire.LOG)
        await later.until(b"F one\n", wire.LOG)
        await typist.send(wire.STDIN, b"\n")
        await client.until(b"F two\n", wire.LOG)
        await later.until(b"F two\n", wire.LOG)
        await typist.send(wire.STDIN, b"\n")
        assert await client.result() == await later.result() == {}
        assert text_of(client.seen[wire.LOG]) == b"zero\none\ntwo\nrest"
        assert text_of(later.seen[wire.LOG]) == b"one\ntwo\nrest"
        assert await link.wait() == 0


async def test_follow_over_many_rotations() -> None:
    async with bench() as b:
        typist = Client()
        await b.sh("read x; seq 100000", (typist, True), stdin=True, log_max_size=50_000, log_max_files=200)
        typist.socket.shutdown(trio.socket.SHUT_WR)
        clients = [await b.logs(follow=True, socket=b.socket) for _ in range(2)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(typist.result)
            for client in clients:
                nursery.start_soon(client.result)
        wanted = b"".join(b"%d\n" % number for number in range(1, 100_001))
        assert b.texts() == wanted
        assert len(os.listdir(b.directory)) > 50
        for client in clients:
            assert text_of(client.seen[wire.LOG]) == wanted


async def test_follow_until() -> None:
    async with bench() as b:
        link = await b.sh("while :; do echo x; sleep 0.05; done")
        await eventually(lambda: os.path.exists(b.log) and os.path.getsize(b.log))
        client = await b.logs(follow=True, socket=b.socket, until=now())
        assert await client.result() == {}  # at once, though the process goes on
        await link.signal(signal.SIGKILL)
        assert await link.wait() == 137


async def test_a_reader_ends_with_its_client() -> None:
    async with bench() as b:
        link = await b.sh("echo one; exec sleep 1000")
        client = await b.logs(follow=True, socket=b.socket)
        await client.until(b"one\n", wire.LOG)
        children = f"/proc/{b.zygote.pid}/task/{b.zygote.pid}/children"
        if not os.path.exists(children):
            pytest.skip("there is no /proc/PID/task/TID/children here")

        def count() -> int:
            return len(Path(children).read_text().split())

        assert count() == 2
        client.socket.shutdown(trio.socket.SHUT_WR)  # sends no more, but reads on
        await trio.sleep(0.1)
        assert count() == 2
        client.socket.close()
        await eventually(lambda: count() == 1)
        await link.signal(signal.SIGTERM)
        assert await link.wait() == 143


async def test_a_reader_that_is_not_read_holds_up_nobody() -> None:
    async with bench() as b:
        stuck = Client()
        typist = Client()
        link = await b.sh("read x; seq 200000", (typist, True), stdin=True)
        await b.zygote.serve_log(stuck.fd, LogRequest(log=b.log, follow=True, socket=b.socket))
        stuck.handed_over()
        await typist.send(wire.EOF)
        assert await link.wait() == 0
        assert await stuck.result() == {}
        assert text_of(stuck.seen[wire.LOG]) == b.texts()
