"""The trio client against a real engine."""

from __future__ import annotations

import pytest
import trio

from engines import Engine
from jocker_client import aio
from jocker_client.connection import Unreachable
from jocker_protocol import wire
from jocker_protocol.errors import NotFound


async def test_calls_side_by_side_and_errors(shared: Engine) -> None:
    async with aio.connect(f"unix://{shared.socket}") as connection:
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(connection.call, "engine.ping")
        with pytest.raises(NotFound, match="no such container"):
            await connection.call("container.inspect", container="nobody")


async def test_a_cancelled_call_leaves_the_connection_good(shared: Engine) -> None:
    async with aio.connect(shared.socket) as connection:
        made = await connection.call("container.create", image="base", cmd=["sleep", "100"])
        await connection.call("container.start", container=made["id"])
        with trio.move_on_after(0.2) as scope:
            await connection.call("container.wait", container=made["id"])
        assert scope.cancelled_caught
        await connection.call("container.remove", container=made["id"], force=True)
        assert await connection.call("engine.ping") == {"pong": True}


async def test_streams(shared: Engine) -> None:
    async with aio.connect(shared.socket) as connection:
        made = await connection.call(
            "container.create", image="base", cmd=["sh", "-c", "echo hi"], auto_remove=True
        )
        ticket = await connection.call("container.attach", container=made["id"])
        async with await connection.stream(ticket["token"]) as stream:
            await connection.call("container.start", container=made["id"])
            frames = [frame async for frame in stream.frames()]
        assert frames[0] == (wire.STDOUT, b"hi\n") and frames[-1][0] == wire.RESULT


async def test_nobody_there() -> None:
    with pytest.raises(Unreachable, match="/nowhere/s"):
        async with aio.connect("unix:///nowhere/s"):
            pass
