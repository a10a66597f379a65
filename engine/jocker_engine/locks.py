"""Two locks of a root: one engine at a time, and no command of a killed engine still at work. flock(2)."""

from __future__ import annotations

import fcntl
import os
import signal
import time

from .config import FREEBSD
from .layout import Layout
from .platform.freebsd.holders import holders_of

_PATIENCE = 10.0
"""Seconds that commands of a killed engine get to end by themselves."""


class Locked(Exception):
    """Another engine has this root; one line."""


def lock_root(layout: Layout) -> int:
    """The descriptor that holds the root for this process. Raises Locked, OSError."""
    fd = os.open(layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(fd, 64, 0).decode(errors="replace").strip() or "unknown"
        os.close(fd)
        raise Locked(
            f"another engine, pid {holder}, runs on {layout.root}; stop it, or choose another --root"
        ) from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def lock_commands(layout: Layout) -> int:
    """The descriptor that every command inherits; waits for those of a killed engine, then kills them."""
    fd = os.open(layout.commands_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                for pid in _holders(layout.commands_lock):
                    _kill(pid)
            time.sleep(0.05)
        else:
            fcntl.flock(fd, fcntl.LOCK_SH)
            return fd


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _holders(path: str) -> list[int]:
    """Processes other than this one that have the file open (proc_pid_fd(5))."""
    if FREEBSD:  # where /proc is there and empty
        return holders_of(path)
    wanted, found = os.stat(path), []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            for fd in os.listdir(f"/proc/{name}/fd"):
                status = os.stat(f"/proc/{name}/fd/{fd}")
                if (status.st_dev, status.st_ino) == (wanted.st_dev, wanted.st_ino):
                    found.append(int(name))
                    break
        except OSError:
            continue  # it has ended meanwhile
    return found
