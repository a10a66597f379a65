"""A sample of `make faults`: some boundaries of each operation, crashes of every actor, outages, a short storm."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import boundaries
import crashes
import links
import outages
import pytest
import storm
from harness import FaultyEngine, Tally

from conftest import need, why_not


@pytest.fixture(params=["linux", "portable"])
def faulty(request: pytest.FixtureRequest) -> Iterator[FaultyEngine]:
    reason = why_not(request.param)
    need(not reason, reason)
    engine = FaultyEngine(request.param).start()
    engine.base()
    yield engine
    engine.close()


def test_boundaries(faulty: FaultyEngine) -> None:
    tally = Tally()
    alike = ("import", "commit")  # for a sample: their steps are those of load, and of a running one's commit
    sample = [operation for operation in boundaries.OPERATIONS if operation.name not in alike]
    boundaries.run(faulty, tally, every=16, operations=sample)
    assert not tally.lost, tally.table()
    assert len(tally.injected) == len(sample)


def test_boundaries_on_zfs(pool: str) -> None:
    """Its commands are boundaries too, each one before and after."""
    reason = why_not("linux")
    need(not reason, reason)
    subprocess.run(("zfs", "create", "-o", "mountpoint=none", f"{pool}/faults"), check=True)
    engine = FaultyEngine("linux")
    engine.configure(zroot=f"{pool}/faults")
    engine.start()
    engine.base()
    tally = Tally()
    wanted = {"create", "build"}
    boundaries.run(engine, tally, every=64, operations=[o for o in boundaries.OPERATIONS if o.name in wanted])
    engine.close()
    assert not tally.lost, tally.table()
    assert len(tally.injected) == len(wanted)


def test_boundaries_of_upkeep(faulty: FaultyEngine) -> None:
    tally = Tally()
    boundaries.run(faulty, tally, every=40, operations=boundaries.UPKEEP)
    assert not tally.lost, tally.table()
    assert len(tally.injected) == sum(faulty.platform in each.platforms for each in boundaries.UPKEEP)


def test_boundaries_of_networks() -> None:
    reason = why_not("linux")
    need(not reason, reason)
    engine = FaultyEngine("linux").start()
    engine.base()
    tally, wanted = Tally(), {"network disconnect, the first", "start -p"}
    sample = [each for each in links.OPERATIONS if each.name in wanted]
    boundaries.run(engine, tally, 24, sample)
    engine.close()
    assert not tally.lost, tally.table()
    assert len(tally.injected) == len(sample)


def test_crashes(faulty: FaultyEngine) -> None:
    tally = Tally()
    crashes.run(faulty, tally)
    assert not tally.lost, tally.table()


def test_outages(faulty: FaultyEngine) -> None:
    tally = Tally()
    outages.run(faulty, tally)
    assert not tally.lost, tally.table()


def test_storm(faulty: FaultyEngine) -> None:
    tally = Tally()
    storm.run(faulty, tally, kills=5, seed=1)
    assert not tally.lost, tally.table()


@pytest.mark.parametrize("platform", ["linux", "portable"])
def test_full_disk(platform: str) -> None:
    need(os.geteuid() == 0, "a small file system needs root")
    reason = why_not(platform)
    need(not reason, reason)
    engine = FaultyEngine(platform)
    engine.on_small_disk("48m")
    engine.start()
    engine.base()
    tally = Tally()
    outages.full_disk(engine, tally)
    engine.close()
    assert not tally.lost, tally.table()
