"""Variable substitution and word splitting as Dockerfiles have them. Pure functions; never a shell.

Source: Docker's Dockerfile reference, "Environment replacement".
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Mapping

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9]+|[@*#?$!-]")


class BadSubstitution(ValueError):
    """`${...}` that makes no sense, or `${x:?message}` of an unset variable."""


def expand(text: str, env: Mapping[str, str], escape: str = "\\", used: set[str] | None = None) -> str:
    """Quotes removed, variables replaced; names that are looked at are added to `used`. Raises BadSubstitution."""
    return _Expander(env, escape, used if used is not None else set()).run(text)


def split(text: str, escape: str = "\\") -> list[str]:
    """Words divided by blanks outside of quotes; quotes and escapes stay in them."""
    words, word, quote, index = [], "", "", 0
    while index < len(text):
        char = text[index]
        if char == escape and quote != "'" and index + 1 < len(text):
            word += text[index : index + 2]
            index += 2
            continue
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char in " \t\n":
            if word:
                words.append(word)
            word = ""
            index += 1
            continue
        word += char
        index += 1
    return [*words, word] if word else words


class _Expander:
    def __init__(self, env: Mapping[str, str], escape: str, used: set[str]) -> None:
        self._env = env
        self._escape = escape
        self._used = used

    def run(self, text: str) -> str:
        out, quote, index = [], "", 0
        while index < len(text):
            char = text[index]
            if char == "'" and quote != '"':
                quote = "" if quote else "'"
            elif quote == "'":
                out.append(char)
            elif char == '"':
                quote = "" if quote else '"'
            elif char == self._escape:
                if index + 1 == len(text):
                    break
                index += 1
                if quote and text[index] not in f'"${self._escape}':
                    out.append(char)
                out.append(text[index])
            elif char == "$":
                value, index = self._variable(text, index + 1)
                out.append(value)
                continue
            else:
                out.append(char)
            index += 1
        return "".join(out)

    def _value(self, name: str) -> str | None:
        self._used.add(name)
        return self._env.get(name)

    def _variable(self, text: str, index: int) -> tuple[str, int]:
        if text[index : index + 1] != "{":
            match = _NAME.match(text, index)
            if match is None:
                return "$", index
            return self._value(match[0]) or "", match.end()
        match = _NAME.match(text, index + 1)
        end = self._closing(text, index + 1)
        if match is None:
            raise BadSubstitution(f"bad substitution: ${text[index : end + 1]}")
        return self._modified(match[0], text[match.end() : end], f"${text[index : end + 1]}"), end + 1

    def _closing(self, text: str, index: int) -> int:
        depth = 1
        while index < len(text):
            if text[index] == self._escape:
                index += 1
            elif text.startswith("${", index):
                depth += 1
                index += 1
            elif text[index] == "}":
                depth -= 1
                if depth == 0:
                    return index
            index += 1
        raise BadSubstitution("a ${ has no closing }")

    def _modified(self, name: str, modifier: str, whole: str) -> str:
        value = self._value(name)
        if not modifier:
            return value or ""
        colon = modifier.startswith(":")
        operator, rest = (modifier[1:2], modifier[2:]) if colon else (modifier[:1], modifier[1:])
        is_set = value is not None and (bool(value) or not colon)
        if operator in ("-", "+", "?") and operator:
            word = self.run(rest)
            if operator == "-":
                return value or "" if is_set else word
            if operator == "+":
                return word if is_set else ""
            if not is_set:
                raise BadSubstitution(f"{name}: {word or 'is not set'}")
            return value or ""
        if not colon and operator in ("#", "%"):
            longest = rest.startswith(operator)
            pattern = _glob(self.run(rest[longest:]))
            return _strip(value or "", pattern, prefix=operator == "#", longest=longest)
        if not colon and operator == "/":
            everywhere = rest.startswith("/")
            wanted, _, other = rest[everywhere:].partition("/")
            replacement = self.run(other)
            replace: Callable[[re.Match[str]], str] = lambda _: replacement  # noqa: E731
            return re.sub(_glob(self.run(wanted)), replace, value or "", count=0 if everywhere else 1)
        raise BadSubstitution(f"unknown modifier in {whole}")


def _glob(pattern: str) -> str:
    return fnmatch.translate(pattern).removesuffix(r"\Z").removesuffix(r"\z")


def _strip(value: str, pattern: str, *, prefix: bool, longest: bool) -> str:
    compiled = re.compile(pattern)
    cuts = range(len(value) + 1)
    order = cuts if prefix != longest else reversed(cuts)
    for cut in order:
        if compiled.fullmatch(value[:cut] if prefix else value[cut:]):
            return value[cut:] if prefix else value[:cut]
    return value
