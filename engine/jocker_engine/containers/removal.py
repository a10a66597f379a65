"""Taking a container away, up to its record. Each step may have been done before."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import Any

from ..db import statements as sql
from ..db.records import ContainerRecord
from ..house import House
from . import journal
from .surroundings import isolation


async def remove(house: House, record: ContainerRecord) -> list[str]:
    """Raises PlatformError, OSError, sqlite3.Error; then it can be tried again.

    Returns the volumes that were doomed with it: the anonymous ones, where the record says that they go too.
    """
    own = [mount.source for mount in record.mounts if mount.anonymous] if record.auto_remove else []
    directory = house.layout.container(record.id)
    await house.drivers.runtime.kill_all(record.id, 0)
    await house.drivers.runtime.destroy(isolation(record, house.layout, os.path.join(directory, "none")))
    await house.networks.detach(record.id)
    await house.drivers.storage.destroy_tree(record.id)
    shutil.rmtree(directory, onerror=_missing_is_fine)
    await house.store.write(
        sql.drop_container(record.id),
        *map(sql.doom_unused_volume, own),
        journal.event(record, "destroy"),
    )
    return own


def _missing_is_fine(function: Callable[..., Any], path: str, info: Any) -> None:
    if not isinstance(info[1], FileNotFoundError):
        raise info[1]
