"""`--filter` of everything that lists: keys checked, values of one key are alternatives, keys add up."""

from __future__ import annotations

import datetime
import difflib
from collections.abc import Mapping, Sequence

from jocker_protocol.durations import duration
from jocker_protocol.errors import InvalidParams

from .clock import canonical


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
        """Every `label` given is there, KEY or KEY=VALUE, and no `label!`."""
        return all(_has(labels, wanted) for wanted in self.values("label")) and not any(
            _has(labels, unwanted) for unwanted in self.values("label!")
        )

    def time(self, key: str) -> str:
        """The earliest time given, as clock.now writes it; one after all others if none is. It can be RFC 3339, seconds
        since 1970, or a duration: so long ago. Raises InvalidParams.
        """
        return min((_point(key, text) for text in self.values(key)), default="9")

    def flag(self, key: str, value: bool) -> bool:
        """Not given, or true/false as given. Raises InvalidParams."""
        for wanted in self.values(key):
            if wanted.lower() not in ("true", "false", "1", "0"):
                raise InvalidParams(f"filters: {key} takes true or false, not {wanted!r}")
            if (wanted.lower() in ("true", "1")) != value:
                return False
        return True


def _has(labels: Mapping[str, str], wanted: str) -> bool:
    key, equals, value = wanted.partition("=")
    return key in labels and (not equals or labels[key] == value)


def _point(key: str, text: str) -> str:
    """A point in time, as clock.now writes it."""
    try:
        return canonical(text)
    except ValueError:
        pass
    try:
        if text.isdigit():
            when = datetime.datetime.fromtimestamp(int(text), datetime.UTC)
        else:
            when = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=duration(text))
        return f"{when:%Y-%m-%dT%H:%M:%S.%f}000Z"
    except (ValueError, OverflowError, OSError):
        raise InvalidParams(
            f"filters: {key}={text!r} is neither a time such as 2026-01-31T12:00:00Z nor a duration such as 24h"
        ) from None
