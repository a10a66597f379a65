"""Worker operation: what is at a path inside a root, as a tar on standard output. Blocking; standard library only.

Others may write meanwhile: a file that becomes shorter is filled up with zeros, one that is gone is left out, and
nothing outside of the root is ever read (inside.py).
"""

from __future__ import annotations

import errno
import os
import resource
import stat
import sys
from typing import IO

from .inside import PATH_ONLY, Inside, open_directory, reopen, target_of
from .scene import set_scene
from .tarwriter import END, has_form, header, padding

_CHUNK = 1 << 18
_OVERLAY = "trusted.overlay."
_NO_XATTRS = (errno.EOPNOTSUPP, errno.EPERM, errno.EACCES, errno.ENODATA)


def pack(
    root: str,
    path: str = "/",
    name: str = ".",
    follow: bool = False,
    scene: list[list[object]] | None = None,
    same_as: str = "",
    output: str = "",
) -> dict[str, int]:
    """The entry at `path` is called `name` in the archive, what is below it NAME/...; `follow` a link at the end.
    `output`: a file to be made in place of standard output, on disk when this returns.

    Returns {"entries"}. Raises OSError: there is nothing at the path.
    """
    set_scene(root, scene or [])
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # one descriptor for each level of depth
    out = open(output, "xb") if output else sys.stdout.buffer  # noqa: SIM115
    with Inside(root, same_as) as inside, out:
        packer = _Packer(out)
        top = inside.open(path, follow=follow)
        try:
            packer.entry(top, name)
            out.write(END)
            out.flush()
            if output:
                os.fsync(out.fileno())
        finally:
            os.close(top)
    return {"entries": packer.entries}


class _Packer:
    def __init__(self, out: IO[bytes]) -> None:
        self.entries = 0
        self._out = out
        self._seen: dict[tuple[int, int], str] = {}

    def entry(self, fd: int, name: str) -> None:
        """One entry and all below it."""
        status = os.fstat(fd)
        if not has_form(status):
            return
        if stat.S_ISREG(status.st_mode):
            self._file(fd, name, status)
        elif stat.S_ISLNK(status.st_mode):
            self._header(name, status, target=target_of(fd))
        else:
            xattrs = _xattrs(fd) if stat.S_ISDIR(status.st_mode) else {}
            self._header(name, status, xattrs=xattrs)
        if stat.S_ISDIR(status.st_mode):
            self._below(fd, name)

    def _below(self, fd: int, name: str) -> None:
        directory = open_directory(fd)
        try:
            for each in sorted(os.listdir(directory)):
                try:
                    child = os.open(each, PATH_ONLY, dir_fd=directory)
                except FileNotFoundError:
                    continue
                try:
                    self.entry(child, f"{name}/{each}")
                finally:
                    os.close(child)
        finally:
            os.close(directory)

    def _file(self, fd: int, name: str, status: os.stat_result) -> None:
        key = (status.st_dev, status.st_ino)
        if status.st_nlink > 1 and key in self._seen:
            self._header(name, status, target=self._seen[key], link=True)
            return
        content = reopen(fd, os.O_RDONLY)
        try:
            status = os.fstat(content)
            self._header(name, status, xattrs=_xattrs(fd))
            left = status.st_size
            while left and (data := os.read(content, min(left, _CHUNK))):
                self._out.write(data)
                left -= len(data)
            while left:
                self._out.write(bytes(min(left, _CHUNK)))
                left -= min(left, _CHUNK)
            self._out.write(padding(status.st_size))
        finally:
            os.close(content)
        if status.st_nlink > 1:
            self._seen[key] = name

    def _header(
        self,
        name: str,
        status: os.stat_result,
        *,
        target: str = "",
        link: bool = False,
        xattrs: dict[str, bytes] | None = None,
    ) -> None:
        self._out.write(header(name, status, target=target, link=link, xattrs=xattrs))
        self.entries += 1


def _xattrs(fd: int) -> dict[str, bytes]:
    if sys.platform != "linux":
        return {}
    path = f"/proc/self/fd/{fd}"
    try:
        names = [name for name in os.listxattr(path) if not name.startswith(_OVERLAY)]
        return {name: os.getxattr(path, name) for name in names}
    except OSError as error:
        if error.errno not in _NO_XATTRS:
            raise
        return {}
