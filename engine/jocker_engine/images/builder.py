"""One build: an actor that makes the stages its target needs, side by side, and ends. Crashed or cancelled, it
leaves nothing behind but sealed layers.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable

import msgspec
import trio

from jocker_protocol import types as t
from jocker_protocol.errors import BadDockerfile, BuildFailed, InvalidParams, JockerError, NotFound

from ..clock import now
from ..db import statements as sql
from ..db.records import ImageRecord
from ..house import House
from ..otp import Actor, handles
from ..platform.rootfs import resolve
from . import checking, layers
from .cache import Free
from .compare import compare
from .dockerfile import Dockerfile, parse
from .job import Job, Order, leaf
from .names import ResolveImage, with_tag
from .stages import Plan, plan, with_triggers
from .stagework import StageWork

FAILED = "failed"
"""The tag of what a failed build has come to."""


class Go(msgspec.Struct, frozen=True):
    """Build. Answered with BuildResult."""


class Builder(Actor):
    """Knows its order; each stage is a task of its own, which waits for what it needs of others."""

    answers = (JockerError, OSError, sqlite3.Error)

    def __init__(self, house: House, order: Order) -> None:
        self._house = house
        self._order = order
        self._warnings: list[t.Finding] = []

    async def init(self) -> None:
        self._job = Job(self._house, self.system, self.name, self._order)

    def detail(self) -> str:
        return f"{' '.join(self._order.request.tags)} step {self._job.begun}"

    @handles(Go)
    async def go(self, message: Go) -> None:
        self.answer_later(self._build)

    async def _build(self) -> t.BuildResult:
        job, request = self._job, self._order.request
        if request.network not in ("", "host", "none"):
            raise InvalidParams(f"network: {request.network!r}: RUN steps have host, none or default")
        await self._house.drivers.runtime.check_jail_params(tuple(request.jail_params))
        try:
            image = await self._stages(job)
        except BuildFailed as error:
            if job.last_good is not None and request.tags:
                names = await self._keep_failed(job.last_good)
                error.message = error.message.replace(str(error.data["layer"])[:12], names[0])
                error.args = (error.message,)
            raise
        if request.labels:
            labels = {**image.config.labels, **request.labels}
            config = msgspec.structs.replace(image.config, labels=labels)
            image = msgspec.structs.replace(image, config=config)
        image = await layers.identify(self._house, image)
        if request.verify:
            await self._verify(image)
        tags = [with_tag(tag) for tag in request.tags]
        replaced = await self._tagged(name for name in _failed_names(tags) if name not in tags)
        await self._house.store.write(
            sql.add_image(image),
            *(sql.set_tag(tag, image.id) for tag in tags),
            *(layers.happened("tag", image, tag) for tag in tags),
            *(sql.drop_tag(name) for name in replaced),
            sql.use_layers(job.used, now()),
            grows=True,
        )
        await self._forget(replaced)
        return t.BuildResult(
            image_id=image.id, tags=tags, cached=job.cached, steps=job.made, warnings=self._warnings
        )

    async def _verify(self, image: ImageRecord) -> None:
        """Once more. Raises NotReproducible, and nothing of the image remains but layers."""
        await self._job.tell("warning", text="the same once more, to compare")
        again = Job(self._house, self.system, self.name, self._order)
        again.begun = self._job.begun
        await compare(self._house, image, await self._stages(again))

    async def _stages(self, job: Job) -> ImageRecord:
        request = self._order.request
        dockerfile = parse(self._read_dockerfile(), os.path.basename(request.dockerfile))
        todo = await self._plan(dockerfile)
        for name in todo.unused_args:
            await job.tell("warning", text=f"build argument {name} is not used: no ARG {name}")
        self._warnings = await self._lint(dockerfile)
        job.expect(todo.every, todo.stages)
        scopes: dict[int, dict[str, str]] = {}
        first: BaseException | None = None
        try:
            async with trio.open_nursery() as nursery:
                job.work_in(nursery)
                for stage in todo.stages:
                    nursery.start_soon(StageWork(job, dockerfile, todo, stage).run, scopes)
        except* self.answers as group:
            first = leaf(group)
        if first is not None:
            raise first
        return await job.stage(todo.stages[-1].index)

    async def _plan(self, dockerfile: Dockerfile) -> Plan:
        request = self._order.request
        todo = plan(dockerfile, request.target, request.build_args)
        seen: dict[int, list[str]] = {}
        while new := [stage for stage in todo.stages if stage.index not in seen]:
            for stage in new:
                seen[stage.index] = []
                if stage.needs.images and stage.base_stage is None:
                    try:
                        seen[stage.index] = (await self._resolve(stage.base)).config.on_build
                    except JockerError:
                        continue  # its stage will say so
            todo = with_triggers(dockerfile, todo, {index: texts for index, texts in seen.items() if texts})
        return todo

    async def _resolve(self, name: str) -> ImageRecord:
        root = self._order.roots.get(name.lower())
        if root and not root.image:
            raise NotFound(f"{name} is a directory")
        asked = ResolveImage(root.image if root and root.image else name, keep=False)
        image: ImageRecord = await self.system.ref("images").call(asked)
        return image

    async def _lint(self, dockerfile: Dockerfile) -> list[t.Finding]:
        request = self._order.request
        found = await checking.findings(
            dockerfile, request.target, request.build_args, request.ignore, self._order.roots, self._resolve
        )
        checking.refuse_if_asked(dockerfile, found)
        return found

    def _read_dockerfile(self) -> str:
        request = self._order.request
        if request.dockerfile_text is not None:
            return request.dockerfile_text
        context = self._order.roots.get("")
        if context is None or not context.path:
            raise InvalidParams("dockerfile: there is neither its text nor a context that has it")
        path = resolve(context.path, request.dockerfile)
        try:
            with open(path, encoding="utf-8") as file:
                return file.read()
        except FileNotFoundError:
            raise BadDockerfile(
                f"{request.dockerfile}: there is no such file in the build context; name it with -f",
                file=request.dockerfile,
            ) from None
        except UnicodeDecodeError:
            raise BadDockerfile(f"{request.dockerfile}: is not UTF-8 text", file=request.dockerfile) from None

    # --- what a failed build leaves ---

    async def _keep_failed(self, image: ImageRecord) -> list[str]:
        """The last good step gets names; what had them before goes."""
        names = _failed_names(with_tag(tag) for tag in self._order.request.tags)
        replaced = await self._tagged(names)
        image = await layers.identify(self._house, image)
        with trio.CancelScope(shield=True):
            await self._house.store.write(
                sql.add_image(image), *(sql.set_tag(name, image.id) for name in names), grows=True
            )
            await self._forget({name: old for name, old in replaced.items() if old.id != image.id})
        return names

    async def _tagged(self, names: Iterable[str]) -> dict[str, ImageRecord]:
        found = {name: await self._house.store.tagged(name) for name in names}
        return {name: image for name, image in found.items() if image is not None}

    async def _forget(self, replaced: dict[str, ImageRecord]) -> None:
        """Images that were kept for looking into, unless somebody uses or has named them."""
        for image in {image.id: image for image in replaced.values()}.values():
            if await self._house.store.write(sql.drop_unused_image(image.id)):
                await self._job.cache.call(Free(image.layer))


def _failed_names(tags: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(f"{tag.rpartition(':')[0]}:{FAILED}" for tag in tags))
