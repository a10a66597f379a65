"""mount(2), umount2(2) and what is mounted. Linux only."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from contextlib import ExitStack

_libc = ctypes.CDLL(None, use_errno=True)

_MNT_DETACH = 2
_PLAIN = "redirect_dir=off,index=off,metacopy=off"
"""Whatever the kernel's defaults are: an upper directory must be good as a lower one of any other mount."""


def mount_overlay(lowers: Sequence[str], upper: str, work: str, target: str) -> None:
    """Mount an overlay; `lowers` are directories, the topmost first. Raises OSError.

    The kernel takes one page of options. So directories are named by their descriptors, which is short
    whatever their paths are, and has no comma or colon to escape. Source: the kernel's overlayfs.rst.
    """
    with ExitStack() as opened:

        def name(path: str) -> str:
            fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            opened.callback(os.close, fd)
            return f"/proc/self/fd/{fd}"

        lower = ":".join(map(name, lowers))
        options = f"lowerdir={lower},upperdir={name(upper)},workdir={name(work)},{_PLAIN}"
        if _libc.mount(b"overlay", os.fsencode(target), b"overlay", ctypes.c_ulong(0), options.encode()) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"overlay mount: {os.strerror(number)}", target)


def unmount(target: str) -> None:
    """Detach all that is mounted there, however often; no error if nothing is. Raises OSError."""
    while is_mounted(target):
        if _libc.umount2(os.fsencode(target), _MNT_DETACH) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"umount: {os.strerror(number)}", target)


def is_mounted(target: str) -> bool:
    """Whether a directory is a mount point: it is on another device than the one it is in."""
    try:
        return os.lstat(target).st_dev != os.lstat(os.path.dirname(target)).st_dev
    except FileNotFoundError:
        return False
