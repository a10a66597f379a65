"""One more process in a running container, from the wish to its end. Runs as a task of the container's actor."""

from __future__ import annotations

import logging
import os
import sqlite3

import trio

from jocker_protocol import types as t
from jocker_protocol.errors import CannotStart, JockerError

from ..db.database import Statement
from ..db.records import ContainerRecord
from ..house import House
from ..otp import ActorDown, Reply
from ..platform.shims import ShimLost, StartFailed
from . import journal
from .messages import Exec
from .surroundings import CANNOT_START, isolation, merge_env, process, with_stdio

log = logging.getLogger("jocker.containers")


async def run(house: House, record: ContainerRecord, key: str, message: Exec, started: Reply) -> None:
    """`started` gets the key when the process runs; for a client also when it could not be started, which the
    shim tells it.
    """
    wish, link = message.wish, None
    facts = {"execID": key, "command": " ".join(wish.cmd)}
    try:
        try:
            size = wish.console_size
            config = t.ImageConfig(
                cmd=wish.cmd,
                env=merge_env(record.config.env, wish.env),
                working_dir=wish.working_dir or record.config.working_dir,
                user=wish.user or record.config.user,
            )
            what = process(
                config,
                record.hostname,
                tty=wish.tty,
                rows=size.rows if size else 0,
                cols=size.cols if size else 0,
            )
            rootfs = await house.drivers.storage.mount(record.id)
            surroundings = isolation(record, house.layout, rootfs)
            launch = await house.drivers.runtime.launch_exec(surroundings, what, key)
            link = await house.shims.new(key)
            clients = [] if message.fd < 0 else [(message.fd, message.framing, wish.interactive)]
            await link.start(with_stdio(launch, stdin=wish.interactive), clients)
        except StartFailed as error:
            if message.fd < 0:
                started.fail(CannotStart(error.error, exit_code=error.exit_code))
            else:
                started.send(key)
            return
        except CANNOT_START as error:
            started.fail(error if isinstance(error, JockerError) else CannotStart(str(error), exit_code=126))
            return
        finally:
            if message.fd >= 0:
                os.close(message.fd)
        started.send(key)
        await _tell(house, journal.event(record, "exec_start", **facts))
        try:
            code = await link.wait()
        except ShimLost:
            return  # its client sees the end of the stream
        await _tell(house, journal.event(record, "exec_die", exitCode=str(code), **facts))
    finally:
        if link is not None:
            with trio.CancelScope(shield=True):
                await link.aclose()


async def _tell(house: House, event: Statement) -> None:
    """The process runs, or has ended, whether that can be written down or not."""
    try:
        await house.store.write(event)
    except (sqlite3.Error, ActorDown) as error:
        log.warning("an event of an exec is lost: %s", error)
