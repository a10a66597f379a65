"""A directory as a build context: its manifest, the digests remembered from last time, and a tar of some of its
files. Standard library only, loaded on use. jocker_protocol/contexts.py says what a manifest is.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

from jocker_protocol.contexts import Entry, encode, identity

from .context import CHUNK, ContextError, entries_of, read_ignore, require_directory

_SETTLED = 2_000_000_000
"""Nanoseconds after its last change from which on a file's times tell whether it has changed again."""

_WHOLE = 8 << 20
"""Bytes of a file that is read before its size is said; a larger one must not become shorter meanwhile."""


class Digests:
    """Of a directory's files, remembered between builds by (size, mtime, inode, ctime); in the user's cache, or
    nowhere when that cannot be written.
    """

    def __init__(self, path: str) -> None:
        above = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        key = hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:32]
        self._file = os.path.join(above, "jocker", "contexts", f"{key}.json")
        self._now = time.time_ns()
        self._new: dict[str, list[Any]] = {}
        self._old = self._load()

    def _load(self) -> dict[str, list[Any]]:
        try:
            with open(self._file, encoding="ascii") as file:
                known = json.load(file)
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}

    def digest(self, name: str, path: str) -> tuple[os.stat_result, int, str]:
        """The file's status, size and SHA-256. Raises FileNotFoundError, OSError."""
        status = os.lstat(path)
        facts = [status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns]
        known = self._old.get(name)
        if isinstance(known, list) and known[:-1] == facts and isinstance(known[-1], str):
            self._new[name] = known
            return status, status.st_size, known[-1]
        with open(_open(path), "rb") as file:
            total, size = hashlib.sha256(), 0
            while data := file.read(CHUNK):
                total.update(data)
                size += len(data)
            after = os.fstat(file.fileno())
        digest = total.hexdigest()
        steady = facts == [after.st_size, after.st_mtime_ns, after.st_ino, after.st_ctime_ns]
        if steady and max(after.st_mtime_ns, after.st_ctime_ns) < self._now - _SETTLED:
            self._new[name] = [*facts, digest]
        return after, size, digest

    def save(self) -> None:
        """For the next time."""
        if self._new == self._old:
            return
        directory = os.path.dirname(self._file)
        try:
            os.makedirs(directory, mode=0o700, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=directory, encoding="ascii", delete=False) as file:
                json.dump(self._new, file)
            os.replace(file.name, self._file)
        except OSError:
            return  # then the next build reads the files again


class Context:
    """A directory without what its ignore file leaves out, as it is now."""

    def __init__(self, path: str, dockerfile: str) -> None:
        """`dockerfile` may have an ignore file of its own. Raises ContextError."""
        require_directory(path)
        self._path = path
        self._entries = list(self._scan(path, read_ignore(path, dockerfile)))
        self.manifest = encode(self._entries)
        self.id = identity(self.manifest)
        self.files = sum(entry[0] == "f" for entry in self._entries)

    def _scan(self, path: str, ignore: Any) -> Iterator[Entry]:
        digests = Digests(path)
        for name, source, status in entries_of(path, ignore):
            kind = stat.S_IFMT(status.st_mode)
            try:
                if kind == stat.S_IFDIR:
                    yield "d", name, stat.S_IMODE(status.st_mode), status.st_mtime_ns
                elif kind == stat.S_IFLNK:
                    yield "l", name, os.readlink(source)
                elif kind == stat.S_IFREG:
                    its, size, digest = digests.digest(name, source)
                    yield "f", name, stat.S_IMODE(its.st_mode), its.st_mtime_ns, size, digest
            except FileNotFoundError:
                continue  # deleted just now
            except OSError as error:
                raise ContextError(f"{source} cannot be read: {error.strerror}") from None
        digests.save()

    def tar(self, ranges: Sequence[Sequence[int]]) -> Iterator[bytes]:
        """The files on these lines of the manifest, as they are now; one that is gone is left out. Raises
        ContextError.
        """
        for first, last in ranges:
            for entry in self._entries[first : last + 1]:
                if entry[0] == "f":
                    yield from _member(os.path.join(self._path, entry[1]), entry[1])
        yield bytes(2 * tarfile.BLOCKSIZE)


def _open(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def _member(path: str, name: str) -> Iterator[bytes]:
    info = tarfile.TarInfo(name)
    try:
        with open(_open(path), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                return  # what was a file is something else now
            start = file.read(min(status.st_size, _WHOLE))
            info.mode, info.mtime = stat.S_IMODE(status.st_mode), int(status.st_mtime)
            info.size = status.st_size if len(start) == _WHOLE else len(start)
            yield info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape") + start
            left = info.size - len(start)
            while left:
                data = file.read(min(left, CHUNK))
                if not data:
                    raise ContextError(f"{path} became shorter while it was read")
                yield data
                left -= len(data)
            yield bytes(-info.size % tarfile.BLOCKSIZE)
    except FileNotFoundError:
        return
    except OSError as error:
        raise ContextError(f"{path} cannot be read: {error.strerror}") from None
