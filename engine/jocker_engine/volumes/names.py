"""Names of volumes and snapshots."""

from __future__ import annotations

import re
import time

from jocker_protocol.errors import InvalidParams

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")


def check_name(name: str, what: str) -> str:
    """The name, if it is allowed. Raises InvalidParams."""
    if not _NAME.fullmatch(name):
        raise InvalidParams(
            f"name: {name!r} is no name for a {what}: letters, digits, `_`, `.`, `-`, at most 128, the first a letter "
            "or digit"
        )
    return name


def time_name() -> str:
    """What a snapshot is called when nobody says: the time, UTC, to the microsecond."""
    at = time.time_ns()
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(at // 10**9))}.{at // 1000 % 10**6:06d}Z"
