"""Events of containers, in Docker's words."""

from __future__ import annotations

from ..clock import now
from ..db.database import Statement
from ..db.records import ContainerRecord
from ..db.statements import happened


def event(record: ContainerRecord, action: str, **facts: str) -> Statement:
    """To be written with the change that it tells of. Labels are attributes too."""
    attributes = {**record.config.labels, "image": record.image, "name": record.name, **facts}
    return happened(now(), "container", action, record.id, attributes)
