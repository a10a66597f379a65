"""Wall-clock time and identity: what a record is stamped with."""

from __future__ import annotations

import secrets
import time


def now() -> str:
    """RFC 3339 in UTC, nanoseconds."""
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{nanoseconds:09d}Z"


def new_id() -> str:
    """256 random bits, 64 hex digits: the id of a container, layer, tree or anonymous volume."""
    return secrets.token_hex(32)


def boot_id() -> str:
    """What tells this boot of the machine from another (Linux random(4); FreeBSD sysctl kern.boottime)."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except FileNotFoundError:
        return f"boottime-{int(time.time() - time.clock_gettime(time.CLOCK_MONOTONIC))}"
