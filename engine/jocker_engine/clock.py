"""Wall-clock time and identity: what a record is stamped with."""

from __future__ import annotations

import datetime
import functools
import os
import re
import secrets
import time

_BOOT_FILE = "/var/run/jocker-boot-id"
_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?([Zz]|[+-]\d\d:\d\d)")


def now() -> str:
    """RFC 3339 in UTC, nanoseconds."""
    return rfc3339(time.time_ns())


def rfc3339(time_ns: int) -> str:
    """A time since the epoch as `now` writes it."""
    seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{nanoseconds:09d}Z"


def canonical(text: str) -> str:
    """Any RFC 3339 time as `now` writes it, so that comparing the texts compares the times. Raises ValueError."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no RFC 3339 time such as 2026-01-31T12:00:00Z")
    zone = "+00:00" if match[3] in "Zz" else match[3]
    whole = datetime.datetime.fromisoformat(match[1] + zone).astimezone(datetime.UTC)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{(match[2] or '').ljust(9, '0')}Z"


def seconds_between(start: str, end: str) -> float:
    """Between two times as `now` writes them; 0 where one is "" or they are in the wrong order."""
    if not start or not end:
        return 0.0
    first, last = (datetime.datetime.fromisoformat(text[:26] + "+00:00").timestamp() for text in (start, end))
    return max(0.0, last - first)


def new_id() -> str:
    """256 random bits, 64 hex digits: the id of a container, layer, tree or anonymous volume."""
    return secrets.token_hex(32)


def boot_id() -> str:
    """What tells this boot of the machine from another: Linux's own, random(4); elsewhere a file of ours.

    The time of the boot would not do: it moves whenever the clock is set.
    """
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except FileNotFoundError:
        return _boot_file(_BOOT_FILE)


@functools.cache
def _boot_file(path: str) -> str:
    """An id in a file that does not outlive a boot: /var/run is emptied by it (FreeBSD, /etc/rc.d/cleanvar).

    Without the right to write there, an id of the hour of the boot.
    """
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except FileNotFoundError:
        pass
    new, made = secrets.token_hex(16), f"{path}.{secrets.token_hex(4)}"
    try:
        with open(made, "x", encoding="ascii") as file:
            file.write(new + "\n")
        os.link(made, path)  # whole, or not at all
    except FileExistsError:
        return _boot_file.__wrapped__(path)
    except PermissionError:
        hours = (time.time() - time.clock_gettime(time.CLOCK_MONOTONIC)) / 3600
        return f"boottime-{round(hours)}"
    finally:
        if os.path.exists(made):
            os.unlink(made)
    return new
