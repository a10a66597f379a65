"""`--filter` of everything that lists: keys checked, values of one key are alternatives, keys add up."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from jocker_protocol.errors import InvalidParams


class Filters:
    """The filters of one request. Raises InvalidParams for a key that this list does not have."""

    def __init__(self, given: Mapping[str, Sequence[str]], known: Sequence[str]) -> None:
        for key in given:
            if key not in known:
                likely = difflib.get_close_matches(key, known, n=1)
                hint = f"did you mean {likely[0]!r}?" if likely else f"there are: {', '.join(known)}"
                raise InvalidParams(f"filters: no filter {key!r}; {hint}")
        self._given = given

    def __contains__(self, key: str) -> bool:
        return bool(self._given.get(key))

    def values(self, key: str) -> Sequence[str]:
        """What was given for a key."""
        return self._given.get(key, ())

    def equals(self, key: str, *values: str) -> bool:
        """Not given, or one of the values is wanted."""
        return key not in self or any(value in self._given[key] for value in values)

    def contains(self, key: str, value: str) -> bool:
        """Not given, or what is wanted is part of the value."""
        return key not in self or any(wanted in value for wanted in self._given[key])

    def begins(self, key: str, value: str) -> bool:
        """Not given, or the value begins with what is wanted."""
        return key not in self or any(value.startswith(wanted) for wanted in self._given[key])

    def labels(self, labels: Mapping[str, str]) -> bool:
        """Every label given is there: KEY, or KEY=VALUE."""
        for wanted in self.values("label"):
            key, equals, value = wanted.partition("=")
            if key not in labels or (equals and labels[key] != value):
                return False
        return True

    def flag(self, key: str, value: bool) -> bool:
        """Not given, or true/false as given. Raises InvalidParams."""
        for wanted in self.values(key):
            if wanted.lower() not in ("true", "false", "1", "0"):
                raise InvalidParams(f"filters: {key} takes true or false, not {wanted!r}")
            if (wanted.lower() in ("true", "1")) != value:
                return False
        return True
