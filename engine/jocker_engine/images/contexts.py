"""Build contexts: how their content gets here, and the store of the last ones, so that little has to be sent again.

jocker_protocol/contexts.py has the protocol, platform/worker/context.py the work on files. A context in the store
is never written to and serves any number of builds at the same time; who works with one borrows it. The store is
of this boot only: nothing in it is synced.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
import trio

from jocker_protocol import types as t
from jocker_protocol.contexts import MAX_BYTES, MAX_ENTRIES
from jocker_protocol.errors import InvalidParams, JockerError

from ..clock import boot_id, new_id, rfc3339
from ..house import House
from ..otp import Actor, System, handles
from ..platform.work import work

KEPT = 10
KEPT_BYTES = 8 << 30
"""Contexts in the store that no build uses: at most so many, and bytes of their files."""

_GONE = ".gone-"


@dataclass(frozen=True)
class Root:
    """The files of one context: a directory that nobody writes to, or an image."""

    path: str = ""
    id: str = ""
    """The same id has the same content; "" where that is not known."""
    image: str = ""


class Client(Protocol):
    """The other end of the stream."""

    async def want(self, **facts: Any) -> None:
        """Ask it for something."""

    async def upload(self, path: str) -> int:
        """What it sends up to its EOF, as a new file; the bytes it has."""


class Borrow(msgspec.Struct, frozen=True):
    """The path of a context of this id, which stays until it is given back as often; "" if it is not there."""

    id: str


class GiveBack(msgspec.Struct, frozen=True):
    """It is not needed any more."""

    id: str


class StoredContexts(msgspec.Struct, frozen=True):
    """What the store holds, as CacheItems."""


class DropContext(msgspec.Struct, frozen=True):
    """Remove it, unless it is borrowed; answered with whether it went."""

    id: str


class Contexts(Actor):
    """Owns the store."""

    answers = (JockerError, OSError)

    def __init__(self, house: House) -> None:
        self._house = house
        self._store = store(house)
        self._borrowed: Counter[str] = Counter()

    async def init(self) -> None:
        above = self._house.layout.contexts
        os.chmod(above, 0o700)
        os.makedirs(self._store, exist_ok=True)
        gone = [
            os.path.join(above, name) for name in os.listdir(above) if name != os.path.basename(self._store)
        ]
        gone += [
            os.path.join(self._store, name) for name in os.listdir(self._store) if name.startswith(_GONE)
        ]
        for path in gone:
            await work(self._house.commands, "remove_tree", path=path)

    def detail(self) -> str:
        return f"{len(os.listdir(self._store))} kept, {self._borrowed.total()} borrowed"

    @handles(Borrow)
    async def borrow(self, message: Borrow) -> str:
        path = os.path.join(self._store, message.id)
        try:
            os.utime(path)
        except FileNotFoundError:
            return ""
        self._borrowed[message.id] += 1
        return os.path.join(path, "tree")

    @handles(GiveBack)
    async def give_back(self, message: GiveBack) -> None:
        self._borrowed[message.id] -= 1
        if self._borrowed[message.id] <= 0:
            del self._borrowed[message.id]
        kept, size = 0, 0
        for item in self._items():
            kept, size = kept + 1, size + item.size
            if not item.in_use and (kept > KEPT or size > KEPT_BYTES):
                self.spawn(self._remove, self._take_away(item.id))

    @handles(StoredContexts)
    async def stored(self, message: StoredContexts) -> list[t.CacheItem]:
        return self._items()

    @handles(DropContext)
    async def drop(self, message: DropContext) -> bool:
        if message.id in self._borrowed or not os.path.isdir(os.path.join(self._store, message.id)):
            return False
        self.answer_later(self._remove, self._take_away(message.id))
        return True

    def _items(self) -> list[t.CacheItem]:
        """The last used first."""
        found = []
        for name in os.listdir(self._store):
            path = os.path.join(self._store, name)
            if name.startswith(_GONE):
                continue
            with open(os.path.join(path, "bytes"), encoding="ascii") as file:
                size = int(file.read())
            found.append(
                t.CacheItem(
                    id=name,
                    type="source.local",
                    description="build context",
                    created_at=rfc3339(os.stat(os.path.join(path, "manifest")).st_mtime_ns),
                    used_at=rfc3339(os.stat(path).st_mtime_ns),
                    size=size,
                    in_use=name in self._borrowed,
                )
            )
        return sorted(found, key=lambda item: item.used_at, reverse=True)

    def _take_away(self, id: str) -> str:
        """From now on it is not there."""
        gone = os.path.join(self._store, _GONE + new_id())
        os.rename(os.path.join(self._store, id), gone)
        return gone

    async def _remove(self, path: str) -> bool:
        await work(self._house.commands, "remove_tree", path=path)
        return True


def store(house: House) -> str:
    """The directory of this boot's contexts."""
    return os.path.join(house.layout.contexts, boot_id())


@asynccontextmanager
async def received(
    house: House, system: System, wanted: Sequence[t.BuildContext], client: Client, held: set[str]
) -> AsyncIterator[dict[str, Root]]:
    """The contexts by their names, for as long as this lasts; one of which nothing was sent is an empty directory.

    Raises InvalidParams, PlatformError for what cannot be used.
    """
    roots: dict[str, Root] = {}
    async with AsyncExitStack() as stack:
        for context in wanted:
            if context.name in roots:
                raise InvalidParams(f"contexts: two of the name {context.name!r}")
            if context.image:
                roots[context.name] = Root(image=context.image)
            elif context.manifest:
                roots[context.name] = await stack.enter_async_context(
                    _by_manifest(house, system, context, client, held)
                )
            else:
                roots[context.name] = await stack.enter_async_context(_by_tar(house, context, client, held))
        yield roots


@asynccontextmanager
async def _by_tar(
    house: House, context: t.BuildContext, client: Client, held: set[str]
) -> AsyncIterator[Root]:
    async with _workplace(house, held) as place:
        await client.want(what="tar", context=context.name)
        tar, tree = os.path.join(place, "tar"), os.path.join(place, "tree")
        os.mkdir(tree)
        if await client.upload(tar):
            await work(
                house.commands,
                "import_tar",
                tar=tar,
                target=tree,
                devices=False,
                max_entries=MAX_ENTRIES,
                max_bytes=MAX_BYTES,
            )
        os.unlink(tar)
        yield Root(path=tree)


@asynccontextmanager
async def _by_manifest(
    house: House, system: System, context: t.BuildContext, client: Client, held: set[str]
) -> AsyncIterator[Root]:
    contexts, id = system.ref("contexts"), context.manifest
    path = await contexts.call(Borrow(id))
    while not path:
        id = await _make(house, context.name, client, held)
        path = await contexts.call(Borrow(id))
    try:
        yield Root(path=path, id=id)
    finally:
        contexts.cast(GiveBack(id))


async def _make(house: House, name: str, client: Client, held: set[str]) -> str:
    async with _workplace(house, held) as place:
        partial = os.path.join(place, "context")
        os.mkdir(partial)
        await client.want(what="manifest", context=name)
        await client.upload(os.path.join(partial, "manifest"))
        found = await work(house.commands, "begin_context", store=store(house), partial=partial)
        tar = ""
        if found["missing"]:
            tar = os.path.join(place, "tar")
            await client.want(what="files", context=name, files=found["missing"])
            await client.upload(tar)
        made = await work(house.commands, "finish_context", store=store(house), partial=partial, tar=tar)
        return str(made["id"])


@asynccontextmanager
async def _workplace(house: House, held: set[str]) -> AsyncIterator[str]:
    """A directory of its own, which is gone afterwards."""
    key = new_id()
    held.add(key)
    path = os.path.join(house.layout.builds, key)
    os.makedirs(path)
    try:
        yield path
    finally:
        with trio.CancelScope(shield=True):
            await work(house.commands, "remove_tree", path=path)
        held.discard(key)
