"""Base images: one layer, from a tar, programs of this host, an archive of the system to download, or a dataset.

Intend, act, confirm, as with every layer; what does not become an image leaves nothing behind.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable

import msgspec
import trio

from jocker_protocol import types as t
from jocker_protocol.errors import InvalidParams, JockerError

from ..clock import new_id, now
from ..db import statements as sql
from ..db.records import ImageRecord, LayerRecord
from ..house import House
from ..platform.freebsd import datasets, releases
from ..platform.interfaces import FromDatasets
from ..platform.work import work
from . import layers
from .names import check_tag

_LOOK = 0.5
"""Seconds between two looks at how far a download is."""

Tell = Callable[[t.CreateProgress], None]


class MakeBase(msgspec.Struct, frozen=True):
    """A base image; answered with Created."""

    wish: t.ImageCreate
    tar: str = ""
    """What was sent, as a file."""
    tell: Tell | None = None
    """Where progress goes."""


class Scratch(msgspec.Struct, frozen=True):
    """What FROM scratch is; answered with the record of an image, or None for an empty one."""


async def make(house: House, held: set[str], message: MakeBase) -> t.Created:
    """`held` is told what is being made. Raises JockerError, OSError, sqlite3.Error."""
    maker = Maker(house, held, message)
    return await maker.run()


async def scratch(house: House, held: set[str]) -> ImageRecord | None:
    """The image `scratch`, made of the dataset that is configured, when it is first needed or another one is."""
    dataset = house.config.base_layer_dataset
    if not dataset:
        return None
    found = await house.store.tagged("scratch:latest")
    wish = t.ImageCreate(tag="scratch", source="zfs-clone", location=dataset)
    if found is None or found.history[0].created_by != _said(wish):
        await make(house, held, MakeBase(wish))
        found = await house.store.tagged("scratch:latest")
    return found


def _said(wish: t.ImageCreate) -> str:
    """The history's line."""
    return " ".join(
        ("jocker image create", wish.source, *([wish.location] if wish.location else wish.programs))
    )


class Maker:
    """One base image on its way."""

    def __init__(self, house: House, held: set[str], message: MakeBase) -> None:
        self._house, self._held, self._message, self._wish = house, held, message, message.wish
        self._tag = self._wish.tag
        self._ways: dict[str, Callable[[str], Awaitable[None]]] = {
            "tar": self._tar,
            "host": self._host,
            "fetch": self._fetch,
            "fetch-auto": self._fetch_auto,
            "zfs-copy": self._dataset,
            "zfs-clone": self._dataset,
        }

    async def run(self) -> t.Created:
        """All of it."""
        house, wish = self._house, self._wish
        self._check()
        layer, created = new_id(), now()
        config = wish.config or t.ImageConfig()
        if not config.cmd and not config.entrypoint:
            config = msgspec.structs.replace(config, cmd=["/bin/sh"])
        history = [t.HistoryEntry(created=created, created_by=_said(wish), layer=layer)]
        record = LayerRecord(
            id=layer, parent=None, cache_key="", created_at=created, size=0, config=config, history=history
        )
        self._held.add(layer)
        try:
            await house.store.write(sql.add_layer(record, ready=False), grows=True)
            try:
                await self._ways[wish.source](layer)
                tag = check_tag(self._tag)
                record = msgspec.structs.replace(record, size=await house.drivers.storage.size(layer))
                image = await layers.identify(house, layers.new_image(layer, config, history))
                await house.store.write(
                    sql.confirm_layer(record),
                    sql.add_image(image),
                    sql.set_tag(tag, image.id),
                    layers.happened("import", image, tag),
                    grows=True,
                )
            except BaseException:
                with trio.CancelScope(shield=True):
                    await layers.destroy(house, layer)
                raise
        finally:
            self._held.discard(layer)
        return t.Created(id=image.id)

    def _check(self) -> None:
        """What can be said before anything is begun."""
        wish = self._wish
        if wish.tag or wish.source != "fetch-auto":
            check_tag(wish.tag)
        if wish.source == "tar" and not self._message.tar:
            raise InvalidParams("source: tar, but no tar was sent")
        if wish.source == "host" and not wish.programs:
            raise InvalidParams("programs: name at least one program of this host, such as sh")
        if wish.source == "fetch" and not ("://" in wish.location or os.path.isabs(wish.location)):
            raise InvalidParams(
                "location: give the URL of an archive, or its absolute path on the engine's host"
            )
        if wish.source in ("zfs-copy", "zfs-clone"):
            dataset, _, snapshot = wish.location.partition("@")
            try:
                datasets.check_name(dataset)
                if "@" in wish.location:
                    datasets.check_name(snapshot)
            except datasets.BadName as error:
                raise InvalidParams(f"location: {error}") from None
            storage = self._house.drivers.storage
            if not isinstance(storage, FromDatasets):
                raise InvalidParams(
                    f"source: {wish.source} needs storage zfs; this engine has {storage.name}"
                )

    # --- ways ---

    async def _tar(self, layer: str) -> None:
        await self._house.drivers.storage.import_tar(layer, self._message.tar)

    async def _dataset(self, layer: str) -> None:
        storage = self._house.drivers.storage
        assert isinstance(storage, FromDatasets)  # checked
        await storage.import_dataset(layer, self._wish.location, copy=self._wish.source == "zfs-copy")

    async def _host(self, layer: str) -> None:
        async def fill(rootfs: str) -> None:
            await work(self._house.commands, "host_root", programs=self._wish.programs, target=rootfs)

        await self._in_a_tree(layer, fill)

    async def _fetch_auto(self, layer: str) -> None:
        commands, config = self._house.commands, self._house.config
        release, machine, arch = await releases.installed(commands, force=self._wish.force)
        self._tag = self._tag or f"freebsd:{release}"
        await self._fetch_from(layer, releases.url(config.freebsd_mirror, machine, arch, release))

    async def _fetch(self, layer: str) -> None:
        await self._fetch_from(layer, self._wish.location)

    async def _fetch_from(self, layer: str, source: str) -> None:
        commands, wish = self._house.commands, self._wish
        directory = os.path.join(self._house.layout.uploads, new_id())
        os.mkdir(directory, 0o700)
        settings = [name for name, wanted in (("dns", wish.dns), ("localtime", wish.localtime)) if wanted]
        try:
            archive = await self._watched(source, directory)
            self._tell("unpack", source)

            async def fill(rootfs: str) -> None:
                await work(commands, "import_tar", tar=archive["path"], target=rootfs)
                await work(commands, "host_settings", target=rootfs, names=settings)

            await self._in_a_tree(layer, fill)
        finally:
            with trio.CancelScope(shield=True):
                await work(commands, "remove_tree", path=directory)

    async def _watched(self, source: str, directory: str) -> dict[str, str]:
        """The archive as a file here; how much of it has come is told on the way."""
        failed: Exception | None = None
        archive: dict[str, str] = {}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, directory, source)
            try:
                archive = await work(
                    self._house.commands,
                    "fetch_distribution",
                    source=source,
                    target=directory,
                    unverified=self._wish.force,
                )
            except (JockerError, OSError) as error:
                failed = error  # not out of the nursery, which would wrap it
            nursery.cancel_scope.cancel()
        if failed is not None:
            raise failed
        return archive

    async def _watch(self, directory: str, source: str) -> None:
        while True:
            self._tell("fetch", source, sum(entry.stat().st_size for entry in os.scandir(directory)))
            await trio.sleep(_LOOK)

    def _tell(self, event: str, text: str, done: int = 0) -> None:
        if self._message.tell is not None:
            self._message.tell(t.CreateProgress(event=event, text=text, bytes=done))

    async def _in_a_tree(self, layer: str, fill: Callable[[str], Awaitable[None]]) -> None:
        """What is filled in, sealed as the layer."""
        storage, tree = self._house.drivers.storage, new_id()
        self._held.add(tree)
        try:
            await fill(await storage.clone(tree, None))
            await storage.seal(tree, layer)
        finally:
            with trio.CancelScope(shield=True):
                await storage.destroy_tree(tree)
            self._held.discard(tree)
