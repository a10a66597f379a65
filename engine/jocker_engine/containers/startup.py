"""What happens once in an engine's life: containers whose policy says so are started, dependencies first.

An actor that ends when it has done this; it is not started anew with those it stands on, so that a crash of theirs
starts no container that somebody stopped.
"""

from __future__ import annotations

import logging

from jocker_protocol.errors import JockerError

from ..house import House
from ..otp import Actor, ActorDown
from . import order
from .messages import StartUp

log = logging.getLogger("jocker.containers")


class Startup(Actor):
    """See the module."""

    def __init__(self, house: House) -> None:
        self._house = house

    async def init(self) -> None:
        self.spawn(self._start_all)

    async def _start_all(self) -> None:
        records = await self._house.store.containers()
        await order.dependencies_first([r for r in records if r.state.status != "dead"], self._start)
        self.stop()

    async def _start(self, container: str) -> None:
        try:
            await self.system.ref(f"container/{container}").call(StartUp())
        except (JockerError, ActorDown) as error:
            log.warning("container %s was not started with the engine: %s", container[:12], error)
