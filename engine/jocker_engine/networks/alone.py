"""One engine at a time on a machine looks for addresses that are free, and takes them: two that do so at once would
find the same.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

_FILE = "/var/run/jocker-addresses.lock"
_PAUSE = 0.02
"""Seconds between attempts."""


@asynccontextmanager
async def alone() -> AsyncIterator[None]:
    """Until it ends no other engine is in here; the lock of one that is killed ends with it (flock(2)). Raises OSError."""
    fd = os.open(_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await trio.sleep(_PAUSE)
        yield
    finally:
        os.close(fd)
