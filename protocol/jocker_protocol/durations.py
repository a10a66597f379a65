"""Spans of time as people write them to Docker: Go's durations (https://pkg.go.dev/time#ParseDuration)."""

from __future__ import annotations

import re

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")


def duration(text: str) -> float:
    """Seconds: "1m30s", "500ms", "0". Raises ValueError, one line; negative spans make no sense here."""
    if text == "0":
        return 0.0
    total, rest = 0.0, text
    while match := _PART.match(rest):
        total += float(match[1]) * _UNITS[match[2]]
        rest = rest[match.end() :]
    if rest or not text:
        raise ValueError(f"{text!r} is no span of time such as 30s, 1m30s or 500ms")
    return total
