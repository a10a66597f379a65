"""Where database and platform differ: what reconciling at start mends, and `system check` shows.

Each manager lists the differences of what it owns, once; its `init` mends them all, `Check` reports them.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from jocker_protocol.types import Difference

from .platform.commands import Busy

log = logging.getLogger("jocker.check")


class Found(NamedTuple):
    """One difference; `mend` is None where only the user can."""

    part: str
    subject: str
    problem: str
    remedy: str
    mend: Callable[[], Awaitable[object]] | None


async def mend(found: Sequence[Found]) -> list[bool]:
    """Mend them, in order; whether each is. What is busy stays a difference, and is in nobody's way."""
    mended = []
    for each in found:
        done = each.mend is not None
        if each.mend is not None:
            log.info("%s %s: %s; %s", each.part, each.subject[:64], each.problem, each.remedy)
            try:
                await each.mend()
            except Busy as error:
                log.warning("%s", error)
                done = False
        mended.append(done)
    return mended


async def report(found: Sequence[Found], *, repair: bool) -> list[Difference]:
    """As the protocol has them."""
    mended = await mend(found) if repair else [False] * len(found)
    return [
        Difference(
            part=each.part,
            subject=each.subject,
            problem=each.problem,
            remedy=each.remedy,
            repaired=done,
        )
        for each, done in zip(found, mended, strict=True)
    ]
