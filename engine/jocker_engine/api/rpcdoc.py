"""docs/rpc.md from the catalogue: `python -m jocker_engine.api.rpcdoc > docs/rpc.md`.

Reads the sources of the structs too: a string under a field is its documentation.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
import types
from collections.abc import Iterator
from typing import Any, Literal, Union, get_args, get_origin

import msgspec

from jocker_protocol.errors import ERRORS
from jocker_protocol.methods import API_VERSION, CATALOGUE, Method
from jocker_protocol.wire import MAX_FRAME, MAX_REQUEST, NAMES, RESULT, STDOUT

from .connection import MAX_RUNNING
from .envelope import MAX_BATCH
from .server import MAX_CONNECTIONS
from .streams import UNUSED
from .transport import HANDSHAKE

_INTRODUCTION = f"""\
# The RPC interface, version {API_VERSION}

*Generated from the catalogue by `python -m jocker_engine.api.rpcdoc`; do not edit.*

JSON-RPC 2.0 (<https://www.jsonrpc.org/specification>) over the engine's Unix socket, one JSON document
per line:

    $ echo '{{"jsonrpc":"2.0","id":1,"method":"engine.ping"}}' | nc -NU /var/run/jocker.sock
    {{"jsonrpc":"2.0","id":1,"result":{{"pong":true}}}}

- Parameters go by name. One that is unknown, missing or ill-typed is refused with -32602 and its path.
- Results are objects, never null. `id` is a string, an integer or null; without one there is no answer.
- Requests on a connection run concurrently, {MAX_RUNNING} at a time, and are answered as they finish. A batch
  (at most {MAX_BATCH} requests) is answered in one array when all of it has finished. A connection that is closed
  cancels its requests; one whose sending side alone is shut down still gets its answers.
- Limits: a request has at most {MAX_REQUEST} bytes, {MAX_CONNECTIONS} connections are open at a time, the first
  line of a connection is due within {HANDSHAKE:.0f} seconds.

## Streams

A method with a *stream* answers with a ticket. The client opens a second connection and sends as its only
request `stream.open` with the ticket's token, once and within {UNUSED:.0f} seconds, then nothing until the answer
`{{"ready":true}}`. From there on both sides exchange frames: one byte kind, four bytes length (big-endian), payload
of at most {MAX_FRAME} bytes. With `"framing": "lines"` the same frames are JSON lines:
`{{"kind":"{NAMES[STDOUT]}","data":"text"}}` (`base64` in place of `data` for what is not UTF-8) and
`{{"kind":"{NAMES[RESULT]}","value":{{}}}}`. The last frame is a result or an error.
"""


def markdown() -> str:
    """The whole page."""
    return "".join(_page())


def _page() -> Iterator[str]:
    yield _INTRODUCTION
    yield "\n| kind of frame | number | sent by |\n|---|---|---|\n"
    for number, name in NAMES.items():
        yield f"| {name} | {number} | {'client' if number < STDOUT else 'engine'} |\n"
    yield "\n## Errors\n\nScripts should look at `data.kind`.\n\n| kind | code | means |\n|---|---|---|\n"
    for kind, cls in ERRORS.items():
        yield f"| {kind} | {cls.code} | {_cell(inspect.getdoc(cls) or '')} |\n"
    yield "\n## Methods\n\n| method | does |\n|---|---|\n"
    for method in CATALOGUE:
        yield f"| [{method.name}](#{_anchor(method.name)}) | {_cell(method.doc)} |\n"
    for method in CATALOGUE:
        yield from _method(method)
    yield "\n## Types\n"
    for struct in _structs():
        yield f"\n### {struct.__name__}\n\n{inspect.getdoc(struct)}\n"
        yield from _fields(struct)


def _method(method: Method) -> Iterator[str]:
    yield f"\n### {method.name}\n\n{method.doc}\n"
    if method.changes:
        yield "\nA change: logged with the caller's credentials.\n"
    yield from _fields(method.params)
    yield f"\nResult: {_type(method.result)}\n"
    if method.stream:
        yield f"\nStream: {method.stream}.\n"


def _fields(struct: type[msgspec.Struct]) -> Iterator[str]:
    fields = msgspec.structs.fields(struct)
    if not fields:
        return
    docs = _docs(struct)
    yield "\n| name | type | default | |\n|---|---|---|---|\n"
    for field in fields:
        yield (
            f"| {field.encode_name} | {_type(field.type)} | {_default(field)} | {_cell(docs.get(field.name, ''))} |\n"
        )


def _docs(struct: type[msgspec.Struct]) -> dict[str, str]:
    """field -> the string under it, in the class's source."""
    source = ast.parse(textwrap.dedent(inspect.getsource(struct))).body[0]
    assert isinstance(source, ast.ClassDef)
    docs = {}
    for node, below in zip(source.body, source.body[1:], strict=False):
        if isinstance(node, ast.AnnAssign) and isinstance(below, ast.Expr):
            assert isinstance(node.target, ast.Name) and isinstance(below.value, ast.Constant)
            docs[node.target.id] = inspect.cleandoc(str(below.value.value))
    return docs


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "*required*"
    value = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
    return f"`{msgspec.json.encode(value).decode()}`"


def _type(annotation: Any) -> str:
    """The type as JSON has it, for a cell of a table."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return r" \| ".join(f'`"{value}"`' for value in args)
    if origin in (types.UnionType, Union):
        return r" \| ".join(map(_type, args))
    if origin is list:
        return f"array of {_type(args[0])}"
    if origin is dict:
        return f"object of {_type(args[1])}"
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return f"[{annotation.__name__}](#{_anchor(annotation.__name__)})"
    names = {
        str: "string",
        bytes: "string (base64)",
        int: "integer",
        float: "number",
        bool: "boolean",
        type(None): "null",
        Any: "any",
    }
    return names[annotation]


def _structs() -> list[type[msgspec.Struct]]:
    """What methods refer to, other than their parameters, by name."""
    found: dict[str, type[msgspec.Struct]] = {}

    def visit(annotation: Any) -> None:
        is_struct = isinstance(annotation, type) and issubclass(annotation, msgspec.Struct)
        if is_struct and annotation.__name__ not in found:
            found[annotation.__name__] = annotation
            look_into(annotation)
        for part in get_args(annotation):
            if not isinstance(part, str):
                visit(part)

    def look_into(struct: type[msgspec.Struct]) -> None:
        for field in msgspec.structs.fields(struct):
            visit(field.type)

    for method in CATALOGUE:
        look_into(method.params)
        visit(method.result)
    return [found[name] for name in sorted(found)]


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w-]", "", heading.lower())


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")


if __name__ == "__main__":
    sys.stdout.write(markdown())
