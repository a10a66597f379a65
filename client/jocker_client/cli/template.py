"""The part of Go's text/template that people use with --format: fields, functions, variables, if, range, with.

Source: https://pkg.go.dev/text/template. Raises InvalidParams for what is not understood.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from jocker_protocol.errors import InvalidParams

from .render import Map

_ACTION = re.compile(r"\{\{(-(?=\s))?\s*(.*?)\s*((?<=\s)-)?\}\}", re.DOTALL)
_WORD = re.compile(r"""\s*("(?:\\.|[^"\\])*"|`[^`]*`|'(?:\\.|[^'\\])*'|:=|[|(),]|[^\s|(),"`']+)""")
_BLOCKS = ("if", "range", "with")

Scope = dict[str, Any]
""""." and "$...": what they stand for."""


class Piece(NamedTuple):
    """`kind`: text, value, or a block's word; `body` and `other` (of its else) are a block's."""

    kind: str
    text: str
    body: Sequence[Piece] = ()
    other: Sequence[Piece] = ()


def render(template: str, value: Any) -> str:
    """The template with `value` as its dot; \\t and \\n in it are what they say."""
    tokens = deque(_tokens(template.replace("\\t", "\t").replace("\\n", "\n")))
    pieces, end = _parse(tokens, top=True)
    assert not end
    return _run(pieces, {".": value, "$": value})


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    end, trim = 0, False
    for match in [*_ACTION.finditer(text), None]:
        piece = text[end : match.start()] if match else text[end:]
        piece = piece.lstrip() if trim else piece
        if match is None:
            if "{{" in piece:
                raise InvalidParams(f"format: a {{{{ without its }}}} in {text!r}")
            return [*tokens, ("text", piece)]
        tokens.append(("text", piece.rstrip() if match[1] else piece))
        if not match[2].startswith("/*"):
            tokens.append(("action", match[2]))
        end, trim = match.end(), bool(match[3])
    raise AssertionError


def _parse(tokens: deque[tuple[str, str]], *, top: bool = False) -> tuple[list[Piece], str]:
    """Up to what ends a block, "end" or "else ...", which is told."""
    pieces: list[Piece] = []
    while tokens:
        kind, text = tokens.popleft()
        word, _, rest = text.partition(" ")
        if kind == "text":
            pieces.append(Piece("text", text))
        elif word in ("end", "else"):
            if top:
                raise InvalidParams(
                    f"format: {{{{{text}}}}} without its {{{{if}}}}, {{{{range}}}} or {{{{with}}}}"
                )
            return pieces, text
        elif word in _BLOCKS:
            pieces.append(_block(word, rest, tokens))
        else:
            pieces.append(Piece("value", text))
    if not top:
        raise InvalidParams("format: {{if}}, {{range}} or {{with}} has no {{end}}")
    return pieces, ""


def _block(word: str, condition: str, tokens: deque[tuple[str, str]]) -> Piece:
    body, end = _parse(tokens)
    if end == "end":
        return Piece(word, condition, body)
    _, _, more = end.partition(" ")
    if more:  # {{else if ...}}: a block in the other branch, ended by the same {{end}}
        kind, _, rest = more.strip().partition(" ")
        if kind not in _BLOCKS:
            raise InvalidParams(f"format: {{{{{end}}}}} is not understood")
        return Piece(word, condition, body, [_block(kind, rest, tokens)])
    other, end = _parse(tokens)
    if end != "end":
        raise InvalidParams(f"format: {{{{{end}}}}} after {{{{else}}}}")
    return Piece(word, condition, body, other)


def _run(pieces: Sequence[Piece], scope: Scope) -> str:
    out = []
    for piece in pieces:
        if piece.kind == "text":
            out.append(piece.text)
            continue
        names, expression = _assigned(piece.text)
        value = _evaluate(expression, scope)
        if piece.kind == "value":
            if names:
                scope[names[0]] = value
            else:
                out.append(_show(value))
        elif piece.kind == "range":
            items = sorted(value.items()) if isinstance(value, dict) else list(enumerate(value or ()))
            for key, item in items:
                named = dict(zip(reversed(names), (item, key), strict=False))
                out.append(_run(piece.body, {**scope, **named, ".": item}))
            if not items:
                out.append(_run(piece.other, dict(scope)))
        elif value:
            inner = {**scope, **dict.fromkeys(names, value)}
            out.append(_run(piece.body, inner | ({".": value} if piece.kind == "with" else {})))
        else:
            out.append(_run(piece.other, dict(scope)))
    return "".join(out)


def _assigned(text: str) -> tuple[list[str], str]:
    """ "$k, $v := .Ports": the names, and what they are given."""
    match = re.match(r"\s*(\$\w+)(?:\s*,\s*(\$\w+))?\s*:?=(?!=)\s*", text)
    if match is None:
        return [], text
    return [name for name in match.groups() if name], text[match.end() :]


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


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, list):
            if not isinstance(key, int) or not 0 <= key < len(value):
                raise InvalidParams(f"format: index {key} of a list of {len(value)}")
            value = value[key]
        else:
            value = value.get(key) if isinstance(value, dict) else None
    return value


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "index": _index,
    "json": lambda value: json.dumps(value, separators=(",", ":")),
    "join": lambda items, separator: separator.join(map(str, items or [])),
    "len": lambda value: len(value or ()),
    "lower": lambda value: str(value).lower(),
    "upper": lambda value: str(value).upper(),
    "title": lambda value: str(value).title(),
    "print": lambda *values: "".join(map(_show, values)),
    "println": lambda *values: " ".join(map(_show, values)) + "\n",
    "not": lambda value: not value,
    "eq": lambda first, *others: any(first == other for other in others),
    "ne": lambda first, other: first != other,
    "lt": lambda first, other: first < other,
    "le": lambda first, other: first <= other,
    "gt": lambda first, other: first > other,
    "ge": lambda first, other: first >= other,
    "and": lambda *values: next((value for value in values if not value), values[-1]),
    "or": lambda *values: next((value for value in values if value), values[-1]),
    "printf": lambda text, *values: re.sub("%[vq]", "%s", text) % values,
    "split": lambda text, separator: text.split(separator),
    "truncate": lambda text, length: text[:length],
}


def _evaluate(text: str, scope: Scope) -> Any:
    words: deque[str] = deque()
    position = 0
    while text[position:].strip():
        match = _WORD.match(text, position)
        if match is None:
            raise InvalidParams(f"format: {text[position:].strip()!r} in {{{{{text}}}}} is not understood")
        chained = words and words[-1] == ")" and match.start(1) == match.start() and match[1].startswith(".")
        if chained:
            words[-1] += match[1]  # fields of what the parenthesis makes
        else:
            words.append(match[1])
        position = match.end()
    value = _pipeline(words, scope, text)
    if words:
        raise InvalidParams(f"format: {words[0]!r} is too much in {{{{{text}}}}}")
    return value


def _pipeline(words: deque[str], scope: Scope, text: str) -> Any:
    """`f a b | g c`: what a stage makes is the last argument of the next."""
    piped: list[Any] = []
    while True:
        function = words.popleft() if words and words[0] in _FUNCTIONS else ""
        given: list[Any] = []
        while words and words[0] != "|" and not words[0].startswith(")"):
            given.append(_term(words, scope, text))
        value = _called(function, [*given, *piped], text)
        if not words or words[0] != "|":
            return value
        words.popleft()
        piped = [value]


def _called(function: str, given: list[Any], text: str) -> Any:
    if not function:
        if len(given) == 1:
            return given[0]
        raise InvalidParams(
            f"format: {{{{{text}}}}} is neither a value nor a function of these: {', '.join(_FUNCTIONS)}"
            if given
            else f"format: nothing in {{{{{text}}}}}"
        )
    try:
        return _FUNCTIONS[function](*given)
    except (TypeError, ValueError, AttributeError, IndexError):
        raise InvalidParams(
            f"format: {function} cannot do that with its arguments in {{{{{text}}}}}"
        ) from None


def _term(words: deque[str], scope: Scope, text: str) -> Any:
    word = words.popleft()
    if word == "(":
        value = _pipeline(words, scope, text)
        if not words or not words[0].startswith(")"):
            raise InvalidParams(f"format: a ( without its ) in {{{{{text}}}}}")
        return _fields(value, words.popleft()[1:])
    if word[0] == '"':
        return json.loads(word)
    if word[0] in "'`":
        return word[1:-1]
    if re.fullmatch(r"-?\d+", word):
        return int(word)
    if word in ("true", "false", "nil"):
        return {"true": True, "false": False, "nil": None}[word]
    name, dot, rest = word.partition(".")
    if not name:
        return _fields(scope["."], word)
    if name not in scope:
        known = f"; there are {', '.join(_FUNCTIONS)}" if not name.startswith("$") else ""
        raise InvalidParams(f"format: no {'variable' if name[0] == '$' else 'function'} {name!r}{known}")
    return _fields(scope[name], dot + rest)


def _fields(value: Any, path: str) -> Any:
    for name in path.split("."):
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
