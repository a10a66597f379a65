"""The tables, as numbered migrations. A migration is never changed once released; a new one is added.

Columns exist for what is queried or constrained; `doc` holds the rest of a record as one JSON document.
"""

from __future__ import annotations

import os
import sqlite3

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE layers (
        id        TEXT PRIMARY KEY,
        parent    TEXT REFERENCES layers(id),
        cache_key TEXT NOT NULL,
        ready     INTEGER NOT NULL,
        doc       TEXT NOT NULL
    ) STRICT;
    CREATE INDEX layers_by_cache_key ON layers(cache_key);
    CREATE INDEX layers_by_parent ON layers(parent);

    CREATE TABLE images (
        id    TEXT PRIMARY KEY,
        layer TEXT REFERENCES layers(id),
        doc   TEXT NOT NULL
    ) STRICT;
    CREATE INDEX images_by_layer ON images(layer);

    CREATE TABLE tags (
        tag   TEXT PRIMARY KEY,
        image TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE
    ) STRICT;
    CREATE INDEX tags_by_image ON tags(image);

    CREATE TABLE containers (
        id     TEXT PRIMARY KEY,
        name   TEXT NOT NULL UNIQUE,
        image  TEXT NOT NULL REFERENCES images(id),
        layer  TEXT REFERENCES layers(id),
        status TEXT NOT NULL,
        doc    TEXT NOT NULL
    ) STRICT;
    CREATE INDEX containers_by_image ON containers(image);
    CREATE INDEX containers_by_layer ON containers(layer);

    CREATE TABLE volumes (
        name  TEXT PRIMARY KEY,
        ready INTEGER NOT NULL,
        doc   TEXT NOT NULL
    ) STRICT;

    CREATE TABLE volume_uses (
        container TEXT NOT NULL REFERENCES containers(id) ON DELETE CASCADE,
        volume    TEXT NOT NULL REFERENCES volumes(name),
        PRIMARY KEY (container, volume)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX volume_uses_by_volume ON volume_uses(volume);
    """,
    """
    CREATE TABLE events (
        seq  INTEGER PRIMARY KEY AUTOINCREMENT,
        time TEXT NOT NULL,
        doc  TEXT NOT NULL
    ) STRICT;
    CREATE INDEX events_by_time ON events(time);
    """,
    """
    ALTER TABLE layers ADD COLUMN diff_id TEXT NOT NULL DEFAULT '';
    ALTER TABLE layers ADD COLUMN tar_size INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX layers_by_diff_id ON layers(diff_id);
    """,
    """
    CREATE TABLE networks (
        id    TEXT PRIMARY KEY,
        name  TEXT NOT NULL UNIQUE,
        ready INTEGER NOT NULL,
        doc   TEXT NOT NULL
    ) STRICT;

    CREATE TABLE endpoints (
        container TEXT NOT NULL REFERENCES containers(id) ON DELETE CASCADE,
        network   TEXT NOT NULL REFERENCES networks(id),
        position  INTEGER NOT NULL,
        doc       TEXT NOT NULL,
        PRIMARY KEY (container, network)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX endpoints_by_network ON endpoints(network);

    CREATE TABLE addresses (
        network   TEXT NOT NULL REFERENCES networks(id),
        address   TEXT NOT NULL,
        container TEXT NOT NULL REFERENCES containers(id) ON DELETE CASCADE,
        PRIMARY KEY (network, address)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX addresses_by_container ON addresses(container);

    CREATE TABLE published (
        protocol       TEXT NOT NULL,
        host_ip        TEXT NOT NULL,
        host_port      INTEGER NOT NULL,
        container      TEXT NOT NULL REFERENCES containers(id) ON DELETE CASCADE,
        network        TEXT NOT NULL REFERENCES networks(id),
        container_port INTEGER NOT NULL,
        PRIMARY KEY (protocol, host_ip, host_port)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX published_by_container ON published(container);
    """,
    """
    CREATE TABLE endpoints_of_any (
        container TEXT NOT NULL REFERENCES containers(id) ON DELETE CASCADE,
        network   TEXT NOT NULL,
        position  INTEGER NOT NULL,
        doc       TEXT NOT NULL,
        PRIMARY KEY (container, network)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO endpoints_of_any SELECT container, network, position, doc FROM endpoints;
    DROP TABLE endpoints;
    ALTER TABLE endpoints_of_any RENAME TO endpoints;
    CREATE INDEX endpoints_by_network ON endpoints(network);
    """,
)


class DatabaseRefused(Exception):
    """The file is not a database of ours, damaged, or of a newer Jocker. It was not touched."""


def open_database(path: str) -> sqlite3.Connection:
    """Open for writing, checked and migrated. Raises DatabaseRefused, leaving the file as it was.

    Durability: WAL with synchronous=FULL, so that what is committed is on disk
    (https://www.sqlite.org/pragma.html#pragma_synchronous).
    """
    if os.path.exists(path) and os.path.getsize(path):
        inspect(path)
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
        connection.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version={number}; COMMIT")
    return connection


def inspect(path: str) -> None:
    """Raise DatabaseRefused for a file that cannot be used. Read-only: what is refused keeps every byte."""
    keep = "it was not touched; move it away to start empty, or put a backup in its place"
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        finally:
            connection.close()
    except sqlite3.DatabaseError as error:
        raise DatabaseRefused(f"{path}: not a usable database: {error}; {keep}") from None
    if found != "ok":
        what = " ".join(found.removeprefix("*** in database main ***").split())
        raise DatabaseRefused(f"{path}: damaged: {what}; {keep}")
    if version > len(MIGRATIONS):
        raise DatabaseRefused(
            f"{path}: written by a newer Jocker (schema {version}, this one knows {len(MIGRATIONS)}); "
            "it was not touched; start that version"
        )
