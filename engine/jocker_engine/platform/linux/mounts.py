"""mount(2), umount2(2) and what is mounted. Linux only."""

from __future__ import annotations

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)

MNT_DETACH = 2


def mount(source: str, target: str, kind: str, data: str = "") -> None:
    """mount(2). Raises OSError; the option string ends at a page (4,096 bytes)."""
    if _libc.mount(*(os.fsencode(word) for word in (source, target, kind)), 0, os.fsencode(data)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"mount {kind}: {os.strerror(number)}", target)


def unmount(target: str) -> None:
    """Detach all that is mounted there, however often; no error if nothing is. Raises OSError."""
    while is_mounted(target):
        if _libc.umount2(os.fsencode(target), MNT_DETACH) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"umount: {os.strerror(number)}", target)


def is_mounted(target: str) -> bool:
    """Whether a directory is a mount point: it is on another device than the one it is in."""
    try:
        return os.lstat(target).st_dev != os.lstat(os.path.dirname(target)).st_dev
    except FileNotFoundError:
        return False
