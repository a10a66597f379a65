"""A tar archive into a directory, and never outside of it: a worker operation, and what ADD does with archives.
Blocking; standard library only.

Formats: POSIX.1-1988 and 2001 (pax), GNU; see Python's tarfile. Extended attributes are the pax records
SCHILY.xattr.NAME that GNU tar and bsdtar write.
"""

from __future__ import annotations

import decimal
import errno
import io
import lzma
import os
import stat
import sys
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, cast

from ..rootfs import resolve

_DAMAGED = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OverflowError, ValueError)
_KINDS = {tarfile.CHRTYPE: stat.S_IFCHR, tarfile.BLKTYPE: stat.S_IFBLK, tarfile.FIFOTYPE: stat.S_IFIFO}
_XATTR = "SCHILY.xattr."
_OVERLAY = ("trusted.overlay.", "user.overlay.")
"""What these say is between the kernel and the layers under it; an archive has no say in that."""
_NO_XATTR = (errno.EOPNOTSUPP, errno.EPERM, errno.EACCES, errno.EINVAL)
_ZSTD = b"\x28\xb5\x2f\xfd"
_CHUNK = 1 << 20
MAX_ENTRIES = 2_000_000
MAX_BYTES = 1 << 37
"""Of the files' contents: 128 GiB."""
MAX_NAME = 4095
"""Bytes of a path: PATH_MAX of Linux without its NUL."""


class ArchiveError(Exception):
    """It is no tar archive, a damaged one, or one that may not be extracted; one line for the user."""


class Header(tarfile.TarInfo):
    """tarfile takes a bad header in the middle for the end of the archive; here it is an error.

    So is one that would make it go backwards, for ever, or read more into memory than a header has.
    """

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Header:
        try:
            header = super().frombuf(buf, encoding, errors)
            if header.size < 0 or (header.type in _ABOUT_THE_NEXT and header.size > _MAX_ABOUT):
                raise tarfile.ReadError(f"a header with a size of {header.size}")
            return header
        except tarfile.HeaderError as error:
            if len(buf) in (0, tarfile.BLOCKSIZE) and not any(buf):
                raise  # it is the end
            raise tarfile.ReadError(str(error)) from None


_ABOUT_THE_NEXT = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)
_MAX_ABOUT = 1 << 20
"""Bytes of a header that says something about the next one."""


def import_tar(
    tar: str, target: str, devices: bool = True, max_entries: int = MAX_ENTRIES, max_bytes: int = MAX_BYTES
) -> dict[str, int]:
    """Extract a tar archive (plain, gzip, bzip2, xz, zstd) into `target`, a directory that nobody else writes to.

    Names mean what they would if `target` were "/": "..", links and absolute names lead nowhere else. Owners,
    modes, times, hard links, device nodes and xattrs are kept as far as this user may. With `devices` false a
    device node is an error. Bytes are those of the files' contents.

    Returns {"files": entries that are no directories, "bytes": ...}. Raises ArchiveError, OSError.
    """
    extraction = Extraction(
        os.path.realpath(target), devices=devices, max_entries=max_entries, max_bytes=max_bytes
    )
    extraction.extract(tar)
    return {"files": extraction.files, "bytes": extraction.bytes}


def is_archive(path: str) -> bool:
    """Whether a file is a tar archive, plain or compressed, with anything in it."""
    try:
        with _opened(path) as archive, understood(""):
            return archive.next() is not None
    except ArchiveError:
        return False


@contextmanager
def _opened(path: str) -> Iterator[tarfile.TarFile]:
    with open(path, "rb") as file:
        zstd = file.read(len(_ZSTD)) == _ZSTD
    if zstd:
        with _unzstd(path) as archive:
            yield archive
        return
    try:
        archive = tarfile.open(path, "r:*", tarinfo=Header)  # noqa: SIM115
    except (*_DAMAGED, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        why = "this is not a tar archive (plain, or compressed with gzip, bzip2, xz or zstd)"
        raise ArchiveError(why) from None
    with archive:
        yield archive


@contextmanager
def _unzstd(path: str) -> Iterator[tarfile.TarFile]:
    """Python has had no zstd of its own before 3.14."""
    import zstandard

    with (
        open(path, "rb") as file,
        zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True) as source,
    ):
        try:
            archive = tarfile.open(fileobj=source, mode="r|", tarinfo=Header)  # noqa: SIM115
        except (*_DAMAGED, zstandard.ZstdError):
            raise ArchiveError("what this zstd file holds is not a tar archive") from None
        with archive:
            try:
                # tarfile asks its own stream, which goes forwards only and has no such method (CPython 3.11).
                cast("Any", archive.fileobj).seekable = lambda: True
                yield archive
            except zstandard.ZstdError as error:
                raise ArchiveError(f"damaged archive: {error}") from None


@contextmanager
def understood(what: str) -> Iterator[None]:
    """Decompressors also raise OSError, one without a number."""
    try:
        yield
    except _DAMAGED as error:
        raise ArchiveError(f"{what}: {error}") from None
    except OSError as error:
        if error.errno is not None:
            raise
        raise ArchiveError(f"{what}: {error}") from None


@contextmanager
def opened_stream(file: IO[bytes]) -> Iterator[tarfile.TarFile]:
    """The archive that comes through a pipe; afterwards the pipe is read to its end."""
    head = file.peek(len(_ZSTD))[: len(_ZSTD)] if isinstance(file, io.BufferedReader) else b""
    if head == _ZSTD:
        raise ArchiveError("this stream is compressed with zstd: decompress it first (zstd -d)")
    try:
        archive = tarfile.open(fileobj=file, mode="r|*", tarinfo=Header)  # noqa: SIM115
    except _DAMAGED:
        raise ArchiveError(
            "this is not a tar archive (plain, or compressed with gzip, bzip2 or xz)"
        ) from None
    with archive:
        yield archive
        while file.read(_CHUNK):
            pass


def unpack(target: str) -> dict[str, int]:
    """import_tar of standard input, without limits of entries and bytes."""
    extraction = Extraction(os.path.realpath(target), max_entries=0, max_bytes=0)
    with opened_stream(sys.stdin.buffer) as archive:
        extraction.extract_open(archive)
    return {"files": extraction.files, "bytes": extraction.bytes}


class Extraction:
    """One archive's way into one directory: `top`, as a path inside of `root`, which links never leave."""

    def __init__(
        self,
        root: str,
        *,
        top: str = "",
        owner: tuple[int, int] | None = None,
        devices: bool = True,
        max_entries: int = MAX_ENTRIES,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        """`owner`: who all belongs to, None for whom the archive says."""
        self.files = self.bytes = self._entries = 0
        self._root = root
        self._top = top.strip("/")
        self._owner = owner
        self._devices, self._max_entries, self._max_bytes = devices, max_entries, max_bytes
        self._super = os.geteuid() == 0
        self._directories: list[tuple[str, tarfile.TarInfo]] = []
        self._parents: dict[str, str] = {}
        """Directory as the archive names it -> its real path; forgotten when anything is replaced."""

    def extract(self, path: str) -> None:
        """All of it. Raises ArchiveError, OSError."""
        with _opened(path) as archive:
            self.extract_open(archive)

    def extract_open(self, archive: tarfile.TarFile) -> None:
        """All that is left of an archive that was opened."""
        with understood("damaged archive"):
            self._run(archive)
            while archive.fileobj is not None and archive.fileobj.read(_CHUNK):
                pass  # the check sum of a compressed stream is at its end

    def _run(self, archive: tarfile.TarFile) -> None:
        for member in archive:
            self._entries += 1
            if self._max_entries and self._entries > self._max_entries:
                raise ArchiveError(f"the archive has more than {self._max_entries} entries")
            self._member(archive, member)
        for path, member in reversed(self._directories):  # only now: what is made in them changes the times
            self._attributes(path, member)

    def _member(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        name = clean(member.name)
        if len(os.fsencode(name)) + len(os.fsencode(self._root)) > MAX_NAME:
            raise ArchiveError(f"a name in the archive is too long: {name[:60]}...")
        if not name:
            if member.isdir() and not self._top:
                self._directories.append((self._root, member))
            return
        path = self._real(name)
        if member.isdir():
            if not is_directory(path):
                self._make_room(path, member)
                os.mkdir(path, 0o700)
            self._directories.append((path, member))
            return
        if member.islnk():
            self._hard_link(path, member)
        elif member.type in _KINDS:
            self._make_room(path, member)
            if not self._node(path, member):
                return
        elif member.issym():
            self._make_room(path, member)
            os.symlink(member.linkname, path)
        elif member.isfile():
            self._make_room(path, member)
            self._content(archive.extractfile(member), path, member)
        else:
            return  # of a type that no standard has
        self.files += 1
        if not member.islnk():
            self._attributes(path, member)

    def _real(self, name: str) -> str:
        """The host path of an entry: its directory resolved inside the root, and made if it is missing."""
        above, _, last = (f"{self._top}/{name}" if self._top else name).rpartition("/")
        if above not in self._parents:
            try:
                self._parents[above] = resolve(self._root, above, create=True)
            except NotADirectoryError:
                raise ArchiveError(f"{name!r} lies in what is not a directory") from None
        return os.path.join(self._parents[above], last)

    def _make_room(self, path: str, member: tarfile.TarInfo) -> None:
        """Nothing is at the path afterwards; a directory is never replaced."""
        if is_directory(path):
            raise ArchiveError(f"{member.name!r} is a directory earlier in the archive")
        try:
            os.unlink(path)
        except FileNotFoundError:
            return
        except NotADirectoryError:
            raise ArchiveError(f"{member.name!r} lies in what is not a directory") from None
        self._parents.clear()

    def _hard_link(self, path: str, member: tarfile.TarInfo) -> None:
        first = self._real(clean(member.linkname) or ".")
        if not os.path.lexists(first) or is_directory(first):
            raise ArchiveError(f"hard link {member.name!r} to {member.linkname!r}, which is no file there")
        if first == path:
            return
        self._make_room(path, member)
        os.link(first, path, follow_symlinks=False)

    def _node(self, path: str, member: tarfile.TarInfo) -> bool:
        if not self._devices and not member.isfifo():
            raise ArchiveError(f"{member.name!r} is a device node, which is not allowed here")
        device = 0 if member.isfifo() else os.makedev(member.devmajor, member.devminor)
        try:
            os.mknod(path, _KINDS[member.type] | 0o600, device)
        except PermissionError:
            return False  # device nodes are root's
        return True

    def _content(self, content: IO[bytes] | None, path: str, member: tarfile.TarInfo) -> None:
        assert content is not None  # it is a regular file
        self.bytes += member.size  # with its holes: somebody will read them
        if self._max_bytes and self.bytes > self._max_bytes:
            raise ArchiveError(f"the archive has more than {self._max_bytes} bytes of content")
        with open(path, "xb") as file:
            self._fill(file, content, member)

    def _fill(self, file: IO[bytes], content: IO[bytes], member: tarfile.TarInfo) -> None:
        extents: list[tuple[int, int]] = cast("Any", member).sparse or [(0, member.size)]
        for offset, size in extents:
            _skip(content, offset - file.tell())
            file.seek(offset)
            while size:
                data = content.read(min(size, _CHUNK))
                if not data:
                    raise ArchiveError(f"damaged archive: {member.name!r} is cut short")
                file.write(data)
                size -= len(data)
        file.truncate(member.size)

    def _attributes(self, path: str, member: tarfile.TarInfo) -> None:
        """Owner, mode, xattrs, time: in this order, since chown clears set-uid bits and capabilities."""
        if self._super:
            os.chown(path, *(self._owner or (member.uid, member.gid)), follow_symlinks=False)
        if not member.issym():
            os.chmod(path, member.mode & 0o7777)
        for key, value in member.pax_headers.items():
            name = key.removeprefix(_XATTR)
            if name != key and not name.startswith(_OVERLAY):
                _set_xattr(path, name, value.encode(errors="surrogateescape"))
        time = _mtime_ns(member)
        os.utime(path, ns=(time, time), follow_symlinks=False)


def _skip(content: IO[bytes], count: int) -> None:
    """Zeros between two extents: of a pipe they must be read."""
    try:
        content.seek(count, os.SEEK_CUR)
    except (AttributeError, io.UnsupportedOperation):
        while count > 0 and (data := content.read(min(count, _CHUNK))):
            count -= len(data)


def clean(name: str) -> str:
    return os.path.normpath("/" + name).strip("/")


def is_directory(path: str) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)


def _set_xattr(path: str, name: str, value: bytes) -> None:
    if not hasattr(os, "setxattr"):
        return
    try:
        os.setxattr(path, name, value, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_XATTR:
            raise


def _mtime_ns(member: tarfile.TarInfo) -> int:
    """A pax time has more digits than tarfile's float."""
    try:
        return int(decimal.Decimal(member.pax_headers["mtime"]) * 10**9)
    except (KeyError, ArithmeticError, ValueError):
        return int(member.mtime * 10**9)
