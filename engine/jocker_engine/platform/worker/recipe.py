"""The recipe of a layer's tar: all bytes of it that are not content of files, and whose content comes where.

With the tree of the layer it gives the very tar again, whoever wrote it, so that digests stay true; the content
is kept once. On disk: gzip over records, `R length bytes` and `F size length path`. Blocking; standard library only.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
from collections.abc import Callable, Iterator
from typing import IO, cast

from .tarwriter import padding

_RAW, _FILE = struct.Struct(">cI"), struct.Struct(">cQI")
_BUFFER = 1 << 16
CHUNK = 1 << 20


class RecipeError(Exception):
    """The tar cannot be made again: the recipe is damaged, or the layer's content has changed. One line."""


class Tar:
    """A tar that is written piece by piece; `bytes` and `digest` are of what was written."""

    def __init__(self, output: Callable[[bytes], object] | None = None) -> None:
        self.bytes = 0
        self._hash = hashlib.sha256()
        self._output = output

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"

    def _put(self, data: bytes) -> None:
        self.bytes += len(data)
        self._hash.update(data)
        if self._output is not None:
            self._output(data)

    def raw(self, data: bytes) -> None:
        """Bytes that are in no file."""
        self._put(data)

    def content(self, path: str, source: IO[bytes], size: int) -> None:
        """A file's content, at `path` in the layer, with the padding after it."""
        for data in read_exactly(source, size):
            self._put(data)
        self._put(padding(size))


class Cook(Tar):
    """Writes the recipe besides."""

    def __init__(self, path: str, output: Callable[[bytes], object] | None = None) -> None:
        """`path` is where the recipe will be once `close` has been called."""
        super().__init__(output)
        self._path = path
        self._pending = bytearray()
        self._file = open(f"{path}.partial", "wb")  # noqa: SIM115
        self._zipped = cast("IO[bytes]", gzip.GzipFile("", "wb", 1, self._file, mtime=0))

    def raw(self, data: bytes) -> None:
        super().raw(data)
        self.keep(data)

    def content(self, path: str, source: IO[bytes], size: int) -> None:
        super().content(path, source, size)
        self.keep_content(path, size)
        self.keep(padding(size))

    def keep(self, data: bytes) -> None:
        """Bytes of a tar that somebody else wrote and read."""
        self._pending += data
        if len(self._pending) >= _BUFFER:
            self._flush()

    def keep_content(self, path: str, size: int) -> None:
        """A file's content there, without padding."""
        self._flush()
        name = os.fsencode(path)
        self._zipped.write(_FILE.pack(b"F", size, len(name)) + name)

    def _flush(self) -> None:
        if self._pending:
            self._zipped.write(_RAW.pack(b"R", len(self._pending)) + self._pending)
            self._pending.clear()

    def close(self, *, sync: bool = False) -> None:
        """It is whole: give it its name. `sync`: bring it to disk before."""
        self._flush()
        self._zipped.close()
        self._file.flush()
        if sync:
            os.fsync(self._file.fileno())
        self._file.close()
        os.rename(f"{self._path}.partial", self._path)


def open_file(path: str) -> IO[bytes]:
    """A file that is itself there, not through a link."""
    return open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0)


def read_exactly(file: IO[bytes], size: int) -> Iterator[bytes]:
    """So many bytes: a file that became shorter is filled up with zeros, as GNU tar does."""
    while size:
        data = file.read(min(size, CHUNK)) or bytes(min(size, CHUNK))
        size -= len(data)
        yield data


def replay(recipe: str, root: str) -> Iterator[bytes]:
    """The tar, in pieces; `root` is where the layer's content lies. Raises RecipeError."""
    try:
        with gzip.open(recipe, "rb") as file:
            while kind := file.read(1):
                if kind == b"R":
                    (length,) = struct.unpack(">I", _read(file, 4))
                    yield _read(file, length)
                elif kind == b"F":
                    size, length = struct.unpack(">QI", _read(file, 12))
                    name = os.fsdecode(_read(file, length))
                    with open_file(os.path.join(root, name)) as source:
                        yield from read_exactly(source, size)
                else:
                    raise RecipeError(f"{recipe} is damaged")
    except (EOFError, gzip.BadGzipFile, OSError) as error:
        raise RecipeError(f"{recipe} cannot be followed: {error}") from None


def _read(file: gzip.GzipFile, length: int) -> bytes:
    data = file.read(length)
    if len(data) != length:
        raise EOFError("it is cut short")
    return data
