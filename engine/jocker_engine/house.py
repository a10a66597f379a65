"""What every manager is given: the drivers in use, the store, the shims, the layout, the configuration."""

from __future__ import annotations

from dataclasses import dataclass

from .config import Config
from .db.store import Store
from .images.digests import Digests
from .layout import Layout
from .networks.access import Networks
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
    networks: Networks

    @property
    def default_network(self) -> str:
        """What a container is on that does not say."""
        if self.config.default_network:
            return self.config.default_network
        return self.config.default_network_name if self.drivers.network.kinds else "host"

    @property
    def build_network(self) -> str:
        """What a step of a build is on that does not say: it needs no address of its own."""
        return "none" if self.config.default_network == "none" else "host"
