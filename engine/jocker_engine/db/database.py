"""The db actor: the one writer, which puts all writes that wait into one commit, and one read-only connection.

aiosqlite is an asyncio library; it runs under trio-asyncio in this actor and nowhere else. Two facts shape
the code: a cancelled statement still runs and leaves its transaction open, so a batch runs shielded; and a
connection that is not closed keeps its thread, and so the process, alive, so both are closed in a shielded
finally.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Awaitable, Callable
from typing import Any

import aiosqlite
import msgspec
import trio
import trio_asyncio

from ..otp import Actor, Reply, handles
from .reserve import Reserve
from .schema import open_database

Row = tuple[Any, ...]


class Statement(msgspec.Struct, frozen=True):
    """One SQL statement with its parameters."""

    sql: str
    parameters: tuple[Any, ...] = ()


class Write(msgspec.Struct, frozen=True):
    """All of these or none; answered with the number of rows the last one changed, once they are on disk."""

    statements: tuple[Statement, ...]
    grows: bool = False
    """Something new is made: on a full disk it is refused, and not helped by the reserve."""


class Read(msgspec.Struct, frozen=True):
    """A query; answered with all its rows."""

    statement: Statement


class Backup(msgspec.Struct, frozen=True):
    """Copy the database to a new file (https://www.sqlite.org/backup.html); answered when the copy is on disk."""

    path: str


class Database(Actor):
    """Owns the database file. SQLite's errors (a broken constraint, a full disk) are answers, not crashes."""

    answers = (sqlite3.Error, OSError)

    def __init__(self, path: str, reserve: Reserve) -> None:
        self._path = path
        self._reserve = reserve
        self._commits = 0

    async def init(self) -> None:
        self._reserve.restore()
        self._writes, write_queue = trio.open_memory_channel[tuple[Write, Reply]](self.mailbox_size)
        self._reads, read_queue = trio.open_memory_channel[tuple[Read | Backup, Reply]](self.mailbox_size)
        opened = trio.Event()
        self.spawn(self._serve, write_queue, read_queue, opened)
        await opened.wait()

    @handles(Write)
    async def write(self, message: Write) -> None:
        await self._writes.send((message, self.defer()))

    @handles(Read, Backup)
    async def read(self, message: Read | Backup) -> None:
        await self._reads.send((message, self.defer()))

    async def terminate(self, reason: BaseException | None) -> None:
        self._writes.close()
        self._reads.close()

    def detail(self) -> str:
        return f"{self._commits} commits"

    async def _serve(
        self,
        writes: trio.MemoryReceiveChannel[tuple[Write, Reply]],
        reads: trio.MemoryReceiveChannel[tuple[Read | Backup, Reply]],
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
        """On a full disk the reserve makes room, for what makes nothing new."""
        full = await self._transact(writer, batch)
        if full and (saving := [item for item in full if not item[0].grows]) and self._reserve.release():
            full = [item for item in full if item[0].grows] + await self._transact(writer, saving)
        elif not full:
            self._reserve.restore()
        for _, reply in full:
            reply.fail(sqlite3.OperationalError("the disk is full; remove containers, images or volumes"))

    async def _transact(
        self, writer: aiosqlite.Connection, batch: list[tuple[Write, Reply]]
    ) -> list[tuple[Write, Reply]]:
        """One transaction; each write in a savepoint of its own, so that one that fails spoils no other.

        Returns the batch, unanswered, when the disk was full.
        """
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
            if is_full(error):
                return batch
            outcomes = [(reply, error) for _, reply in batch]
        self._commits += 1
        for reply, outcome in outcomes:
            if isinstance(outcome, sqlite3.Error):
                reply.fail(outcome)
            else:
                reply.send(outcome)
        return []

    async def _serve_reads(
        self, reader: aiosqlite.Connection, queue: trio.MemoryReceiveChannel[tuple[Read | Backup, Reply]]
    ) -> None:
        fetch = trio_asyncio.aio_as_trio(reader.execute_fetchall)
        async for message, reply in queue:
            try:
                if isinstance(message, Backup):
                    await _back_up(reader, message.path)
                    reply.send(None)
                    continue
                rows = await fetch(message.statement.sql, message.statement.parameters)
            except (sqlite3.Error, OSError) as error:
                reply.fail(error)
            else:
                reply.send(list(rows))


def is_full(error: sqlite3.Error) -> bool:
    """Whether there was no room: SQLITE_FULL, or an I/O error of a write (a WAL's index cannot grow either)."""
    name = getattr(error, "sqlite_errorname", "")
    return name == "SQLITE_FULL" or name.startswith(("SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE"))


async def _back_up(reader: aiosqlite.Connection, path: str) -> None:
    """Into a new file that has its name only when it is whole."""
    partial = f"{path}.partial"
    descriptor = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        target = sqlite3.connect(partial, check_same_thread=False)
        try:
            await trio_asyncio.aio_as_trio(reader.backup)(target)
        finally:
            target.close()
        os.fsync(descriptor)
        os.link(partial, path)
    finally:
        os.close(descriptor)
        os.unlink(partial)


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
