"""File name patterns: what the wildcards of COPY and the lines of .dockerignore mean. Standard library only,
no I/O.

Paths are relative, separated by "/", without "." and "..". Sources: Go's path/filepath.Match for one
pattern; the .dockerignore section of Docker's build documentation, and the behaviour of its pattern
matcher where that is silent ("**", parents, the order of exceptions).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from functools import lru_cache

_WILDCARD = re.compile(r"\\.|([*?\[])", re.DOTALL)


class BadPattern(ValueError):
    """The pattern has no meaning: "[" without "]", an empty class, a backslash at the end."""


def match(pattern: str, name: str) -> bool:
    """Whether `name` is what the pattern describes, all of it; "*" and "?" never match "/". Raises
    BadPattern.
    """
    return _compile(pattern, False).fullmatch(name) is not None


def has_wildcard(text: str) -> bool:
    """Whether there is a "*", "?" or "[" that no backslash escapes."""
    return any(found[1] for found in _WILDCARD.finditer(text))


def unescape(pattern: str) -> str:
    """The only name that a pattern without wildcards matches: its backslashes taken away."""
    return re.sub(r"\\(.)", r"\1", pattern, flags=re.DOTALL)


def clean(path: str) -> str:
    """Go's filepath.Clean: normpath, for which "//x" is "/x" too."""
    path = posixpath.normpath(path)
    return path[1:] if path.startswith("//") else path


@lru_cache(maxsize=512)
def _compile(pattern: str, double_star: bool) -> re.Pattern[str]:
    """The pattern as a regular expression; `double_star` gives "**" Docker's meaning: any number of
    directories.
    """
    if double_star and pattern.startswith("**") and not set(pattern[2:]) & set("*?[]\\"):
        # Docker takes "**" before plain text for "ends with": "**x" matches "abx", "**/x" matches "x" too.
        rest = pattern[2:]
        bare = f"|{re.escape(rest[1:])}" if rest.startswith("/") else ""
        return re.compile(f".*{re.escape(rest)}{bare}", re.DOTALL)
    out: list[str] = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*" and double_star and pattern.startswith("*", at):
            at += 2 if pattern.startswith("/", at + 1) else 1
            while pattern.startswith("**/", at):  # says no more, and makes matching slow
                at += 3
            out.append(".*" if at == len(pattern) else "(?:.*/)?")
        elif char == "*":
            out.append("[^/]*")
        elif char == "?":
            out.append("[^/]")
        elif char == "[":
            text, at = _class(pattern, at)
            out.append(text)
        elif char == "\\":
            text, at = _character(pattern, at - 1)
            out.append(re.escape(text))
        else:
            out.append(re.escape(char))
    return re.compile("".join(out), re.DOTALL)


def _class(pattern: str, at: int) -> tuple[str, int]:
    """The character class that follows "[", and where it ends."""
    negated = pattern.startswith("^", at)
    at += negated
    out: list[str] = []
    while not (out and pattern.startswith("]", at)):
        if pattern[at : at + 1] in ("-", "]"):
            raise BadPattern(f"bad character class in pattern {pattern!r}")
        low, at = _character(pattern, at)
        high = low
        if pattern.startswith("-", at):
            if pattern[at + 1 : at + 2] in ("-", "]"):
                raise BadPattern(f"bad range in pattern {pattern!r}")
            high, at = _character(pattern, at + 1)
        # A range the wrong way round matches nothing, but is no error.
        out.append(f"{re.escape(low)}-{re.escape(high)}" if low <= high else "")
    ranges = "".join(out)
    if negated:
        return (f"[^{ranges}]" if ranges else "."), at + 1
    return (f"[{ranges}]" if ranges else "(?!)"), at + 1


def _character(pattern: str, at: int) -> tuple[str, int]:
    """One character, perhaps escaped, and what follows it."""
    at += pattern.startswith("\\", at)
    if at >= len(pattern):
        raise BadPattern(f"pattern {pattern!r} ends too early")
    return pattern[at], at + 1


class _Rule:
    """One line: a pattern, and whether it takes back what an earlier one excluded."""

    def __init__(self, line: str) -> None:
        self.exception = line.startswith("!")
        self.pattern = line[self.exception :]
        _compile(self.pattern, False)  # the syntax is filepath.Match's
        self.matches = _compile(self.pattern, True).fullmatch
        self.parts = self.pattern.split("/")

    def may_match_below(self, directory: str) -> bool:
        """Whether this could match something in the directory that it does not match itself."""
        if "**" in self.pattern or "[" in self.pattern or "\\" in self.pattern:
            return True
        above = directory.split("/")
        pairs = zip(self.parts, above, strict=False)
        return len(self.parts) > len(above) and all(match(part, name) for part, name in pairs)


class Ignore:
    """The lines of an ignore file. The last line that matches a path, or a directory above it, decides.

    Raises BadPattern, which names the line.
    """

    def __init__(self, lines: Iterable[str] = ()) -> None:
        self._rules: list[_Rule] = []
        for number, raw in enumerate(lines, 1):
            line = _normalize(raw.removeprefix("\ufeff") if number == 1 else raw)
            if line == "!":
                raise BadPattern(f"line {number}: an exclamation mark without a pattern")
            if line:
                try:
                    self._rules.append(_Rule(line))
                except BadPattern as error:
                    raise BadPattern(f"line {number}: {error}") from None

    @property
    def has_exceptions(self) -> bool:
        """Whether any line takes back what an earlier one excluded."""
        return any(rule.exception for rule in self._rules)

    def ignores(self, path: str) -> bool:
        """Whether the path is left out."""
        prefixes = [path]
        while "/" in path:
            path = path.rpartition("/")[0]
            prefixes.append(path)
        ignored = False
        for rule in self._rules:
            # A rule is only asked when it would change the verdict.
            if rule.exception == ignored and any(rule.matches(prefix) for prefix in prefixes):
                ignored = not rule.exception
        return ignored

    def ignores_all_below(self, directory: str) -> bool:
        """Whether a directory that is left out may be skipped, as no exception reaches into it."""
        return not any(rule.exception and rule.may_match_below(directory) for rule in self._rules)


def _normalize(raw: str) -> str:
    """A line without comment, blanks and superfluous slashes; "" for one that says nothing."""
    if raw.startswith("#"):
        return ""
    line = raw.strip()
    mark = "!" if line.startswith("!") else ""
    pattern = line[len(mark) :].strip()
    if not pattern:
        return mark
    pattern = clean(pattern)
    if len(pattern) > 1:
        pattern = pattern.removeprefix("/")
    if not mark:  # Docker does so twice, and not for exceptions
        pattern = clean(pattern.strip()) if pattern.strip() else ""
    return mark + pattern
