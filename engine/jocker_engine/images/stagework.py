"""One stage of a build, from FROM to its last instruction: each step is found in the cache, or made."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import trio

from jocker_protocol import types as t
from jocker_protocol.errors import BuildFailed, JockerError

from ..clock import new_id, now
from ..db.records import ImageRecord, LayerRecord
from ..platform.rootfs import NoSuchUser, lookup_user, resolve
from . import copying, layers, running
from .cache import Claim, Hold, Made, NotMade
from .contexts import Root
from .dockerfile import Dockerfile, Instruction
from .evaluate import DEFAULT_PATH, BuildState
from .job import Doing, Job, Sources, leaf
from .stages import Plan, Stage
from .steps import ConfigStep, CopyStep, RunStep, Step, WorkdirStep

LAYER_MAKERS = ("RUN", "COPY", "ADD", "WORKDIR")
_SHOWN = 200
"""Characters of an instruction that an error repeats: some are pages long."""


@dataclass
class Point:
    """How far a stage has come."""

    layer: str | None
    history: list[t.HistoryEntry]
    stamp: str
    """When its last layer was made; "" as long as there is none."""

    def image(self, config: t.ImageConfig, author: str) -> ImageRecord:
        """An image that ends here."""
        stamp, history = self.stamp, self.history
        if not stamp:  # FROM scratch, and nothing but configuration
            stamp = now()
            history = [msgspec.structs.replace(entry, created=stamp) for entry in history]
        return msgspec.structs.replace(layers.new_image(self.layer, config, history), author=author)


class StageWork:
    """One stage."""

    def __init__(self, job: Job, dockerfile: Dockerfile, plan: Plan, stage: Stage) -> None:
        self._job = job
        self._dockerfile = dockerfile
        self._plan = plan
        self._stage = stage
        self._label = "" if len(plan.every) == 1 else stage.name or f"stage-{stage.index}"
        self._anew = job.request.no_cache or stage.name in job.request.no_cache_filter
        self._index = self._total = 1

    async def run(self, scopes: dict[int, dict[str, str]]) -> None:
        """To its end. `scopes`: the ARGs at the end of each stage. Raises BadDockerfile, BuildFailed."""
        stage, request = self._stage, self._job.request
        base = await self._base()
        config = base.config if base else t.ImageConfig(working_dir="/")
        if not any(item.startswith("PATH=") for item in config.env):
            config = msgspec.structs.replace(config, env=[*config.env, f"PATH={DEFAULT_PATH}"])
        scope = {} if stage.base_stage is None else scopes[stage.base_stage]
        self._state = BuildState(
            self._dockerfile, stage, config, request.build_args, self._plan.global_args, scope,
            author=base.author if base else "",
        )  # fmt: skip
        instructions: Sequence[Instruction] = self._state.instructions
        self._total += sum(each.keyword in LAYER_MAKERS for each in instructions)
        point = Point(base.layer if base else None, list(base.history) if base else [], "")
        point.stamp = point.history[-1].created if point.history else ""
        if request.epoch is not None:
            point.stamp = layers.Clamp(request.epoch).stamp
        await self._from(point.layer)
        if self._is_directory():
            self._total += 1
            await self._step(*self._take_directory(), point)
        for instruction in instructions:
            try:
                await self._instruction(instruction, point)
            except BuildFailed:
                if point.layer is not None and self._job.last_good is None:
                    self._job.last_good = point.image(self._state.config, self._state.author)
                raise
        scopes[stage.index] = self._state.args
        self._job.finish(stage.index, point.image(self._state.config, self._state.author))

    async def _base(self) -> ImageRecord | None:
        stage = self._stage
        if stage.base_stage is not None:
            return await self._job.stage(stage.base_stage)
        if stage.base == "scratch":
            return await self._job.scratch(self._dockerfile, stage.line)
        named = self._job.roots.get(stage.base.lower())
        if self._is_directory():
            return None
        name = named.image if named and named.image else stage.base
        return await self._job.image(self._dockerfile, stage.line, name)

    def _is_directory(self) -> bool:
        """Whether it is FROM a named context that is no image: its files are the first layer, as in BuildKit."""
        named = self._job.roots.get(self._stage.base.lower())
        return self._stage.base_stage is None and named is not None and not named.image

    def _take_directory(self) -> tuple[Instruction, CopyStep]:
        line, text = self._stage.line, f"FROM {self._stage.base}"
        instruction = next(
            each for each in self._dockerfile.instructions if each.keyword == "FROM" and each.line == line
        )
        step = CopyStep(line, text, text, sources=(".",), destination="/", source_image=self._stage.base)
        return instruction, step

    async def _from(self, layer: str | None) -> None:
        """FROM an image is a step for people; of scratch or a stage there is nothing to tell."""
        stage = self._stage
        if layer is None or stage.base_stage is not None:
            return
        name = f" AS {stage.name}" if stage.name else ""
        doing = await self._begin(f"FROM {stage.base}{name}", stage.line)
        await doing.tell("done", layer=layer)

    async def _begin(self, text: str, line: int) -> Doing:
        return await self._job.begin(text, line=line, stage=self._label, index=self._index, total=self._total)

    async def _instruction(self, instruction: Instruction, point: Point) -> None:
        step = self._state.apply(instruction, self._plan.every)
        if isinstance(step, ConfigStep):
            entry = t.HistoryEntry(created=point.stamp, created_by=step.created_by, empty_layer=True)
            point.history.append(entry)
            return
        await self._step(instruction, step, point)

    async def _step(self, instruction: Instruction, step: Step, point: Point) -> None:
        """A step that makes a layer."""
        self._index += 1
        for index in _needs(step):
            await self._job.stage(index)
        doing = await self._begin(instruction.text, instruction.line)
        try:
            made, cached = await self._layer(instruction, step, point, doing)
        except JockerError as error:
            await doing.tell("failed", text=error.message)
            raise
        self._job.used.add(made.id)
        self._job.made += 1
        self._job.cached += cached
        point.layer, point.history, point.stamp = made.id, list(made.history), made.created_at
        await doing.tell("cached" if cached else "done", layer=made.id)

    async def _layer(
        self, instruction: Instruction, step: Step, point: Point, doing: Doing
    ) -> tuple[LayerRecord, bool]:
        """The step's layer, and whether it was there."""
        job = self._job
        async with Sources(job, self._dockerfile, step.line).open() as sources:
            if isinstance(step, CopyStep):
                with copying.beside(job.house, job.held, step) as extra:
                    return await self._claimed(instruction, step, point, doing, sources, extra)
            return await self._claimed(instruction, step, point, doing, sources, "")

    async def _claimed(
        self,
        instruction: Instruction,
        step: Step,
        point: Point,
        doing: Doing,
        sources: Sources,
        extra: str,
    ) -> tuple[LayerRecord, bool]:
        job = self._job
        digests = await self._digests(step, sources, extra)
        if job.request.epoch is not None:
            digests.append(f"epoch {job.request.epoch}")
        key = layers.cache_key(point.layer, step.canonical, *digests)
        if not self._anew:
            found: LayerRecord | None = await job.cache.call(Claim(job.name, key))
            if found is not None:
                return msgspec.structs.replace(found, history=[*point.history, found.history[-1]]), True
        made: LayerRecord | None = None
        try:
            made = await self._make(instruction, step, point, key, doing, sources, extra)
        finally:
            if not self._anew:
                job.cache.cast(Made(job.name, made) if made else NotMade(key))
        return made, False

    async def _digests(self, step: Step, sources: Sources, extra: str) -> list[str]:
        """What the cache knows by content of what the step takes from elsewhere."""
        if isinstance(step, CopyStep):
            try:
                fetched = await copying.fetch(self._job.house, step, extra)
            except JockerError as error:
                raise self._dockerfile.error_about(step.line, error.message) from None
            if not step.sources:
                return fetched
            source = await sources.find(step.source_stage, step.source_image)
            return [*await sources.digest(source, step), *fetched]
        if isinstance(step, WorkdirStep):
            return [self._state.config.user]
        found = []
        for mount in step.mounts if isinstance(step, RunStep) else ():
            if mount.type == "bind":
                source = await sources.find(mount.source_stage, mount.source_image)
                pattern = mount.source.lstrip("/") or "."
                copy = CopyStep(line=step.line, canonical="", created_by="", sources=(pattern,))
                found += await sources.digest(source, copy)
        return found

    async def _make(
        self,
        instruction: Instruction,
        step: Step,
        point: Point,
        key: str,
        doing: Doing,
        sources: Sources,
        extra: str,
    ) -> LayerRecord:
        """Intend, act, confirm."""
        job, storage = self._job, self._job.house.drivers.storage
        failure: BaseException | None = None
        tree, layer = new_id(), new_id()
        job.held.update((tree, layer))
        made, ran = None, False
        try:
            await job.cache.call(Hold(job.name, layer, new=True))
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(layers.intend, job.house, layer, point.layer, key)
                    rootfs = await storage.clone(tree, point.layer)
                    if isinstance(step, RunStep):
                        ran = True
                        await running.run(job, step, tree, rootfs, sources, doing)
                    elif isinstance(step, CopyStep):
                        source: Root | Any = Root()
                        if step.sources:
                            source = await sources.find(step.source_stage, step.source_image)
                        path = await sources.path(source) if step.sources else ""
                        of_image = isinstance(source, ImageRecord)
                        await copying.copy(job.house, step, path, extra, rootfs, of_image)
                    elif isinstance(step, WorkdirStep):
                        self._workdir(rootfs, step)
            except* (JockerError, OSError, NoSuchUser, sqlite3.Error) as group:
                failure = leaf(group)
            if failure is not None:
                raise self._failed(instruction, step, failure, point) from failure
            made = await layers.seal(
                job.house,
                tree,
                layer,
                point.layer,
                key,
                msgspec.structs.replace(self._state.config),
                point.history,
                step.created_by,
                self._clamp(step),
            )
            return made
        finally:
            with trio.CancelScope(shield=True):
                await storage.destroy_tree(tree)
                if made is None:
                    await layers.destroy(job.house, layer)
            job.held.discard(layer)
            if not ran:  # else it is the tidying that ends it
                job.held.discard(tree)

    def _clamp(self, step: Step) -> layers.Clamp | None:
        epoch = self._job.request.epoch
        if epoch is None:
            return None
        here = isinstance(step, CopyStep) and step.source_stage is None and not step.source_image
        return layers.Clamp(epoch, exact=here)

    def _workdir(self, rootfs: str, step: WorkdirStep) -> None:
        """The directory, and those on the way to it: what is made belongs to USER."""
        user = self._state.config.user
        owner = lookup_user(rootfs, user) if user and os.geteuid() == 0 else None
        try:
            path = resolve(rootfs, step.path)
            missing = []
            while not os.path.lexists(path):
                missing.append(path)
                path = os.path.dirname(path)
            if not os.path.isdir(path):
                raise NotADirectoryError
        except NotADirectoryError:
            raise NotADirectoryError(f"{step.path} is, or lies in, what is not a directory") from None
        for path in reversed(missing):
            os.mkdir(path)
            os.chmod(path, 0o755)
            if owner:
                os.chown(path, owner.uid, owner.gid)

    def _failed(
        self, instruction: Instruction, step: Step, error: BaseException, point: Point
    ) -> BuildFailed:
        data: dict[str, Any] = {
            "file": self._dockerfile.filename,
            "line": instruction.line,
            "instruction": instruction.text,
        }
        code = error.data.get("exit_code") if isinstance(error, JockerError) else None
        if code is not None:
            data["exit_code"] = code
        hint = "nothing was made before this step"
        if point.layer is not None:
            hint = f"to look inside the last good step: jocker run --rm -it {point.layer[:12]} sh"
            config = self._state.config
            shell = config.shell or ["/bin/sh", "-c"]
            data["layer"] = point.layer
            data["state"] = {  # for a shell in its place
                "env": list(step.env) if isinstance(step, RunStep) else config.env,
                "working_dir": step.cwd if isinstance(step, RunStep) else config.working_dir,
                "user": step.user if isinstance(step, RunStep) else config.user,
                "shell": shell[:1],
            }
        text = " ".join(instruction.text.split())
        text = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
        where = f"{self._dockerfile.filename}:{instruction.line}: {text}"
        return BuildFailed(f"{where}: {error}; {hint}", **data)


def _needs(step: Step) -> list[int]:
    """The stages that it copies or mounts from."""
    if isinstance(step, CopyStep):
        found = [step.source_stage]
    else:
        found = [mount.source_stage for mount in step.mounts] if isinstance(step, RunStep) else []
    return [index for index in found if index is not None]
