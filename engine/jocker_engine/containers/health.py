"""Health checks: what to run, when, and what the results mean. Source: HEALTHCHECK in Docker's Dockerfile reference.

`Monitor` is the pure part: probes in, a status and the next delay out. `watch` runs the probes.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import trio

from jocker_protocol.errors import InvalidParams, JockerError
from jocker_protocol.types import Health, Healthcheck, ImageConfig, Probe

from ..clock import new_id, now
from ..db.records import ContainerRecord
from ..house import House
from ..platform.shims import StartFailed
from .surroundings import CANNOT_START, isolation, process

_DEFAULTS = {"interval": 30.0, "timeout": 30.0, "start_interval": 5.0, "retries": 3}
_KEPT = 5
"""Probes in the log."""
_OUTPUT = 4096
"""Bytes of a probe's output that are kept."""
_SHELL = ["/bin/sh", "-c"]


def merge(image: Healthcheck | None, wish: Healthcheck | None) -> Healthcheck | None:
    """The image's check with what the user asked for on top. Raises InvalidParams."""
    if wish is None:
        return image
    for name in ("interval", "timeout", "start_period", "start_interval", "retries"):
        if getattr(wish, name) < 0:
            raise InvalidParams(f"healthcheck: {name} must not be negative")
    if wish.test and wish.test[0] not in ("NONE", "CMD", "CMD-SHELL"):
        raise InvalidParams(f"healthcheck: test begins with CMD, CMD-SHELL or NONE, not {wish.test[0]!r}")
    if wish.test and wish.test[0] != "NONE" and len(wish.test) < 2:
        raise InvalidParams(f"healthcheck: test has nothing after {wish.test[0]}")
    if image is None:
        if not wish.test:
            raise InvalidParams("healthcheck: the image has no check; say what to run")
        return wish
    given = {name: value for name, value in msgspec.structs.asdict(wish).items() if value}
    return msgspec.structs.replace(image, **given)


def argv(check: Healthcheck, shell: list[str] | None) -> list[str]:
    """What a probe executes."""
    kind, *words = check.test
    return words if kind == "CMD" else [*(shell or _SHELL), *words]


class Monitor:
    """The status that probes add up to. `began` and the times of probes are seconds of one clock."""

    def __init__(self, check: Healthcheck, began: float, earlier: Health | None = None) -> None:
        values = {name: getattr(check, name) or value for name, value in _DEFAULTS.items()}
        self.timeout = values["timeout"]
        self._interval, self._start_interval = values["interval"], values["start_interval"]
        self._retries = int(values["retries"])
        self._grace_ends = began + check.start_period
        self.health = earlier or Health(status="starting")

    def delay(self, at: float) -> float:
        """Seconds until the next probe."""
        if self.health.status == "starting" and at < self._grace_ends:
            return self._start_interval
        return self._interval

    def record(self, probe: Probe, at: float) -> bool:
        """Take a result in; whether the status changed."""
        old = self.health
        status, streak = old.status, old.failing_streak
        if probe.exit_code == 0:
            status, streak = "healthy", 0
        elif status != "starting" or at >= self._grace_ends:
            streak += 1
            if streak >= self._retries:
                status = "unhealthy"
        self.health = Health(status=status, failing_streak=streak, log=[*old.log, probe][-_KEPT:])
        return status != old.status


async def watch(
    house: House, record: ContainerRecord, monitor: Monitor, tell: Callable[[Probe], None]
) -> None:
    """Probe for ever. Cancelled, nothing of a probe goes on."""
    check = record.config.healthcheck
    assert check is not None
    words = argv(check, record.config.shell)
    while True:
        await trio.sleep(monitor.delay(trio.current_time()))
        tell(await probe(house, record, words, monitor.timeout))


async def probe(house: House, record: ContainerRecord, words: list[str], timeout: float) -> Probe:
    """Run one in the container; after `timeout` seconds it is killed."""
    start, key, output = now(), new_id()[:12], bytearray()

    async def keep(stream: int, data: bytes) -> None:
        output.extend(data[: _OUTPUT - len(output)])

    config = ImageConfig(
        cmd=words, env=record.config.env, working_dir=record.config.working_dir, user=record.config.user
    )
    exit_code = -1
    try:
        with trio.move_on_after(timeout) as limit:
            rootfs = await house.drivers.storage.mount(record.id)
            launch = await house.drivers.runtime.launch_exec(
                isolation(record, house.layout, rootfs), process(config, record.hostname), key
            )
            exit_code = await house.shims.run(key, launch, keep)
        if limit.cancelled_caught:
            output[:] = f"Health check exceeded timeout ({timeout:g}s)".encode()
    except StartFailed as error:
        exit_code, output[:] = error.exit_code, error.error.encode()
    except CANNOT_START as error:
        output[:] = (error.message if isinstance(error, JockerError) else str(error)).encode()
    return Probe(start=start, end=now(), exit_code=exit_code, output=bytes(output).decode(errors="replace"))
