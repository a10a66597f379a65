"""The directories of RUN --mount=type=cache: made when they are first wanted, lent to RUN steps, kept until pruned.

ROOT/cachemounts/KEY/{record,data,filled}. A directory gets its name when it is whole and loses it before it is taken
apart, so that there is nothing to tell a database.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter, deque
from collections.abc import Iterator
from typing import Literal

import msgspec

from jocker_protocol import types as t
from jocker_protocol.errors import JockerError

from ..clock import new_id, now, rfc3339
from ..house import House
from ..otp import Actor, Down, Reply, handles
from ..platform.work import work

Sharing = Literal["shared", "private", "locked"]
_PARTIAL, _FILLED = ".partial-", "filled"


class Lend(msgspec.Struct, frozen=True):
    """A RUN step wants the directory `id`: answered with Lent.

    shared: whoever has it. private: another one while somebody has it. locked: waits until nobody has it.
    """

    borrower: str
    """An actor: when it ends all that it has is given back."""
    id: str
    sharing: Sharing
    seed: str
    """What tells one beginning from another: the layer and path that a new one is filled from."""
    uid: int
    gid: int
    mode: int


class Lent(msgspec.Struct, frozen=True):
    """`path` is where its files are; one that is to be filled is nobody else's until Filled."""

    key: str
    path: str
    fill: bool


class Filled(msgspec.Struct, frozen=True):
    """It has now what a new one begins with."""

    key: str
    sharing: Sharing


class GiveBackMount(msgspec.Struct, frozen=True):
    """The step has ended."""

    borrower: str
    key: str


class StoredCacheMounts(msgspec.Struct, frozen=True):
    """All of them, as CacheItems."""


class DropCacheMount(msgspec.Struct, frozen=True):
    """Remove one that nobody has; answered with whether it went."""

    key: str


class CacheMounts(Actor):
    """Owns ROOT/cachemounts."""

    answers = (JockerError, OSError)

    def __init__(self, house: House) -> None:
        self._house = house
        self._top = house.layout.cache_mounts
        self._lent: dict[str, Counter[str]] = {}
        """Key -> who has it, how often."""
        self._locked: set[str] = set()
        self._waiting: deque[tuple[Lend, Reply]] = deque()

    async def init(self) -> None:
        os.chmod(self._top, 0o700)
        for name in os.listdir(self._top):
            if name.startswith(_PARTIAL):
                await work(self._house.commands, "remove_tree", path=os.path.join(self._top, name))

    def detail(self) -> str:
        return f"{len(self._lent)} lent, {len(self._waiting)} wait"

    @handles(Lend)
    async def lend(self, message: Lend) -> Lent | None:
        lent = self._try(message)
        if lent is None:
            self._waiting.append((message, self.defer()))
        return lent

    def _try(self, wish: Lend) -> Lent | None:
        for key in _keys(wish):
            used = key in self._lent
            if used and wish.sharing == "private":
                continue
            if used and (wish.sharing == "locked" or key in self._locked):
                return None
            path = os.path.join(self._top, key)
            if not os.path.isdir(path):
                self._make(path, wish)
            fill = bool(wish.seed) and not os.path.exists(os.path.join(path, _FILLED))
            self.monitor(wish.borrower)
            self._lent.setdefault(key, Counter())[wish.borrower] += 1
            if wish.sharing == "locked" or fill:
                self._locked.add(key)
            os.utime(path)
            return Lent(key, os.path.join(path, "data"), fill)
        raise AssertionError  # there is no end of private ones

    def _make(self, path: str, wish: Lend) -> None:
        partial = os.path.join(self._top, _PARTIAL + new_id())
        os.mkdir(partial, 0o700)
        data = os.path.join(partial, "data")
        os.mkdir(data)
        os.chmod(data, wish.mode)
        if os.geteuid() == 0:
            os.chown(data, wish.uid, wish.gid)
        with open(os.path.join(partial, "record"), "wb") as file:
            file.write(msgspec.json.encode({"id": wish.id, "created_at": now()}))
        os.rename(partial, path)

    @handles(Filled)
    async def filled(self, message: Filled) -> None:
        with open(os.path.join(self._top, message.key, _FILLED), "w", encoding="ascii"):
            pass
        if message.sharing != "locked":
            self._locked.discard(message.key)
        self._settle()

    @handles(GiveBackMount)
    async def give_back(self, message: GiveBackMount) -> None:
        owners = self._lent[message.key]
        owners[message.borrower] -= 1
        if owners[message.borrower] <= 0:
            del owners[message.borrower]
        self._settle()

    @handles(Down)
    async def down(self, message: Down) -> None:
        self.system.unwatch(message.name, self.name)
        for owners in self._lent.values():
            owners.pop(message.name, None)
        self._settle()

    def _settle(self) -> None:
        """What nobody has is free, and those who wait may try again, in order."""
        for key in [key for key, owners in self._lent.items() if not owners]:
            del self._lent[key]
            self._locked.discard(key)
        still: deque[tuple[Lend, Reply]] = deque()
        for wish, reply in self._waiting:
            if reply.abandoned:
                continue
            lent = self._try(wish)
            if lent is None:
                still.append((wish, reply))
            else:
                reply.send(lent)
        self._waiting = still

    @handles(StoredCacheMounts)
    async def stored(self, message: StoredCacheMounts) -> None:
        self.answer_later(self._stored)

    async def _stored(self) -> list[t.CacheItem]:
        found = []
        for key in os.listdir(self._top):
            path = os.path.join(self._top, key)
            if key.startswith(_PARTIAL):
                continue
            try:
                with open(os.path.join(path, "record"), "rb") as file:
                    record = msgspec.json.decode(file.read())
                used = rfc3339(os.stat(path).st_mtime_ns)
                size = (await work(self._house.commands, "tree_size", path=os.path.join(path, "data")))[
                    "bytes"
                ]
            except FileNotFoundError:
                continue  # pruned meanwhile
            found.append(
                t.CacheItem(
                    id=key,
                    type="exec.cachemount",
                    description=f"mount {record['id']}",
                    created_at=record["created_at"],
                    used_at=used,
                    size=size,
                    in_use=key in self._lent,
                )
            )
        return found

    @handles(DropCacheMount)
    async def drop(self, message: DropCacheMount) -> bool:
        path = os.path.join(self._top, message.key)
        if message.key in self._lent or not os.path.isdir(path):
            return False
        partial = os.path.join(self._top, _PARTIAL + new_id())
        os.rename(path, partial)
        self.answer_later(self._remove, partial)
        return True

    async def _remove(self, path: str) -> bool:
        await work(self._house.commands, "remove_tree", path=path)
        return True


def _keys(wish: Lend) -> Iterator[str]:
    """The first is the one that everybody means; further ones are for those who share with nobody."""
    number = 0
    while True:
        text = msgspec.json.encode([wish.id, wish.seed, number])
        yield hashlib.sha256(text).hexdigest()
        number += 1
