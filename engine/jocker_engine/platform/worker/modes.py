"""Modes as chmod(1) takes them: octal, or symbolic as `u=rwX,go=rX`. Pure, standard library only.

Source: POSIX.1-2017, chmod, "EXTENDED DESCRIPTION"; a clause that names nobody is for all, as with a umask of 0.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=](?:[ugo]|[rwxXst]*))+)")
_ACTION = re.compile(r"([-+=])([ugo]|[rwxXst]*)")
_SHIFT = {"u": 6, "g": 3, "o": 0}
_BITS = {"r": 4, "w": 2, "x": 1}


class BadMode(ValueError):
    """Neither octal up to 7777 nor symbolic; one line."""


def parse_mode(text: str) -> Callable[[int, bool], int]:
    """A function: (mode, whether it is a directory) -> new mode. Raises BadMode."""
    if re.fullmatch(r"[0-7]{1,5}", text) and int(text, 8) <= 0o7777:
        fixed = int(text, 8)
        return lambda mode, directory: fixed
    clauses = [_CLAUSE.fullmatch(clause) for clause in text.split(",")]
    if text[:1].isdigit() or None in clauses:
        raise BadMode("must be octal up to 7777, such as 755, or symbolic, such as u=rwX,go=rX")
    actions = [
        (set(clause[1].replace("a", "ugo") or "ugo"), action[1], action[2])
        for clause in clauses
        if clause is not None
        for action in _ACTION.finditer(clause[2])
    ]

    def change(mode: int, directory: bool) -> int:
        for who, operator, what in actions:
            mode = _apply(mode, directory, who, operator, what)
        return mode

    return change


def _apply(mode: int, directory: bool, who: set[str], operator: str, what: str) -> int:
    changed = mask = 0
    executable = directory or bool(mode & 0o111)
    for one in who:
        if what and what in "ugo":
            bits = mode >> _SHIFT[what] & 7
        else:
            bits = sum({_BITS[letter] for letter in what if letter in "rwx"})
            bits |= 1 if "X" in what and executable else 0
        changed |= bits << _SHIFT[one]
        mask |= 7 << _SHIFT[one]
    special = {"u": 0o4000, "g": 0o2000}
    if "s" in what:
        changed |= sum(special.get(one, 0) for one in who)
    if "t" in what:
        changed |= 0o1000
    if operator == "+":
        return mode | changed
    if operator == "-":
        return mode & ~changed
    mask |= 0o1000 if "o" in who else 0
    if not directory:  # of a directory, = keeps what is not named
        mask |= sum(special.get(one, 0) for one in who)
    return mode & ~mask | changed
