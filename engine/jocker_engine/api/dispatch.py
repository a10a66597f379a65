"""From a request to its answer: parameters decoded, handler called, result encoded, errors told apart.

Knows the catalogue and a table of handlers; the only place that knows which exception becomes which
error on the wire.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import msgspec

from jocker_protocol.errors import (
    InternalError,
    InvalidParams,
    InvalidRequest,
    JockerError,
    MethodNotFound,
    Overloaded,
    PlatformFailed,
    TimedOut,
)
from jocker_protocol.methods import METHODS, Method
from jocker_protocol.types import Params, Result

from ..otp import ActorDown, CallTimeout, MailboxFull
from . import openrpc
from .envelope import Request, opens_stream
from .peer import Peer

P = TypeVar("P", bound=Params)

Handler = Callable[[Any, Peer], Awaitable[Result]]
"""Takes the method's parameters (its `Method.params`) and who asks; gives its `Method.result`."""

logger = logging.getLogger("jocker.api")

_encoder = msgspec.json.Encoder()

_SUBJECTS = ("container", "name", "image", "volume", "tag", "tags")
"""Parameters that say what a change was about. Others may be long or secret, and are not logged."""


class Dispatcher:
    """Answers the methods of the catalogue with the handlers given."""

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        """Raises ValueError for a handler of a method that the catalogue does not have."""
        handlers = {"rpc.discover": _discover, **handlers}
        if unknown := handlers.keys() - METHODS.keys():
            raise ValueError(f"handlers of unknown methods: {', '.join(sorted(unknown))}")
        self._table = {
            name: (METHODS[name], msgspec.json.Decoder(METHODS[name].params), handler)
            for name, handler in handlers.items()
        }

    async def answer(self, request: Request, peer: Peer) -> bytes:
        """The result as JSON text. Raises JockerError and nothing else of Exception."""
        if request.error is not None:
            raise request.error
        try:
            method, decoder, handler = self._table[request.method]
        except KeyError:
            raise _not_served(request) from None
        params = decode_params(method, decoder, request.raw)
        if method.changes:
            logger.info("%s %sby %s", method.name, _subject(params), peer)
        try:
            result = await handler(params, peer)
            if not isinstance(result, method.result):
                raise TypeError(f"{method.name} gave {result!r}, not {method.result.__name__}")
            return _encoder.encode(result)
        except Exception as error:
            # Not to keep going: the task of this one request ends here, as an actor would that crashed,
            # and its caller is told so. The other requests and connections have no part in it.
            raise as_answer(error, method.name) from error


def decode_params(method: Method, decoder: msgspec.json.Decoder[P], raw: msgspec.Raw) -> P:
    """Raises InvalidParams with the path of the field ("$.mounts[0].target")."""
    if bytes(memoryview(raw)[:1]) == b"[":
        names = ", ".join(method.params.__struct_fields__) or "none"
        raise InvalidParams(
            f"{method.name}: params go by name, as an object, not as an array (names: {names})"
        )
    try:
        return decoder.decode(raw)
    except (ValueError, RecursionError) as error:
        raise InvalidParams(f"{method.name}: {error}") from None


def as_answer(error: BaseException, work: str) -> JockerError:
    """The error that goes to the caller. One that nobody foresaw is logged, and the caller told where to look."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]  # what a nursery wrapped
    match error:
        case JockerError():
            return error
        case OSError() | sqlite3.Error():
            return PlatformFailed(f"{work}: {_refused(error)}")
        case CallTimeout():
            return TimedOut(f"{work}: {error}")
        case MailboxFull():
            return Overloaded(f"{work}: {error}; try again later")
        case ActorDown():
            return InternalError(f"{work}: {error}; it is being started anew, try again")
    logger.error("%s failed", work, exc_info=error)
    return InternalError(f"{work}: {type(error).__name__} in the engine; its log has the details")


def _refused(error: OSError | sqlite3.Error) -> str:
    """What the operating system or the database said, and about what."""
    if isinstance(error, OSError):
        about = f"{error.filename}: " if error.filename else ""
        return f"{about}{error.strerror or error}"
    return f"database: {error}"


def _not_served(request: Request) -> JockerError:
    if request.method == "stream.open":
        if opens_stream(request):  # then the connection takes care of it, unless it cannot
            return InvalidRequest("stream.open: the connection has other requests, or bytes behind this one")
        return InvalidRequest("stream.open: must be a request of its own, not a notification or in a batch")
    if request.method in METHODS:
        return MethodNotFound(f"{request.method}: not served by this engine")
    return MethodNotFound(f"no method {request.method!r}; rpc.discover lists them")


def _subject(params: Params) -> str:
    values = ((name, getattr(params, name, None)) for name in _SUBJECTS)
    return "".join(f"{name}={value!r} " for name, value in values if value)


async def _discover(params: Params, peer: Peer) -> Result:
    return openrpc.schema()
