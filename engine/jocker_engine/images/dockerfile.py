"""From the text of a Dockerfile to its instructions. Pure; knows the form of instructions, not their meaning.

Source: Docker's Dockerfile reference, "Format" and "Here-documents".
"""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass

from jocker_protocol.errors import BadDockerfile

KEYWORDS = (
    "ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER",
    "ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
)  # fmt: skip
_FLAGS = {
    "ADD": ("chown", "chmod", "link", "exclude", "keep-git-dir", "checksum", "unpack"),
    "COPY": ("from", "chown", "chmod", "link", "exclude", "parents"),
    "FROM": ("platform",),
    "HEALTHCHECK": ("interval", "timeout", "start-period", "start-interval", "retries"),
    "RUN": ("mount", "network", "security"),
}
_HEREDOC_TAKERS = ("RUN", "COPY", "ADD")
_HEREDOC = re.compile(r"(?<!<)<<(-?)(?:([A-Za-z_]\w*)|\"([A-Za-z_]\w*)\"|'([A-Za-z_]\w*)')")
_DIRECTIVE = re.compile(r"#\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(.+?)\s*$")
_JSON_FORM = ("RUN", "CMD", "ENTRYPOINT", "SHELL", "VOLUME", "COPY", "ADD")


@dataclass(frozen=True)
class Heredoc:
    """`<<NAME` and the lines up to NAME; `literal`: the name was quoted, so nothing in it is expanded."""

    name: str
    content: str
    literal: bool


@dataclass(frozen=True)
class Instruction:
    """One instruction: `rest` is what follows keyword and flags, `words` the JSON form if it has one."""

    keyword: str
    rest: str
    words: tuple[str, ...] | None
    flags: tuple[tuple[str, str], ...]
    heredocs: tuple[Heredoc, ...]
    line: int
    text: str
    """As it was written, on one line."""

    def flag(self, name: str, default: str = "") -> str:
        """The last value given."""
        return dict(self.flags).get(name, default)

    def flag_values(self, name: str) -> list[str]:
        """All values given."""
        return [value for key, value in self.flags if key == name]


@dataclass(frozen=True)
class Dockerfile:
    """A parsed file."""

    filename: str
    escape: str
    instructions: tuple[Instruction, ...]
    lines: tuple[str, ...]

    def error(self, line: int, what: str, column: int = 1) -> BadDockerfile:
        """An error that points at its place."""
        source = self.lines[line - 1] if 0 < line <= len(self.lines) else ""
        return _error(self.filename, line, column, what, source)


def parse(text: str, filename: str = "Dockerfile") -> Dockerfile:
    """Raises BadDockerfile: FILE:LINE:COLUMN, what, the line and a caret."""
    return _Parser(text, filename).run()


def _error(filename: str, line: int, column: int, what: str, source: str) -> BadDockerfile:
    caret = " " * (column - 1) + "^"
    pointer = f"\n  {source}\n  {caret}" if source.strip() else ""
    return BadDockerfile(f"{filename}:{line}:{column}: {what}{pointer}", file=filename, line=line)


class _Parser:
    def __init__(self, text: str, filename: str) -> None:
        self._lines = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
        self._filename = filename
        self._escape = "\\"
        self._at = 0

    def run(self) -> Dockerfile:
        self._directives()
        instructions = []
        while self._at < len(self._lines):
            line = self._lines[self._at].strip()
            if not line or line.startswith("#"):
                self._at += 1
                continue
            instructions.append(self._instruction())
        dockerfile = Dockerfile(self._filename, self._escape, tuple(instructions), tuple(self._lines))
        if not any(instruction.keyword == "FROM" for instruction in instructions):
            raise dockerfile.error(1, "no FROM instruction: a Dockerfile begins with FROM IMAGE")
        return dockerfile

    def _directives(self) -> None:
        for line in self._lines:
            match = _DIRECTIVE.match(line.strip())
            if match is None or match[1].lower() not in ("escape", "syntax", "check"):
                return
            if match[1].lower() == "escape":
                if match[2] not in ("\\", "`"):
                    raise self._fail(self._at, f"escape must be \\ or `, not {match[2]}")
                self._escape = match[2]
            self._at += 1

    def _instruction(self) -> Instruction:
        first = self._at
        text = self._logical_line()
        keyword, rest = self._keyword(text, first)
        heredocs: tuple[Heredoc, ...] = ()
        if keyword in _HEREDOC_TAKERS:
            heredocs = tuple(self._heredoc(match, first) for match in _HEREDOC.finditer(rest))
        inner = keyword
        if keyword == "ONBUILD":
            inner, _ = self._keyword(rest, first)
            if inner in ("ONBUILD", "FROM", "MAINTAINER"):
                raise self._fail(first, f"ONBUILD {inner} is not allowed")
            return Instruction(keyword, rest, None, (), heredocs, first + 1, text)
        flags, rest = self._flags(keyword, rest, first)
        if not rest and keyword != "HEALTHCHECK":
            raise self._fail(first, f"{keyword} needs an argument")
        words = json_words(rest) if keyword in _JSON_FORM and not heredocs else None
        return Instruction(keyword, rest, words, flags, heredocs, first + 1, text)

    def _logical_line(self) -> str:
        """Lines joined over escapes at their end; comments and empty lines between them are left out."""
        parts: list[str] = []
        while self._at < len(self._lines):
            line = self._lines[self._at]
            self._at += 1
            if parts and (not line.strip() or line.lstrip().startswith("#")):
                continue
            stripped = line.rstrip()
            if stripped.endswith(self._escape):
                parts.append(stripped[: -len(self._escape)])
                continue
            parts.append(line)
            break
        return "".join(parts).strip()

    def _keyword(self, text: str, first: int) -> tuple[str, str]:
        word, _, rest = (
            text.replace("\t", " ", 1).partition(" ") if "\t" in text[:12] else text.partition(" ")
        )
        keyword = word.upper()
        if keyword not in KEYWORDS:
            likely = difflib.get_close_matches(keyword, KEYWORDS, n=1, cutoff=0.5)
            hint = f"; did you mean {likely[0]}?" if likely else ""
            raise self._fail(first, f"unknown instruction {word}{hint}")
        return keyword, rest.strip()

    def _flags(self, keyword: str, rest: str, first: int) -> tuple[tuple[tuple[str, str], ...], str]:
        flags = []
        while match := re.match(r"--([a-z][a-z-]*)(?:=(\S*))?(?:\s+|$)", rest):
            name, value = match[1], match[2] if match[2] is not None else "true"
            known = _FLAGS.get(keyword, ())
            if name not in known:
                listed = ", ".join(f"--{flag}" for flag in known) or "none"
                raise self._fail(first, f"{keyword} has no flag --{name}; it has: {listed}")
            flags.append((name, value))
            rest = rest[match.end() :]
        return tuple(flags), rest

    def _heredoc(self, match: re.Match[str], first: int) -> Heredoc:
        name = match[2] or match[3] or match[4]
        content: list[str] = []
        while self._at < len(self._lines):
            line = self._lines[self._at]
            self._at += 1
            if match[1]:
                line = line.lstrip("\t")
            if line == name:
                return Heredoc(name, "".join(f"{each}\n" for each in content), literal=match[2] is None)
            content.append(line)
        raise self._fail(first, f"the here-document {name} has no end: a line {name} is missing")

    def _fail(self, index: int, what: str) -> BadDockerfile:
        line = self._lines[index]
        return _error(self._filename, index + 1, len(line) - len(line.lstrip()) + 1, what, line)


def json_words(rest: str) -> tuple[str, ...] | None:
    """The exec form; None for what is no JSON array of strings, which is then the shell form."""
    if not rest.startswith("["):
        return None
    try:
        words = json.loads(rest)
    except ValueError:
        return None
    return tuple(words) if all(isinstance(word, str) for word in words) else None


def heredoc_stripped(rest: str) -> str:
    """What follows the keyword without the `<<NAME` marks."""
    return _HEREDOC.sub("", rest).strip()
