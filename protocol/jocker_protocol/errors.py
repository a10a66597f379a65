"""Errors on the wire: one table, kind <-> code <-> exception. Standard library only.

Codes of JSON-RPC's own (-32700 .. -32600, https://www.jsonrpc.org/specification#error_object) are
kept for what they mean there; ours are positive, and scripts should look at the stable `data.kind`.
"""

from __future__ import annotations

from typing import Any, ClassVar


class JockerError(Exception):
    """An error that is an answer: one line saying what, why and what to do.

    `data` goes over the wire beside the kind and must be plain JSON.
    """

    kind: ClassVar[str] = "internal"
    code: ClassVar[int] = -32603

    def __init__(self, message: str, **data: Any) -> None:
        super().__init__(message)
        self.message = message
        self.data = data

    def to_wire(self) -> dict[str, Any]:
        """The JSON-RPC error object."""
        return {"code": self.code, "message": self.message, "data": {"kind": self.kind, **self.data}}


class ParseError(JockerError):
    """The line was not JSON."""

    kind, code = "parse_error", -32700


class InvalidRequest(JockerError):
    """The JSON was not a request."""

    kind, code = "invalid_request", -32600


class MethodNotFound(JockerError):
    """No such method in the catalogue."""

    kind, code = "method_not_found", -32601


class InvalidParams(JockerError):
    """A parameter is unknown, missing, ill-typed or makes no sense; the message has its path."""

    kind, code = "invalid_params", -32602


class InternalError(JockerError):
    """The engine's fault: an actor crashed while it worked on this."""

    kind, code = "internal", -32603


class NotFound(JockerError):
    """No such container, image, volume, network or stream."""

    kind, code = "not_found", 1


class Conflict(JockerError):
    """A name is taken, or an abbreviation fits more than one thing."""

    kind, code = "conflict", 2


class InvalidState(JockerError):
    """The thing is there but not in a state that allows this."""

    kind, code = "invalid_state", 3


class InUse(JockerError):
    """Something else still needs it."""

    kind, code = "in_use", 4


class BadDockerfile(JockerError):
    """The Dockerfile cannot be understood; data has file and, where it is one place, line, column, source (that line)."""

    kind, code = "bad_dockerfile", 5


class BuildFailed(JockerError):
    """An instruction failed; data has file, line, instruction and perhaps exit_code."""

    kind, code = "build_failed", 6


class NotReproducible(JockerError):
    """Two builds of the same gave different images; data has path, what, step."""

    kind, code = "not_reproducible", 12


class PlatformFailed(JockerError):
    """The operating system refused; data has argv, exit_code and stderr where a command did."""

    kind, code = "platform_error", 7


class Denied(JockerError):
    """Not allowed."""

    kind, code = "denied", 8


class TimedOut(JockerError):
    """It took too long."""

    kind, code = "timeout", 9


class Overloaded(JockerError):
    """A limit of the engine is reached; try again later."""

    kind, code = "overloaded", 10


class CannotStart(JockerError):
    """The container's process could not be started; data.exit_code is 125, 126 or 127 as Docker has it."""

    kind, code = "cannot_start", 11


ERRORS: dict[str, type[JockerError]] = {
    cls.kind: cls
    for cls in (
        ParseError,
        InvalidRequest,
        MethodNotFound,
        InvalidParams,
        InternalError,
        NotFound,
        Conflict,
        InvalidState,
        InUse,
        BadDockerfile,
        BuildFailed,
        NotReproducible,
        PlatformFailed,
        Denied,
        TimedOut,
        Overloaded,
        CannotStart,
    )
}


def from_wire(error: dict[str, Any]) -> JockerError:
    """The exception for a JSON-RPC error object; an unknown kind gives a plain JockerError."""
    data = dict(error.get("data") or {})
    cls = ERRORS.get(data.pop("kind", ""))
    if cls is None:
        by_code = {c.code: c for c in ERRORS.values()}
        cls = by_code.get(error.get("code", 0), JockerError)
    return cls(str(error.get("message", "unknown error")), **data)
