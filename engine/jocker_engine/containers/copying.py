"""Looking into a container's files, and copying out of it and into it, whether it runs or not.

Of a running one they are seen through its main process, with all that is mounted in it; of another one its tree is
mounted for as long as it takes, and the worker mounts its volumes for itself.
"""

from __future__ import annotations

import errno
import posixpath
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NamedTuple

from jocker_protocol import types as t
from jocker_protocol.errors import Denied, InvalidParams, InvalidState, JockerError, NotFound

from ..db.records import ContainerRecord
from ..house import House
from ..otp import Actor, NoSuchActor, Poisoned, handles
from ..platform.work import work, work_streamed
from . import lifecycle
from .messages import CloseFiles, CopyFrom, CopyTo, OpenFiles
from .part import Part
from .surroundings import isolation

_SEEN = ("running", "paused", "stopping")


class Files(NamedTuple):
    """Where a worker finds them: parameters of its operations."""

    root: str
    same_as: str
    """A path that must be the same directory as `root`: a process id may have become another process's."""
    scene: list[list[object]]

    def params(self) -> dict[str, Any]:
        """As keyword arguments."""
        return self._asdict()


class Opened(Part):
    """The part of a container's actor that gives access to its files."""

    @handles(OpenFiles)
    async def open_files(self, message: OpenFiles) -> None:
        status = self._status
        if status not in ("created", "exited", "restarting", *_SEEN):
            raise lifecycle.refusal(self._record.name, status, "copy")
        self.answer_later(self._open_files, status in _SEEN)

    async def _open_files(self, seen: bool) -> Files:
        house, record = self._house, self._record
        rootfs = await house.drivers.storage.mount(record.id)
        if seen:
            surroundings = isolation(record, house.layout, rootfs)
            root = await house.drivers.runtime.root(surroundings, record.state.pid)
            return Files(root, rootfs, [])
        return Files(rootfs, rootfs, _scene(record, rootfs))

    @handles(CloseFiles)
    async def close_files(self, message: CloseFiles) -> None:
        """Here and now, so that no start comes between the look at the state and the unmounting."""
        if self._status not in lifecycle.ALIVE:
            await self._house.drivers.storage.unmount(self._record.id)


def _scene(record: ContainerRecord, rootfs: str) -> list[list[object]]:
    """What would be mounted if it ran: volumes and directories of the host, and the root itself read-only."""
    scene: list[list[object]] = [
        [mount.path, mount.target, mount.read_only] for mount in record.mounts if mount.type != "tmpfs"
    ]
    return [*scene, *([[rootfs, "/", True]] if record.security.read_only else [])]


class Copying(Actor):
    """The part of the containers' manager that copies."""

    _house: House
    _visits: Counter[str]
    """Container -> how many look into its files."""

    async def _find(self, name: str) -> str:
        raise NotImplementedError

    @asynccontextmanager
    async def _opened_files(self, name: str) -> AsyncIterator[Files]:
        container = await self._find(name)
        actor = self.system.ref(f"container/{container}")
        self._visits[container] += 1
        try:
            try:
                files: Files = await actor.call(OpenFiles())
            except (NoSuchActor, Poisoned):
                raise InvalidState(
                    f"container {name} is dead: its files cannot be reached; remove it"
                ) from None
            yield files
        finally:
            self._visits[container] -= 1
            if not self._visits[container]:
                del self._visits[container]
                if self.system.whereis(f"container/{container}") is not None:
                    actor.cast(CloseFiles())

    @handles(t.ContainerStatPath)
    async def stat_path(self, message: t.ContainerStatPath) -> None:
        self.answer_later(self._stat_path, message)

    async def _stat_path(self, wish: t.ContainerStatPath) -> t.PathStat:
        async with self._opened_files(wish.container) as files:
            with _explained(wish.container, wish.path):
                found = await work(
                    self._house.commands, "stat_path", path=wish.path, follow=wish.follow, **files.params()
                )
        return t.PathStat(**found)

    @handles(CopyFrom)
    async def copy_from(self, message: CopyFrom) -> None:
        self.answer_later(self._copy_from, message)

    async def _copy_from(self, message: CopyFrom) -> t.Copied:
        wish = message.wish
        async with self._opened_files(wish.container) as files:
            with _explained(wish.container, wish.path):
                done = await work_streamed(
                    self._house.commands,
                    "pack",
                    into=message.into,
                    path=wish.path,
                    name=entry_name(wish.path),
                    follow=wish.follow,
                    **files.params(),
                )
        return t.Copied(entries=done["entries"])

    @handles(CopyTo)
    async def copy_to(self, message: CopyTo) -> None:
        self.answer_later(self._copy_to, message)

    async def _copy_to(self, message: CopyTo) -> t.Copied:
        wish = message.wish
        async with self._opened_files(wish.container) as files:
            with _explained(wish.container, wish.path):
                done = await work_streamed(
                    self._house.commands,
                    "place",
                    pieces=message.pieces,
                    path=wish.path,
                    keep_ids=wish.keep_ids,
                    **files.params(),
                )
        return t.Copied(entries=done["entries"], bytes=done["bytes"])


def entry_name(path: str) -> str:
    """What the entry is called in the archive: the last part of a path; "." for the content of a directory."""
    if path.endswith("/.") or not path.strip("/."):
        return "."
    return posixpath.basename(posixpath.normpath("/" + path)) or "."


_WHY: dict[int, tuple[type[JockerError], str]] = {
    errno.ENOENT: (NotFound, "there is no {path} in container {name}"),
    errno.ENOTDIR: (InvalidParams, "{path} in container {name} is not a directory"),
    errno.ELOOP: (InvalidParams, "{path} in container {name}: too many links"),
    errno.EROFS: (Denied, "{path} in container {name} is read-only"),
    errno.ESTALE: (InvalidState, "container {name} has just ended; try again"),
}


@contextmanager
def _explained(name: str, path: str) -> Iterator[None]:
    """What the operating system refused, in terms of the container."""
    try:
        yield
    except OSError as error:
        if error.errno not in _WHY:
            raise
        cls, text = _WHY[error.errno]
        raise cls(text.format(path=path, name=name)) from None
