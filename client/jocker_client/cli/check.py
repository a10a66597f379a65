"""`jocker build --check`: what is to be said of a Dockerfile, in Docker's form."""

from __future__ import annotations

import json
from typing import Any

import click

from ..connection import Connection
from . import render


def check(engine: Connection, text: str, format_: str, **params: Any) -> bool:
    """Print the findings; whether there are none. `params` are those of `image.check`."""
    found = engine.call("image.check", dockerfile_text=text, **params)["findings"]
    if format_ == "json":
        print(json.dumps({"warnings": [_as_docker(item) for item in found]}, indent=2))
    else:
        print(_as_text(found, params["dockerfile"], text))
    return not found


def _as_text(found: list[dict[str, Any]], name: str, text: str) -> str:
    if not found:
        return "Check complete, no warnings found."
    many = "1 warning has" if len(found) == 1 else f"{len(found)} warnings have"
    parts = [f"Check complete, {many} been found!"]
    lines = text.split("\n")
    for item in found:
        where = f" - {item['url']}" if item["url"] else ""
        rule = "-" * 20
        source = render.excerpt(lines, item["line"], item["line"], around=2)
        parts.append(
            f"\nWARNING: {item['rule']}{where}\n{item['detail']}\n{name}:{item['line']}\n{rule}\n{source}\n{rule}"
        )
    return "\n".join(parts)


def _as_docker(item: dict[str, Any]) -> dict[str, Any]:
    place = {"line": item["line"]}
    return {
        "ruleName": item["rule"],
        "description": item["description"],
        "url": item["url"],
        "detail": item["detail"],
        "location": {"ranges": [{"start": place, "end": place}]},
    }


def summary(found: list[dict[str, Any]]) -> str:
    """The findings of a build, a line each; "" for none."""
    if not found:
        return ""
    many = "1 warning" if len(found) == 1 else f"{len(found)} warnings"
    lines = [f"\n {many} found (`jocker build --check` shows more):"]
    lines += (f" - {item['rule']}: {item['detail']} (line {item['line']})" for item in found)
    return click.style("\n".join(lines), fg="yellow")
