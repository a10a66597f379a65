"""`network connect` and `disconnect`: a container comes to a network, or leaves it, running or not."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable

import trio

from jocker_protocol import types as t
from jocker_protocol.errors import Conflict, InvalidParams, InvalidState, JockerError, NotFound

from ..clock import now
from ..db import network_store as sql
from ..db.records import ContainerRecord
from ..db.statements import happened
from ..house import House
from ..networks.wishes import ALONE
from ..otp import ActorDown

_AT_REST = ("created", "exited")
_RUNNING = ("running", "paused")

log = logging.getLogger("jocker.containers")


async def connect(
    house: House, record: ContainerRecord, wish: t.NetworkConnect, status: Callable[[], str]
) -> t.Done:
    """`status`: of the container, now. Raises JockerError, OSError, ActorDown."""
    _check(record, status(), "connected to")
    endpoint = await house.networks.resolve_connection(record.id, wish)
    event = happened(now(), "network", "connect", endpoint.network, _facts(record))
    try:
        await house.store.write(sql.add_endpoint(endpoint), event, grows=True)
    except sqlite3.IntegrityError:
        raise Conflict(
            f"network {wish.network} went, or container {record.name} came to it, meanwhile"
        ) from None
    if status() in _RUNNING:
        try:
            await house.networks.join(endpoint)
        except BaseException:
            with trio.CancelScope(shield=True):
                await house.networks.leave(endpoint)
                await house.store.write(sql.drop_endpoint(record.id, endpoint.network))
            raise
        if status() in _AT_REST:  # it ended meanwhile, and knew nothing of this
            await house.networks.detach(record.id)
    return t.Done()


async def disconnect(
    house: House, record: ContainerRecord, wish: t.NetworkDisconnect, status: Callable[[], str]
) -> t.Done:
    """As above."""
    _check(record, status(), "disconnected from")
    there = await house.store.networks.endpoints(container=record.id)
    try:
        network = (await house.networks.find(wish.network)).id
    except NotFound:
        network = ""
        if wish.network not in [each.name for each in there]:
            raise
    on = next((each for each in there if each.network == network), None) or next(
        (each for each in there if each.name == wish.network), None  # it is gone, or another of its name is there
    )  # fmt: skip
    if on is None:
        if wish.force:
            return t.Done()
        raise NotFound(f"container {record.name} is not on network {wish.network}")
    if status() in _RUNNING:
        await house.networks.leave(on)
    event = happened(now(), "network", "disconnect", on.network, _facts(record))
    await house.store.write(sql.drop_endpoint(record.id, on.network), event)
    return t.Done()


async def finish(house: House, record: ContainerRecord) -> None:
    """Join a container that was found running to networks that a killed engine had only begun to join it to."""
    leases = {lease.network for lease in await house.store.networks.leases(container=record.id)}
    for endpoint in await house.store.networks.endpoints(container=record.id):
        if endpoint.network not in leases:
            try:
                await house.networks.join(endpoint)
            except (JockerError, OSError, ActorDown, sqlite3.Error) as error:
                log.warning("container %s could not join its network: %s", record.name, error)


def _check(record: ContainerRecord, status: str, what: str) -> None:
    if record.network in ALONE or record.network.startswith("container:"):
        raise InvalidParams(
            f"container {record.name} is on network {record.network}, and can be {what} no other"
        )
    if status not in (*_AT_REST, *_RUNNING):
        raise InvalidState(f"container {record.name} is {status}; wait until it runs or has stopped")


def _facts(record: ContainerRecord) -> dict[str, str]:
    return {"container": record.id, "name": record.name}
