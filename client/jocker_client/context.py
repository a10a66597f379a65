"""What of a directory goes to the engine: all of a root file system (`image create --from-dir`), as a tar, or what
an ignore file leaves of a build context, which manifest.py describes. Standard library only, loaded on use.

A build context obeys .dockerignore to the letter, also where that excludes the Dockerfile: so the caller sends the
text of the Dockerfile beside the context, and COPY cannot see one that is ignored, as Docker documents it.
"""

from __future__ import annotations

import errno
import os
import stat
import tarfile
from collections.abc import Iterator

from jocker_protocol.patterns import BadPattern, Ignore

CHUNK = 1 << 18
"""Bytes of the pieces that come out, about."""


class ContextError(Exception):
    """The directory cannot be packed; one line."""


def ignore_lines(path: str, dockerfile: str) -> list[str]:
    """Of the ignore file of a context: DOCKERFILE.dockerignore, else .dockerignore in the context, else none. Raises
    ContextError.
    """
    return [line.encode(errors="replace").decode() for line in _ignore(path, dockerfile)[1]]


def read_ignore(path: str, dockerfile: str) -> Ignore:
    """The rules that these lines are. Raises ContextError."""
    name, lines = _ignore(path, dockerfile)
    try:
        return Ignore(lines)
    except BadPattern as error:
        raise ContextError(f"{name}: {error}") from None


def _ignore(path: str, dockerfile: str) -> tuple[str, list[str]]:
    for name in (f"{dockerfile}.dockerignore", os.path.join(path, ".dockerignore")):
        try:
            with open(name, encoding="utf-8", errors="surrogateescape") as file:
                return name, file.read().split("\n")
        except FileNotFoundError:
            continue
        except OSError as error:
            raise ContextError(f"{name} cannot be read: {error.strerror}") from None
    return "", []


def pack_dir(path: str) -> Iterator[bytes]:
    """A root file system: everything but sockets, with numeric owners and the modes of the top. Raises
    ContextError.
    """
    require_directory(path)
    return _stream(path, ".")


def pack_path(path: str, name: str) -> Iterator[bytes]:
    """A file, a link (as such), or a directory with all below it but sockets, called `name` in the archive; "." puts
    the content of a directory at the top. Raises ContextError, also while it is read.
    """
    try:
        status = os.lstat(path)
    except OSError as error:
        raise ContextError(f"{path}: {error.strerror}") from None
    if stat.S_ISDIR(status.st_mode):
        require_directory(path)
        return _stream(path, name)
    return _single(path, name, status)


def _single(path: str, name: str, status: os.stat_result) -> Iterator[bytes]:
    buffer, packer = bytearray(), _Packer()
    if stat.S_ISREG(status.st_mode):
        yield from packer.file(path, name, buffer)
    elif stat.S_ISSOCK(status.st_mode):
        raise ContextError(f"{path} is a socket, which cannot be copied")
    else:
        buffer += packer.header(path, name, status)
    yield bytes(buffer) + bytes(2 * tarfile.BLOCKSIZE)


def require_directory(path: str) -> None:
    try:
        with os.scandir(path):
            pass
    except OSError as error:
        raise ContextError(f"{path!r} cannot be read as a directory: {error.strerror}") from None


def _stream(path: str, top: str) -> Iterator[bytes]:
    buffer = bytearray()
    packer = _Packer()
    buffer += packer.header(path, top, os.stat(path))
    prefix = "" if top == "." else f"{top}/"
    for below, source, status in entries_of(path, Ignore()):
        name = prefix + below
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFSOCK:
            continue
        if kind == stat.S_IFREG and not packer.is_hard_link(status):
            yield from packer.file(source, name, buffer)
            continue
        buffer += packer.header(source, name, status)
        if len(buffer) >= CHUNK:
            yield bytes(buffer)
            buffer.clear()
    yield bytes(buffer) + bytes(2 * tarfile.BLOCKSIZE)


def entries_of(root: str, ignore: Ignore) -> Iterator[tuple[str, str, os.stat_result]]:
    """(name in the archive, path, its own status), sorted, directories before what is in them.

    A directory that is ignored comes only when an exception keeps something in it.
    """
    waiting: list[tuple[str, str, os.stat_result]] = []  # ignored directories on the way down to here
    stack = [_listing(root, "")]
    while stack:
        item = next(stack[-1], None)
        if item is None:
            stack.pop()
            continue
        name, path, status = item
        while waiting and not name.startswith(waiting[-1][0] + "/"):
            waiting.pop()
        directory = stat.S_ISDIR(status.st_mode)
        if not ignore.ignores(name):
            yield from waiting
            waiting.clear()
            yield item
        elif directory and not ignore.ignores_all_below(name):
            waiting.append(item)
        else:
            continue
        if directory:
            stack.append(_listing(path, name + "/"))


def _listing(directory: str, prefix: str) -> Iterator[tuple[str, str, os.stat_result]]:
    try:
        names = sorted(os.listdir(directory), key=os.fsencode)
    except OSError as error:
        raise ContextError(f"{directory} cannot be read: {error.strerror}") from None
    for name in names:
        path = os.path.join(directory, name)
        try:
            yield prefix + name, path, os.lstat(path)
        except FileNotFoundError:
            continue  # deleted just now
        except OSError as error:
            raise ContextError(f"{path} cannot be read: {error.strerror}") from None


class _Packer:
    """Makes tar headers (POSIX.1-2001, pax) and streams files; remembers hard links."""

    def __init__(self) -> None:
        self._linked: dict[tuple[int, int], str] = {}

    def is_hard_link(self, status: os.stat_result) -> bool:
        """Whether the content was sent already under another name."""
        return (status.st_dev, status.st_ino) in self._linked

    def header(self, path: str, name: str, status: os.stat_result) -> bytes:
        """The header of an entry; a regular file is one of the size in `status`, or a link to the one sent
        before.
        """
        info = tarfile.TarInfo(name)
        info.mode = stat.S_IMODE(status.st_mode)
        info.mtime = int(status.st_mtime)
        info.uid, info.gid = status.st_uid, status.st_gid
        kind = stat.S_IFMT(status.st_mode)
        key = (status.st_dev, status.st_ino)
        if kind != stat.S_IFDIR and key in self._linked:
            info.type, info.linkname = tarfile.LNKTYPE, self._linked[key]
        elif kind == stat.S_IFREG:
            info.size = status.st_size
        elif kind == stat.S_IFDIR:
            info.type = tarfile.DIRTYPE
        elif kind == stat.S_IFLNK:
            info.type = tarfile.SYMTYPE
            try:
                info.linkname = os.readlink(path)
            except OSError as error:
                raise ContextError(f"{path} cannot be read: {error.strerror}") from None
        elif kind == stat.S_IFIFO:
            info.type = tarfile.FIFOTYPE
        else:
            info.type = tarfile.CHRTYPE if kind == stat.S_IFCHR else tarfile.BLKTYPE
            info.devmajor, info.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
        if status.st_nlink > 1 and kind != stat.S_IFDIR:
            self._linked.setdefault(key, name)
        return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")

    def file(self, path: str, name: str, buffer: bytearray) -> Iterator[bytes]:
        """Header and content of a regular file, through the buffer; as long as it was when it was opened."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return  # deleted just now
        except OSError as error:
            reason = "it became a link" if error.errno == errno.ELOOP else error.strerror
            raise ContextError(f"{path} cannot be read: {reason}") from None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise ContextError(f"{path} changed while it was read")
            buffer += self.header(path, name, status)
            left = status.st_size
            while left:
                data = os.read(descriptor, min(left, CHUNK))
                if not data:
                    raise ContextError(f"{path} became shorter while it was read")
                buffer += data
                left -= len(data)
                if len(buffer) >= CHUNK:
                    yield bytes(buffer)
                    buffer.clear()
            buffer += bytes(-status.st_size % tarfile.BLOCKSIZE)
        except OSError as error:
            raise ContextError(f"{path} cannot be read: {error.strerror}") from None
        finally:
            os.close(descriptor)
