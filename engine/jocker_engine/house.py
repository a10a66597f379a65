"""What every manager is given: the drivers in use, the store, the shims, the layout, the configuration."""

from __future__ import annotations

from dataclasses import dataclass

from .config import Config
from .db.store import Store
from .images.digests import Digests
from .layout import Layout
from .platform.commands import Commands
from .platform.probe import Drivers
from .zygote import Shims


@dataclass(frozen=True)
class House:
    """The rooms that managers share. All of it outlives any actor's crash."""

    config: Config
    layout: Layout
    commands: Commands
    drivers: Drivers
    store: Store
    shims: Shims
    digests: Digests
