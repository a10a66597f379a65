"""The catalogue as an OpenRPC document (https://spec.open-rpc.org), the answer to `rpc.discover`."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec

from jocker_protocol.errors import ERRORS
from jocker_protocol.methods import API_VERSION, CATALOGUE, Method
from jocker_protocol.types import Schema

_OPENRPC = "1.3.2"
_REF = "#/components/schemas/{name}"


@cache
def schema() -> Schema:
    """Methods with their parameters by name; `x-stream` and `x-changes` say what OpenRPC has no word for."""
    types = list(dict.fromkeys(t for method in CATALOGUE for t in (method.params, method.result)))
    references, components = msgspec.json.schema_components(types, ref_template=_REF)
    reference = dict(zip(types, references, strict=True))
    return Schema(
        openrpc=_OPENRPC,
        info={
            "title": "Jocker engine",
            "version": API_VERSION,
            "description": "JSON-RPC 2.0 over a Unix socket, one document per line.",
        },
        methods=[
            {
                "name": method.name,
                "summary": method.doc,
                "paramStructure": "by-name",
                "params": _params(method, components),
                "result": {"name": method.result.__name__, "schema": reference[method.result]},
                "errors": [{"$ref": f"#/components/errors/{kind}"} for kind in ERRORS],
                "x-changes": method.changes,
                **({"x-stream": method.stream} if method.stream else {}),
            }
            for method in CATALOGUE
        ],
        components={
            "schemas": components,
            "errors": {
                kind: {"code": cls.code, "message": cls.__doc__, "data": {"kind": kind}}
                for kind, cls in ERRORS.items()
            },
        },
    )


def _params(method: Method, components: dict[str, Any]) -> list[dict[str, Any]]:
    struct = components[method.params.__name__]
    return [
        {"name": name, "required": name in struct.get("required", ()), "schema": field}
        for name, field in struct["properties"].items()
    ]
