"""What a line is taken for, and what is answered."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sansio_jsonrpc import JsonRpcError, JsonRpcException, JsonRpcInternalError, JsonRpcPeer, JsonRpcResponse

from jocker_engine.api.envelope import MAX_BATCH, Request, StrictPeer, opens_stream, parse, rpc_error
from jocker_protocol.errors import InternalError, NotFound
from jocker_protocol.wire import MAX_REQUEST

PARSE_ERROR, INVALID = -32700, -32600


def answers(line: bytes) -> list[Any]:
    """What goes out for a line whose good requests all give {"ok": true}."""
    peer = StrictPeer(lambda: None)
    out = []
    for request in peer.parse(line):
        if request.is_notification:
            continue
        if request.error is not None:
            out.append(peer.respond_with_error(request, rpc_error(request.error)))
        else:
            out.append(peer.respond_with_result(request, b'{"ok":true}'))
    return [json.loads(text) for text in out if text]


def brief(answer: Any) -> Any:
    """(id, code), or (id, "ok"); a batch as the list of these."""
    if isinstance(answer, list):
        return [brief(one) for one in answer]
    assert answer.pop("jsonrpc") == "2.0"
    return answer["id"], answer["error"]["code"] if "error" in answer else "ok"


GOOD = '{"jsonrpc":"2.0","id":1,"method":"m"}'
NOTE = '{"jsonrpc":"2.0","method":"m"}'

LINES: list[tuple[str | bytes, list[Any]]] = [
    (GOOD, [(1, "ok")]),
    (GOOD + "\r", [(1, "ok")]),
    (NOTE, []),
    ("", []),
    (" \t\r", []),
    # ids
    ('{"jsonrpc":"2.0","id":null,"method":"m"}', [(None, "ok")]),
    ('{"jsonrpc":"2.0","id":"","method":"m"}', [("", "ok")]),
    ('{"jsonrpc":"2.0","id":"\\u00e9\\n","method":"m"}', [("é\n", "ok")]),
    ('{"jsonrpc":"2.0","id":-7,"method":"m"}', [(-7, "ok")]),
    (
        '{"jsonrpc":"2.0","id":123456789012345678901234567890,"method":"m"}',
        [(123456789012345678901234567890, "ok")],
    ),
    ('{"jsonrpc":"2.0","id":1.5,"method":"m"}', [(None, INVALID)]),
    ('{"jsonrpc":"2.0","id":1e400,"method":"m"}', [(None, INVALID)]),
    ('{"jsonrpc":"2.0","id":%s,"method":"m"}' % ("9" * 5000), [(None, INVALID)]),
    ('{"jsonrpc":"2.0","id":true,"method":"m"}', [(None, INVALID)]),
    ('{"jsonrpc":"2.0","id":[1],"method":"m"}', [(None, INVALID)]),
    ('{"jsonrpc":"2.0","id":{},"method":"m"}', [(None, INVALID)]),
    # the rest of the envelope; the id is known, so that the caller gets its answer
    ('{"id":1,"method":"m"}', [(1, INVALID)]),
    ('{"jsonrpc":"1.0","id":1,"method":"m"}', [(1, INVALID)]),
    ('{"jsonrpc":2.0,"id":1,"method":"m"}', [(1, INVALID)]),
    ('{"jsonrpc":"2.0","id":1}', [(1, INVALID)]),
    ('{"jsonrpc":"2.0","id":1,"method":5}', [(1, INVALID)]),
    ('{"jsonrpc":"2.0","id":1,"method":"m","params":5}', [(1, INVALID)]),
    ('{"jsonrpc":"2.0","id":1,"method":"m","params":null}', [(1, INVALID)]),
    ('{"jsonrpc":"2.0","id":null,"method":"m","params":"x"}', [(None, INVALID)]),
    ('{"jsonrpc":"2.0","method":"m","params":"x"}', [(None, INVALID)]),
    ('{"jsonrpc":"2.0","id":1,"result":{}}', [(1, INVALID)]),
    ('{"method":1,"params":"bar"}', [(None, INVALID)]),
    ("{}", [(None, INVALID)]),
    # no object at all
    ("5", [(None, INVALID)]),
    ("null", [(None, INVALID)]),
    ('"x"', [(None, INVALID)]),
    # not JSON
    ("{", [(None, PARSE_ERROR)]),
    ('{"jsonrpc":"2.0","method":"foobar,"params":"bar","baz]', [(None, PARSE_ERROR)]),
    ('{"jsonrpc":"1.0","id":1,"method":"m"', [(None, PARSE_ERROR)]),
    (GOOD + GOOD, [(None, PARSE_ERROR)]),
    (b"\xff", [(None, PARSE_ERROR)]),
    (b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":"\xff"}}', [(None, PARSE_ERROR)]),
    ('{"jsonrpc":"2.0","id":"\\ud800","method":"m"}', [(None, PARSE_ERROR)]),
    ("NaN", [(None, PARSE_ERROR)]),
    ('\ufeff{"jsonrpc":"2.0","id":1,"method":"m"}', [(None, PARSE_ERROR)]),
    # batches: the examples of the specification, section 7
    ("[]", [(None, INVALID)]),
    ("[1]", [[(None, INVALID)]]),
    ("[1,2,3]", [[(None, INVALID)] * 3]),
    ("[[]]", [[(None, INVALID)]]),
    (f"[{GOOD},", [(None, PARSE_ERROR)]),
    (f"[{NOTE},{NOTE}]", []),
    (f"[{NOTE},{GOOD},5]", [[(1, "ok"), (None, INVALID)]]),
    (f" [{GOOD},{GOOD}]", [[(1, "ok"), (1, "ok")]]),
    (f"[{','.join([GOOD] * MAX_BATCH)}]", [[(1, "ok")] * MAX_BATCH]),
    (f"[{','.join([GOOD] * (MAX_BATCH + 1))}]", [(None, INVALID)]),
    # deep
    ("[" * 100_000 + "]" * 100_000, [(None, PARSE_ERROR)]),
    (
        '{"jsonrpc":"2.0","id":1,"method":"m","params":%s}' % ("[" * 100_000 + "]" * 100_000),
        [(None, INVALID)],
    ),
    # long
    (GOOD.ljust(MAX_REQUEST), [(1, "ok")]),
    (GOOD.ljust(MAX_REQUEST + 1), [(None, INVALID)]),
]


@pytest.mark.parametrize(("line", "expected"), LINES, ids=lambda value: str(value)[:60])
def test_lines(line: str | bytes, expected: list[Any]) -> None:
    assert [
        brief(answer) for answer in answers(line if isinstance(line, bytes) else line.encode())
    ] == expected


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
envelopes = st.fixed_dictionaries(
    {},
    optional={
        "jsonrpc": st.just("2.0") | json_values,
        "id": json_values,
        "method": st.text(),
        "params": json_values,
    },
)


@given(
    st.binary()
    | (envelopes | st.lists(envelopes) | json_values).map(lambda value: json.dumps(value).encode())
)
def test_any_line_is_answered_at_most_once_and_never_raises(line: bytes) -> None:
    out = answers(line)
    assert len(out) <= 1
    for answer in out if isinstance(out, list) else []:
        for one in answer if isinstance(answer, list) else [answer]:
            assert set(one) in ({"jsonrpc", "id", "result"}, {"jsonrpc", "id", "error"})


def test_a_request_for_a_stream_stops_the_reading() -> None:
    """Only one that stands alone and wants an answer."""
    stopped: list[bool] = []
    peer = StrictPeer(lambda: stopped.append(True))
    opening = '{"jsonrpc":"2.0","id":1,"method":"stream.open"}'
    for line in (f"[{opening}]", '{"jsonrpc":"2.0","method":"stream.open"}', GOOD):
        assert not any(map(opens_stream, peer.parse(line.encode())))
    assert not stopped
    assert opens_stream(peer.parse(opening.encode())[0])
    assert stopped


def test_parameters_stay_text() -> None:
    [request] = parse(b'{"jsonrpc":"2.0","id":1,"method":"m","params": {"a" : 1.0} }')
    assert bytes(request.raw) == b'{"a" : 1.0}'


def test_error_data_that_is_not_json_still_makes_an_answer() -> None:
    error = NotFound("no \udcff", path=b"x", why=OSError("gone"))
    text = StrictPeer(lambda: None).respond_with_error(Request(1), rpc_error(error))
    assert text.isascii()
    assert json.loads(text)["error"]["data"] == {"kind": "not_found", "path": "b'x'", "why": "gone"}


def test_internal_error_has_the_code_that_the_library_has_wrong() -> None:
    assert JsonRpcInternalError().code == -32602, "mended upstream: envelope need not work around it"
    assert rpc_error(InternalError("x")).code == -32603


@pytest.mark.parametrize(
    "line", ["[]", "5", '{"id":1,"method":"m"}', '{"jsonrpc":"2.0","id":null,"method":"m"}']
)
def test_the_library_alone_fails_on(line: str) -> None:
    """Why there is a StrictPeer; when this fails the library was mended."""
    with pytest.raises((JsonRpcException, TypeError, KeyError)):
        JsonRpcPeer().parse(line.encode())


def test_the_library_alone_has_no_null_results() -> None:
    with pytest.raises(JsonRpcException):
        JsonRpcResponse(id=1, result=None)
    assert JsonRpcError(1, "x").to_json_dict() == {"code": 1, "message": "x"}
