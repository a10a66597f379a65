"""The build cache: which layer a step has, who makes one that is not there, what may go.

One actor, so that these are decided one at a time: builds (or stages) that come to the same step wait for the one
that makes it, and a layer that a build has found stays as long as the build. What stands on a layer for longer is
in the database: a layer, an image, a container. The files of cache mounts and contexts are others' business.
"""

from __future__ import annotations

from collections import deque

import msgspec

from jocker_protocol import types as t
from jocker_protocol.errors import JockerError

from ..clock import now, seconds_between
from ..db import statements as sql
from ..db.records import LayerRecord
from ..house import House
from ..otp import Actor, Down, Reply, handles
from . import layers
from .cachemounts import DropCacheMount, StoredCacheMounts
from .contexts import DropContext, StoredContexts

_REMEMBERED = 10_000
"""Digests kept in memory."""


class Claim(msgspec.Struct, frozen=True):
    """A build wants the layer of this key: answered with its record, which stays as long as the build, or None:
    the build has to make it, and then to say Made or NotMade. Waits while another makes it.
    """

    build: str
    key: str


class Made(msgspec.Struct, frozen=True):
    """The layer that was claimed is sealed."""

    build: str
    layer: LayerRecord


class NotMade(msgspec.Struct, frozen=True):
    """The build has failed to make it: the next one that waits may try."""

    key: str


class Hold(msgspec.Struct, frozen=True):
    """A layer, and with it what it stands on, stays as long as the build. Answered with whether it is there;
    a `new` one is still being made.
    """

    build: str
    layer: str
    new: bool = False


class Free(msgspec.Struct, frozen=True):
    """Destroy a layer and those below it, as far as nothing needs them. Answered with what went."""

    layer: str | None


class _Doom(msgspec.Struct, frozen=True):
    """Whether the layer may be destroyed; from then on nobody finds it. Answered with its record, or None."""

    layer: str


class Remember(msgspec.Struct, frozen=True):
    """What something that never changes was found to be."""

    question: str
    answer: str


class Recall(msgspec.Struct, frozen=True):
    """The answer remembered, or ""."""

    question: str


class Cache(Actor):
    """Owns claims and holds; layers are destroyed here only."""

    answers = (JockerError, OSError)

    def __init__(self, house: House) -> None:
        self._house = house
        self._makers: dict[str, str] = {}
        """Key -> the build that makes it."""
        self._waiting: dict[str, deque[tuple[str, Reply]]] = {}
        self._held: dict[str, set[str]] = {}
        """Build -> its layers."""
        self._remembered: dict[str, str] = {}

    def detail(self) -> str:
        return f"{len(self._makers)} steps in work"

    # --- steps ---

    @handles(Claim)
    async def claim(self, message: Claim) -> LayerRecord | None:
        build, key = message.build, message.key
        found = await self._house.store.cached_layer(key)
        if found is not None:
            self._hold(build, found.id)
            return found
        if key in self._makers:
            self._waiting.setdefault(key, deque()).append((build, self.defer()))
            return None
        self.monitor(build)
        self._makers[key] = build
        return None

    @handles(Made)
    async def made(self, message: Made) -> None:
        layer = message.layer
        self._hold(message.build, layer.id)
        self._makers.pop(layer.cache_key, None)
        for build, reply in self._waiting.pop(layer.cache_key, ()):
            if not reply.abandoned:
                self._hold(build, layer.id)
                reply.send(layer)

    @handles(NotMade)
    async def not_made(self, message: NotMade) -> None:
        self._pass_on(message.key)

    def _pass_on(self, key: str) -> None:
        self._makers.pop(key, None)
        waiting = self._waiting.get(key, deque())
        while waiting:
            build, reply = waiting.popleft()
            if not reply.abandoned:
                self.monitor(build)
                self._makers[key] = build
                reply.send(None)
                break
        if not waiting:
            self._waiting.pop(key, None)

    @handles(Hold)
    async def hold(self, message: Hold) -> bool:
        if not message.new and await self._house.store.layer(message.layer) is None:
            return False
        self._hold(message.build, message.layer)
        return True

    def _hold(self, build: str, layer: str) -> None:
        if build not in self._held:
            self._held[build] = set()
            self.monitor(build)
        self._held[build].add(layer)

    @handles(Down)
    async def down(self, message: Down) -> None:
        """A build has ended, in whatever way."""
        self.system.unwatch(message.name, self.name)
        self._held.pop(message.name, None)
        for key in [key for key, build in self._makers.items() if build == message.name]:
            self._pass_on(key)

    # --- what is known of what never changes ---

    @handles(Remember)
    async def remember(self, message: Remember) -> None:
        while len(self._remembered) >= _REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[message.question] = message.answer

    @handles(Recall)
    async def recall(self, message: Recall) -> str:
        return self._remembered.get(message.question, "")

    # --- what goes ---

    @handles(Free)
    async def free(self, message: Free) -> None:
        self.answer_later(self._free, message.layer)

    async def _free(self, layer: str | None) -> list[str]:
        gone = []
        while layer is not None and (record := await self._destroy(layer)) is not None:
            gone.append(layer)
            layer = record.parent
        return gone

    async def _destroy(self, layer: str) -> LayerRecord | None:
        record: LayerRecord | None = await self.ref.call(_Doom(layer))
        if record is not None:
            await layers.destroy(self._house, layer)
        return record

    @handles(_Doom)
    async def doom(self, message: _Doom) -> LayerRecord | None:
        if self._is_held(message.layer):
            return None
        record = await self._house.store.layer(message.layer)
        changed = await self._house.store.write(sql.doom_unused_layer(message.layer))
        return record if changed else None

    def _is_held(self, layer: str) -> bool:
        return any(layer in layers for layers in self._held.values())

    @handles(t.BuilderUsage)
    async def usage(self, message: t.BuilderUsage) -> None:
        self.answer_later(self._usage)

    async def _usage(self) -> t.CacheItems:
        layers = [
            _item(layer, used or self._is_held(layer.id))
            for layer, used in await self._house.store.cache_layers()
        ]
        items = [*layers, *await self._others()]
        return t.CacheItems(items=sorted(items, key=lambda item: item.used_at, reverse=True))

    async def _others(self) -> list[t.CacheItem]:
        contexts: list[t.CacheItem] = await self.system.ref("contexts").call(StoredContexts())
        mounts: list[t.CacheItem] = await self.system.ref("cachemounts").call(StoredCacheMounts())
        return [*contexts, *mounts]

    @handles(t.BuilderPrune)
    async def prune(self, message: t.BuilderPrune) -> None:
        self.answer_later(self._prune, message)

    async def _prune(self, wish: t.BuilderPrune) -> t.BuilderPruned:
        if wish.all:
            layers = await self._house.store.cache_layers()
            await self._house.store.write(sql.forget_keys([layer.id for layer, used in layers if used]))
        items = (await self._usage()).items
        size, time, deleted = sum(item.size for item in items), now(), []
        todo = [
            item
            for item in reversed(items)
            if not item.in_use and seconds_between(item.used_at, time) >= wish.unused_for
        ]
        going = True
        while going:  # a layer goes only after those on it
            going = False
            for item in list(todo):
                if size > wish.keep_storage and await self._remove(item):
                    todo.remove(item)
                    deleted.append(item)
                    size, going = size - item.size, True
        return t.BuilderPruned(deleted=deleted, reclaimed=sum(item.size for item in deleted))

    async def _remove(self, item: t.CacheItem) -> bool:
        if item.type == "source.local":
            return bool(await self.system.ref("contexts").call(DropContext(item.id)))
        if item.type == "exec.cachemount":
            return bool(await self.system.ref("cachemounts").call(DropCacheMount(item.id)))
        return await self._destroy(item.id) is not None


def _item(layer: LayerRecord, in_use: bool) -> t.CacheItem:
    return t.CacheItem(
        id=layer.id,
        type="regular",
        description=layer.history[-1].created_by if layer.history else "",
        created_at=layer.created_at,
        used_at=layer.used_at or layer.created_at,
        size=layer.size,
        in_use=in_use,
    )
