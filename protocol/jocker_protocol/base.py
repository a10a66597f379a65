"""What every method's parameters and results are made of. Imported through types.py."""

from __future__ import annotations

import msgspec


class Params(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of every method's parameters; they are at the same time the messages that actors take."""


class Result(msgspec.Struct, kw_only=True):
    """Base of every result: always an object, never null."""


class Empty(Params, frozen=True):
    """No parameters."""


class Done(Result):
    """It is done and there is nothing to say."""


class Ticket(Result):
    """A stream is waiting: open a second connection and send `stream.open` with this token, once."""

    token: str
    id: str = ""


class Created(Result):
    """Something new has this id."""

    id: str
    warnings: list[str] = []
