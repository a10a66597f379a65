"""Variable substitution and word splitting as Dockerfiles have them. Pure functions; never a shell.

Source: Docker's Dockerfile reference, "Environment replacement"; where it is silent, the behaviour of its frontend:
quotes must be closed, patterns have `*` and `?` but no classes, `#` and `%` take the shortest match and, doubled, the
longest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

_SPECIAL = "@*#?-$!0"
_HEREDOC = re.compile(r"(\d*)<<(-?)\s*([^<]+)", re.DOTALL)
_BLANKS = " \t\n\v\f\r"


class BadSubstitution(ValueError):
    """`${...}` that makes no sense, a quote that is not closed, or `${x:?message}` of an unset variable."""


def expand(
    text: str,
    env: Mapping[str, str],
    escape: str = "\\",
    used: set[str] | None = None,
    missing: set[str] | None = None,
) -> str:
    """Quotes removed, variables replaced; names that are looked at are added to `used`, those of them that are not
    set to `missing`. Raises BadSubstitution.
    """
    return _Lexer(text, env, escape, used, missing).run()[0]


def expand_words(
    text: str,
    env: Mapping[str, str],
    escape: str = "\\",
    used: set[str] | None = None,
    missing: set[str] | None = None,
) -> list[str]:
    """As `expand`, and then split at the blanks that are not quoted, those of values too."""
    return _Lexer(text, env, escape, used, missing).run()[1]


def expand_document(
    text: str, env: Mapping[str, str], used: set[str] | None = None, missing: set[str] | None = None
) -> str:
    """Variables in a here-document; quotes are text there, and `\\` keeps a `$` from being one."""
    return _Lexer(text, env, "\\", used, missing, quotes=False).run()[0]


def split(text: str, escape: str = "\\") -> list[str]:
    """Words divided by blanks outside of quotes; quotes and escapes stay in them."""
    words: list[str] = []
    word, quote, index = "", "", 0
    while index < len(text):
        char = text[index]
        if char == escape and quote != "'":
            if index + 1 < len(text):
                word += text[index : index + 2]
            index += 2
            continue
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char in _BLANKS:
            if word:
                words.append(word)
            word = ""
            index += 1
            continue
        word += char
        index += 1
    return [*words, word] if word else words


@dataclass(frozen=True)
class HeredocMark:
    """`<<NAME`, `<<-NAME`, `<<"NAME"`: the word that begins a here-document."""

    name: str
    literal: bool
    """The name was quoted: nothing in the document is replaced."""
    chomp: bool
    """Tabs at the beginning of its lines are dropped."""


def heredoc_mark(word: str) -> HeredocMark | None:
    """What the word means if it begins a here-document."""
    match = _HEREDOC.fullmatch(word)
    if match is None:
        return None
    try:
        plain = _Lexer(match[3], {}, "\\", keep_unset=True).run()[1]
        raw = _Lexer(match[3], {}, "\\", keep_unset=True, raw_quotes=True).run()[1]
    except BadSubstitution:
        return None
    if len(plain) != 1 or len(raw) != 1:
        return None
    return HeredocMark(plain[0], _quotes(plain[0]) != _quotes(raw[0]), bool(match[2]))


def heredoc_marks(line: str) -> list[HeredocMark]:
    """Those of an instruction, in order."""
    if "<<" not in line:
        return []
    try:
        words = _Lexer(line, {}, "\\", raw_quotes=True, raw_escapes=True, keep_unset=True).run()[1]
    except BadSubstitution:
        return []
    return [mark for word in words if (mark := heredoc_mark(word))]


def _quotes(word: str) -> int:
    return word.count("'") + word.count('"')


class _Words:
    """Collects words while text goes by: blanks divide them, but not those that were quoted or escaped."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self._word = ""

    def plain(self, text: str) -> None:
        for char in text:
            if not char.isspace():
                self._word += char
            elif self._word:
                self.words.append(self._word)
                self._word = ""

    def quoted(self, text: str) -> None:
        self._word += text

    def all(self) -> list[str]:
        return [*self.words, self._word] if self._word else self.words


class _Lexer:
    def __init__(
        self,
        text: str,
        env: Mapping[str, str],
        escape: str,
        used: set[str] | None = None,
        missing: set[str] | None = None,
        *,
        quotes: bool = True,
        raw_quotes: bool = False,
        raw_escapes: bool = False,
        keep_unset: bool = False,
    ) -> None:
        self._text = text
        self._at = 0
        self._env = env
        self._escape = escape
        self._used = used if used is not None else set()
        self._missing = missing if missing is not None else set()
        self._quotes = quotes
        self._raw_quotes = raw_quotes
        self._raw_escapes = raw_escapes
        self._keep_unset = keep_unset
        self._depth = 0

    def run(self) -> tuple[str, list[str]]:
        """The text as one, and as words."""
        return self._until("", self._raw_escapes)

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _next(self) -> str:
        char = self._peek()
        self._at += 1
        return char

    def _until(self, stop: str, raw_escapes: bool) -> tuple[str, list[str]]:
        out: list[str] = []
        words = _Words()
        while char := self._peek():
            if char == stop:
                self._at += 1
                return "".join(out), words.all()
            if char == "$":
                value = self._variable()
                words.plain(value)
            elif char == "<":
                value = self._less_than()
                words.quoted(value)
            elif self._quotes and char in "\"'":
                value = self._single() if char == "'" else self._double()
                words.quoted(value)
            elif char == self._escape:
                self._at += 1
                value = (char if raw_escapes else "") + self._next()
                words.quoted(value)
            else:
                self._at += 1
                value = char
                words.plain(value)
            out.append(value)
        if stop:
            raise BadSubstitution(f"a ${{ has no closing {stop}")
        return "".join(out), words.all()

    def _less_than(self) -> str:
        """`<< NAME` is one word."""
        begin = self._at
        self._at += 1
        if self._peek() == "<":
            self._at += 1
            while self._peek() and self._peek() in " \t\r":
                self._at += 1
        return self._text[begin : self._at]

    def _single(self) -> str:
        end = self._text.find("'", self._at + 1)
        if end < 0:
            raise BadSubstitution("a ' has no closing '")
        inner = self._text[self._at + 1 : end]
        self._at = end + 1
        return f"'{inner}'" if self._raw_quotes else inner

    def _double(self) -> str:
        self._at += 1
        mark = '"' if self._raw_quotes else ""
        out = [mark]
        while char := self._peek():
            if char == "$":
                out.append(self._variable())
                continue
            self._at += 1
            if char == '"':
                return "".join([*out, mark])
            if char == self._escape:
                if self._raw_escapes:
                    out.append(char)
                if not self._peek():
                    break
                if self._peek() in f'"${self._escape}':
                    char = self._next()
                elif self._raw_escapes:
                    continue
            out.append(char)
        raise BadSubstitution('a " has no closing "')

    def _name(self) -> str:
        begin = self._at
        first = self._peek()
        if first and first in "0123456789":
            while self._peek() and self._peek() in "0123456789":
                self._at += 1
        elif first and first in _SPECIAL:
            self._at += 1
        else:
            while (char := self._peek()) and (char.isalnum() or char == "_"):
                self._at += 1
        return self._text[begin : self._at]

    def _value(self, name: str) -> str | None:
        self._used.add(name)
        value = self._env.get(name)
        if value is None:
            self._missing.add(name)
        return value

    def _variable(self) -> str:
        self._at += 1
        if self._peek() != "{":
            name = self._name()
            if not name:
                return "$"
            value = self._value(name)
            return f"${name}" if value is None and self._keep_unset else value or ""
        begin = self._at - 1
        self._at += 1
        if self._peek() in ("", "{", "}", ":"):
            raise BadSubstitution(f"bad substitution: {self._text[begin : self._at + 1]}")
        self._depth += 1
        if self._depth > 50:
            raise BadSubstitution("${...} inside of ${...}, more than 50 deep")
        text = self._braced(begin)
        self._depth -= 1
        return text

    def _braced(self, begin: int) -> str:
        name = self._name()
        operator = self._next()
        colon = operator == ":"
        if colon:
            operator = self._next()
        if operator == "}" and not colon and name:
            value = self._value(name)
            return f"${{{name}}}" if value is None and self._keep_unset else value or ""
        if operator and operator in "-+?" and name:
            word = self._until("}", False)[0]
            self._used.add(name)
            value = self._env.get(name)  # whoever says what to do without it, expects that: it is not missing
            if value is None and self._keep_unset:
                return self._text[begin : self._at]
            return _conditional(operator, name, value, word, colon)
        if operator and operator in "#%/" and name and not colon:
            change = self._replace if operator == "/" else self._strip
            result = change(operator)
            value = self._value(name)
            if value is None and self._keep_unset:
                return self._text[begin : self._at]
            return result(value or "")
        raise BadSubstitution(
            f"bad substitution: {self._text[begin : self._at]} (there are :- - :+ + :? ? # ## % %% / //)"
        )

    def _strip(self, operator: str) -> Callable[[str], str]:
        word = self._until("}", True)[0]
        longest = word.startswith(operator)
        tokens = _tokens(word[longest:])
        if operator == "#":
            return lambda value: value[_Glob(tokens).end(value, 0, longest) or 0 :]
        # The shortest match at the end is the shortest at the beginning, all reversed.
        return lambda value: value[: len(value) - (_Glob(tokens[::-1]).end(value[::-1], 0, longest) or 0)]

    def _replace(self, operator: str) -> Callable[[str], str]:
        everywhere = self._peek() == operator
        self._at += everywhere
        glob = _Glob(_tokens(self._until("/", True)[0]))
        replacement = self._until("}", True)[0]
        return lambda value: glob.replace(value, replacement, everywhere)


def _conditional(operator: str, name: str, value: str | None, word: str, colon: bool) -> str:
    is_set = value is not None and (bool(value) or not colon)
    if operator == "-":
        return value or "" if is_set else word
    if operator == "+":
        return word if is_set else ""
    if not is_set:
        why = "is not set" if value is None else "is empty"
        raise BadSubstitution(f"{name}: {word or why}")
    return value or ""


def _tokens(pattern: str) -> list[str]:
    """Characters; a `*` or `?` that means itself, as every other escaped one, has its backslash."""
    tokens, index = [], 0
    while index < len(pattern):
        char = pattern[index]
        if char == "\\":
            index += 1
            char = pattern[index : index + 1]
            if not char or char not in "*?\\}/":
                raise BadSubstitution(f"bad pattern {pattern!r}: only * ? \\ }} / can have a \\ before them")
            char = "\\" + char
        tokens.append(char)
        index += 1
    return tokens


class _Glob:
    """A pattern, cut at its stars into pieces of fixed length: no value makes it slow, as a regular expression's
    backtracking would be.
    """

    def __init__(self, tokens: list[str]) -> None:
        pieces: list[list[str]] = [[]]
        for token in tokens:
            if token == "*":
                pieces.append([])
            else:
                pieces[-1].append("." if token == "?" else re.escape(token[-1]))
        self._first, *self._rest = [re.compile("".join(piece), re.DOTALL) for piece in pieces]
        self._last_length = len(pieces[-1])

    def end(self, text: str, start: int, longest: bool) -> int | None:
        """Where the shortest or longest match that begins at `start` ends; None when there is none."""
        match = self._first.match(text, start)
        for piece in self._rest[:-1]:
            match = match and piece.search(text, match.end())
        if match is None or not self._rest:
            return match and match.end()
        last, begin = self._rest[-1], match.end()
        if not longest:
            match = last.search(text, begin)
            return match and match.end()
        for at in range(len(text) - self._last_length, begin - 1, -1):
            if last.match(text, at):
                return at + self._last_length
        return None

    def replace(self, text: str, replacement: str, everywhere: bool) -> str:
        """The first match, or all of them, the longest at each place; an empty one right behind another is none."""
        out, at, done = [], 0, -1
        while found := self._first.search(text, at):
            end = self.end(text, found.start(), True)
            if end is None:
                break  # what follows a star is not there, nor is it for a later beginning
            out.append(text[at : found.start()])
            if end != found.start() or end != done:
                out.append(replacement)
            at = done = end
            if end == found.start():
                out.append(text[end : end + 1])
                at += 1
            if not everywhere or at > len(text):
                break
        return "".join([*out, text[at:]])
