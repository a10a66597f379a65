"""Mending differences: in order, what is busy stays one, and what fails otherwise is no business of ours."""

from __future__ import annotations

import pytest

from jocker_engine.differences import Found, mend, report
from jocker_engine.platform.commands import Busy, PlatformError


class Machine:
    """Its parts are mended, but for those that are busy or broken."""

    def __init__(self) -> None:
        self.mended: list[str] = []

    def found(self, subject: str, refusal: PlatformError | None = None) -> Found:
        async def mending() -> None:
            if refusal is not None:
                raise refusal
            self.mended.append(subject)

        return Found("dataset", subject, "it has no record", "destroy it", mending)


async def test_what_is_busy_stays_a_difference_and_is_in_nobodys_way() -> None:
    machine = Machine()
    hopeless = Found("address", "10.0.0.1", "another has it", "choose another", None)
    found = [machine.found("a"), machine.found("b", Busy("b is busy")), hopeless, machine.found("c")]
    assert await mend(found) == [True, False, False, True]
    assert machine.mended == ["a", "c"]
    shown = await report([machine.found("d", Busy("d is busy")), machine.found("e")], repair=True)
    assert [(each.subject, each.repaired) for each in shown] == [("d", False), ("e", True)]


async def test_nothing_is_mended_unasked() -> None:
    machine = Machine()
    shown = await report([machine.found("a")], repair=False)
    assert machine.mended == [] and not shown[0].repaired


async def test_what_cannot_be_mended_otherwise_is_a_crash() -> None:
    machine = Machine()
    with pytest.raises(PlatformError, match="no pool"):
        await mend([machine.found("a", PlatformError("no pool")), machine.found("b")])
    assert machine.mended == []
