"""Substitution as the Dockerfile reference has it, case by case."""

from __future__ import annotations

import fnmatch
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jocker_engine.images.words import (
    BadSubstitution,
    HeredocMark,
    expand,
    expand_document,
    expand_words,
    heredoc_marks,
    split,
)

ENV = {"x": "value", "path": "a/b/a", "empty": ""}

CASES = [
    ("$x", "value"),
    ("${x}s", "values"),
    ("$xs", ""),
    ("\\$x", "$x"),
    ("'$x'", "$x"),
    ('"$x"', "value"),
    ('"\\"$x\\""', '"value"'),
    ("${nope:-d}", "d"),
    ("${empty:-d}", "d"),
    ("${empty-d}", ""),
    ("${x:-d}", "value"),
    ("${x:+set}", "set"),
    ("${nope:+set}", ""),
    ("${empty+set}", "set"),
    ("${nope:-${x}}", "value"),
    ("${path#*/}", "b/a"),
    ("${path##*/}", "a"),
    ("${path%/*}", "a/b"),
    ("${path%%/*}", "a"),
    ("${path/a/z}", "z/b/a"),
    ("${path//a/z}", "z/b/z"),
    ("${path/a*/z}", "z"),
    ("${path//[ab]/z}", "a/b/a"),
    ("${path/\\//-}", "a-b/a"),
    ("${path//?/x}", "xxxxx"),
    ("${path#?/}", "b/a"),
    ("${path%%?}", "a/b/"),
    ("${path#x}", "a/b/a"),
    ("${path%*}", "a/b/a"),
    ("${path%%*}", ""),
    ("${path/*}x", None),
    ("${path//*/x}", "x"),
    ("${path//b*b/x}", "a/b/a"),
    ("${nope#a}", ""),
    ("${x:-'$x'}", "value"),
    ("${nope:-'$x'}", "$x"),
    ('${nope:-"a b"}', "a b"),
    ("${nope-}", ""),
    ("${x?}", "value"),
    ("\\${x}", "${x}"),
    ("\\\\$x", "\\value"),
    ("$x$x", "valuevalue"),
    ("'a", None),
    ('"a', None),
    ("$", "$"),
    ("a$ b", "a$ b"),
    ("cost: 5$", "cost: 5$"),
]


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_expand(text: str, expected: str | None) -> None:
    """None: it makes no sense."""
    if expected is None:
        with pytest.raises(BadSubstitution):
            expand(text, ENV)
    else:
        assert expand(text, ENV) == expected


@given(st.text(alphabet="ab*?", max_size=8), st.text(alphabet="abc", max_size=12))
def test_patterns_are_those_of_the_shell(pattern: str, value: str) -> None:
    """Against Python's regular expressions, which are slow but sure."""
    env = {"v": value}
    for operator, lazy in (("#", "?"), ("##", "")):
        regex = "".join({"*": f".*{lazy}", "?": "."}.get(char, char) for char in pattern)
        found = re.match(regex, value)
        if operator == "##" or not pattern.startswith("#"):
            assert expand(f"${{v{operator}{pattern}}}", env) == (value[found.end() :] if found else value)
    suffixes = [at for at in range(len(value) + 1) if fnmatch.fnmatchcase(value[at:], pattern)]
    assert expand(f"${{v%{pattern}}}", env) == (value[: max(suffixes)] if suffixes else value)
    assert expand(f"${{v%%{pattern}}}", env) == (value[: min(suffixes)] if suffixes else value)
    if pattern:
        regex = "".join({"*": ".*", "?": "."}.get(char, char) for char in pattern)
        assert expand(f"${{v/{pattern}/-}}", env) == re.sub(regex, "-", value, count=1)


def test_no_pattern_is_slow() -> None:
    env = {"v": "a" * 100_000}
    assert expand("${v//" + "a*" * 20 + "b/x}${v%" + "*a" * 20 + "b}", env) == env["v"] * 2


def test_words_and_documents() -> None:
    assert expand_words("80 $x '$x y' \\$x", {"x": "1 2"}) == ["80", "1", "2", "$x y", "$x"]
    assert expand_document('it\'s "$x" \\$x ${nope:-d}\n', ENV) == 'it\'s "value" $x d\n'
    assert heredoc_marks("a <<X <<-'Y' 3<<\"Z\" <<< b $((1<<2))") == [
        HeredocMark("X", False, False), HeredocMark("Y", True, True), HeredocMark("Z", True, False)
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["${x", "${}", "${x!}", "${nope:?is needed}", "${x:~y}"])
def test_what_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(BadSubstitution):
        expand(text, ENV)


def test_names_looked_at_are_known() -> None:
    used: set[str] = set()
    expand("$x ${y:-$z}", {}, used=used)
    assert used == {"x", "y", "z"}


def test_split_keeps_quotes() -> None:
    assert split("a=1 b=\"two words\" c='x y' d=e\\ f") == ["a=1", 'b="two words"', "c='x y'", "d=e\\ f"]


@given(st.text(st.characters(blacklist_characters="$\\'\"<", blacklist_categories=("Cs",))))
def test_text_without_anything_special_stays(text: str) -> None:
    assert expand(text, ENV) == text


@given(st.text())
def test_nothing_but_a_bad_substitution_is_raised(text: str) -> None:
    try:
        expand(text, ENV)
    except BadSubstitution:
        pass


WORD = st.text(st.characters(blacklist_characters="'", blacklist_categories=("Cs",)), min_size=1)


@given(st.lists(WORD, max_size=6))
def test_quoted_words_come_back(words: list[str]) -> None:
    quoted = [f"'{word}'" for word in words]
    assert split(" ".join(quoted)) == quoted
    assert [expand(word, {}) for word in quoted] == words
    assert expand_words(" ".join(quoted), {}) == words


@given(st.lists(st.text(min_size=1), max_size=6))
def test_escaped_words_come_back(words: list[str]) -> None:
    escaped = ["".join(f"\\{char}" for char in word) for word in words]
    assert split(" ".join(escaped)) == escaped
    assert expand_words(" ".join(escaped), {}) == words
