"""The changes of every table but those of networks, as statements: several of them make one Write.

What is asked is in store.py. Both are the only places of SQL, with network_store.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from .database import Statement
from .records import ContainerRecord, Diff, ImageRecord, LayerRecord, VolumeRecord


def _doc(record: Any) -> str:
    return msgspec.json.encode(record).decode()


def add_layer(layer: LayerRecord, *, ready: bool) -> Statement:
    """The intent to make a layer, or a layer."""
    return Statement(
        "INSERT INTO layers (id, parent, cache_key, ready, doc) VALUES (?, ?, ?, ?, ?)",
        (layer.id, layer.parent, layer.cache_key, ready, _doc(layer)),
    )


def confirm_layer(layer: LayerRecord) -> Statement:
    """It is on disk now."""
    return Statement("UPDATE layers SET ready = 1, doc = ? WHERE id = ?", (_doc(layer), layer.id))


def set_diff(diff: Diff) -> Statement:
    """What it is as a tar."""
    return Statement(
        "UPDATE layers SET diff_id = ?, tar_size = ? WHERE id = ?", (diff.diff_id, diff.size, diff.layer)
    )


def doom_unused_layer(layer: str) -> Statement:
    """The intent to destroy it, unless something stands on it: a layer (also one being made), an image, a container."""
    return Statement(
        """UPDATE layers SET ready = 0 WHERE id = ?1 AND ready
           AND NOT EXISTS (SELECT 1 FROM layers WHERE parent = ?1)
           AND NOT EXISTS (SELECT 1 FROM images WHERE layer = ?1)
           AND NOT EXISTS (SELECT 1 FROM containers WHERE layer = ?1)""",
        (layer,),
    )


def use_layers(layers: Iterable[str], time: str) -> Statement:
    """A build has used them."""
    return Statement(
        """UPDATE layers SET doc = json_set(doc, '$.used_at', ?)
           WHERE id IN (SELECT value FROM json_each(?))""",
        (time, _doc(list(layers))),
    )


def forget_keys(layers: Iterable[str]) -> Statement:
    """No build finds them any more."""
    return Statement(
        """UPDATE layers SET cache_key = '', doc = json_set(doc, '$.cache_key', '')
           WHERE id IN (SELECT value FROM json_each(?))""",
        (_doc(list(layers)),),
    )


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


def renew_image(old: str, image: ImageRecord) -> list[Statement]:
    """The same image under another id: all that refers to the old one refers to this one."""
    return [
        add_image(image),
        Statement("UPDATE tags SET image = ? WHERE image = ?", (image.id, old)),
        Statement("UPDATE containers SET image = ? WHERE image = ?", (image.id, old)),
        drop_image(old),
    ]


def drop_unused_image(image: str) -> Statement:
    """An image without a name and without containers."""
    return Statement(
        """DELETE FROM images WHERE id = ?1
           AND NOT EXISTS (SELECT 1 FROM tags WHERE image = ?1)
           AND NOT EXISTS (SELECT 1 FROM containers WHERE image = ?1)""",
        (image,),
    )


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
    """The container and its hold on its volumes; its anonymous ones are ready by this. The name must be free
    (IntegrityError).
    """
    own = [mount for mount in container.mounts if mount.anonymous]
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
        *(
            Statement(
                "UPDATE volumes SET ready = 1, doc = json_set(doc, '$.path', ?) WHERE name = ?",
                (mount.path, mount.source),
            )
            for mount in own
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


def update_volume(volume: VolumeRecord) -> Statement:
    """What it is, and its snapshots."""
    return Statement("UPDATE volumes SET doc = ? WHERE name = ?", (_doc(volume), volume.name))


def doom_volume(volume: str) -> Statement:
    """The intent to destroy it."""
    return Statement("UPDATE volumes SET ready = 0 WHERE name = ?", (volume,))


def doom_unused_volume(volume: str) -> Statement:
    """The intent to destroy it, unless a container holds it."""
    return Statement(
        """UPDATE volumes SET ready = 0
           WHERE name = ?1 AND NOT EXISTS (SELECT 1 FROM volume_uses WHERE volume = ?1)""",
        (volume,),
    )


def drop_volume(volume: str) -> Statement:
    """It is gone from the disk. IntegrityError while a container holds it."""
    return Statement("DELETE FROM volumes WHERE name = ?", (volume,))


def happened(time: str, type: str, action: str, id: str, attributes: dict[str, str]) -> Statement:
    """One more event in the journal; written together with the change that it tells of."""
    doc = {"type": type, "action": action, "id": id, "attributes": attributes}
    return Statement("INSERT INTO events (time, doc) VALUES (?, ?)", (time, _doc(doc)))


def trim_events(keep: int) -> Statement:
    """Forget all but the newest."""
    return Statement("DELETE FROM events WHERE seq <= (SELECT max(seq) FROM events) - ?", (keep,))
