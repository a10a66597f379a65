"""Streams of tars: volumes and paths of containers, out and in. They pass through as they come; nothing is kept here."""

from __future__ import annotations

from collections.abc import AsyncIterator

from jocker_protocol import types as t
from jocker_protocol import wire
from jocker_protocol.errors import InvalidRequest

from ..containers.messages import CopyFrom, CopyTo
from ..otp import System
from ..volumes.manager import ExportVolume, ImportVolume
from .dispatch import Handler
from .peer import Peer
from .streams import StreamBroker, StreamConnection


def tar_handlers(system: System, broker: StreamBroker) -> dict[str, Handler]:
    """By method."""
    own = _Handlers(system, broker)
    return {
        "container.copy_from": own.copy_from,
        "container.copy_to": own.copy_to,
        "volume.export": own.export_volume,
        "volume.import": own.import_volume,
    }


class _Handlers:
    def __init__(self, system: System, broker: StreamBroker) -> None:
        self._system = system
        self._broker = broker

    async def copy_from(self, params: t.ContainerCopyFrom, peer: Peer) -> t.Ticket:
        async def serve(connection: StreamConnection) -> None:
            async def into(data: bytes) -> None:
                await connection.send(wire.STDOUT, data)

            await connection.result(await self._system.ref("containers").call(CopyFrom(params, into)))

        return self._broker.ticket(serve)

    async def copy_to(self, params: t.ContainerCopyTo, peer: Peer) -> t.Ticket:
        async def serve(connection: StreamConnection) -> None:
            wish = CopyTo(params, uploaded(connection))
            await connection.result(await self._system.ref("containers").call(wish))

        return self._broker.ticket(serve)

    async def export_volume(self, params: t.VolumeExport, peer: Peer) -> t.Ticket:
        volumes = self._system.ref("volumes")
        await volumes.call(t.VolumeRef(volume=params.volume))

        async def serve(connection: StreamConnection) -> None:
            async def into(data: bytes) -> None:
                await connection.send(wire.STDOUT, data)

            await connection.result(await volumes.call(ExportVolume(params, into)))

        return self._broker.ticket(serve)

    async def import_volume(self, params: t.VolumeImport, peer: Peer) -> t.Ticket:
        async def serve(connection: StreamConnection) -> None:
            wish = ImportVolume(params, uploaded(connection))
            await connection.result(await self._system.ref("volumes").call(wish))

        return self._broker.ticket(serve)


async def uploaded(connection: StreamConnection) -> AsyncIterator[bytes]:
    """What the client sends up to its EOF. Raises InvalidRequest when it ends without one: part of it is nothing."""
    async for kind, payload in connection:
        if kind == wire.EOF:
            return
        if kind == wire.STDIN:
            yield payload
    raise InvalidRequest("stream: it was cut off before its end")
