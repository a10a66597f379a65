"""Layers and images as records: sealed after a step, found by their cache key, freed when nothing needs them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
from dataclasses import asdict, dataclass

import msgspec
import trio

from jocker_protocol.types import HistoryEntry, ImageConfig

from ..clock import now, rfc3339
from ..db import statements as sql
from ..db.database import Statement
from ..db.records import ImageRecord, LayerRecord
from ..house import House
from ..platform.work import work
from . import oci


def cache_key(parent: str | None, canonical: str, *digests: str) -> str:
    """What a step's result is known by: where it starts, what it does, what it copies."""
    return hashlib.sha256(msgspec.json.encode([parent, canonical, *digests])).hexdigest()


def new_image(layer: str | None, config: ImageConfig, history: list[HistoryEntry]) -> ImageRecord:
    """A record without an id, which `identify` gives it when all its layers' digests are wanted."""
    return ImageRecord(
        id="",
        layer=layer,
        created_at=history[-1].created if history else now(),
        architecture=oci.machine(),
        os=platform.system().lower(),
        config=config,
        history=history,
    )


async def identify(house: House, image: ImageRecord) -> ImageRecord:
    """The record with its OCI configuration and the id that follows from it. Waits for the digests of its layers."""
    diffs = await house.digests.chain(image.layer) if image.layer else []
    text = oci.write(
        created=image.created_at,
        author=image.author,
        architecture=image.architecture,
        os=image.os,
        config=image.config,
        diff_ids=[diff.diff_id for diff in diffs],
        history=image.history,
    )
    return msgspec.structs.replace(image, id=oci.digest(text.encode()), oci=text)


def happened(action: str, image: ImageRecord, name: str) -> Statement:
    """An event of an image."""
    return sql.happened(now(), "image", action, image.id, {**image.config.labels, "name": name})


async def intend(house: House, layer: str, parent: str | None, key: str) -> None:
    """There will be a layer of this new id; from now on its parent stays."""
    record = LayerRecord(
        id=layer,
        parent=parent,
        cache_key=key,
        created_at=now(),
        size=0,
        config=ImageConfig(),
        history=[],
    )
    await house.store.write(sql.add_layer(record, ready=False), grows=True)


@dataclass(frozen=True)
class Clamp:
    """The times of a reproducible build; `epoch` in seconds."""

    epoch: int
    exact: bool = False
    """What is changed has just this time; else it is not later. A context's files have that of their checkout."""

    @property
    def stamp(self) -> str:
        """As records have it."""
        return rfc3339(self.epoch * 10**9)

    async def apply(self, house: House, tree: str) -> None:
        """To all that a tree has changed."""
        storage = house.drivers.storage
        mount = await storage.mount(tree)
        try:
            content = asdict(await storage.content(tree))
            await work(
                house.commands,
                "clamp_times",
                content=content,
                mount=mount,
                epoch=self.epoch,
                exact=self.exact,
            )
        finally:
            with trio.CancelScope(shield=True):
                await storage.release(tree)


async def seal(
    house: House,
    tree: str,
    layer: str,
    parent: str | None,
    key: str,
    config: ImageConfig,
    history: list[HistoryEntry],
    created_by: str,
    clamp: Clamp | None = None,
) -> LayerRecord:
    """A tree becomes the layer that was intended. The tree is gone afterwards."""
    created = clamp.stamp if clamp else now()
    if clamp:
        await clamp.apply(house, tree)
    entry = HistoryEntry(created=created, created_by=created_by, layer=layer)
    await house.drivers.storage.seal(tree, layer)
    record = LayerRecord(
        id=layer,
        parent=parent,
        cache_key=key,
        created_at=created,
        size=await house.drivers.storage.size(layer),
        config=config,
        history=[*history, entry],
    )
    await house.store.write(sql.confirm_layer(record))
    house.digests.expect(layer)
    return record


async def destroy(house: House, layer: str) -> None:
    """A layer whose row says already that it is not ready."""
    await house.drivers.storage.destroy_layer(layer)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(house.layout.recipe(layer))
    await house.store.write(sql.drop_layer(layer))
