"""Compressed files: told by their first bytes, read and written as streams. Blocking.

zstd is not in the standard library before Python 3.14; the package `zstandard` is imported where it is met.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, cast

from .untar import ArchiveError

CHUNK = 1 << 20
_KEPT_FREE = 64 << 20
"""Bytes that unpacking leaves free on the disk."""

_ZSTD = b"\x28\xb5\x2f\xfd"
_DAMAGED = (EOFError, zlib.error, lzma.LZMAError, ValueError)


def _zstd(file: IO[bytes]) -> IO[bytes]:
    import zstandard

    return cast("IO[bytes]", zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True))


_OPENERS: tuple[tuple[bytes, Callable[[IO[bytes]], IO[bytes]]], ...] = (
    (b"\x1f\x8b", lambda file: cast("IO[bytes]", gzip.GzipFile(fileobj=file, mode="rb"))),
    (b"BZh", lambda file: cast("IO[bytes]", bz2.BZ2File(file))),
    (b"\xfd7zXZ\0", lambda file: cast("IO[bytes]", lzma.LZMAFile(file))),  # noqa: SIM115
    (_ZSTD, _zstd),
)


class Part(io.RawIOBase):
    """A part of a file, as a file to read. Several may be read side by side."""

    def __init__(self, file: IO[bytes], offset: int, size: int) -> None:
        self._file, self._at = file, 0
        self.offset, self.size = offset, size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = max(0, offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size}[whence])
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)[: max(0, self.size - self._at)]
        count = os.preadv(self._file.fileno(), [view], self.offset + self._at) if view else 0
        self._at += count
        return count

    def fileno(self) -> int:
        """Of the whole file."""
        return self._file.fileno()

    def again(self) -> Part:
        """The same part, from its beginning."""
        return Part(self._file, self.offset, self.size)


def decompressed(file: IO[bytes]) -> IO[bytes] | None:
    """What is inside a compressed file that stands at its beginning; None where it is not compressed."""
    first = file.read(6)
    file.seek(0)
    for magic, opener in _OPENERS:
        if first.startswith(magic):
            return opener(file)
    return None


def unpack(source: IO[bytes], target: str, what: str) -> str:
    """Write all of it to a new file, as long as there is room on the disk; its digest. Raises ArchiveError."""
    total = hashlib.sha256()
    with open(target, "xb") as file, understood(what):
        written = 0
        while data := source.read(CHUNK):
            if written % (64 * CHUNK) == 0:
                room = os.statvfs(target)
                if room.f_bavail * room.f_frsize < _KEPT_FREE + 64 * CHUNK:
                    raise ArchiveError(
                        f"{what} unpacks to more than there is room for: make room, and try again"
                    )
            total.update(data)
            file.write(data)
            written += len(data)
    return f"sha256:{total.hexdigest()}"


@contextmanager
def understood(what: str) -> Iterator[None]:
    """What decompressors raise becomes ArchiveError."""
    try:
        yield
    except _DAMAGED as error:
        raise ArchiveError(f"{what} is damaged: {error}") from None
    except OSError as error:
        if error.errno is not None:
            raise
        raise ArchiveError(f"{what} is damaged: {error}") from None
    except Exception as error:
        if type(error).__name__ != "ZstdError":
            raise
        raise ArchiveError(f"{what} is damaged: {error}") from None


class Compressor:
    """Bytes in, compressed ones out; the same bytes always give the same."""

    def __init__(self, kind: str, output: Callable[[bytes], object]) -> None:
        """`kind` is none, gzip or zstd."""
        self._output = output
        self._stream: Any = None
        if kind == "gzip":
            self._stream = zlib.compressobj(6, zlib.DEFLATED, 31)
        elif kind == "zstd":
            import zstandard

            self._stream = zstandard.ZstdCompressor(3, threads=0).compressobj()

    def write(self, data: bytes) -> None:
        """More."""
        self._output(self._stream.compress(data) if self._stream is not None else data)

    def close(self) -> None:
        """No more."""
        if self._stream is not None:
            self._output(self._stream.flush())
