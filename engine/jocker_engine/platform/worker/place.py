"""Worker operations: a tar from standard input into a directory inside a root, and what is at a path there. Blocking;
standard library only.

Others may write there meanwhile. Nothing outside of the root is ever written: the directory is found by inside.py, and
below it no link is followed. Every file appears under its name when it is whole, or not at all.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .inside import Inside, open_directory, target_of
from .scene import set_scene
from .untar import ArchiveError, opened_stream, understood

_KINDS = {tarfile.CHRTYPE: stat.S_IFCHR, tarfile.BLKTYPE: stat.S_IFBLK, tarfile.FIFOTYPE: stat.S_IFIFO}
_XATTR = "SCHILY.xattr."
_NO_XATTR = (errno.EOPNOTSUPP, errno.EPERM, errno.EACCES, errno.EINVAL)
_CHUNK = 1 << 18


class CopyError(Exception):
    """It cannot be copied so; one line for the user."""


def stat_path(
    root: str, path: str, follow: bool = False, scene: list[list[object]] | None = None, same_as: str = ""
) -> dict[str, Any]:
    """{"kind": file, directory, link or other, "mode", "size", "mtime", "target"}. Raises OSError."""
    set_scene(root, scene or [])
    with Inside(root, same_as) as inside:
        fd = inside.open(path, follow=follow)
        try:
            status = os.fstat(fd)
            kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}
            kind = kinds.get(stat.S_IFMT(status.st_mode), "other")
            target = target_of(fd) if kind == "link" else ""
            return {
                "kind": kind,
                "mode": stat.S_IMODE(status.st_mode),
                "size": status.st_size,
                "mtime": int(status.st_mtime),
                "target": target,
            }
        finally:
            os.close(fd)


def place(
    root: str, path: str, keep_ids: bool = False, scene: list[list[object]] | None = None, same_as: str = ""
) -> dict[str, int]:
    """Extract into the directory at `path`, which must be there. Without `keep_ids` all belongs to 0:0.

    A directory is never replaced by something else, nor something else by a directory. Returns {"entries", "bytes"}.
    Raises CopyError, ArchiveError, OSError.
    """
    set_scene(root, scene or [])
    with Inside(root, same_as) as inside:
        fd = inside.open(path)
        try:
            top = open_directory(fd)
        finally:
            os.close(fd)
    placer = _Placer(top, keep_ids)
    with opened_stream(sys.stdin.buffer) as archive, understood("damaged archive"):
        for member in archive:
            placer.member(archive, member)
    placer.finish()
    return {"entries": placer.entries, "bytes": placer.bytes}


class _Placer:
    def __init__(self, top: int, keep_ids: bool) -> None:
        self.entries = self.bytes = 0
        self._top = top
        self._keep_ids = keep_ids
        self._root = os.geteuid() == 0
        self._directories: dict[str, tarfile.TarInfo] = {}

    def member(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        """One entry of the archive."""
        parts = [part for part in member.name.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise ArchiveError(f"{member.name!r} leads out of the archive")
        if not parts:
            return  # the directory itself is as it is
        with self._parent(parts) as parent:
            self._entry(archive, member, parent, parts[-1])
        if member.isdir():
            self._directories["/".join(parts)] = member
        self.entries += 1

    def _entry(self, archive: tarfile.TarFile, member: tarfile.TarInfo, parent: int, name: str) -> None:
        there = _mode(parent, name)
        if member.isdir():
            if there is None:
                os.mkdir(name, 0o700, dir_fd=parent)
            elif not stat.S_ISDIR(there):
                raise CopyError(f"cannot overwrite {member.name!r}, which is no directory, with a directory")
            return
        if there is not None and stat.S_ISDIR(there):
            raise CopyError(f"cannot overwrite directory {member.name!r} with what is no directory")
        new = f".{secrets.token_hex(6)}.partial"
        try:
            if not self._make(archive, member, parent, new):
                return
            os.rename(new, name, src_dir_fd=parent, dst_dir_fd=parent)
        finally:
            _unlink(parent, new)  # rename(2) leaves it, too, where both names are links to one file

    def _make(self, archive: tarfile.TarFile, member: tarfile.TarInfo, parent: int, new: str) -> bool:
        if member.islnk():
            parts = [part for part in member.linkname.split("/") if part not in ("", ".")]
            if ".." in parts or not parts:
                raise ArchiveError(f"hard link {member.name!r} leads out of the archive")
            with self._parent(parts) as other:
                os.link(parts[-1], new, src_dir_fd=other, dst_dir_fd=parent, follow_symlinks=False)
            return True
        if member.issym():
            os.symlink(member.linkname, new, dir_fd=parent)
        elif member.type in _KINDS:
            device = 0 if member.isfifo() else os.makedev(member.devmajor, member.devminor)
            os.mknod(new, _KINDS[member.type] | 0o600, device, dir_fd=parent)
        elif member.isfile():
            self._content(archive, member, parent, new)
            return True
        else:
            return False  # of a type that no standard has
        self._own(member, new, parent)
        if not member.issym():
            os.chmod(new, member.mode & 0o7777, dir_fd=parent)
        os.utime(new, (member.mtime, member.mtime), dir_fd=parent, follow_symlinks=False)
        return True

    def _content(self, archive: tarfile.TarFile, member: tarfile.TarInfo, parent: int, new: str) -> None:
        content = archive.extractfile(member)
        assert content is not None  # it is a regular file
        fd = os.open(
            new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=parent
        )
        with open(fd, "wb", buffering=0) as file:
            left = member.size
            while left:
                data = content.read(min(left, _CHUNK))
                if not data:
                    raise ArchiveError(f"damaged archive: {member.name!r} is cut short")
                file.write(data)
                left -= len(data)
            self._own(member, fd, None)
            os.fchmod(fd, member.mode & 0o7777)  # after chown, which clears set-uid
            _set_xattrs(fd, member)
            os.utime(fd, (member.mtime, member.mtime))
        self.bytes += member.size

    def finish(self) -> None:
        """What directories are like; only now, since what is made in them changes their times."""
        for path, member in reversed(self._directories.items()):
            parts = path.split("/")
            with self._parent([*parts, "."]) as fd:
                self._own(member, fd, None)
                os.fchmod(fd, member.mode & 0o7777)
                _set_xattrs(fd, member)
                os.utime(fd, (member.mtime, member.mtime))
        os.close(self._top)

    def _own(self, member: tarfile.TarInfo, what: str | int, parent: int | None) -> None:
        if not self._root:
            return
        uid, gid = (member.uid, member.gid) if self._keep_ids else (0, 0)
        if isinstance(what, int):
            os.fchown(what, uid, gid)
        else:
            os.chown(what, uid, gid, dir_fd=parent, follow_symlinks=False)

    @contextmanager
    def _parent(self, parts: list[str]) -> Iterator[int]:
        """The directory that the last part is in, made where it is missing; no link on the way is followed."""
        fd = os.dup(self._top)
        try:
            for part in parts[:-1]:
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                try:
                    below = os.open(part, flags, dir_fd=fd)
                except FileNotFoundError:
                    os.mkdir(part, 0o755, dir_fd=fd)
                    below = os.open(part, flags, dir_fd=fd)
                except OSError as error:
                    if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                        raise
                    raise CopyError(f"{'/'.join(parts)!r} lies in what is not a directory") from None
                os.close(fd)
                fd = below
            yield fd
        finally:
            os.close(fd)


def _mode(parent: int, name: str) -> int | None:
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return None


def _unlink(parent: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        pass


def _set_xattrs(fd: int, member: tarfile.TarInfo) -> None:
    for key, value in member.pax_headers.items():
        name = key.removeprefix(_XATTR)
        if name == key or name.startswith(("trusted.overlay.", "user.overlay.")) or sys.platform != "linux":
            continue
        try:
            os.setxattr(fd, name, value.encode(errors="surrogateescape"))
        except OSError as error:
            if error.errno not in _NO_XATTR:
                raise
