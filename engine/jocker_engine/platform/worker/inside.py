"""Finding a path in a directory as a process whose root it is would, while somebody else changes it: race-safe.

Each component is opened relative to the descriptor of the one before and never followed by the kernel; links are
read and resolved here, ".." goes back to a descriptor that is held. So no path leads out of the root, whatever is
renamed or replaced meanwhile: what openat2(2) does with RESOLVE_IN_ROOT, on systems that have no such call too.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from types import TracebackType

PATH_ONLY = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
"""What is there, a link too, for its name and status only; Linux has it, and FreeBSD."""
_EMPTY_PATH = 0x02000000
"""O_EMPTY_PATH, sys/fcntl.h: FreeBSD opens what the descriptor names, where Linux has /proc/self/fd."""
_MAX_LINKS = 40
"""As path_resolution(7) has it."""


class Inside:
    """One root directory. Descriptors that are given out are the caller's to close."""

    def __init__(self, root: str, same_as: str = "") -> None:
        """`same_as`: another path of the same directory. Raises OSError(ESTALE): it is not, or `root` is gone."""
        try:
            self._root = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileNotFoundError, ProcessLookupError):
            raise OSError(errno.ESTALE, "it is gone", root) from None
        if same_as and not os.path.samestat(os.fstat(self._root), os.stat(same_as)):
            raise OSError(errno.ESTALE, "it is another one by now", root)

    def __enter__(self) -> Inside:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._root)

    def open(self, path: str, *, follow: bool = True) -> int:
        """What is at this path, opened for its name and status only (open(2), O_PATH); a last link is followed or not.

        Raises FileNotFoundError, NotADirectoryError, OSError(ELOOP), with `path` as its file name.
        """
        must_be_directory = path.endswith(("/", "/."))
        stack = self._walk(path, follow=follow or must_be_directory)
        fd = stack.pop()
        for other in stack:
            os.close(other)
        if must_be_directory and not stat.S_ISDIR(os.fstat(fd).st_mode):
            os.close(fd)
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        return fd

    def _walk(self, path: str, *, follow: bool) -> list[int]:
        """Descriptors of the directories above what is found, and its own as the last."""
        todo = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        stack = [os.dup(self._root)]
        links = 0
        try:
            while todo:
                part = todo.pop()
                if part == "..":
                    if len(stack) > 1:
                        os.close(stack.pop())
                    continue
                fd = os.open(part, PATH_ONLY, dir_fd=stack[-1])
                mode = os.fstat(fd).st_mode
                if stat.S_ISLNK(mode) and (todo or follow):
                    os.close(fd)
                    links += 1
                    if links > _MAX_LINKS:
                        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                    target = os.readlink(part, dir_fd=stack[-1])
                    if target.startswith("/"):
                        while len(stack) > 1:
                            os.close(stack.pop())
                    todo += [each for each in reversed(target.split("/")) if each not in ("", ".")]
                    continue
                stack.append(fd)
                if todo and not stat.S_ISDIR(mode):
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        except OSError as error:
            for fd in stack:
                os.close(fd)
            raise OSError(error.errno, error.strerror, path) from None
        return stack


def reopen(fd: int, flags: int) -> int:
    """The same file, opened for its content; never another one that has taken its name, never waiting for a FIFO."""
    flags |= os.O_CLOEXEC | os.O_NONBLOCK
    if sys.platform == "linux":
        return os.open(f"/proc/self/fd/{fd}", flags)
    return os.open("", flags | _EMPTY_PATH, dir_fd=fd)


def target_of(fd: int) -> str:
    """Where a link that was found leads; readlink(2) on Linux, open(2) on FreeBSD, O_PATH."""
    return os.readlink("", dir_fd=fd)


def open_directory(fd: int) -> int:
    """A directory that was found, opened to be read."""
    return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
