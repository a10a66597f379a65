"""The part of Go's text/template that people use with --format: fields, functions, if, range.

Source: https://pkg.go.dev/text/template. Raises InvalidParams for what is not understood.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from typing import Any

from jocker_protocol.errors import InvalidParams

from .render import Map

_ACTION = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}", re.DOTALL)

Piece = tuple[str, Any, list[Any], list[Any]]


def render(template: str, value: Any) -> str:
    """The template with `value` as its dot; \\t and \\n in it are what they say."""
    text = template.replace("\\t", "\t").replace("\\n", "\n")
    pieces, rest = _parse(_tokens(text), ())
    assert not rest
    return _run(pieces, value, value)


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens, end = [], 0
    for match in _ACTION.finditer(text):
        tokens += [("text", text[end : match.start()]), ("action", match[1])]
        end = match.end()
    if "{{" in text[end:]:
        raise InvalidParams(f"format: a {{{{ without its }}}} in {text!r}")
    return [*tokens, ("text", text[end:])]


def _parse(tokens: list[tuple[str, str]], ends: tuple[str, ...]) -> tuple[list[Piece], list[tuple[str, str]]]:
    pieces: list[Piece] = []
    while tokens:
        (kind, text), tokens = tokens[0], tokens[1:]
        word, _, rest = text.partition(" ")
        if kind == "text":
            pieces.append(("text", text, [], []))
        elif text in ends:
            return pieces, [(kind, text), *tokens]
        elif word in ("if", "range"):
            body, tokens = _parse(tokens, ("else", "end"))
            other: list[Piece] = []
            if tokens[0][1] == "else":
                other, tokens = _parse(tokens[1:], ("end",))
            pieces.append((word, rest, body, other))
            tokens = tokens[1:]
        else:
            pieces.append(("value", text, [], []))
    if ends:
        raise InvalidParams("format: {{if}} or {{range}} has no {{end}}")
    return pieces, []


def _run(pieces: list[Piece], dot: Any, root: Any) -> str:
    out = []
    for kind, text, body, other in pieces:
        if kind == "text":
            out.append(text)
        elif kind == "value":
            out.append(_show(_evaluate(text, dot, root)))
        elif kind == "if":
            out.append(_run(body if _evaluate(text, dot, root) else other, dot, root))
        else:
            items = _evaluate(text, dot, root) or []
            values = list(items.values()) if isinstance(items, dict) else items
            out.append("".join(_run(body, item, root) for item in values) or _run(other, dot, root))
    return "".join(out)


def _show(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "<no value>"
    if isinstance(value, list):
        return f"[{' '.join(_show(item) for item in value)}]"
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{_show(item)}' for key, item in sorted(value.items()))}]"
    return str(value)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "json": lambda value: json.dumps(value, separators=(",", ":")),
    "join": lambda items, separator: separator.join(map(str, items or [])),
    "len": lambda value: len(value),
    "lower": lambda value: str(value).lower(),
    "upper": lambda value: str(value).upper(),
    "title": lambda value: str(value).title(),
    "println": lambda *values: " ".join(map(_show, values)) + "\n",
    "not": lambda value: not value,
    "eq": lambda first, *others: any(first == other for other in others),
    "ne": lambda first, other: first != other,
    "and": lambda *values: next((value for value in values if not value), values[-1]),
    "or": lambda *values: next((value for value in values if value), values[-1]),
    "printf": lambda text, *values: text.replace("%v", "%s") % values,
    "split": lambda text, separator: text.split(separator),
}


def _evaluate(text: str, dot: Any, root: Any) -> Any:
    value: Any = None
    for number, stage in enumerate(text.split("|")):
        lexer = shlex.shlex(stage, posix=False)
        lexer.whitespace_split = True
        lexer.commenters = ""
        words = list(lexer)
        if not words:
            raise InvalidParams(f"format: nothing in {{{{{text}}}}}")
        piped = [value] if number else []
        if words[0] == "index":
            value, *keys = [_operand(word, dot, root) for word in words[1:]] + piped
            for key in keys:
                value = value[key] if isinstance(value, list) else (value or {}).get(key)
        elif words[0] in _FUNCTIONS:
            value = _FUNCTIONS[words[0]](*[_operand(word, dot, root) for word in words[1:]], *piped)
        elif len(words) == 1:
            value = _operand(words[0], dot, root)
        else:
            raise InvalidParams(f"format: no function {words[0]!r}; there are index, {', '.join(_FUNCTIONS)}")
    return value


def _operand(word: str, dot: Any, root: Any) -> Any:
    if word[0] in "\"'`":
        return word[1:-1]
    if re.fullmatch(r"-?\d+", word):
        return int(word)
    if word in ("true", "false"):
        return word == "true"
    value = root if word.startswith("$") else dot
    word = word.removeprefix("$")
    if not word.startswith("."):
        raise InvalidParams(f"format: {word!r} is neither a field (.Name) nor a value")
    for name in word.split("."):
        if not name:
            continue
        if isinstance(value, Map):
            value = value.get(name)
            continue
        if not isinstance(value, dict) or name not in value:
            known = f"; there are: {', '.join(value)}" if isinstance(value, dict) and value else ""
            raise InvalidParams(f"format: no field .{name}{known}")
        value = value[name]
    return value
