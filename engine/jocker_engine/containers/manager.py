"""All containers: makes them, finds them by what people call them, and passes on what concerns one of them."""

from __future__ import annotations

import logging
import os
import posixpath
import socket
import sqlite3
from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec
import trio

from jocker_protocol import types as t
from jocker_protocol.errors import Conflict, InvalidParams, InvalidState, JockerError, NotFound

from ..clock import new_id, now
from ..db import statements as sql
from ..db.network_store import add_endpoint
from ..db.records import ContainerRecord, EndpointRecord, ImageRecord, MountRecord, PublishedRecord
from ..differences import mend, report
from ..filters import Filters
from ..house import House
from ..images.names import ResolveImage
from ..networks.ports import shown as show_ports
from ..networks.wishes import networking as networking_of
from ..otp import ActorDown, ChildSpec, Down, NoSuchActor, Poisoned, handles
from ..platform.work import work
from ..volumes.manager import Sweep
from . import audit, files, health, journal, lifecycle, mounts, order, prune, restarts, usage
from .container import Container
from .copying import Copying
from .messages import Attach, CheckAttach, CheckExec, Exec, Logs, Quit, Restart, SampleUsage, TreeOf
from .names import check_name, random_name
from .signals import parse_signal
from .surroundings import argv, merge

SUPERVISOR = "containers.all"
_STATUSES = (
    *(
        "creating",
        "created",
        "starting",
        "running",
        "paused",
        "stopping",
        "restarting",
        "exited",
        "removing",
        "dead",
    ),
)

log = logging.getLogger("jocker.containers")


class ContainersManager(Copying):
    """Answers container.*; for each container there is an actor below SUPERVISOR."""

    answers = (JockerError, OSError, sqlite3.Error, ActorDown)

    def __init__(self, house: House) -> None:
        self._house = house
        self._shutting_down = False
        self._visits = Counter()
        self._committed: Counter[str] = Counter()
        """Containers that are being committed; each counts as often as it is."""

    async def init(self) -> None:
        """One actor per record, when what no record explains is gone."""
        records = await self._house.store.containers()
        await mend(await audit.strays(self._house, records, settled=0))
        async with trio.open_nursery() as nursery:
            for record in records:
                if record.state.status != "dead":
                    nursery.start_soon(self._bring_up, record.id)

    async def _bring_up(self, container: str) -> None:
        name = f"container/{container}"
        if self.system.whereis(name) is None:
            try:
                await self.system.start_child(SUPERVISOR, self._spec(container))
            except Poisoned as error:
                await self._bury(container, error)
                return
        self.monitor(name)

    def _spec(self, container: str) -> ChildSpec:
        return ChildSpec(
            f"container/{container}", lambda: Container(self._house, container), restart="transient"
        )

    @handles(Down)
    async def down(self, message: Down) -> None:
        if isinstance(message.reason, Poisoned):
            await self._bury(message.name.removeprefix("container/"), message.reason)
        elif message.reason is None:
            self.system.unwatch(message.name, self.name)

    async def _bury(self, container: str, reason: Poisoned) -> None:
        """A container whose actor cannot live: marked, told why, left alone."""
        await self._mark_dead(container, str(reason.reason))

    async def _mark_dead(self, container: str, why: str) -> None:
        record = await self._house.store.container(container)
        if record is not None and record.state.status != "dead":
            record.state.status = lifecycle.follow(record.state.status, "failed")
            record.state.error = why
            await self._house.store.write(sql.update_container(record), journal.event(record, "die"))

    # --- the machine's end; differences ---

    @handles(t.Shutdown)
    async def shut_down(self, message: t.Shutdown) -> None:
        self._shutting_down = True
        self.answer_later(self._shut_down, message)

    async def _shut_down(self, message: t.Shutdown) -> t.ShutDown:
        """Dependents first. What ends meanwhile by itself is no error."""
        records = await self._house.store.containers(lifecycle.UNFINISHED)

        async def stop(container: str) -> None:
            try:
                await self.system.ref(f"container/{container}").call(Quit(message.timeout))
            except (JockerError, ActorDown) as error:
                log.warning("container %s could not be stopped: %s", container[:12], error)

        await order.dependents_first(records, stop)
        return t.ShutDown(containers=[record.id for record in records])

    @handles(t.Check)
    async def check(self, message: t.Check) -> None:
        self.answer_later(self._check, message)

    async def _check(self, message: t.Check) -> list[t.Difference]:
        records = await self._house.store.containers()
        visited = set(self._visits)
        strays = [
            found
            for found in await audit.strays(self._house, records, settled=2)
            if found.part != "mount" or found.subject not in visited
        ]
        lost = await audit.losses(self._house, records, self._lose, self._committed)
        return await report([*strays, *lost], repair=message.repair)

    async def _lose(self, container: str, why: str) -> None:
        """Its file system is gone: the record stays, to be looked at and removed."""
        await self.system.stop_child(SUPERVISOR, f"container/{container}")
        await self._mark_dead(container, why)

    # --- create ---

    @handles(t.ContainerCreate)
    async def create(self, message: t.ContainerCreate) -> None:
        self.answer_later(self._create, message)

    async def _create(self, wish: t.ContainerCreate) -> t.Created:
        house = self._house
        if wish.name:
            check_name(wish.name)
        if wish.stop_signal:
            parse_signal(wish.stop_signal)
        if wish.network.startswith("container:"):
            other = await self._find(wish.network.removeprefix("container:"))
            wish = msgspec.structs.replace(wish, network=f"container:{other}")
        networking = networking_of(wish)
        house.drivers.runtime.check(wish.limits, wish.security)
        await house.drivers.runtime.check_jail_params(tuple(wish.jail_params))
        policy = restarts.check(wish.restart_policy, auto_remove=wish.auto_remove)
        depends_on = [await self._find(name) for name in wish.depends_on]
        image: ImageRecord = await self.system.ref("images").call(ResolveImage(wish.image))
        config = merge(image.config, wish)
        config.healthcheck = health.merge(image.config.healthcheck, wish.healthcheck)
        if not argv(config):
            raise InvalidParams(f"cmd: image {wish.image} has no command of its own; say which to run")
        container = new_id()
        placement = await house.networks.resolve(container, wish)
        record = ContainerRecord(
            id=container,
            name=wish.name or random_name(),
            image=wish.image,
            image_id=image.id,
            layer=image.layer,
            created_at=now(),
            config=config,
            mounts=[],
            network=placement.network,
            networking=networking,
            hostname=wish.hostname or await self._hostname(container, placement.network),
            tty=wish.tty,
            interactive=wish.interactive,
            auto_remove=wish.auto_remove,
            stop_timeout=house.config.stop_timeout if wish.stop_timeout is None else wish.stop_timeout,
            state=t.ContainerState(status="creating"),
            restart_policy=policy,
            depends_on=depends_on,
            init=wish.init,
            jail_params=wish.jail_params,
            limits=wish.limits,
            security=wish.security,
        )
        try:
            record.mounts.extend(await self._mounts_of_others(wish))
            taken = {mount.target for mount in record.mounts}
            for mount in mounts.all_mounts(wish.mounts, config, taken):
                record.mounts.append(await mounts.make(self.system, mount))
            record = await self._insert(record, placement.endpoints, chosen=bool(wish.name))
        except BaseException:
            with trio.CancelScope(shield=True):
                own = [mount.source for mount in record.mounts if mount.anonymous]
                await self.system.ref("volumes").call(Sweep(own))
            raise
        try:
            os.makedirs(house.layout.container(container), mode=0o710)
            rootfs = await house.drivers.storage.clone(container, image.layer, wish.limits.storage)
            await self._first_use(rootfs, record.mounts)
            await house.drivers.storage.unmount(container)
            record.state.status = lifecycle.follow("creating", "made")
            await house.store.write(sql.update_container(record), journal.event(record, "create"))
        finally:
            # Made or not, its actor takes it from here: a record that is still "creating" it removes.
            with trio.CancelScope(shield=True):
                await self._bring_up(container)
        return t.Created(id=container, warnings=placement.warnings)

    async def _hostname(self, container: str, network: str) -> str:
        """Of one that was given none: who shares a network has its name too, as docker has it."""
        if network == "host":
            return socket.gethostname()
        kind, _, other = network.partition(":")
        owner = await self._house.store.container(other) if kind == "container" else None
        return owner.hostname if owner else container[:12]

    async def _insert(
        self, record: ContainerRecord, endpoints: list[EndpointRecord], *, chosen: bool
    ) -> ContainerRecord:
        """The record in the database; a random name that is taken is drawn again."""
        while True:
            try:
                await self._house.store.write(
                    *sql.add_container(record), *map(add_endpoint, endpoints), grows=True
                )
                return record
            except sqlite3.IntegrityError as error:
                if "containers.name" not in str(error):
                    raise InvalidState(
                        f"image {record.image}, a volume or a network was removed meanwhile; try again"
                    ) from None
                if chosen:
                    raise Conflict(
                        f"the name {record.name} is taken by another container; remove or rename that one, "
                        "or choose another name"
                    ) from None
                record = msgspec.structs.replace(record, name=random_name())

    async def _mounts_of_others(self, wish: t.ContainerCreate) -> list[MountRecord]:
        """--volumes-from; what is mounted by name elsewhere, or at the same target, is left out."""
        found = {}
        for text in wish.volumes_from:
            name, read_only = mounts.split_from(text)
            other = await self._house.store.container(await self._find(name))
            if other is not None:
                found.update({mount.target: mount for mount in mounts.of_others(other, read_only)})
        own = {posixpath.normpath(mount.target) for mount in wish.mounts}
        return [mount for target, mount in sorted(found.items()) if target not in own]

    async def _first_use(self, rootfs: str, wanted: list[MountRecord]) -> None:
        """An empty volume gets what the image has in its place."""
        for mount in wanted:
            if mount.type == "volume" and not mount.no_copy and not os.listdir(mount.path):
                await work(
                    self._house.commands, "fill_volume", rootfs=rootfs, path=mount.target, volume=mount.path
                )

    # --- find and pass on ---

    async def _find(self, name: str) -> str:
        """The id of the container that is meant. Raises NotFound, Conflict."""
        found = await self._house.store.containers_like(name) if name else []
        if not found:
            raise NotFound(f"no such container: {name}; `jocker ps -a` lists them")
        if len(found) > 1:
            listed = ", ".join(f"{container[:16]} ({called})" for container, called in found[:10])
            raise Conflict(f"container id {name} is ambiguous; it could be {listed}")
        return found[0][0]

    @handles(
        t.ContainerStart,
        t.ContainerStop,
        t.ContainerKill,
        t.ContainerWait,
        t.ContainerRemove,
        t.ContainerRename,
        t.ContainerPause,
        t.ContainerUnpause,
        t.ContainerUpdate,
        t.ContainerTop,
        t.ContainerRef,
        t.NetworkConnect,
        t.NetworkDisconnect,
        Restart,
        CheckAttach,
        Attach,
        CheckExec,
        Exec,
        Logs,
    )
    async def pass_on(self, message: Any) -> None:
        self.answer_later(self._pass_on, message)

    async def _pass_on(self, message: Any) -> Any:
        if self._shutting_down and isinstance(message, t.ContainerStart | Restart):
            raise InvalidState("the machine is being shut down: containers are started by the next engine")
        container = await self._find(message.container)
        message = msgspec.structs.replace(message, container=container)
        try:
            answer = await self.system.ref(f"container/{container}").call(message)
        except Poisoned as error:
            return await self._dead(container, message, error)
        except NoSuchActor as error:
            record = await self._house.store.container(container)
            if record is None:
                raise NotFound(f"no such container: {message.container}") from None
            return await self._dead(container, message, error)
        return t.Done() if isinstance(message, t.ContainerRemove) else answer

    async def _dead(self, container: str, message: Any, error: ActorDown) -> t.Done:
        """The container has no actor: all that can be done is to remove it."""
        record = await self._house.store.container(container)
        assert record is not None
        if not isinstance(message, t.ContainerRemove) or record.state.status != "dead":
            raise InvalidState(
                f"container {record.name} is {record.state.status}: {record.state.error or error}; remove it"
            )
        await self.system.stop_child(SUPERVISOR, f"container/{container}")
        record.state.status = lifecycle.follow("dead", "remove")
        await self._house.store.write(sql.update_container(record))
        await self._bring_up(container)
        return t.Done()

    @handles(t.ContainerPrune)
    async def prune(self, message: t.ContainerPrune) -> None:
        self.answer_later(prune.prune, self._house, message, self._pass_on)

    # --- file systems ---

    @handles(t.ContainerDiff, t.ContainerCommit, TreeOf)
    async def files(self, message: Any) -> None:
        self.answer_later(self._files, message)

    async def _files(self, message: Any) -> Any:
        container = await self._find(message.container)
        record = await self._house.store.container(container)
        if record is None or record.state.status in ("creating", "removing"):
            raise NotFound(f"no such container: {message.container}; `jocker ps -a` lists them")
        match message:
            case t.ContainerDiff():
                return await files.diff(self._house, record)
            case t.ContainerCommit():
                self._committed[container] += 1
                try:
                    return await files.commit(self._house, self.system, record, message)
                finally:
                    self._committed -= Counter([container])
        return record.id

    @handles(SampleUsage)
    async def sample_usage(self, message: SampleUsage) -> None:
        self.answer_later(self._sample_usage, message)

    async def _sample_usage(self, message: SampleUsage) -> list[usage.Sample]:
        if message.containers:
            wanted = [await self._find(name) for name in message.containers]
            found = [await self._house.store.container(container) for container in wanted]
            return await usage.sample(self._house, [record for record in found if record is not None])
        states = () if message.all else ("running", "paused", "stopping")
        return await usage.sample(self._house, await self._house.store.containers(states))

    # --- list ---

    @handles(t.ContainerList)
    async def list_(self, message: t.ContainerList) -> None:
        self.answer_later(self._list, message)

    async def _list(self, message: t.ContainerList) -> t.Containers:
        filters = Filters(
            message.filters,
            ("id", "name", "status", "label", "ancestor", "volume", "exited", "health", "network", "publish"),
        )
        for status in filters.values("status"):
            if status not in _STATUSES:
                raise InvalidParams(f"filters: no status {status!r}; there are: {', '.join(_STATUSES)}")
        everything = message.all or message.limit or "status" in filters or "exited" in filters
        wanted = () if everything else tuple(sorted(lifecycle.UNFINISHED))
        ancestors = set()
        for ancestor in filters.values("ancestor"):
            try:
                ancestors.add((await self.system.ref("images").call(ResolveImage(ancestor))).id)
            except NotFound:
                ancestors.add("")
        on, ports = await self._house.networks.overview()
        shown = [
            _summary(record, [name for name, _ in on.get(record.id, ())], ports.get(record.id, ()))
            for record in await self._house.store.containers(wanted)
            if filters.begins("id", record.id)
            and filters.contains("name", record.name)
            and filters.equals("status", record.state.status)
            and filters.labels(record.config.labels)
            and (not ancestors or record.image_id in ancestors)
            and filters.equals(
                "volume", *(mount.source for mount in record.mounts), *(m.target for m in record.mounts)
            )
            and ("exited" not in filters or record.state.status == "exited")
            and filters.equals("exited", str(record.state.exit_code))
            and filters.equals(
                "network", record.network, *(w for names in on.get(record.id, ()) for w in names)
            )
            and filters.equals("publish", *_published(ports.get(record.id, ())))
            and filters.equals("health", record.state.health.status if record.state.health else "none")
        ]
        return t.Containers(containers=shown[: message.limit] if message.limit > 0 else shown)


def _published(ports: Iterable[PublishedRecord]) -> list[str]:
    return [text for each in ports for text in (str(each.host_port), f"{each.host_port}/{each.protocol}")]


def _summary(
    record: ContainerRecord, networks: list[str], ports: Iterable[PublishedRecord]
) -> t.ContainerSummary:
    shared = record.network.startswith("container:")
    exposed = record.config.exposed_ports if networks and record.state.status in lifecycle.ALIVE else ()
    return t.ContainerSummary(
        id=record.id,
        name=record.name,
        image=record.image,
        image_id=record.image_id,
        command=argv(record.config),
        created_at=record.created_at,
        status=record.state.status,
        exit_code=record.state.exit_code,
        started_at=record.state.started_at,
        finished_at=record.state.finished_at,
        labels=record.config.labels,
        network=record.network,
        networks=networks or ([] if shared else [record.network]),
        ports=show_ports(ports, exposed),
        mounts=[mount.source or mount.target for mount in record.mounts],
        health=record.state.health.status if record.state.health else "",
    )
