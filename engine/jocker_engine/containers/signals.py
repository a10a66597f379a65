"""Signals by name or number, as people write them."""

from __future__ import annotations

import signal

from jocker_protocol.errors import InvalidParams


def parse_signal(text: str) -> int:
    """TERM, SIGTERM, sigterm, 15, RTMIN+3 -> its number. Raises InvalidParams."""
    name = text.strip().upper().removeprefix("SIG")
    if name.isdigit() and 0 < int(name) < 65:
        return int(name)
    base, plus, offset = name.partition("+")
    if plus and base == "RTMIN" and offset.isdigit() and hasattr(signal, "SIGRTMIN"):
        return int(signal.SIGRTMIN) + int(offset)
    number = getattr(signal, f"SIG{name}", None)
    if isinstance(number, signal.Signals):
        return int(number)
    raise InvalidParams(f"signal: no such signal: {text!r}; use a name such as TERM, or a number")
