"""Layers and images as records: sealed after a step, found by their cache key, freed when nothing needs them."""

from __future__ import annotations

import hashlib
import platform

import msgspec

from jocker_protocol.types import HistoryEntry, ImageConfig

from ..clock import now
from ..db import store as sql
from ..db.database import Statement
from ..db.records import ImageRecord, LayerRecord
from ..house import House

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def cache_key(parent: str | None, canonical: str, *digests: str) -> str:
    """What a step's result is known by: where it starts, what it does, what it copies."""
    return hashlib.sha256(msgspec.json.encode([parent, canonical, *digests])).hexdigest()


def new_image(layer: str | None, config: ImageConfig, history: list[HistoryEntry]) -> ImageRecord:
    """The record; the same layer, configuration and history give the same id."""
    record = ImageRecord(
        id="",
        layer=layer,
        created_at=history[-1].created if history else now(),
        architecture=_ARCHITECTURES.get(platform.machine(), platform.machine()),
        os=platform.system().lower(),
        config=config,
        history=history,
    )
    digest = hashlib.sha256(msgspec.json.encode(record)).hexdigest()
    return msgspec.structs.replace(record, id=f"sha256:{digest}")


def happened(action: str, image: ImageRecord, name: str) -> Statement:
    """An event of an image."""
    return sql.happened(now(), "image", action, image.id, {**image.config.labels, "name": name})


async def seal(
    house: House,
    tree: str,
    parent: str | None,
    key: str,
    config: ImageConfig,
    history: list[HistoryEntry],
    created_by: str,
    layer: str,
) -> LayerRecord:
    """Intend, act, confirm: a tree becomes a layer of this new id. The tree is gone afterwards."""
    created = now()
    entry = HistoryEntry(created=created, created_by=created_by, layer=layer)
    record = LayerRecord(
        id=layer,
        parent=parent,
        cache_key=key,
        created_at=created,
        size=0,
        config=config,
        history=[*history, entry],
    )
    await house.store.write(sql.add_layer(record, ready=False), grows=True)
    await house.drivers.storage.seal(tree, layer)
    record = msgspec.structs.replace(record, size=await house.drivers.storage.size(layer))
    await house.store.write(sql.confirm_layer(record))
    return record


async def free(house: House, layer: str | None) -> list[str]:
    """Destroy a layer and those below it, as far as nothing else stands on them. Returns what went."""
    gone = []
    while layer is not None and await house.store.is_free(layer):
        record = await house.store.layer(layer)
        await house.store.write(sql.doom_layer(layer))
        await house.drivers.storage.destroy_layer(layer)
        await house.store.write(sql.drop_layer(layer))
        gone.append(layer)
        layer = record.parent if record else None
    return gone
