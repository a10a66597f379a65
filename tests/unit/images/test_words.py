"""Substitution as the Dockerfile reference has it, case by case."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jocker_engine.images.words import BadSubstitution, expand, split

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
    ("$", "$"),
    ("a$ b", "a$ b"),
    ("cost: 5$", "cost: 5$"),
]


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_expand(text: str, expected: str) -> None:
    assert expand(text, ENV) == expected


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


@given(st.text(st.characters(blacklist_characters="$\\'\"", blacklist_categories=("Cs",))))
def test_text_without_anything_special_stays(text: str) -> None:
    assert expand(text, ENV) == text


@given(st.text())
def test_nothing_but_a_bad_substitution_is_raised(text: str) -> None:
    try:
        expand(text, ENV)
    except BadSubstitution:
        pass
