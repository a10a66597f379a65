"""File systems of a given size, in sparse files and mounted by a loop device: how what is on any file system is held to
a size. Root only. Sources: mke2fs(8), mount(8) ("loop" devices free themselves with the last unmount), loop(4).

The file is there under its name when its file system is whole; what is being made has PARTIAL before it.
"""

from __future__ import annotations

import errno
import os
import shutil

from ..commands import Commands, PlatformError
from .mounts import is_mounted

PARTIAL = ".partial-"
MIN_SIZE = 2 << 20
"""Bytes; a smaller file system has no room for itself."""
_SMALL = 64 << 20
"""Bytes below which a journal would take too much of it."""


class Images:
    """One directory of them. A key is what each is called there."""

    def __init__(self, directory: str, commands: Commands) -> None:
        self._directory = directory
        self._commands = commands
        os.makedirs(directory, mode=0o700, exist_ok=True)

    def all(self) -> frozenset[str]:
        """All, half made ones too."""
        names = (name.removeprefix(PARTIAL) for name in os.listdir(self._directory))
        return frozenset(name.removesuffix(".img") for name in names)

    def has(self, key: str) -> bool:
        """Whether there is a whole one."""
        return os.path.exists(self._path(key))

    def size(self, key: str) -> int:
        """Bytes."""
        return os.path.getsize(self._path(key))

    async def make(self, key: str, size: int) -> None:
        """Make an empty one; no error if it is there. Raises PlatformError: it cannot be held to a size here."""
        if not self.has(key):
            await self.prepare(key, size)
            self.commit(key)

    async def prepare(self, key: str, size: int) -> None:
        """Make a new one beside what is there; `commit` puts it in its place."""
        if why := why_not():
            raise PlatformError(f"nothing can be held to a size here: {why}")
        if size < MIN_SIZE:
            raise PlatformError(f"a size of {size} bytes is too small: at least {MIN_SIZE >> 20}m")
        partial = self._path(PARTIAL + key)
        with open(partial, "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.truncate(size)
        features = ["-O", "^has_journal"] if size < _SMALL else []
        await self._commands.run(["mkfs.ext4", "-q", "-F", "-m", "0", *features, partial])

    def commit(self, key: str) -> None:
        """The one that was prepared counts from now on, on disk."""
        os.rename(self._path(PARTIAL + key), self._path(key))
        fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    async def mount(self, key: str, target: str, *, prepared: bool = False) -> None:
        """Mount it; no error if it is mounted there."""
        os.makedirs(target, mode=0o755, exist_ok=True)
        if not is_mounted(target):
            image = self._path((PARTIAL if prepared else "") + key)
            await self._commands.run(["mount", "-t", "ext4", "-o", "loop", image, target])
        try:
            os.rmdir(os.path.join(target, "lost+found"))
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.ENOTDIR, errno.EROFS):
                raise

    def remove(self, key: str) -> None:
        """Delete it, whole or half made; it must not be mounted."""
        for name in (key, PARTIAL + key):
            try:
                os.unlink(self._path(name))
            except FileNotFoundError:
                pass

    def remove_prepared(self, key: str) -> None:
        """Delete what was prepared and not committed."""
        try:
            os.unlink(self._path(PARTIAL + key))
        except FileNotFoundError:
            pass

    def is_prepared(self, key: str) -> bool:
        """Whether something was prepared and not committed."""
        return os.path.exists(self._path(PARTIAL + key))

    def _path(self, key: str) -> str:
        return os.path.join(self._directory, f"{key}.img")


def why_not() -> str:
    """Why no such file system can be made; "" if it can."""
    if os.geteuid() != 0:
        return "it needs root"
    if shutil.which("mkfs.ext4", path=f"{os.defpath}:/usr/sbin:/sbin") is None:
        return "mkfs.ext4 is not installed (package e2fsprogs)"
    if not os.path.exists("/dev/loop-control"):
        return "there are no loop devices (/dev/loop-control)"
    return ""
