"""What came out of a container to where it belongs here: unpacked beside that, and then moved, file by file.

An archive is not trusted: nothing is written through a link in it, nor outside of the new directory that it is unpacked
into. A file has its name when it is whole; what is interrupted leaves nothing. Standard library only, loaded on use.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import tarfile
from collections.abc import Iterator
from typing import IO, Any

_CHUNK = 1 << 18
_KINDS = {tarfile.CHRTYPE: stat.S_IFCHR, tarfile.BLKTYPE: stat.S_IFBLK, tarfile.FIFOTYPE: stat.S_IFIFO}


class UnpackError(Exception):
    """It cannot be copied so; one line."""


def unpack(chunks: Iterator[bytes], directory: str, name: str, *, keep_ids: bool) -> int:
    """The archive's only top entry becomes DIRECTORY/NAME, merged into a directory that is there already; "": its
    content goes into the directory itself. Bytes of files. Raises UnpackError, OSError, tarfile.TarError.

    `keep_ids`: owners are as in the archive, as far as this user may.
    """
    staging = os.path.join(directory, f".{secrets.token_hex(6)}.partial")
    os.mkdir(staging, 0o700)
    try:
        with tarfile.open(fileobj=_Reader(chunks), mode="r|") as archive:  # type: ignore[call-overload]
            unpacked = _Unpacking(staging, keep_ids)
            for member in archive:
                unpacked.member(archive, member)
        for _ in chunks:
            pass  # up to the result, which says that it was all
        unpacked.finish()
        top = os.path.join(staging, "top")
        if not os.path.lexists(top):
            raise UnpackError("the archive is empty")
        _move(top, os.path.join(directory, name) if name else directory)
    finally:
        shutil.rmtree(staging)
    return unpacked.bytes


class _Reader:
    """Pieces as a file to read from."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def read(self, count: int) -> bytes:
        """As io.RawIOBase has it."""
        while len(self._rest) < count and (chunk := next(self._chunks, b"")):
            self._rest += chunk
        data, self._rest = self._rest[:count], self._rest[count:]
        return data


class _Unpacking:
    """Into STAGING/top."""

    def __init__(self, staging: str, keep_ids: bool) -> None:
        self.bytes = 0
        self._staging = staging
        self._owned = keep_ids and os.geteuid() == 0
        self._directories: list[tuple[str, tarfile.TarInfo]] = []

    def member(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        """One entry; the first part of its name is replaced."""
        path = self._place(member.name)
        if member.isdir():
            if not os.path.isdir(path):
                os.mkdir(path, 0o700)
            self._directories.append((path, member))
            return
        if os.path.lexists(path):
            os.unlink(path)
        if member.islnk():
            os.link(self._place(member.linkname), path, follow_symlinks=False)
            return
        if member.issym():
            os.symlink(member.linkname, path)
        elif member.type in _KINDS:
            device = 0 if member.isfifo() else os.makedev(member.devmajor, member.devminor)
            try:
                os.mknod(path, _KINDS[member.type] | 0o600, device)
            except PermissionError:
                return  # device nodes are root's
        elif member.isfile():
            self._content(archive.extractfile(member), path, member.size)
        else:
            return
        self._attributes(path, member)

    def _place(self, name: str) -> str:
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise UnpackError(f"{name!r} leads out of the archive")
        path = os.path.join(self._staging, "top")
        for part in parts if name.startswith("./") or name == "." else parts[1:]:
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                raise UnpackError(f"{name!r} lies in what is not a directory")
            path = os.path.join(path, part)
        return path

    def _content(self, content: IO[bytes] | None, path: str, size: int) -> None:
        assert content is not None  # it is a regular file
        with open(path, "xb") as file:
            left = size
            while left:
                data = content.read(min(left, _CHUNK))
                if not data:
                    raise UnpackError("it was cut short on its way")
                file.write(data)
                left -= len(data)
        self.bytes += size

    def finish(self) -> None:
        """What directories are like, when nothing more is made in them."""
        for path, member in reversed(self._directories):
            self._attributes(path, member)

    def _attributes(self, path: str, member: tarfile.TarInfo) -> None:
        if self._owned:
            os.chown(path, member.uid, member.gid, follow_symlinks=False)
        if not member.issym():
            os.chmod(path, member.mode & 0o7777)
        os.utime(path, (member.mtime, member.mtime), follow_symlinks=False)


def _move(source: str, target: str) -> None:
    """To its place; a directory is merged into one that is there, and nothing else is mixed."""
    directory = stat.S_ISDIR(os.lstat(source).st_mode)
    try:
        there = os.lstat(target).st_mode
    except FileNotFoundError:
        _rename(source, target, directory)
        return
    if directory != stat.S_ISDIR(there):
        kinds = ("what is no directory", "a directory")
        raise UnpackError(f"cannot overwrite {target}, {kinds[not directory]}, with {kinds[directory]}")
    if not directory:
        os.replace(source, target)
        return
    for name in sorted(os.listdir(source)):
        _move(os.path.join(source, name), os.path.join(target, name))


def _rename(source: str, target: str, directory: bool) -> None:
    """rename(2) of a directory needs to write to it, for its "..", whatever its mode will be."""
    mode: Any = stat.S_IMODE(os.lstat(source).st_mode) if directory else None
    if mode is not None and mode & 0o200 == 0:
        os.chmod(source, mode | 0o700)
        os.rename(source, target)
        os.chmod(target, mode)
    else:
        os.rename(source, target)
