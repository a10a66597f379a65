"""The queries of every table, typed, and the way to write statements (statements.py). Managers use this."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec
import trio

from jocker_protocol.types import ContainerState, Event, ImageConfig

from ..otp import MailboxFull, Ref
from .database import Backup, Read, Row, Statement, Write
from .network_store import NetworkStore
from .records import ContainerRecord, Diff, ImageRecord, LayerRecord, VolumeRecord

T = TypeVar("T")


_STANDS_ON = """
    WITH RECURSIVE chain (id, parent, depth) AS (
        SELECT id, parent, 0 FROM layers WHERE id = ?
        UNION ALL
        SELECT layers.id, layers.parent, chain.depth + 1 FROM layers JOIN chain ON layers.id = chain.parent
    )
"""


_ON_TOP = """
    WITH RECURSIVE above (id, depth) AS (
        SELECT ?, 0
        UNION ALL
        SELECT layers.id, above.depth + 1 FROM layers JOIN above ON layers.parent = above.id
    )
"""


class Grown(msgspec.Struct, frozen=True):
    """To the events actor: there is more in the journal."""


class Store:
    """What can be asked and done; each method is one message to the db actor."""

    def __init__(self, db: Ref, journal: Ref) -> None:
        self._db = db
        self._journal = journal
        self.networks = NetworkStore(self._rows)

    async def write(self, *statements: Statement, grows: bool = False) -> int:
        """All or none, on disk when this returns. Raises sqlite3.Error.

        It cannot be cancelled: the db actor has it in its queue, and who takes the place of an actor that crashed
        in the middle of it must find what it wrote.

        `grows` says that something new is made, for which the reserve of a full disk is not there.
        """
        with trio.CancelScope(shield=True):
            changed = int(await self._db.call(Write(statements, grows)))
        if any("INTO events" in statement.sql for statement in statements):
            try:
                self._journal.cast(Grown())
            except MailboxFull:
                pass  # it has been told a thousand times
        return changed

    async def backup(self, path: str) -> None:
        """A copy of the whole database in a new file. Raises sqlite3.Error, OSError."""
        await self._db.call(Backup(path))

    async def faults(self) -> list[str]:
        """What SQLite finds wrong with the file: nothing."""
        checked = await self._rows("PRAGMA quick_check(20)")
        dangling = await self._rows("PRAGMA foreign_key_check")
        return [
            *(str(row[0]) for row in checked if row[0] != "ok"),
            *(f"a row of {row[0]} refers to one of {row[2]} that is not there" for row in dangling),
        ]

    async def _rows(self, sql: str, *parameters: Any) -> list[Row]:
        rows: list[Row] = await self._db.call(Read(Statement(sql, parameters)))
        return rows

    async def _docs(self, kind: type[T], sql: str, *parameters: Any) -> list[T]:
        decode = msgspec.json.Decoder(kind).decode
        return [decode(row[0]) for row in await self._rows(sql, *parameters)]

    async def _doc(self, kind: type[T], sql: str, *parameters: Any) -> T | None:
        found = await self._docs(kind, sql, *parameters)
        return found[0] if found else None

    # layers

    async def layer(self, layer: str) -> LayerRecord | None:
        """By its whole id."""
        return await self._doc(LayerRecord, "SELECT doc FROM layers WHERE id = ? AND ready", layer)

    async def layers_like(self, prefix: str) -> list[LayerRecord]:
        """By the beginning of the id (hex digits only)."""
        return await self._docs(
            LayerRecord, "SELECT doc FROM layers WHERE id >= ? AND id < ? AND ready", prefix, prefix + "g"
        )

    async def cached_layer(self, cache_key: str) -> LayerRecord | None:
        """The layer that these inputs made before."""
        return await self._doc(
            LayerRecord,
            "SELECT doc FROM layers WHERE cache_key = ? AND ready ORDER BY rowid DESC LIMIT 1",
            cache_key,
        )

    async def cache_layers(self) -> list[tuple[LayerRecord, bool]]:
        """Layers that a build may find, and whether an image or a container stands on each; also those that nobody
        finds and nothing stands on, such as a base whose image was removed.
        """
        rows = await self._rows(
            """WITH RECURSIVE used (id) AS (
                   SELECT layer FROM images UNION SELECT layer FROM containers
                   UNION SELECT parent FROM layers JOIN used USING (id)
               )
               SELECT doc, id IN (SELECT id FROM used WHERE id IS NOT NULL) AS in_use FROM layers
               WHERE ready AND (cache_key != '' OR NOT in_use)"""
        )
        return [(msgspec.json.decode(doc, type=LayerRecord), bool(used)) for doc, used in rows]

    async def layer_like(self, parent: str | None, diff_id: str) -> LayerRecord | None:
        """One that makes the same of the same parent."""
        return await self._doc(
            LayerRecord,
            "SELECT doc FROM layers WHERE parent IS ? AND diff_id = ? AND ready ORDER BY rowid LIMIT 1",
            parent,
            diff_id,
        )

    async def chain(self, layer: str) -> list[LayerRecord]:
        """A layer and all below it, the base first."""
        return await self._docs(
            LayerRecord,
            _STANDS_ON + "SELECT doc FROM layers JOIN chain USING (id) ORDER BY chain.depth DESC",
            layer,
        )

    async def diff(self, layer: str) -> Diff | None:
        """What one layer is as a tar."""
        rows = await self._rows("SELECT id, diff_id, tar_size FROM layers WHERE id = ?", layer)
        return _diff(rows[0]) if rows else None

    async def diffs(self, layer: str) -> list[Diff]:
        """The same of a layer and all below it, the base first."""
        rows = await self._rows(
            _STANDS_ON + "SELECT id, diff_id, tar_size FROM layers JOIN chain USING (id) ORDER BY depth DESC",
            layer,
        )
        return [_diff(row) for row in rows]

    async def layer_ids(self) -> dict[str, bool]:
        """Every layer's id, and whether it is ready; those that stand on others first."""
        rows = await self._rows("SELECT id, ready FROM layers ORDER BY rowid DESC")
        return {row[0]: bool(row[1]) for row in rows}

    async def layers_on(self, layer: str) -> list[str]:
        """It and all that stand on it, the topmost first."""
        rows = await self._rows(_ON_TOP + "SELECT id FROM above ORDER BY depth DESC", layer)
        return [row[0] for row in rows]

    async def images_on(self, layer: str) -> list[str]:
        """Ids of images that this layer is part of."""
        rows = await self._rows(
            _ON_TOP + "SELECT images.id FROM images JOIN above ON layer = above.id", layer
        )
        return [row[0] for row in rows]

    async def containers_on(self, layer: str) -> list[str]:
        """Names of containers that this layer is part of."""
        rows = await self._rows(
            _ON_TOP + "SELECT name FROM containers JOIN above ON layer = above.id ORDER BY name", layer
        )
        return [row[0] for row in rows]

    # images

    async def images(self) -> list[ImageRecord]:
        """All."""
        return await self._docs(ImageRecord, "SELECT doc FROM images")

    async def image(self, image: str) -> ImageRecord | None:
        """By its whole id."""
        return await self._doc(ImageRecord, "SELECT doc FROM images WHERE id = ?", image)

    async def images_like(self, prefix: str) -> list[ImageRecord]:
        """By the beginning of the id (hex digits only)."""
        first = "sha256:" + prefix
        return await self._docs(
            ImageRecord, "SELECT doc FROM images WHERE id >= ? AND id < ?", first, first + "g"
        )

    async def tagged(self, tag: str) -> ImageRecord | None:
        """By its tag."""
        return await self._doc(
            ImageRecord, "SELECT doc FROM images JOIN tags ON tags.image = images.id WHERE tag = ?", tag
        )

    async def tags(self) -> dict[str, list[str]]:
        """Image id -> its tags, sorted."""
        tags: dict[str, list[str]] = {}
        for image, tag in await self._rows("SELECT image, tag FROM tags ORDER BY tag"):
            tags.setdefault(image, []).append(tag)
        return tags

    # containers

    async def _containers(self, rest: str, *parameters: Any) -> list[ContainerRecord]:
        rows = await self._rows(f"SELECT id, name, image, layer, doc FROM containers {rest}", *parameters)
        return [_container(row) for row in rows]

    async def containers(self, statuses: Iterable[str] = ()) -> list[ContainerRecord]:
        """All, or those in one of these states; newest first."""
        wanted = tuple(statuses)
        where = f"WHERE status IN ({', '.join('?' * len(wanted))})" if wanted else ""
        return await self._containers(f"{where} ORDER BY rowid DESC", *wanted)

    async def container(self, container: str) -> ContainerRecord | None:
        """By its whole id."""
        found = await self._containers("WHERE id = ?", container)
        return found[0] if found else None

    async def containers_like(self, name: str) -> list[tuple[str, str]]:
        """(id, name) of those whose name or id this is or, failing that, whose id begins so."""
        exact = await self._rows("SELECT id, name FROM containers WHERE name = ?1 OR id = ?1", name)
        rows = exact or await self._rows(
            "SELECT id, name FROM containers WHERE id >= ? AND id < ? ORDER BY name", name, name + "g"
        )
        return [(row[0], row[1]) for row in rows]

    async def containers_of_image(self, image: str) -> list[ContainerRecord]:
        """Those made from it."""
        return await self._containers("WHERE image = ?", image)

    # volumes

    async def volumes(self) -> list[VolumeRecord]:
        """All that are ready, by name."""
        return await self._docs(VolumeRecord, "SELECT doc FROM volumes WHERE ready ORDER BY name")

    async def volume(self, volume: str) -> VolumeRecord | None:
        """By its name."""
        return await self._doc(VolumeRecord, "SELECT doc FROM volumes WHERE name = ? AND ready", volume)

    async def volume_names(self) -> dict[str, bool]:
        """Every volume's name, and whether it is ready."""
        return {row[0]: bool(row[1]) for row in await self._rows("SELECT name, ready FROM volumes")}

    async def volume_users(self) -> dict[str, list[str]]:
        """Volume -> ids of the containers that hold it."""
        users: dict[str, list[str]] = {}
        for volume, container in await self._rows("SELECT volume, container FROM volume_uses ORDER BY 1, 2"):
            users.setdefault(volume, []).append(container)
        return users

    # events

    async def events(self, after: int, since: str, limit: int) -> list[Event]:
        """Those with a greater number than `after`, not older than `since` (as clock.now writes it)."""
        rows = await self._rows(
            "SELECT seq, time, doc FROM events WHERE seq > ? AND time >= ? ORDER BY seq LIMIT ?",
            after,
            since,
            limit,
        )
        return [Event(seq=seq, time=time, **msgspec.json.decode(doc)) for seq, time, doc in rows]

    async def last_event(self) -> int:
        """The newest one's number; 0 when there has been none."""
        rows = await self._rows("SELECT coalesce(max(seq), 0) FROM events")
        return int(rows[0][0])

    async def counts(self) -> dict[str, int]:
        """How many there are of each."""
        rows = await self._rows(
            """SELECT 'containers', count(*) FROM containers
               UNION ALL SELECT 'running', count(*) FROM containers WHERE status IN ('running', 'paused', 'stopping')
               UNION ALL SELECT 'images', count(*) FROM images
               UNION ALL SELECT 'volumes', count(*) FROM volumes WHERE ready
               UNION ALL SELECT 'networks', count(*) FROM networks WHERE ready"""
        )
        return {row[0]: row[1] for row in rows}


def _diff(row: Row) -> Diff:
    return Diff(layer=row[0], diff_id=row[1], size=row[2])


_decode_container = msgspec.json.Decoder(ContainerRecord).decode


def _container(row: Row) -> ContainerRecord:
    """A record that cannot be read is a dead container, so that all others can be listed and this one removed."""
    id, name, image, layer, doc = row
    try:
        record = _decode_container(doc)
        record.image_id = image  # the column follows an image that gets another id
        return record
    except msgspec.MsgspecError as error:
        return ContainerRecord(
            id=id,
            name=name,
            image=image,
            image_id=image,
            layer=layer,
            created_at="1970-01-01T00:00:00.000000000Z",
            config=ImageConfig(cmd=["unknown"]),
            mounts=[],
            network="none",
            hostname="",
            tty=False,
            interactive=False,
            auto_remove=False,
            stop_timeout=0,
            state=ContainerState(status="dead", error=f"its record cannot be read: {error}"),
        )
