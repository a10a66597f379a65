"""Patterns: tables from the documentation of Go's filepath.Match and of .dockerignore, and their edges."""

from __future__ import annotations

import pytest

from jocker_protocol.patterns import BadPattern, Ignore, clean, has_wildcard, match, unescape

# fmt: off
MATCH = [
    ("abc", "abc", True), ("*", "abc", True), ("*c", "abc", True), ("a*", "a", True), ("a*", "abc", True),
    ("a*", "ab/c", False), ("a*/b", "abc/b", True), ("a*/b", "a/c/b", False), ("**", "a/b", False),
    ("a*b*c*d*e*/f", "axbxcxdxe/f", True), ("a*b*c*d*e*/f", "axbxcxdxexxx/f", True),
    ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", False), ("a*b?c*x", "abxbbxdbxebxczzx", True),
    ("a*b?c*x", "abxbbxdbxebxczzy", False), ("ab[c]", "abc", True), ("ab[b-d]", "abc", True),
    ("ab[e-g]", "abc", False), ("ab[^c]", "abc", False), ("ab[^b-d]", "abc", False),
    ("ab[^e-g]", "abc", True),
    ("ab[d-b]", "abc", False), ("ab[^d-b]", "abc", True),
    (r"a\*b", "a*b", True), (r"a\*b", "ab", False), ("a?b", "a☺b", True), ("a[^a]b", "a☺b", True),
    ("a???b", "a☺b", False), ("[a-ζ]*", "α", True), ("*[a-ζ]", "A", False), ("a?b", "a/b", False),
    ("a*b", "a/b", False), (r"[\]a]", "]", True), (r"[\-]", "-", True), (r"[x\-]", "x", True),
    (r"[x\-]", "-", True), (r"[x\-]", "z", False), (r"[\-x]", "x", True), (r"[\-x]", "-", True),
    ("*x", "xxx", True), ("", "", True), ("", "a", False), ("hom?.txt", "home.txt", True),
    ("a.c", "abc", False), ("a(b)+{}|$^", "a(b)+{}|$^", True), ("[[:]", "[", True), ("a\nb*", "a\nbc", True),
    ("*", ".hidden", True), ("abc", "abc\n", False), ("[|&~]", "&", True),
]
BAD = ["[]a]", "[-]", "[x-]", "[-x]", "[a-b-c]", "[", "[^", "[^bc", "a[", r"a\ "[:-1], "[a", r"[\ "[:-1]]
# fmt: on


@pytest.mark.parametrize(("pattern", "name", "expected"), MATCH)
def test_match(pattern: str, name: str, expected: bool) -> None:
    assert match(pattern, name) is expected


@pytest.mark.parametrize("pattern", BAD)
def test_bad_patterns_are_refused(pattern: str) -> None:
    with pytest.raises(BadPattern):
        match(pattern, "a")
    with pytest.raises(BadPattern, match="line 2: "):
        Ignore(["fine", pattern])


def test_wildcards_and_their_escapes() -> None:
    assert [has_wildcard(text) for text in ("a", "a*", "?", "[a]", r"\*", r"\\*", r"a\[b]")] == [
        False, True, True, True, False, True, False
    ]  # fmt: skip
    assert unescape(r"a\*b\\c") == "a*b\\c"


def test_clean_is_gos() -> None:
    table = {
        "": ".",
        "a/": "a",
        "/a": "/a",
        "//a": "/a",
        "///a//b": "/a/b",
        "a/../b": "b",
        "./a/.": "a",
        "../a": "../a",
    }
    assert {path: clean(path) for path in table} == table


# (lines, path, left out?)
IGNORE = [
    # the table of the documentation
    ("# comment", "# comment", False),
    ("*/temp*", "somedir/temporary.txt", True),
    ("*/temp*", "somedir/temp", True),
    ("*/temp*", "temp", False),
    ("*/temp*", "a/b/temp", False),
    ("*/*/temp*", "somedir/subdir/temporary.txt", True),
    ("temp?", "tempa", True),
    ("temp?", "tempb/file", True),
    ("temp?", "temp", False),
    ("temp?", "dir/tempa", False),
    ("/foo/bar", "foo/bar", True),
    ("foo/bar", "foo/bar/below", True),
    ("foo/bar", "x/foo/bar", False),
    ("**/*.go", "main.go", True),
    ("**/*.go", "a/b/c.go", True),
    ("**/*.go", "a/b/c.gox", False),
    ("*.md\n!README.md", "NEWS.md", True),
    ("*.md\n!README.md", "README.md", False),
    ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", True),
    ("*.md\n!README*.md\nREADME-secret.md", "README-open.md", False),
    ("*.md\nREADME-secret.md\n!README*.md", "README-secret.md", False),
    ("*\n!src", "src/a/b.c", False),
    ("*\n!src", "doc", True),
    # blanks, slashes, dots
    ("  foo  ", "foo", True),
    ("\ufefffoo", "foo", True),
    (" # no comment", "# no comment", True),
    ("/ foo", "foo", True),
    ("!/ foo\nfoo", "foo", True),
    ("**/**/foo", "a/b/foo", True),
    ("a/**/**/b", "a/b", True),
    ("foo/", "foo", True),
    ("./foo/../bar//baz", "bar/baz", True),
    ("/", "a", False),
    (".", "a", False),
    ("", "a", False),
    ("*\n! keep", "keep", False),
    ("*\n!/keep/", "keep/x", False),
    # **
    ("**", "a/b", True),
    ("**/foo", "foo", True),
    ("**/foo", "a/b/foo/c", True),
    ("**/foo", "afoo", False),
    ("**foo", "a/xfoo", True),
    ("foo/**", "foo/a/b", True),
    ("foo/**", "foo", False),
    ("foo**", "foobar/x", True),
    ("**/foo/**", "a/foo/b", True),
    ("**/foo/**", "foo", False),
    ("a/**/b", "a/b", True),
    ("a/**/b", "a/x/y/b", True),
    ("a/**/b", "a/x/y/c", False),
    ("**/node_modules/*.js", "x/node_modules/y.js", True),
    ("**/__pycache__", "a/__pycache__/x.pyc", True),
    # exceptions reach into ignored directories, later lines into the exceptions
    ("dir\n!dir/keep", "dir/keep/x", False),
    ("dir\n!dir/keep", "dir/other", True),
    ("dir\n!dir/keep\ndir/keep/no", "dir/keep/no", True),
    ("!a\na", "a", True),
    ("**\n!**/*.py", "x/y.py", False),
    ("a\\*b", "a*b", True),
    ("a\\*b", "axb", False),
    ("a[0-9].txt", "a1.txt", True),
    ("a.b", "axb", False),
]


@pytest.mark.parametrize(("lines", "path", "expected"), IGNORE)
def test_ignore(lines: str, path: str, expected: bool) -> None:
    assert Ignore(lines.split("\n")).ignores(path) is expected


@pytest.mark.parametrize(
    ("lines", "directory", "skip"),
    [
        ("dir", "dir", True),
        ("dir\n!other/x", "dir", True),
        ("dir\n!dir/keep", "dir", False),
        ("dir\n!dir/keep", "dir/sub", True),
        ("dir\n!*/keep", "dir", False),
        ("dir\n!**/keep", "dir/sub", False),
        ("*\n!src", "doc", True),
    ],
)
def test_a_directory_without_exceptions_is_skipped(lines: str, directory: str, skip: bool) -> None:
    ignore = Ignore(lines.split("\n"))
    assert ignore.ignores(directory)
    assert ignore.ignores_all_below(directory) is skip


def test_an_exclamation_mark_alone_is_refused() -> None:
    with pytest.raises(BadPattern, match="line 2: an exclamation mark"):
        Ignore(["a", "! "])
