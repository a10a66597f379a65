"""Network driver `host`: containers share the host's network, or have none where the runtime can do that."""

from __future__ import annotations

from collections.abc import Sequence

from ..commands import PlatformError
from ..interfaces import Endpoint, HostNetworks, Misfit, Network, NetworkState, Publication

_REFUSED = "the network driver in use here, host, makes no networks; use --network host or none"


class HostNetwork:
    """See interfaces.NetworkDriver."""

    name = "host"
    kinds: tuple[str, ...] = ()

    def interface(self, network: str) -> str:
        return ""

    async def create(self, network: Network) -> None:
        raise PlatformError(_REFUSED)

    async def destroy(self, network: Network) -> None:
        """There is none."""

    async def attach(self, endpoint: Endpoint) -> str:
        raise PlatformError(_REFUSED)

    async def ready(self, container: str) -> None:
        """Nothing had to wait."""

    async def detach(self, endpoint: Endpoint) -> None:
        """It is not attached."""

    async def route(self, endpoint: Endpoint) -> None:
        """It is the host's."""

    async def release(self, container: str) -> None:
        """It has nothing."""

    async def publish(self, network: Network, publications: Sequence[Publication]) -> None:
        raise PlatformError(_REFUSED)

    async def host(self) -> HostNetworks:
        return HostNetworks((), {})

    async def holder(self, protocol: str, port: int) -> str:
        return ""

    async def audit(self, expected: Sequence[NetworkState]) -> list[Misfit]:
        return []
