"""Where database and platform differ: what reconciling at start mends, and `system check` shows.

Each manager lists the differences of what it owns, once; its `init` mends them all, `Check` reports them.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from jocker_protocol.types import Difference

log = logging.getLogger("jocker.check")


class Found(NamedTuple):
    """One difference; `mend` is None where only the user can."""

    part: str
    subject: str
    problem: str
    remedy: str
    mend: Callable[[], Awaitable[object]] | None


async def mend(found: Sequence[Found]) -> None:
    """Mend them, in order."""
    for each in found:
        if each.mend is not None:
            log.info("%s %s: %s; %s", each.part, each.subject[:64], each.problem, each.remedy)
            await each.mend()


async def report(found: Sequence[Found], *, repair: bool) -> list[Difference]:
    """As the protocol has them."""
    if repair:
        await mend(found)
    return [
        Difference(
            part=each.part,
            subject=each.subject,
            problem=each.problem,
            remedy=each.remedy,
            repaired=repair and each.mend is not None,
        )
        for each in found
    ]
