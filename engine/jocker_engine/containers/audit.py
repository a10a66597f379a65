"""Where the records of containers and the platform differ. Containers on their way from one state to another are
their actors' business, and left out.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Awaitable, Callable, Container, Sequence
from functools import partial

import trio

from ..db.records import ContainerRecord
from ..differences import Found
from ..house import House
from ..platform.interfaces import Isolation
from ..platform.shims import connect
from ..platform.work import work
from . import lifecycle

_MOVING = frozenset({"creating", "starting", "stopping", "restarting", "removing"})


async def strays(house: House, records: Sequence[ContainerRecord], *, settled: float) -> list[Found]:
    """What is there and should not be; sockets when they are older than `settled` seconds, since a shim that is
    being started takes the first connection for its engine's.
    """
    known = {record.id: record for record in records}
    at_rest = {id for id, record in known.items() if record.state.status not in lifecycle.ALIVE | _MOVING}
    found = []
    for id in sorted(await house.drivers.runtime.inventory() & at_rest):
        found.append(
            Found("runtime", id, f"container {known[id].name} does not run, and the runtime has something of it",
                  "kill and remove it", partial(_destroy, house, known[id]))
        )  # fmt: skip
    for id in sorted(await house.drivers.storage.mounted() or ()):
        if id in at_rest:
            found.append(
                Found("mount", id, f"container {known[id].name} does not run, and its file system is mounted",
                      "unmount it", partial(house.drivers.storage.unmount, id))
            )  # fmt: skip
    for name in sorted(os.listdir(house.layout.containers)):
        if name not in known:
            path = house.layout.container(name)
            found.append(
                Found("directory", path, "there is a directory of a container that has no record", "remove it",
                      partial(work, house.commands, "remove_tree", path=path))
            )  # fmt: skip
    return [*found, *await _sockets(house, settled)]


async def losses(
    house: House,
    records: Sequence[ContainerRecord],
    lose: Callable[[str, str], Awaitable[None]],
    still: Container[str],
) -> list[Found]:
    """What should be there and is not. `lose` marks a container as dead, with the reason; those in `still` are held
    for a while on purpose, by what their records do not tell.
    """
    trees = (await house.drivers.storage.inventory()).trees
    mounted = await house.drivers.storage.mounted()
    runtime = house.drivers.runtime
    running = await runtime.states()
    found = []
    for record in records:
        name, id, status = record.name, record.id, record.state.status
        if status in _MOVING or status == "dead":
            continue
        if id not in trees:
            why = "its file system is gone"
            found.append(
                Found("storage", id, f"container {name}: {why}", "mark it dead", partial(lose, id, why))
            )
        elif status in ("running", "paused"):
            if id not in running:
                found.append(
                    Found("process", id, f"container {name} runs by its record, and the runtime knows nothing of it",
                          "kill what is left of it", partial(_kill, house, record))
                )  # fmt: skip
            elif (paused := await runtime.is_paused(id)) != (status == "paused") and id not in still:
                it_is, remedy = ("held", "let it go on") if paused else ("not held", "hold it")
                found.append(
                    Found("process", id, f"container {name} is {status} by its record, and its processes are {it_is}",
                          remedy, partial(runtime.resume if paused else runtime.pause, id))
                )  # fmt: skip
            if mounted is not None and id not in mounted:
                found.append(
                    Found("mount", id, f"container {name} runs, and its file system is not mounted here",
                          "mount it", partial(house.drivers.storage.mount, id))
                )  # fmt: skip
            if not os.path.exists(os.path.join(house.layout.run, id[:12])):
                found.append(
                    Found("shim", id, f"container {name} runs, and its shim's socket is gone: no other engine can find it",
                          "kill it", partial(_kill, house, record))
                )  # fmt: skip
    return found


async def _sockets(house: House, settled: float) -> list[Found]:
    """Sockets of shims that nobody listens on; `connect` removes such a one."""
    found = []
    for key in sorted(os.listdir(house.layout.run)):
        path = os.path.join(house.layout.run, key)
        if len(key) == 12 and _is_old_socket(path, settled) and not await _listens(path):
            found.append(
                Found("socket", path, "there is a socket whose shim is gone", "remove it",
                      partial(connect, house.layout.run, key))
            )  # fmt: skip
    return found


def _is_old_socket(path: str, age: float) -> bool:
    try:
        status = os.lstat(path)
        return stat.S_ISSOCK(status.st_mode) and status.st_mtime <= time.time() - age
    except FileNotFoundError:
        return False


async def _listens(path: str) -> bool:
    try:
        stream = await trio.open_unix_socket(path)
    except FileNotFoundError:
        return True  # it went away in good order
    except ConnectionRefusedError:
        return False
    await stream.aclose()
    return True


async def _kill(house: House, record: ContainerRecord) -> None:
    await house.drivers.runtime.kill_all(record.id, record.state.pid)


async def _destroy(house: House, record: ContainerRecord) -> None:
    isolation = Isolation(
        id=record.id,
        directory=house.layout.container(record.id),
        rootfs="",
        hostname="",
        network="none",
    )
    await house.drivers.runtime.kill_all(record.id, 0)
    await house.drivers.runtime.destroy(isolation)
