"""The db actor: writes in batches, readers that do not wait, writes that are never half wished; refused files."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from jocker_engine.db.database import Database, Read, Statement, Write
from jocker_engine.db.reserve import Reserve
from jocker_engine.db.schema import MIGRATIONS, DatabaseRefused, open_database
from jocker_engine.db.store import Store
from jocker_engine.otp import ChildSpec, Ref, Supervisor, System


@asynccontextmanager
async def database(directory: Path) -> AsyncIterator[Ref]:
    system = System()
    made = lambda: Database(str(directory / "db"), Reserve(str(directory / "reserve")))  # noqa: E731
    root = Supervisor("root", [ChildSpec("db", made)])
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: system.run(root, task_status=task_status))
        yield system.ref("db")
        system.shutdown()


def note(text: str) -> Statement:
    return Statement("INSERT INTO events(time, doc) VALUES (?, '{}')", (text,))


def noted(directory: Path) -> list[str]:
    """As another process sees it now."""
    with sqlite3.connect(directory / "db") as connection:
        found = [row[0] for row in connection.execute("SELECT time FROM events ORDER BY seq")]
    connection.close()
    return found


async def test_writes_that_wait_are_one_commit(tmp_path: Path) -> None:
    async with database(tmp_path) as db:
        async with trio.open_nursery() as nursery:
            for number in range(200):
                nursery.start_soon(db.call, Write((note(str(number)),)))
        assert len(set(noted(tmp_path))) == 200
        commits = int(db._system.tree().children[0].detail.split()[0])
        assert commits < 20


async def test_one_that_fails_spoils_no_other_of_its_commit(tmp_path: Path) -> None:
    failed = []

    async def write(*statements: Statement) -> None:
        try:
            await db.call(Write(statements))
        except sqlite3.IntegrityError as error:
            failed.append(error)

    bad = Statement("INSERT INTO tags VALUES ('t', 'no such image')")
    async with database(tmp_path) as db:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write, note("a"))
            nursery.start_soon(write, note("b"), bad)
            nursery.start_soon(write, note("c"))
        assert (sorted(noted(tmp_path)), len(failed)) == (["a", "c"], 1)


async def test_a_reader_does_not_wait_for_a_writer(tmp_path: Path) -> None:
    async with database(tmp_path) as db:
        await db.call(Write((note("old"),)))
        other = sqlite3.connect(tmp_path / "db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")  # the writer waits for this one's end
        async with trio.open_nursery() as nursery:
            nursery.start_soon(db.call, Write((note("new"),)))
            await trio.testing.wait_all_tasks_blocked()
            assert await db.call(Read(Statement("SELECT time FROM events"))) == [("old",)]
            other.execute("ROLLBACK")
        other.close()
        assert noted(tmp_path) == ["old", "new"]


async def test_a_cancelled_write_is_on_disk_before_its_writer_goes_on(tmp_path: Path) -> None:
    """What takes a crashed actor's place finds all that it wrote."""
    async with database(tmp_path) as db:
        store = Store(db, db._system.ref("nobody"))
        for number in range(20):
            with trio.CancelScope() as scope:
                scope.cancel()
                await store.write(note(str(number)))
            assert len(noted(tmp_path)) == number + 1


@pytest.mark.parametrize("kind", ["garbage", "cut", "newer", "empty text"])
def test_what_cannot_be_used_is_refused_and_not_touched(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "db"
    connection = open_database(str(path))
    connection.execute("INSERT INTO events(time, doc) VALUES ('now', ?)", ("x" * 100_000,))
    if kind == "newer":
        connection.execute(f"PRAGMA user_version={len(MIGRATIONS) + 1}")
    connection.close()
    content = path.read_bytes()
    if kind == "garbage":
        content = content[:8192] + bytes(range(256)) * 64 + content[8192 + 256 * 64 :]
    elif kind == "cut":
        content = content[: len(content) // 2]
    elif kind == "empty text":
        content = b"\n" * 100
    path.write_bytes(content)
    with pytest.raises(DatabaseRefused, match=r"not touched; (move it away|start that version)") as caught:
        open_database(str(path))
    assert str(caught.value).count("\n") == 0
    assert path.read_bytes() == content


def test_each_migration_is_a_transaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from jocker_engine.db import schema

    path = str(tmp_path / "db")
    monkeypatch.setattr(schema, "MIGRATIONS", MIGRATIONS[:1])
    open_database(path).close()
    monkeypatch.setattr(
        schema, "MIGRATIONS", (*MIGRATIONS[:1], "CREATE TABLE half (x); CREATE TABLE half (x);")
    )
    with pytest.raises(sqlite3.OperationalError, match="half"):
        open_database(path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        assert not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'half'").fetchall()
    connection.close()


def test_endpoints_outlive_their_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of before that migration stay, and do not keep their network any more."""
    from jocker_engine.db import schema

    path = str(tmp_path / "db")
    monkeypatch.setattr(schema, "MIGRATIONS", MIGRATIONS[:4])
    with open_database(path) as before:
        before.executescript(
            """INSERT INTO images VALUES ('i', NULL, '{}');
            INSERT INTO containers (id, name, image, status, doc) VALUES ('c', 'c', 'i', 'exited', '{}');
            INSERT INTO networks VALUES ('n', 'n', 1, '{}');
            INSERT INTO endpoints VALUES ('c', 'n', 0, 'kept')"""
        )
    before.close()
    monkeypatch.undo()
    after = open_database(path)
    after.execute("DELETE FROM networks")
    assert after.execute("SELECT * FROM endpoints").fetchall() == [("c", "n", 0, "kept")]
    after.execute("DELETE FROM containers")
    assert after.execute("SELECT * FROM endpoints").fetchall() == []
    after.close()
