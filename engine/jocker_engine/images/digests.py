"""The actor that knows layers as tars: the diff_id of each, and the recipe by which `save` makes it again.

A layer's tar is computed as soon as the layer is sealed, while the build goes on, or when it is first needed: for
layers that are older than this, and after a crash in between. Once for all who ask.
"""

from __future__ import annotations

import os
import sqlite3
from dataclasses import asdict
from functools import partial
from typing import Any

import msgspec
import trio

from jocker_protocol.errors import JockerError, NotFound

from ..db import statements as sql
from ..db.records import Diff
from ..db.store import Store
from ..layout import Layout
from ..otp import Actor, MailboxFull, Ref, handles
from ..platform.commands import Commands
from ..platform.interfaces import Storage
from ..platform.work import work
from ..platform.worker.layertar import is_small, layer_tar

DIGESTS = "digests"
_SMALL, _SMALL_BYTES = 100, 1 << 18
"""Up to this many entries and bytes it is done in a thread: starting a worker takes longer."""


class DiffOf(msgspec.Struct, frozen=True):
    """The Diff of a layer, computed if it is not known. A cast says that it will be wanted."""

    layer: str


class Digester(Actor):
    """Two at a time, since hashing takes a processor each."""

    answers = (JockerError, OSError, sqlite3.Error)

    def __init__(self, layout: Layout, commands: Commands, storage: Storage, store: Store) -> None:
        self._layout, self._commands, self._storage, self._store = layout, commands, storage, store
        self._running: dict[str, trio.Event] = {}

    async def init(self) -> None:
        self._slots = trio.CapacityLimiter(2)
        for name in os.listdir(self._layout.recipes):
            if name.endswith(".partial"):
                os.unlink(os.path.join(self._layout.recipes, name))

    def detail(self) -> str:
        return f"{len(self._running)} being computed"

    @handles(DiffOf)
    async def diff_of(self, message: DiffOf) -> None:
        self.answer_later(self._diff, message.layer)

    async def _diff(self, layer: str) -> Diff:
        while True:
            found = await self._store.diff(layer)
            if found is None:
                raise NotFound(f"no such layer: {layer}")
            if found.diff_id and os.path.exists(self._layout.recipe(layer)):
                return found
            if layer not in self._running:
                break
            await self._running[layer].wait()
        done = self._running[layer] = trio.Event()
        try:
            async with self._slots:
                computed = await self._compute(layer)
            if found.diff_id and computed != found:
                raise JockerError(
                    f"layer {layer[:12]} is no longer what it was: its digest is {computed.diff_id}, not {found.diff_id}"
                )
            if not await self._store.write(sql.set_diff(computed)):
                os.unlink(self._layout.recipe(layer))
                raise NotFound(f"no such layer: {layer}; it was removed meanwhile")
        finally:
            done.set()
            del self._running[layer]
        return computed

    async def _compute(self, layer: str) -> Diff:
        content: dict[str, Any] = asdict(await self._storage.content(layer))
        recipe = self._layout.recipe(layer)
        try:
            if is_small(content, _SMALL, _SMALL_BYTES):
                made = await trio.to_thread.run_sync(partial(layer_tar, content, recipe))
            else:
                made = await work(self._commands, "layer_tar", content=content, recipe=recipe)
        finally:
            with trio.CancelScope(shield=True):
                await self._storage.release(layer)
        return Diff(layer=layer, diff_id=made["diff_id"], size=made["bytes"])


class Digests:
    """What managers and builders use: the actor as functions."""

    def __init__(self, ref: Ref, store: Store) -> None:
        self._ref, self._store = ref, store

    def expect(self, layer: str) -> None:
        """This layer's digest will be wanted: begin."""
        try:
            self._ref.cast(DiffOf(layer))
        except MailboxFull:
            pass  # then it is computed when it is asked for

    async def of(self, layer: str) -> Diff:
        """Raises NotFound, PlatformError, OSError, ActorDown."""
        diff: Diff = await self._ref.call(DiffOf(layer))
        return diff

    async def chain(self, layer: str) -> list[Diff]:
        """Those of a layer and all below it, the base first; raises the same. Recipes may be missing."""
        known = await self._store.diffs(layer)
        if not known:
            raise NotFound(f"no such layer: {layer}")
        for diff in known:
            if not diff.diff_id:
                self.expect(diff.layer)
        return [diff if diff.diff_id else await self.of(diff.layer) for diff in known]
