"""What one line holds: requests, checked as JSON-RPC 2.0 says, and the answers to them. No I/O.

`StrictPeer` is sansio-jsonrpc's JsonRpcPeer with the specification (https://www.jsonrpc.org/specification)
kept to the letter: batches, `id: null`, and an error answer for whatever is no request. A malformed
request is a `Request` too, with its `error`, so that it is answered in its turn and under the same
back-pressure as any other. Parameters stay JSON text until dispatch decodes them to their type.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec
from sansio_jsonrpc import JsonRpcError, JsonRpcPeer, JsonRpcRequest
from sansio_jsonrpc.main import MissingId

from jocker_protocol.errors import InvalidRequest, JockerError, ParseError
from jocker_protocol.wire import MAX_REQUEST

MAX_BATCH = 1000
"""Most requests of one batch: the answers to a line of nonsense would be 100 times its size."""

NO_ID = MissingId()
Id = int | str | MissingId | None

_NO_PARAMS = msgspec.Raw(b"{}")


class _Envelope(msgspec.Struct):
    """A request that is as it should be; all else takes the slow way through `_fault`."""

    jsonrpc: Literal["2.0"]
    method: str
    params: msgspec.Raw = _NO_PARAMS
    id: int | str | msgspec.UnsetType | None = msgspec.UNSET


_envelope = msgspec.json.Decoder(_Envelope)
_batch = msgspec.json.Decoder(list[msgspec.Raw])


class Batch:
    """Collects the answers to a batch: they go out together, in the order in which they were found."""

    def __init__(self) -> None:
        self.expected = 0
        self._answers: list[bytes] = []

    def add(self, answer: bytes) -> bytes:
        """The whole array with the last answer, nothing before."""
        self._answers.append(answer)
        return b"[" + b",".join(self._answers) + b"]" if len(self._answers) == self.expected else b""


class Request(JsonRpcRequest):
    """One request. With an `error` it was malformed and that is its answer."""

    def __init__(
        self,
        id: Id,
        method: str = "",
        raw: msgspec.Raw = _NO_PARAMS,
        *,
        error: JockerError | None = None,
        batch: Batch | None = None,
    ) -> None:
        # The dataclass's own __init__ would refuse `id: null`; everything is checked already.
        self.id = id
        self.method = method
        self.raw = raw
        """`params` as JSON text."""
        self.error = error
        self.batch = batch

    @property
    def is_notification(self) -> bool:
        """Whether the peer wants no answer."""
        return self.id is NO_ID


def parse(line: bytes) -> list[Request]:
    """The requests of a line, none in a blank one. Raises nothing: what is malformed has its error."""
    if len(line) > MAX_REQUEST:
        error = InvalidRequest(f"a request may have at most {MAX_REQUEST} bytes")
        return [Request(None, error=error)]
    start = line.lstrip()[:1]
    if not start:
        return []
    try:
        line.decode()  # msgspec does not look into the strings of what it leaves raw
        members = _batch.decode(line) if start == b"[" else None
    except (ValueError, RecursionError) as error:
        return [Request(None, error=ParseError(f"not JSON: {error}"))]
    if members is None:
        return [_parse_one(line)]
    if not 0 < len(members) <= MAX_BATCH:
        wrong = InvalidRequest(f"a batch has 1 to {MAX_BATCH} requests, not {len(members)}")
        return [Request(None, error=wrong)]
    batch = Batch()
    requests = [_parse_one(member) for member in members]
    for request in requests:
        request.batch = batch
        batch.expected += not request.is_notification
    return requests


def _parse_one(text: bytes | msgspec.Raw) -> Request:
    try:
        envelope = _envelope.decode(text)
    except (ValueError, RecursionError) as error:
        return _fault(text, error)
    id = NO_ID if envelope.id is msgspec.UNSET else envelope.id
    if bytes(memoryview(envelope.params)[:1]) not in (b"{", b"["):
        return Request(None if id is NO_ID else id, error=InvalidRequest("params must be an object"))
    return Request(id, envelope.method, envelope.params)


def _fault(text: bytes | msgspec.Raw, why: Exception) -> Request:
    """Why this is no request, under its id where that can be known, else under null."""
    try:
        value = msgspec.json.decode(text)
    except (msgspec.ValidationError, RecursionError) as error:  # JSON, but past what can be represented
        return Request(None, error=InvalidRequest(f"not a request: {error}"))
    except ValueError as error:
        return Request(None, error=ParseError(f"not JSON: {error}"))
    id = value.get("id") if isinstance(value, dict) else None
    if not isinstance(id, int | str) or isinstance(id, bool):
        id = None
    return Request(id, error=InvalidRequest(f"not a JSON-RPC 2.0 request: {why}"))


class StrictPeer(JsonRpcPeer):
    """What JsonRpcConnection parses and encodes with, in place of its own.

    `stop_reading` is called when a line turns the connection into a stream: the bytes behind it are
    not JSON-RPC and must stay in the socket.
    """

    def __init__(self, stop_reading: Callable[[], None]) -> None:
        super().__init__()
        self._stop_reading = stop_reading

    def parse(self, recv_bytes: bytes) -> Sequence[Request]:
        """The requests of a line."""
        requests = parse(recv_bytes)
        if len(requests) == 1 and opens_stream(requests[0]):
            self._stop_reading()
        return requests

    def respond_with_result(self, request: Request, result: Any) -> bytes:  # type: ignore[override]
        """The answer; `result` is JSON text. Empty while a batch waits for more answers."""
        return _collect(request, b'{"jsonrpc":"2.0","id":' + _id(request) + b',"result":' + result + b"}")

    def respond_with_error(self, request: Request | None, error: JsonRpcError) -> bytes:  # type: ignore[override]
        """The error answer; ASCII, since what a command printed need not be UTF-8."""
        text = json.dumps(error.to_json_dict(), separators=(",", ":"), default=str).encode()
        return _collect(request, b'{"jsonrpc":"2.0","id":' + _id(request) + b',"error":' + text + b"}")


def opens_stream(request: Request) -> bool:
    """Whether it asks for a stream as it must be asked for: alone, and wanting an answer."""
    return request.method == "stream.open" and request.batch is None and not request.is_notification


def rpc_error(error: JockerError) -> JsonRpcError:
    """The same error as sansio-jsonrpc has it. Not its own classes: JsonRpcInternalError has -32602."""
    return JsonRpcError(**error.to_wire())


def _id(request: Request | None) -> bytes:
    # Not msgspec: it refuses integers of more than 64 bits.
    return b"null" if request is None else json.dumps(request.id).encode()


def _collect(request: Request | None, answer: bytes) -> bytes:
    return answer if request is None or request.batch is None else request.batch.add(answer)
