"""What each part of a container's actor may know of it: see container.py, upkeep.py, clients.py, copying.py."""

from __future__ import annotations

from ..db.records import ContainerRecord
from ..house import House
from ..otp import Actor


class Part(Actor):
    """See the module. The whole sets these; only it changes the record's state."""

    _house: House
    _id: str
    _record: ContainerRecord

    @property
    def _status(self) -> str:
        return self._record.state.status
