"""What containers take of the machine: samples, and the figures between two of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import trio

from jocker_protocol import types as t

from ..db.records import ContainerRecord
from ..house import House
from ..platform.interfaces import Usage


class Sample(NamedTuple):
    """One container at one time; `at`: trio's clock, seconds."""

    record: ContainerRecord
    at: float
    usage: Usage


async def sample(house: House, records: Sequence[ContainerRecord]) -> list[Sample]:
    """Those that do not run take nothing."""
    found = []
    for record in records:
        running = record.state.status in ("running", "paused", "stopping")
        usage = await house.drivers.runtime.usage(record.id, record.state.pid) if running else Usage()
        found.append(Sample(record, trio.current_time(), usage))
    return found


def figures(before: Sequence[Sample], now: Sequence[Sample]) -> list[t.ContainerFigures]:
    """Of each sample in `now`; without one before it has used no processor yet. A new run begins at zero."""
    earlier = {sample.record.id: sample for sample in before}
    return [_figures(earlier.get(sample.record.id, sample), sample) for sample in now]


def _figures(before: Sample, now: Sample) -> t.ContainerFigures:
    record, usage = now.record, now.usage
    span, used = now.at - before.at, usage.cpu - before.usage.cpu
    return t.ContainerFigures(
        id=record.id,
        name=record.name,
        status=record.state.status,
        cpu_percent=max(0.0, used / span * 100) if span > 0 else 0.0,
        cpu=usage.cpu,
        memory=usage.memory,
        memory_limit=usage.memory_limit,
        processes=usage.processes,
        processes_limit=usage.processes_limit,
        read=usage.read,
        written=usage.written,
        received=usage.received,
        sent=usage.sent,
    )
