"""Disk space kept back, so that what frees space can still be written down when there is none left."""

from __future__ import annotations

import os

SIZE = 4 << 20
"""Bytes: a few thousand commits."""


class Reserve:
    """A file that is given up on a full disk, and made again when there is room."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._there = False

    def restore(self) -> None:
        """Take the space, if it is not held; a disk that has too little is left alone."""
        if self._there:
            return
        try:
            fd = os.open(self._path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        except OSError:
            return  # not even a name fits
        try:
            space = os.fstatvfs(fd)
            if space.f_bavail * space.f_frsize < 4 * SIZE and os.fstat(fd).st_blocks * 512 < SIZE:
                os.unlink(self._path)
                return
            os.posix_fallocate(fd, 0, SIZE)
            self._there = True
        except OSError:
            os.unlink(self._path)
        finally:
            os.close(fd)

    def release(self) -> bool:
        """Give the space up; False when it was given up already."""
        if not self._there:
            return False
        self._there = False
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            return False
        return True
