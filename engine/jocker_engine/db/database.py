"""The db actor: the one writer, which puts all writes that wait into one commit, and one read-only connection.

aiosqlite is an asyncio library; it runs under trio-asyncio in this actor and nowhere else. Two facts shape
the code: a cancelled statement still runs and leaves its transaction open, so a batch runs shielded; and a
connection that is not closed keeps its thread, and so the process, alive, so both are closed in a shielded
finally.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from typing import Any

import aiosqlite
import msgspec
import trio
import trio_asyncio

from ..otp import Actor, Reply, handles
from .schema import open_database

Row = tuple[Any, ...]


class Statement(msgspec.Struct, frozen=True):
    """One SQL statement with its parameters."""

    sql: str
    parameters: tuple[Any, ...] = ()


class Write(msgspec.Struct, frozen=True):
    """All of these or none; answered with the number of rows the last one changed, once they are on disk."""

    statements: tuple[Statement, ...]


class Read(msgspec.Struct, frozen=True):
    """A query; answered with all its rows."""

    statement: Statement


class Database(Actor):
    """Owns the database file. SQLite's errors (a broken constraint, a full disk) are answers, not crashes."""

    answers = (sqlite3.Error,)

    def __init__(self, path: str) -> None:
        self._path = path
        self._commits = 0

    async def init(self) -> None:
        self._writes, write_queue = trio.open_memory_channel[tuple[Write, Reply]](self.mailbox_size)
        self._reads, read_queue = trio.open_memory_channel[tuple[Read, Reply]](self.mailbox_size)
        opened = trio.Event()
        self.spawn(self._serve, write_queue, read_queue, opened)
        await opened.wait()

    @handles(Write)
    async def write(self, message: Write) -> None:
        await self._writes.send((message, self.defer()))

    @handles(Read)
    async def read(self, message: Read) -> None:
        await self._reads.send((message, self.defer()))

    async def terminate(self, reason: BaseException | None) -> None:
        self._writes.close()
        self._reads.close()

    def detail(self) -> str:
        return f"{self._commits} commits"

    async def _serve(
        self,
        writes: trio.MemoryReceiveChannel[tuple[Write, Reply]],
        reads: trio.MemoryReceiveChannel[tuple[Read, Reply]],
        opened: trio.Event,
    ) -> None:
        async with trio_asyncio.open_loop():
            # The reader comes second: it wants a file that is there and migrated.
            writer = await _connect(lambda: open_database(self._path))
            try:
                reader = await _connect(
                    lambda: sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, check_same_thread=False)
                )
                try:
                    opened.set()
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._serve_reads, reader, reads)
                        await self._serve_writes(writer, writes)
                finally:
                    await _close(reader)
            finally:
                await _close(writer)

    async def _serve_writes(
        self, writer: aiosqlite.Connection, queue: trio.MemoryReceiveChannel[tuple[Write, Reply]]
    ) -> None:
        async for first in queue:
            batch = [first]
            while True:
                try:
                    batch.append(queue.receive_nowait())
                except (trio.WouldBlock, trio.EndOfChannel):
                    break
            with trio.CancelScope(shield=True):
                await self._commit(writer, batch)

    async def _commit(self, writer: aiosqlite.Connection, batch: list[tuple[Write, Reply]]) -> None:
        """One transaction; each write in a savepoint of its own, so that one that fails spoils no other."""
        execute = trio_asyncio.aio_as_trio(writer.execute)
        outcomes: list[tuple[Reply, int | sqlite3.Error]] = []
        try:
            await execute("BEGIN IMMEDIATE")
            for write, reply in batch:
                outcomes.append((reply, await _attempt(execute, write)))
            await execute("COMMIT")
        except sqlite3.Error as error:
            if writer.in_transaction:
                await execute("ROLLBACK")
            outcomes = [(reply, error) for _, reply in batch]
        self._commits += 1
        for reply, outcome in outcomes:
            if isinstance(outcome, sqlite3.Error):
                reply.fail(outcome)
            else:
                reply.send(outcome)

    async def _serve_reads(
        self, reader: aiosqlite.Connection, queue: trio.MemoryReceiveChannel[tuple[Read, Reply]]
    ) -> None:
        fetch = trio_asyncio.aio_as_trio(reader.execute_fetchall)
        async for message, reply in queue:
            try:
                rows = await fetch(message.statement.sql, message.statement.parameters)
            except sqlite3.Error as error:
                reply.fail(error)
            else:
                reply.send(list(rows))


async def _attempt(execute: Callable[..., Awaitable[Any]], write: Write) -> int | sqlite3.Error:
    await execute("SAVEPOINT one")
    try:
        for statement in write.statements:
            cursor = await execute(statement.sql, statement.parameters)
    except (sqlite3.IntegrityError, sqlite3.ProgrammingError) as error:
        await execute("ROLLBACK TO one")
        await execute("RELEASE one")
        return error
    await execute("RELEASE one")
    return int(cursor.rowcount)


async def _connect(connector: Callable[[], sqlite3.Connection]) -> aiosqlite.Connection:
    async def connect() -> aiosqlite.Connection:
        return await aiosqlite.Connection(connector, iter_chunk_size=64)

    connection: aiosqlite.Connection = await trio_asyncio.aio_as_trio(connect)()
    return connection


async def _close(connection: aiosqlite.Connection) -> None:
    with trio.CancelScope(shield=True):
        await trio_asyncio.aio_as_trio(connection.close)()
