"""RUN: a process in the tree that becomes the layer, with what is mounted for it only.

What a mount shows is never part of the layer: mount points that were not there before are taken away again.
Secrets are files in memory (tmpfs), or variables; they are in no layer, cache key or log.
"""

from __future__ import annotations

import codecs
import os
import secrets
import shutil
import stat
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import trio

from jocker_protocol import wire
from jocker_protocol.errors import BuildFailed, InvalidParams

from ..clock import new_id
from ..containers.surroundings import with_stdio, write_files
from ..house import House
from ..platform.interfaces import Bind, Isolation, Process
from ..platform.rootfs import resolve
from ..platform.shims import ShimLost, StartFailed
from ..platform.work import work
from ..shim.launch import Launch
from .cachemounts import Filled, GiveBackMount, Lend, Lent
from .job import Doing, Job, Sources
from .steps import SCRIPT_DIRECTORY, RunMount, RunStep

_STREAMS = {wire.STDOUT: "stdout", wire.STDERR: "stderr"}
_SHM = "/dev/shm"
_MADE = ("/proc", "/dev", "/sys", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
"""Where runtimes mount, whatever a step says."""


async def run(job: Job, step: RunStep, tree: str, rootfs: str, sources: Sources, doing: Doing) -> None:
    """Run it to its end. Raises BuildFailed and what drivers raise."""
    if step.security == "insecure":
        raise InvalidParams("RUN --security=insecure: builds have no more rights than containers")
    house = job.house
    directory = _make_directory(house, tree, private=_has_secrets(job, step))
    try:
        async with AsyncExitStack() as stack:
            mounts = _Mounts(job, step, directory, sources, stack)
            # Caches in one order, so that no two steps wait for what the other has locked.
            ordered = sorted(step.mounts, key=lambda mount: (mount.type != "cache", mount.id))
            binds = [bind for mount in ordered async for bind in mounts.bind(mount)]
            if step.script is not None:
                path = os.path.join(directory, "script")
                with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
                    file.write(step.script.content)
                os.chmod(path, 0o755)
                binds.append(Bind(path, f"{SCRIPT_DIRECTORY}/{step.script.name}", read_only=True))
            isolation = Isolation(
                id=tree,
                directory=directory,
                rootfs=rootfs,
                hostname="build",
                network=step.network or job.request.network or house.build_network,
                binds=tuple(sorted(binds, key=lambda bind: bind.target.count("/"))),
                files=write_files(directory, "build"),
                jail_params=tuple(job.request.jail_params),
            )
            epoch = () if job.request.epoch is None else (f"SOURCE_DATE_EPOCH={job.request.epoch}",)
            env = (*epoch, *step.env, *mounts.env)
            process = Process(argv=step.argv, env=env, cwd=step.cwd, user=step.user)
            points = _absent(rootfs, [*_MADE, *(bind.target for bind in binds)])
            try:
                launch = await house.drivers.runtime.prepare(isolation, process)
                exit_code = await _execute(house, launch, os.path.join(directory, "status.json"), doing)
            finally:
                with trio.CancelScope(shield=True):
                    await house.drivers.runtime.kill_all(tree, 0)
            _take_away(points)
    finally:
        job.afterwards(_tidy_up, job, tree, directory)
    if exit_code != 0:
        raise BuildFailed(f"exit status {exit_code}", exit_code=exit_code)


async def _tidy_up(job: Job, tree: str, directory: str) -> None:
    """All that the runtime and this module have made for one step; the next one need not wait for it."""
    isolation = Isolation(id=tree, directory=directory, rootfs="", hostname="", network="none")
    with trio.CancelScope(shield=True):
        await job.house.drivers.runtime.destroy(isolation)
    shutil.rmtree(directory)
    job.held.discard(tree)


async def _execute(house: House, launch: Launch, status: str, doing: Doing) -> int:
    """Its output is progress, and bounds its speed. A character may come in two pieces."""
    decoders = {kind: codecs.getincrementaldecoder("utf-8")("replace") for kind in _STREAMS}

    async def tell(kind: int, data: bytes) -> None:
        if text := decoders[kind].decode(data):
            await doing.tell("output", text=text, stream=_STREAMS[kind])

    try:
        return await house.shims.run(new_id()[:12], with_stdio(launch, status=status), tell)
    except StartFailed as error:
        raise BuildFailed(error.error, exit_code=error.exit_code) from None
    except ShimLost:
        raise BuildFailed("its shim was lost", exit_code=137) from None


def _has_secrets(job: Job, step: RunStep) -> bool:
    return any(mount.type == "secret" and mount.id in job.request.secrets for mount in step.mounts)


def memory(house: House) -> tuple[str, str]:
    """Where files of this engine in memory are, and how their names begin."""
    above = _SHM if os.path.isdir(_SHM) else house.layout.run
    return above, f"jocker-{house.layout.tag}-"


def _make_directory(house: House, tree: str, *, private: bool) -> str:
    """The step's own directory; a private one is in memory, since what the runtime is told has variables too."""
    path = os.path.join(house.layout.builds, tree)
    if private:
        above, prefix = memory(house)
        path = os.path.join(above, prefix + tree)
    os.makedirs(path, mode=0o700)
    return path


class _Mounts:
    """What --mount of one step comes to."""

    def __init__(
        self, job: Job, step: RunStep, directory: str, sources: Sources, stack: AsyncExitStack
    ) -> None:
        self.env: list[str] = []
        self._job = job
        self._step = step
        self._directory = directory
        self._sources = sources
        self._stack = stack
        self._caches: dict[tuple[object, ...], str] = {}

    async def bind(self, mount: RunMount) -> AsyncIterator[Bind]:
        """The mount that the runtime has to make, if any. Raises InvalidParams for what is required and missing."""
        match mount.type:
            case "bind":
                yield await self._bind(mount)
            case "cache":
                which = mount.id, mount.source, mount.source_stage, mount.source_image
                if which not in self._caches:  # the step itself may have it twice
                    self._caches[which] = await self._stack.enter_async_context(self._lent(mount))
                yield Bind(self._caches[which], mount.target, mount.read_only)
            case "tmpfs":
                size = (f"size={mount.size}",) if mount.size else ()
                yield Bind("", mount.target, options=size)
            case "secret":
                for bind in self._secret(mount):
                    yield bind
            case "ssh":
                agent = await self._agent(mount)
                if agent is not None:
                    yield agent

    async def _bind(self, mount: RunMount) -> Bind:
        source = await self._sources.find(mount.source_stage, mount.source_image)
        root = await self._sources.path(source)
        path = _there(root, mount)
        if not mount.read_only:
            copy = os.path.join(self._directory, secrets.token_hex(8))
            if os.path.isdir(path):
                await work(self._job.house.commands, "copy_tree", source=path, target=copy)
            else:
                shutil.copy2(path, copy)
            path = copy
        return Bind(path, mount.target, mount.read_only)

    @asynccontextmanager
    async def _lent(self, mount: RunMount) -> AsyncIterator[str]:
        job, caches = self._job, self._job.cache_mounts
        seeded = mount.source_stage is not None or bool(mount.source_image)
        source = await self._sources.find(mount.source_stage, mount.source_image) if seeded else None
        wish = Lend(
            job.name,
            mount.id,
            mount.sharing,
            f"{mount.source_stage} {mount.source_image} {mount.source}" if seeded else "",
            mount.uid,
            mount.gid,
            mount.mode,
        )
        lent: Lent = await caches.call(wish)
        try:
            if lent.fill and source is not None:
                root = await self._sources.path(source)
                await work(
                    job.house.commands, "fill_volume", rootfs=root, path=mount.source, volume=lent.path
                )
                caches.cast(Filled(lent.key, mount.sharing))
            yield lent.path
        finally:
            caches.cast(GiveBackMount(job.name, lent.key))

    def _secret(self, mount: RunMount) -> Iterator[Bind]:
        content = self._job.request.secrets.get(mount.id)
        if content is None:
            if mount.required:
                raise InvalidParams(
                    f"secret {mount.id!r} is required: build with --secret id={mount.id},src=FILE"
                )
            return
        if mount.env:
            self.env.append(f"{mount.env}={content.decode(errors='surrogateescape')}")
        if not mount.target:
            return
        path = os.path.join(self._directory, secrets.token_hex(8))
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o400)
        with open(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(descriptor, mount.mode)
            if os.geteuid() == 0:
                os.fchown(descriptor, mount.uid, mount.gid)
        yield Bind(path, mount.target, read_only=True)

    async def _agent(self, mount: RunMount) -> Bind | None:
        if mount.id not in self._job.agents.ids:
            if mount.required:
                raise InvalidParams(f"ssh agent {mount.id!r} is required: build with --ssh {mount.id}")
            return None
        path = os.path.join(self._job.house.layout.run, secrets.token_hex(6))
        bind = await self._stack.enter_async_context(self._job.agents.offered(path, mount))
        if not any(variable.startswith("SSH_AUTH_SOCK=") for variable in (*self._step.env, *self.env)):
            self.env.append(f"SSH_AUTH_SOCK={mount.target}")
        return bind


def _there(root: str, mount: RunMount) -> str:
    path = resolve(root, mount.source)
    if not os.path.exists(path):
        raise InvalidParams(f"--mount: {mount.source} is not there to be mounted at {mount.target}")
    return path


# --- mount points ---


@dataclass(frozen=True)
class _Point:
    """What mounting will make: paths, the deepest first, and the directory above them as it is."""

    made: list[str]
    above: str
    before: os.stat_result


def _absent(rootfs: str, targets: Iterable[str]) -> list[_Point]:
    points = []
    for target in sorted(set(targets), key=lambda path: path.count("/"), reverse=True):
        path = resolve(rootfs, target)
        made = []
        while not os.path.lexists(path):
            made.append(path)
            path = os.path.dirname(path)
        if made:
            points.append(_Point(made, path, os.stat(path)))
    return points


def _take_away(points: list[_Point]) -> None:
    """Those that are still as they were made: empty. The directory above gets its times back."""
    for point in points:
        for path in point.made:
            try:
                status = os.lstat(path)
                if stat.S_ISDIR(status.st_mode):
                    os.rmdir(path)
                elif status.st_size == 0:
                    os.unlink(path)
            except FileNotFoundError:
                continue
            except OSError:
                break  # the step has put something there
        os.utime(point.above, ns=(point.before.st_atime_ns, point.before.st_mtime_ns))
