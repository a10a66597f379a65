"""Framing of what goes over the socket. Pure functions, standard library only, no I/O.

Requests and responses: one JSON document per line. After `stream.open` was answered, both sides
exchange frames (1 byte kind, 4 bytes big-endian length, payload), or JSON lines for scripts.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from typing import Any

MAX_REQUEST = 1 << 20
"""Longest request line, bytes."""

MAX_FRAME = 1 << 20
"""Longest frame payload, bytes; longer data goes in several frames."""

HEADER = struct.Struct(">BI")

# Frame kinds. Client to engine:
STDIN = 0
"""Bytes for the process's standard input, or of an upload (build context, tar)."""
EOF = 1
"""No more STDIN from this side; empty payload."""
RESIZE = 2
"""JSON {"rows": int, "cols": int}."""
SIGNAL = 3
"""JSON {"signal": "TERM"}: to the process (signal proxy)."""
AGENT = 4
"""4 bytes, the number of a connection, and what its ssh agent says; nothing: it is closed."""
# Engine to client:
STDOUT = 16
STDERR = 17
LOG = 18
"""Raw bytes of a container log in CRI format, whole lines."""
PROGRESS = 19
"""JSON, method specific (build steps, events)."""
RESULT = 20
"""JSON: the method's result; the last frame of a stream that went well. Attach and exec: {"exit_code": int}."""
ERROR = 21
"""JSON-RPC error object; the last frame of a stream that did not."""
WANT = 22
"""JSON: what a build needs of its client (contexts.py)."""
TO_AGENT = 23
"""As AGENT, the other way."""

NAMES = {
    STDIN: "stdin",
    EOF: "eof",
    RESIZE: "resize",
    SIGNAL: "signal",
    AGENT: "agent",
    STDOUT: "stdout",
    STDERR: "stderr",
    LOG: "log",
    PROGRESS: "progress",
    RESULT: "result",
    ERROR: "error",
    WANT: "want",
    TO_AGENT: "to_agent",
}
KINDS = {name: kind for kind, name in NAMES.items()}
_BYTES = frozenset({STDIN, STDOUT, STDERR, LOG, AGENT, TO_AGENT})


class FramingError(Exception):
    """The peer does not speak the framing: an unknown kind, a length over MAX_FRAME, not JSON."""


def frame(kind: int, payload: bytes = b"") -> bytes:
    """One frame."""
    return HEADER.pack(kind, len(payload)) + payload


def line(kind: int, payload: bytes = b"") -> bytes:
    """The same frame as a JSON line: {"kind": "stdout", "data": "text"}, {"kind": "result", "value": {...}}.

    Bytes that are not UTF-8 go as "base64" in place of "data".
    """
    value: dict[str, Any] = {"kind": NAMES[kind]}
    if kind in _BYTES:
        try:
            value["data"] = payload.decode()
        except UnicodeDecodeError:
            value["base64"] = base64.b64encode(payload).decode()
    elif payload:
        value["value"] = json.loads(payload)
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


ENCODERS = {"frames": frame, "lines": line}


class FrameDecoder:
    """Bytes in, (kind, payload) out. `framing` is "frames" or "lines"."""

    def __init__(self, framing: str = "frames") -> None:
        self._buffer = bytearray()
        self._next = {"frames": self._next_frame, "lines": self._next_line}[framing]

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """All frames that are complete with this data. Raises FramingError."""
        self._buffer += data
        while (item := self._next()) is not None:
            yield item

    def pending(self) -> bool:
        """Whether part of a frame is waiting for its rest."""
        return bool(self._buffer)

    def _next_frame(self) -> tuple[int, bytes] | None:
        buffer = self._buffer
        if len(buffer) < HEADER.size:
            return None
        kind, length = HEADER.unpack_from(buffer)
        if kind not in NAMES or length > MAX_FRAME:
            raise FramingError(f"bad frame: kind {kind}, length {length}")
        end = HEADER.size + length
        if len(buffer) < end:
            return None
        payload = bytes(buffer[HEADER.size : end])
        del buffer[:end]
        return kind, payload

    def _next_line(self) -> tuple[int, bytes] | None:
        end = self._buffer.find(b"\n")
        if end < 0:
            if len(self._buffer) > 2 * MAX_FRAME:
                raise FramingError("line too long")
            return None
        text = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        try:
            value = json.loads(text)
            kind = KINDS[value["kind"]]
            if "base64" in value:
                return kind, base64.b64decode(value["base64"], validate=True)
            if "data" in value:
                return kind, value["data"].encode()
            return kind, json.dumps(value["value"]).encode() if "value" in value else b""
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FramingError(f"bad line: {error}") from None
