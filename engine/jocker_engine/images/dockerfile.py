"""From the text of a Dockerfile to its instructions. Pure; knows the form of instructions, not their meaning.

Source: Docker's Dockerfile reference, "Format", "Parser directives" and "Here-documents"; where it is silent, the
behaviour of its frontend.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from jocker_protocol.errors import BadDockerfile

from .words import HeredocMark, heredoc_marks

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
_SWITCHES = ("link", "keep-git-dir", "unpack", "parents")
"""Flags that are true or false, and true without a value."""
_REPEATED = ("exclude", "mount")
_HEREDOC_TAKERS = ("RUN", "COPY", "ADD")
_DIRECTIVE = re.compile(r"#\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(.+?)\s*")
_DIRECTIVES = ("escape", "syntax", "check")
_JSON_FORM = ("RUN", "CMD", "ENTRYPOINT", "SHELL", "VOLUME", "COPY", "ADD")
_BLANKS = " \t\v\f\r"


@dataclass(frozen=True)
class Heredoc:
    """`<<NAME` and the lines up to NAME; `literal`: the name was quoted, so nothing in it is expanded."""

    name: str
    content: str
    literal: bool
    raw: str = ""
    """As it was written, with the tabs that <<- drops from the content."""


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
    written: str = ""
    """The keyword in the letters that it was written in."""
    trigger: Instruction | None = None
    """What an ONBUILD has behind it."""
    comments: tuple[str, ...] = ()
    """The lines right before it, without their #."""
    places: tuple[tuple[int, int, int], ...] = ()
    """Where pieces of `text` were: (offset in it, line, column)."""
    gap: int = 0
    """A line number of an empty line inside of it, 0 for none."""
    inherited: bool = False
    """It is a trigger of the image or stage that this stage is from."""

    def flag(self, name: str, default: str = "") -> str:
        """The last value given."""
        return dict(self.flags).get(name, default)

    def switch(self, name: str) -> bool:
        """Whether a flag that is true or false is given, and true."""
        return self.flag(name) == "true"

    def flag_values(self, name: str) -> list[str]:
        """All values given."""
        return [value for key, value in self.flags if key == name]

    def place(self, offset: int) -> tuple[int, int]:
        """Line and column of an offset in `text`."""
        line, column = self.line, 1
        for begin, its_line, its_column in self.places:
            if begin > offset:
                break
            line, column = its_line, its_column + offset - begin
        return line, column


@dataclass(frozen=True)
class Dockerfile:
    """A parsed file."""

    filename: str
    escape: str
    instructions: tuple[Instruction, ...]
    lines: tuple[str, ...]
    directives: tuple[tuple[str, str], ...] = ()
    """Parser directives: escape, syntax, check."""

    def error(self, line: int, what: str, column: int = 1) -> BadDockerfile:
        """An error that points at its place."""
        source = self.lines[line - 1] if 0 < line <= len(self.lines) else ""
        return _error(self.filename, line, column, what, source)

    def error_at(self, instruction: Instruction, what: str, word: str = "") -> BadDockerfile:
        """An error that points at the first place of a word in an instruction, or at its beginning."""
        offset = instruction.text.find(word) if word else 0
        line, column = instruction.place(max(offset, 0))
        return self.error(line, what, column)

    def error_about(self, line: int, what: str, word: str = "") -> BadDockerfile:
        """An error that points at a word of the instruction at a line: the one given, or the first that is quoted."""
        quoted = re.search(r"'([^']+)'", what)
        word = word or (quoted[1] if quoted else "")
        for instruction in self.instructions:
            if instruction.line == line:
                return self.error_at(instruction, what, word)
        return self.error(line, what)


def parse(text: str, filename: str = "Dockerfile") -> Dockerfile:
    """Raises BadDockerfile: FILE:LINE:COLUMN and what; its data has file, line, column and the source line."""
    dockerfile = _Parser(text, filename).run()
    if not any(instruction.keyword == "FROM" for instruction in dockerfile.instructions):
        raise dockerfile.error(1, "no FROM instruction: a Dockerfile begins with FROM IMAGE")
    return dockerfile


def parse_triggers(texts: Iterable[str], filename: str, line: int, escape: str) -> tuple[Instruction, ...]:
    """The ONBUILD triggers of a base image as instructions of the FROM at `line`. Raises BadDockerfile."""
    found: list[Instruction] = []
    for text in texts:
        try:
            (one,) = _Parser(text, filename, escape).run().instructions
        except ValueError:
            raise _error(
                filename, line, 1, f"the ONBUILD of the base image is no instruction: {text!r}", ""
            ) from None
        except BadDockerfile as error:
            what = f"ONBUILD {text.splitlines()[0]} of the base image: {error.message.split(': ', 1)[-1]}"
            raise _error(filename, line, 1, what, "") from None
        found.append(as_trigger(one, line))
    return tuple(found)


def as_trigger(instruction: Instruction, line: int) -> Instruction:
    """The instruction as one of the stage whose FROM is at `line`."""
    return replace(instruction, line=line, comments=(), places=(), gap=0, inherited=True)


def _error(filename: str, line: int, column: int, what: str, source: str) -> BadDockerfile:
    return BadDockerfile(
        f"{filename}:{line}:{column}: {what}", file=filename, line=line, column=column, source=source
    )


class _Parser:
    def __init__(self, text: str, filename: str, escape: str = "\\") -> None:
        self._lines = text.removeprefix("\ufeff").split("\n")
        if not self._lines[-1]:
            self._lines.pop()  # what ends in a newline has no further line
        self._filename = filename
        self._escape = escape
        self._directives: dict[str, str] = {}
        self._at = 0

    def run(self) -> Dockerfile:
        for index, line in enumerate(self._lines):
            if "\0" in line:
                raise self._fail(index, "a NUL byte: this is no text", line.index("\0") + 1)
        self._read_directives()
        instructions: list[Instruction] = []
        comments: list[str] = []
        while self._at < len(self._lines):
            line = self._lines[self._at].strip()
            if line and not line.startswith("#"):
                made = self._instruction(tuple(comments))
                if made is not None:
                    instructions.append(made)
                comments = []
                continue
            self._at += 1
            comment = line[1:].strip()
            comments = [*comments, comment] if comment else []
        return Dockerfile(
            self._filename,
            self._escape,
            tuple(instructions),
            tuple(line.rstrip("\r") for line in self._lines),
            tuple(self._directives.items()),
        )

    def _read_directives(self) -> None:
        """They end at the first line that is none, a comment too."""
        for line in self._lines:
            match = _DIRECTIVE.fullmatch(line.strip())
            name = match[1].lower() if match else ""
            if match is None or name not in _DIRECTIVES:
                return
            if name in self._directives:
                raise self._fail(self._at, f"only one parser directive {name} may be there")
            if name == "escape":
                if match[2] not in ("\\", "`"):
                    raise self._fail(self._at, f"escape must be \\ or `, not {match[2]}")
                self._escape = match[2]
            self._directives[name] = match[2]
            self._at += 1

    def _instruction(self, comments: tuple[str, ...]) -> Instruction | None:
        first = self._at
        text, places, gap = self._logical_line()
        if not text:
            return None
        heredocs: tuple[Heredoc, ...] = ()
        made = self._understand(text, places, first)
        takes = made.trigger or made
        if takes.keyword in _HEREDOC_TAKERS and takes.words is None:
            heredocs = tuple(self._heredoc(mark, made) for mark in heredoc_marks(text))
        trigger = replace(made.trigger, heredocs=heredocs) if made.trigger else None
        return replace(made, heredocs=heredocs, trigger=trigger, comments=comments, gap=gap)

    def _understand(self, text: str, places: tuple[tuple[int, int, int], ...], first: int) -> Instruction:
        """The instruction, without its here-documents."""
        whole = Instruction("", "", None, (), (), first + 1, text, places=places)
        written, _, rest = _partition(text)
        keyword = written.upper()
        if keyword not in KEYWORDS:
            likely = difflib.get_close_matches(keyword, KEYWORDS, n=1, cutoff=0.5)
            hint = f"; did you mean {likely[0]}?" if likely else ""
            raise self._fail_in(whole, 0, f"unknown instruction {written}{hint}")
        rest_at = len(text) - len(rest)
        if keyword == "ONBUILD":
            if not rest:
                raise self._fail_in(whole, 0, "ONBUILD needs an instruction")
            moved = tuple((begin - rest_at, line, column) for begin, line, column in places)
            trigger = self._understand(rest, moved, first)
            if trigger.keyword in ("ONBUILD", "FROM", "MAINTAINER"):
                raise self._fail_in(whole, rest_at, f"ONBUILD {trigger.keyword} is not allowed")
            return Instruction(keyword, rest, None, (), (), first + 1, text, written, trigger, places=places)
        flags, rest = self._flags(keyword, rest, whole)
        if not rest:
            raise self._fail_in(whole, 0, f"{keyword} needs an argument")
        words = None
        if keyword in _JSON_FORM:
            words = json_words(rest)
            if words is None and _is_other_array(rest):
                what = f"{keyword} takes a JSON array of strings; this array has something else in it"
                raise self._fail_in(whole, max(text.find(rest), 0), what)
        return Instruction(keyword, rest, words, flags, (), first + 1, text, written, places=places)

    def _logical_line(self) -> tuple[str, tuple[tuple[int, int, int], ...], int]:
        """Lines joined over escapes at their end; comments and empty lines between them are left out.

        The text without blanks around it, where its pieces were, and an empty line, if there was one.
        """
        parts: list[str] = []
        places: list[tuple[int, int, int]] = []
        length = gap = 0
        while self._at < len(self._lines):
            line = self._lines[self._at].rstrip("\r")
            number = self._at + 1
            self._at += 1
            begin = 0
            if not parts:
                begin = len(line) - len(line.lstrip())
            elif not line.strip():
                gap = number
                continue
            elif line.lstrip().startswith("#"):
                continue
            part, goes_on = self._continued(line[begin:])
            places.append((length, number, begin + 1))
            parts.append(part)
            length += len(part)
            if not goes_on:
                break
        text = "".join(parts)
        blank = len(text) - len(text.lstrip())
        return text.strip(), tuple((at - blank, line, column) for at, line, column in places), gap

    def _continued(self, line: str) -> tuple[str, bool]:
        """The line without the escape at its end, and whether there was one; two of them are none."""
        stripped = line.rstrip(" \t")
        if not stripped.endswith(self._escape) or stripped.endswith(self._escape * 2):
            return line, False
        return stripped[:-1], True

    def _flags(self, keyword: str, rest: str, whole: Instruction) -> tuple[tuple[tuple[str, str], ...], str]:
        flags: list[tuple[str, str]] = []
        while rest.startswith("--"):
            at = len(whole.text) - len(rest)
            word, rest = self._flag_word(rest)
            if word == "--":
                break
            name, equals, value = word[2:].partition("=")
            known = _FLAGS.get(keyword, ())
            if name not in known:
                likely = difflib.get_close_matches(name, known, n=1)
                listed = ", ".join(f"--{flag}" for flag in known) or "none"
                hint = f"did you mean --{likely[0]}?" if likely else f"it has: {listed}"
                raise self._fail_in(whole, at, f"{keyword} has no flag --{name}; {hint}")
            if name in _SWITCHES:
                value = value.lower() if equals else "true"
                if value not in ("true", "false"):
                    raise self._fail_in(whole, at, f"--{name} is true or false, not {value!r}")
            elif not equals:
                raise self._fail_in(whole, at, f"--{name} needs a value: --{name}=...")
            if name not in _REPEATED and any(other == name for other, _ in flags):
                raise self._fail_in(whole, at, f"--{name} is there twice")
            flags.append((name, value))
        return tuple(flags), rest

    def _flag_word(self, rest: str) -> tuple[str, str]:
        """The first word, its quotes and escapes taken away, and what follows it."""
        word, quote, index = "", "", 0
        while index < len(rest):
            char = rest[index]
            if not quote and char in _BLANKS:
                break
            if char == self._escape and quote != "'":
                index += 1
                word += rest[index : index + 1]
            elif char == quote:
                quote = ""
            elif not quote and char in "\"'":
                quote = char
            else:
                word += char
            index += 1
        return word, rest[index:].strip()

    def _heredoc(self, mark: HeredocMark, instruction: Instruction) -> Heredoc:
        lines: list[str] = []
        while self._at < len(self._lines):
            line = self._lines[self._at]
            self._at += 1
            end = line.rstrip("\r")
            if (end.lstrip("\t") if mark.chomp else end) == mark.name:
                raw = "".join(f"{each}\n" for each in lines)
                content = "".join(f"{each.lstrip(chr(9))}\n" for each in lines) if mark.chomp else raw
                return Heredoc(mark.name, content, mark.literal, raw)
            lines.append(line)
        at = max(instruction.text.find("<<"), 0)
        what = f"the here-document {mark.name} has no end: a line {mark.name} is missing"
        raise self._fail_in(instruction, at, what)

    def _fail(self, index: int, what: str, column: int = 0) -> BadDockerfile:
        line = self._lines[index].rstrip("\r")
        return _error(self._filename, index + 1, column or len(line) - len(line.lstrip()) + 1, what, line)

    def _fail_in(self, instruction: Instruction, offset: int, what: str) -> BadDockerfile:
        line, column = instruction.place(offset)
        return self._fail(line - 1, what, column)


def _partition(text: str) -> tuple[str, str, str]:
    match = re.search(f"[{_BLANKS}]+", text)
    return (text[: match.start()], match[0], text[match.end() :].strip()) if match else (text, "", "")


def _is_other_array(rest: str) -> bool:
    try:
        return rest.startswith("[") and isinstance(json.loads(rest), list)
    except (ValueError, RecursionError):
        return False


def json_words(rest: str) -> tuple[str, ...] | None:
    """The exec form; None for what is no JSON array of strings, which is then the shell form."""
    if not rest.startswith("["):
        return None
    try:
        words = json.loads(rest)
    except (ValueError, RecursionError):
        return None
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        return None
    # A half of a surrogate pair is no character; Go's decoder, and so Docker, replaces it too.
    return tuple(word.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for word in words)
