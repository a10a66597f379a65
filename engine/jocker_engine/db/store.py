"""The queries and changes of every table, typed. Managers use this; only here is SQL."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec

from ..otp import Ref
from .database import Read, Row, Statement, Write
from .records import ContainerRecord, ImageRecord, LayerRecord, VolumeRecord

T = TypeVar("T")


def _doc(record: Any) -> str:
    return msgspec.json.encode(record).decode()


# --- changes: statements, so that several can go into one Write -------------------------------------


def add_layer(layer: LayerRecord, *, ready: bool) -> Statement:
    """The intent to make a layer, or a layer."""
    return Statement(
        "INSERT INTO layers (id, parent, cache_key, ready, doc) VALUES (?, ?, ?, ?, ?)",
        (layer.id, layer.parent, layer.cache_key, ready, _doc(layer)),
    )


def confirm_layer(layer: LayerRecord) -> Statement:
    """It is on disk now."""
    return Statement("UPDATE layers SET ready = 1, doc = ? WHERE id = ?", (_doc(layer), layer.id))


def doom_layer(layer: str) -> Statement:
    """The intent to destroy it."""
    return Statement("UPDATE layers SET ready = 0 WHERE id = ?", (layer,))


def drop_layer(layer: str) -> Statement:
    """It is gone from the disk."""
    return Statement("DELETE FROM layers WHERE id = ?", (layer,))


def add_image(image: ImageRecord) -> Statement:
    """An image; the same one again is no error."""
    return Statement(
        "INSERT INTO images (id, layer, doc) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        (image.id, image.layer, _doc(image)),
    )


def drop_image(image: str) -> Statement:
    """Its tags go with it."""
    return Statement("DELETE FROM images WHERE id = ?", (image,))


def set_tag(tag: str, image: str) -> Statement:
    """A tag points to one image; it moves."""
    return Statement(
        "INSERT INTO tags (tag, image) VALUES (?, ?) ON CONFLICT (tag) DO UPDATE SET image = excluded.image",
        (tag, image),
    )


def drop_tag(tag: str) -> Statement:
    """Only the name."""
    return Statement("DELETE FROM tags WHERE tag = ?", (tag,))


def add_container(container: ContainerRecord) -> list[Statement]:
    """The container and its hold on its volumes. The name must be free (IntegrityError)."""
    uses = {mount.source for mount in container.mounts if mount.type == "volume"}
    return [
        Statement(
            "INSERT INTO containers (id, name, image, layer, status, doc) VALUES (?, ?, ?, ?, ?, ?)",
            (
                container.id,
                container.name,
                container.image_id,
                container.layer,
                container.state.status,
                _doc(container),
            ),
        ),
        *(
            Statement("INSERT INTO volume_uses (container, volume) VALUES (?, ?)", (container.id, volume))
            for volume in sorted(uses)
        ),
    ]


def update_container(container: ContainerRecord) -> Statement:
    """Its state or its name. A name must be free (IntegrityError)."""
    return Statement(
        "UPDATE containers SET name = ?, status = ?, doc = ? WHERE id = ?",
        (container.name, container.state.status, _doc(container), container.id),
    )


def drop_container(container: str) -> Statement:
    """Its hold on volumes goes with it."""
    return Statement("DELETE FROM containers WHERE id = ?", (container,))


def add_volume(volume: VolumeRecord) -> Statement:
    """The intent to make one."""
    return Statement(
        "INSERT INTO volumes (name, ready, doc) VALUES (?, 0, ?)",
        (volume.name, _doc(volume)),
    )


def confirm_volume(volume: VolumeRecord) -> Statement:
    """It is on disk now."""
    return Statement("UPDATE volumes SET ready = 1, doc = ? WHERE name = ?", (_doc(volume), volume.name))


def doom_volume(volume: str) -> Statement:
    """The intent to destroy it."""
    return Statement("UPDATE volumes SET ready = 0 WHERE name = ?", (volume,))


def drop_volume(volume: str) -> Statement:
    """It is gone from the disk. IntegrityError while a container holds it."""
    return Statement("DELETE FROM volumes WHERE name = ?", (volume,))


_STANDS_ON = """
    WITH RECURSIVE chain (id, parent, depth) AS (
        SELECT id, parent, 0 FROM layers WHERE id = ?
        UNION ALL
        SELECT layers.id, layers.parent, chain.depth + 1 FROM layers JOIN chain ON layers.id = chain.parent
    )
"""


class Store:
    """What can be asked and done; each method is one message to the db actor."""

    def __init__(self, db: Ref) -> None:
        self._db = db

    async def write(self, *statements: Statement) -> int:
        """All or none, on disk when this returns. Raises sqlite3.Error."""
        return int(await self._db.call(Write(statements)))

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

    async def chain(self, layer: str) -> list[LayerRecord]:
        """A layer and all below it, the base first."""
        return await self._docs(
            LayerRecord,
            _STANDS_ON + "SELECT doc FROM layers JOIN chain USING (id) ORDER BY chain.depth DESC",
            layer,
        )

    async def layer_ids(self) -> dict[str, bool]:
        """Every layer's id, and whether it is ready."""
        return {row[0]: bool(row[1]) for row in await self._rows("SELECT id, ready FROM layers")}

    async def is_free(self, layer: str) -> bool:
        """Whether nothing stands on this layer: no other layer, image or container."""
        rows = await self._rows(
            """SELECT 1 FROM layers WHERE parent = ?1
               UNION ALL SELECT 1 FROM images WHERE layer = ?1
               UNION ALL SELECT 1 FROM containers WHERE layer = ?1 LIMIT 1""",
            layer,
        )
        return not rows

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

    async def containers(self, statuses: Iterable[str] = ()) -> list[ContainerRecord]:
        """All, or those in one of these states; newest first."""
        wanted = tuple(statuses)
        where = f"WHERE status IN ({', '.join('?' * len(wanted))})" if wanted else ""
        return await self._docs(
            ContainerRecord, f"SELECT doc FROM containers {where} ORDER BY rowid DESC", *wanted
        )

    async def container(self, container: str) -> ContainerRecord | None:
        """By its whole id."""
        return await self._doc(ContainerRecord, "SELECT doc FROM containers WHERE id = ?", container)

    async def containers_like(self, name: str) -> list[tuple[str, str]]:
        """(id, name) of those whose name or id this is or, failing that, whose id begins so."""
        exact = await self._rows("SELECT id, name FROM containers WHERE name = ?1 OR id = ?1", name)
        rows = exact or await self._rows(
            "SELECT id, name FROM containers WHERE id >= ? AND id < ? ORDER BY name", name, name + "g"
        )
        return [(row[0], row[1]) for row in rows]

    async def containers_of_image(self, image: str) -> list[ContainerRecord]:
        """Those made from it."""
        return await self._docs(ContainerRecord, "SELECT doc FROM containers WHERE image = ?", image)

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

    async def counts(self) -> dict[str, int]:
        """How many there are of each."""
        rows = await self._rows(
            """SELECT 'containers', count(*) FROM containers
               UNION ALL SELECT 'running', count(*) FROM containers WHERE status IN ('running', 'stopping')
               UNION ALL SELECT 'images', count(*) FROM images
               UNION ALL SELECT 'volumes', count(*) FROM volumes WHERE ready"""
        )
        return {row[0]: row[1] for row in rows}
