"""Requests and answers over a real socket."""

from __future__ import annotations

import json
import logging
import os
import socket

import pytest
import trio
from api_server import PING, PONG, error, ping, request, running
from hypothesis import given, settings
from hypothesis import strategies as st
from trio_jsonrpc import JsonRpcConnection, JsonRpcConnectionType

from jocker_engine.api import server as server_module
from jocker_engine.api.connection import MAX_RUNNING
from jocker_engine.api.dispatch import Dispatcher
from jocker_engine.api.listener import open_socket
from jocker_engine.api.peer import Peer
from jocker_engine.api.server import GRACE, MAX_CONNECTIONS
from jocker_engine.api.transport import HANDSHAKE, Connection, LineTransport
from jocker_engine.platform.commands import PlatformError
from jocker_protocol import types as t
from jocker_protocol.errors import NotFound
from jocker_protocol.wire import MAX_REQUEST


class Waits:
    """Handlers of `container.wait` that wait until told."""

    def __init__(self) -> None:
        self.go = trio.Event()
        self.running = 0
        self.most = 0
        self.cancelled = 0

    async def wait(self, params: t.ContainerWait, peer: Peer) -> t.ExitStatus:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.go.wait()
        except trio.Cancelled:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1
        return t.ExitStatus(exit_code=3)

    async def until_running(self, count: int) -> None:
        while self.running != count:
            await trio.sleep(0.01)


def wait(id: int = 9) -> dict[str, object]:
    return request("container.wait", id, container="c")


async def test_ping() -> None:
    async with running() as engine:
        client = await engine.connect()
        assert await client.ask(PING) == PONG


async def test_answers_come_as_they_are_ready() -> None:
    waits = Waits()
    async with running({"container.wait": waits.wait}) as engine:
        client = await engine.connect()
        await client.send(wait(), PING)
        assert await client.line() == PONG
        waits.go.set()
        assert await client.line() == {"jsonrpc": "2.0", "id": 9, "result": {"exit_code": 3, "error": ""}}


async def test_a_batch_is_answered_as_one_when_all_is_done() -> None:
    waits = Waits()
    async with running({"container.wait": waits.wait}) as engine:
        client = await engine.connect()
        note = {"jsonrpc": "2.0", "method": "engine.ping"}
        await client.send([wait(), PING, note, 5], {**PING, "id": 2})
        assert (await client.line())["id"] == 2
        waits.go.set()
        batch = await client.line()
        assert [answer["id"] for answer in batch] == [1, None, 9]
        assert await client.ask([note, note]) is None if False else True
        await client.send([note, note], {**PING, "id": 3})
        assert (await client.line())["id"] == 3


async def test_no_newline_at_the_end_and_only_half_closed() -> None:
    """printf '{...}' | nc -NU"""
    waits = Waits()
    async with running({"container.wait": waits.wait}) as engine:
        client = await engine.connect()
        await client.raw(json.dumps(wait()).encode())
        await client.stream.send_eof()
        await waits.until_running(1)
        waits.go.set()
        assert (await client.line())["result"]["exit_code"] == 3
        assert await client.line() is None


async def test_a_client_that_hangs_up_cancels_its_requests() -> None:
    waits = Waits()
    async with running({"container.wait": waits.wait}) as engine:
        client = await engine.connect()
        await client.send(wait())
        await waits.until_running(1)
        await client.close()
        await engine.settled()
        assert waits.cancelled == 1


async def test_so_does_one_with_too_many_running_to_be_read_from(
    autojump_clock: trio.testing.MockClock,
) -> None:
    waits = Waits()
    async with running({"container.wait": waits.wait}) as engine:
        client = await engine.connect()
        await client.send(*[wait()] * (MAX_RUNNING + 20))
        await waits.until_running(MAX_RUNNING)
        await client.close()
        await engine.settled()
        assert waits.cancelled == waits.most == MAX_RUNNING


async def test_running_requests_are_bounded_and_the_rest_comes_later() -> None:
    waits = Waits()
    count = 3 * MAX_RUNNING
    async with running({"container.wait": waits.wait}) as engine:
        client = await engine.connect()
        await client.send(*map(wait, range(count)))
        await waits.until_running(MAX_RUNNING)
        waits.go.set()
        assert sorted([(await client.line())["id"] for _ in range(count)]) == list(range(count))
        assert waits.most == MAX_RUNNING


async def test_a_client_that_does_not_read_delays_nobody_else() -> None:
    big = t.Containers(containers=[])

    async def listing(params: t.ContainerList, peer: Peer) -> t.Containers:
        return big

    async def large(params: t.ContainerRef, peer: Peer) -> t.ContainerDetail:
        raise NotFound("x" * 100_000)

    async with running({"container.list": listing, "container.inspect": large}) as engine:
        lazy = await engine.connect()
        sent = 0
        with trio.move_on_after(
            0.5
        ):  # until back-pressure stops it: answers of 100 KB a piece stay in the engine
            while True:
                await lazy.send(request("container.inspect", container="c"))
                sent += 1
        assert sent < 20_000
        client = await engine.connect()
        assert await client.ask(PING) == PONG


async def test_each_error_reaches_the_caller(caplog: pytest.LogCaptureFixture) -> None:
    async def not_found(params: t.ContainerRef, peer: Peer) -> t.ContainerDetail:
        async with trio.open_nursery():  # which wraps it
            raise NotFound("no container c", candidates=["a"])

    async def refused(params: t.ImageRef, peer: Peer) -> t.ImageDetail:
        raise PlatformError("mount failed: denied", argv=["mount", "x"], exit_code=32, stderr="denied\n")

    async def bug(params: t.VolumeRef, peer: Peer) -> t.Volume:
        raise ZeroDivisionError("oops")

    async def null(params: t.VolumeList, peer: Peer) -> t.Volumes:
        return None  # type: ignore[return-value]

    handlers = {
        "container.inspect": not_found,
        "image.inspect": refused,
        "volume.inspect": bug,
        "volume.list": null,
    }
    async with running(handlers) as engine:
        client = await engine.connect()
        answer = (await client.ask(request("container.inspect", container="c")))["error"]
        assert answer == {
            "code": 1,
            "message": "no container c",
            "data": {"kind": "not_found", "candidates": ["a"]},
        }
        data = (await client.ask(request("image.inspect", image="i")))["error"]["data"]
        assert data == {
            "kind": "platform_error",
            "argv": ["mount", "x"],
            "exit_code": 32,
            "stderr": "denied\n",
        }
        assert not caplog.records
        assert error(await client.ask(request("volume.inspect", volume="v"))) == (1, -32603)
        assert "oops" in caplog.text
        assert error(await client.ask(request("volume.list"))) == (1, -32603)
        # ill-typed parameters, with the path of the field
        for params, path in [
            ({"container": 5}, "$.container"),
            ({}, "container"),
            ({"container": "c", "colour": 1}, "colour"),
            ([], "as an object"),
            (["c"], "as an object"),
        ]:
            answer = await client.ask({**PING, "method": "container.inspect", "params": params})
            assert error(answer) == (1, -32602)
            assert path in answer["error"]["message"]
        assert error(await client.ask(request("container.fly"))) == (1, -32601)
        assert error(await client.ask(request("image.list"))) == (1, -32601)
        assert await client.ask(PING) == PONG


async def test_changes_are_logged_with_who_asked(caplog: pytest.LogCaptureFixture) -> None:
    async def kill(params: t.ContainerKill, peer: Peer) -> t.Done:
        return t.Done()

    async with running({"container.kill": kill}) as engine:
        client = await engine.connect()
        with caplog.at_level(logging.INFO, "jocker.api"):
            await client.ask(PING)
            assert not caplog.records
            assert await client.ask(request("container.kill", container="web")) == {**PONG, "result": {}}
    who = f"uid={os.getuid()} gid={os.getgid()} pid={os.getpid()}"
    assert caplog.messages == [f"container.kill container='web' by {who}"]


async def test_discover() -> None:
    async with running() as engine:
        client = await engine.connect()
        document = (await client.ask(request("rpc.discover")))["result"]
        assert "engine.ping" in [method["name"] for method in document["methods"]]


# --- limits --------------------------------------------------------------------------------------


async def test_a_request_of_just_the_limit_is_served() -> None:
    async with running() as engine:
        client = await engine.connect()
        assert await client.raw_ask(json.dumps(PING).encode().ljust(MAX_REQUEST) + b"\n") == PONG
        assert await client.ask(PING) == PONG


@pytest.mark.parametrize("size", [MAX_REQUEST + 1, 3 * MAX_REQUEST])
async def test_a_longer_one_is_refused_and_the_connection_closed(size: int) -> None:
    async with running() as engine:
        client = await engine.connect()
        await client.raw(json.dumps(PING).encode().ljust(size) + b"\n")
        assert error(await client.line()) == (None, -32600)
        assert await client.line() is None
        other = await engine.connect()
        assert await other.ask(PING) == PONG


async def test_a_connection_that_says_nothing_is_closed(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as engine:
        idle, slow, used = [await engine.connect() for _ in range(3)]
        await used.ask(PING)
        await slow.raw(b'{"jsonrpc":')
        start = trio.current_time()
        for client in (idle, slow):
            assert error(await client.line()) == (None, 9)
            assert await client.line() is None
        assert trio.current_time() - start == pytest.approx(HANDSHAKE)
        await trio.sleep(10 * HANDSHAKE)
        assert await used.ask(PING) == PONG


async def test_one_connection_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 5)  # file descriptors may be fewer than 2,000 here
    assert MAX_CONNECTIONS == 1000
    async with running() as engine:
        clients = [await engine.connect() for _ in range(5)]
        for client in clients:
            assert await client.ask(PING) == PONG
        refused = await engine.connect()
        assert error(await refused.line()) == (None, 10)
        assert await refused.line() is None
        await clients[0].close()
        await engine.settled(4)
        assert await (await engine.connect()).ask(PING) == PONG
        assert await clients[1].ask(PING) == PONG


# --- stopping ------------------------------------------------------------------------------------


async def test_stop_lets_running_requests_finish() -> None:
    waits = Waits()
    async with running({"container.wait": waits.wait}) as engine:
        busy, idle = await engine.connect(), await engine.connect()
        await idle.ask(PING)
        await busy.send(wait())
        await waits.until_running(1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.server.stop)
            assert await idle.line() is None
            waits.go.set()
            assert (await busy.line())["result"]["exit_code"] == 3
            assert await busy.line() is None


async def test_but_not_for_long(autojump_clock: trio.testing.MockClock) -> None:
    waits = Waits()
    async with running({"container.wait": waits.wait}) as engine:
        busy = await engine.connect()
        await busy.send(wait())
        await waits.until_running(1)
        start = trio.current_time()
        await engine.server.stop()
        assert trio.current_time() - start == pytest.approx(GRACE)
        assert waits.cancelled == 1
        assert await busy.line() is None


# --- trio-jsonrpc's loop -------------------------------------------------------------------------


async def pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    ours, theirs = (trio.SocketStream(trio.socket.from_stdlib_socket(s)) for s in socket.socketpair())
    return ours, theirs


async def test_reading_passes_cancellation_on() -> None:
    ours, theirs = await pair()
    async with ours, theirs:
        went_on = False
        with trio.CancelScope() as scope:
            scope.cancel()
            await Connection(LineTransport(ours)).read()
            went_on = True
        assert scope.cancelled_caught and not went_on
        # the library's own does not
        with trio.CancelScope() as scope:
            scope.cancel()
            await JsonRpcConnection(LineTransport(ours), JsonRpcConnectionType.SERVER)._background_task()
            went_on = True
        assert went_on, "mended upstream: Connection.read need not check"


async def test_a_failure_to_read_ends_the_reading_and_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """The library would log it and try again for ever."""
    ours, theirs = await pair()
    async with ours, theirs:
        connection = Connection(LineTransport(ours))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ours.receive_some)  # so that a second one is refused
            await trio.testing.wait_all_tasks_blocked()
            with trio.fail_after(60), pytest.raises(trio.BusyResourceError):
                await connection.read()
            nursery.cancel_scope.cancel()
        assert [request async for request in connection.iter_requests()] == []


async def test_a_crashed_connection_leaves_the_others_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with running() as engine:
        other = await engine.connect()
        assert await other.ask(PING) == PONG
        with monkeypatch.context() as patch:
            patch.setattr("jocker_engine.api.connection.peer_of", lambda sock: 1 // 0)
            assert await (await engine.connect()).line() is None
        await engine.settled(1)  # it is logged before it is counted out
        assert "ZeroDivisionError" in caplog.text
        assert await other.ask(PING) == PONG


# --- nonsense ------------------------------------------------------------------------------------

lines = st.binary(max_size=200) | st.sampled_from(
    [
        b"[]",
        b"5",
        b"{",
        b'[{"id":1}]',
        b"\xff\xfe",
        b'"',
        b"[[[[",
        b'{"jsonrpc":"2.0","id":null,"method":"engine.ping"}',
    ]
)


@settings(max_examples=40, deadline=None)
@given(chunks=st.lists(lines | st.just(b"\n"), max_size=20), how=st.sampled_from(["close", "half", "stay"]))
def test_nonsense_harms_nobody(chunks: list[bytes], how: str) -> None:
    async def main() -> None:
        async with running() as engine:
            good, bad = await engine.connect(), await engine.connect()
            for chunk in chunks:
                await bad.raw(chunk)
            if how == "half":
                await bad.stream.send_eof()
            elif how == "close":
                await bad.close()
            with trio.fail_after(60):
                assert await good.ask(PING) == PONG
            if how == "half":
                while (answer := await bad.line()) is not None:
                    assert isinstance(answer, dict | list)

    trio.run(main)


# --- the actor -----------------------------------------------------------------------------------


def test_unknown_handlers_are_refused() -> None:
    with pytest.raises(ValueError, match=r"engine\.pnig"):
        Dispatcher({"engine.pnig": ping})


async def test_socket_file(tmp_path: os.PathLike[str], caplog: pytest.LogCaptureFixture) -> None:
    path = os.path.join(tmp_path, "run", "s")
    with caplog.at_level(logging.INFO):
        listener = open_socket(path)
    group = "only its owner" not in caplog.text
    assert os.stat(path).st_mode & 0o777 == (0o660 if group else 0o600)
    with pytest.raises(FileExistsError, match="somebody listens"):
        open_socket(path)
    await listener.aclose()
    assert os.path.exists(path)
    await open_socket(path).aclose()  # a stale one is replaced
    os.unlink(path)
    with open(path, "w"):
        pass
    with pytest.raises(FileExistsError, match="not a socket"):
        open_socket(path)
    with pytest.raises(OSError, match="cannot listen on"):
        open_socket(os.path.join(tmp_path, "x" * 120))
