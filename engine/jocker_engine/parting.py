"""The last frame on a client's socket that no stream serves any more. Knows the framing only."""

from __future__ import annotations

import os
import socket
from typing import Any

import msgspec

from jocker_protocol import wire


def say_last(fd: int, framing: str, kind: int, value: Any) -> None:
    """Send one frame without waiting; `fd` stays the caller's. A client that went away wants to know nothing."""
    with socket.socket(fileno=os.dup(fd)) as client:
        client.setblocking(False)
        try:
            client.send(wire.ENCODERS[framing](kind, msgspec.json.encode(value)))
        except OSError:
            pass
