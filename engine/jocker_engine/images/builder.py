"""One build: an actor that goes through the stages, step by step, and ends. Crashed or cancelled, it leaves
nothing behind but sealed layers.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from typing import Any

import msgspec
import trio

from jocker_protocol import types as t
from jocker_protocol.errors import BadDockerfile, BuildFailed, JockerError, NotFound

from ..clock import new_id, now
from ..containers.surroundings import with_stdio, write_files
from ..db import store as sql
from ..db.records import ImageRecord, LayerRecord
from ..house import House
from ..otp import Actor, handles
from ..platform.interfaces import Isolation, Process
from ..platform.rootfs import NoSuchUser, lookup_user, resolve
from ..platform.shims import ShimLost, StartFailed
from ..shim.launch import Launch
from . import copying, layers
from .dockerfile import Dockerfile, Instruction, parse
from .evaluate import BuildState
from .names import ResolveImage, with_tag
from .stages import Stage, meant_stage, plan
from .steps import SCRIPT_DIRECTORY, ConfigStep, CopyStep, RunStep, Step, WorkdirStep


class Go(msgspec.Struct, frozen=True):
    """Build. Answered with BuildResult."""


class Builder(Actor):
    """Knows its request, the directory its context was unpacked to, and where progress goes."""

    answers = (JockerError, OSError, sqlite3.Error)

    def __init__(
        self,
        house: House,
        request: t.ImageBuild,
        context: str,
        progress: trio.MemorySendChannel[t.BuildProgress],
        held: set[str],
    ) -> None:
        """`held` is told which trees and layers are being made."""
        self._house = house
        self._request = request
        self._context = context
        self._progress = progress
        self._held = held
        self._number = 0
        self._steps = 0
        self._cached = 0
        self._images: dict[int, ImageRecord] = {}
        """Stage -> what it gave."""
        self._stages: tuple[Stage, ...] = ()
        """All of the file."""

    def detail(self) -> str:
        return f"{' '.join(self._request.tags)} step {self._number} of {self._steps}"

    @handles(Go)
    async def go(self, message: Go) -> None:
        self.answer_later(self._build)

    async def _build(self) -> t.BuildResult:
        request = self._request
        dockerfile = parse(self._read_dockerfile(), os.path.basename(request.dockerfile))
        todo = plan(dockerfile, request.target, request.build_args)
        self._steps = todo.steps
        for name in todo.unused_args:
            await self._tell("warning", text=f"build argument {name} is not used: no ARG {name}")
        self._stages = todo.every
        args: dict[int, dict[str, str]] = {}
        for stage in todo.stages:
            base = await self._base(dockerfile, stage)
            config = base.config if base else t.ImageConfig()
            scope = {} if stage.base_stage is None else args[stage.base_stage]
            state = BuildState(dockerfile, stage, config, request.build_args, todo.global_args, scope)
            self._steps += len(state.triggers)
            self._images[stage.index] = await self._stage(dockerfile, stage, state, base)
            args[stage.index] = state.args
        image = self._images[todo.stages[-1].index]
        if request.labels:
            labels = {**image.config.labels, **request.labels}
            config = msgspec.structs.replace(image.config, labels=labels)
            image = layers.new_image(image.layer, config, image.history)
        image = await layers.identify(self._house, image)
        await self._house.store.write(
            sql.add_image(image),
            *(sql.set_tag(with_tag(tag), image.id) for tag in request.tags),
            *(layers.happened("tag", image, with_tag(tag)) for tag in request.tags),
            grows=True,
        )
        return t.BuildResult(
            image_id=image.id,
            tags=[with_tag(tag) for tag in request.tags],
            cached=self._cached,
            steps=self._steps,
        )

    def _read_dockerfile(self) -> str:
        request = self._request
        if request.dockerfile_text is not None:
            return request.dockerfile_text
        path = resolve(self._context, request.dockerfile)
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

    async def _tell(self, event: Any, **facts: Any) -> None:
        await self._progress.send(t.BuildProgress(event=event, step=self._number, steps=self._steps, **facts))

    async def _stage(
        self, dockerfile: Dockerfile, stage: Stage, state: BuildState, base: ImageRecord | None
    ) -> ImageRecord:
        self._number += 1
        name = f" AS {stage.name}" if stage.name else ""
        await self._tell("step", line=stage.line, text=f"FROM {stage.base}{name}")
        layer, history = (base.layer, list(base.history)) if base else (None, [])
        await self._tell("done")
        stamp = history[-1].created if history else ""
        for instruction in state.instructions:
            self._number += 1
            await self._tell("step", line=instruction.line, text=instruction.text)
            began = time.monotonic()
            step = state.apply(instruction, self._stages)
            if isinstance(step, ConfigStep):
                history.append(t.HistoryEntry(created=stamp, created_by=step.created_by, empty_layer=True))
            else:
                made = await self._layer(dockerfile, instruction, step, state, layer, history)
                layer, history, stamp = made.id, list(made.history), made.created_at
            await self._tell("done", layer=layer or "", seconds=time.monotonic() - began)
        if not stamp:  # FROM scratch, and nothing but configuration
            stamp = now()
            history = [msgspec.structs.replace(entry, created=stamp) for entry in history]
        return layers.new_image(layer, state.config, history)

    async def _base(self, dockerfile: Dockerfile, stage: Stage) -> ImageRecord | None:
        if stage.base_stage is not None:
            return self._images[stage.base_stage]
        if stage.base == "scratch":
            return None
        return await self._image(dockerfile, stage.line, stage.base)

    async def _image(self, dockerfile: Dockerfile, line: int, name: str) -> ImageRecord:
        try:
            image: ImageRecord = await self.system.ref("images").call(ResolveImage(name))
        except NotFound as error:
            likely = meant_stage(self._stages, name)
            hint = f"; did you mean the stage {likely}?" if likely else ""
            raise dockerfile.error(line, error.message + hint) from None
        return image

    async def _layer(
        self,
        dockerfile: Dockerfile,
        instruction: Instruction,
        step: Step,
        state: BuildState,
        parent: str | None,
        history: list[t.HistoryEntry],
    ) -> LayerRecord:
        """From the cache, or made."""
        if isinstance(step, CopyStep):
            with copying.beside(self._house, self._held, step) as extra:
                digests = await self._digests(dockerfile, step, extra)
                return await self._made(dockerfile, instruction, step, state, parent, history, digests, extra)
        return await self._made(dockerfile, instruction, step, state, parent, history, [], "")

    async def _made(
        self,
        dockerfile: Dockerfile,
        instruction: Instruction,
        step: Step,
        state: BuildState,
        parent: str | None,
        history: list[t.HistoryEntry],
        digests: list[str],
        extra: str,
    ) -> LayerRecord:
        key = layers.cache_key(parent, step.canonical, *digests)
        if not self._request.no_cache:
            found = await self._house.store.cached_layer(key)
            if found is not None:
                self._cached += 1
                await self._tell("cached", layer=found.id)
                return msgspec.structs.replace(found, history=[*history, found.history[-1]])
        tree, layer = new_id(), new_id()
        self._held |= {tree, layer}
        try:
            rootfs = await self._house.drivers.storage.clone(tree, parent)
            try:
                if isinstance(step, RunStep):
                    await self._run(tree, rootfs, step)
                elif isinstance(step, CopyStep):
                    await self._copy(dockerfile, rootfs, step, extra)
                elif isinstance(step, WorkdirStep):
                    await self._workdir(rootfs, step, state)
            except (JockerError, OSError, NoSuchUser) as error:
                raise self._failed(dockerfile, instruction, error, parent, history) from error
            return await layers.seal(
                self._house,
                tree,
                parent,
                key,
                msgspec.structs.replace(state.config),
                history,
                step.created_by,
                layer,
            )
        finally:
            with trio.CancelScope(shield=True):
                await self._house.drivers.storage.destroy_tree(tree)
            self._held -= {tree, layer}

    def _failed(
        self,
        dockerfile: Dockerfile,
        instruction: Instruction,
        error: Exception,
        parent: str | None,
        history: list[t.HistoryEntry],
    ) -> BuildFailed:
        code = error.data.get("exit_code") if isinstance(error, JockerError) else None
        where = f"{dockerfile.filename}:{instruction.line}: {instruction.text}"
        hint = (
            f"to look inside the last good step: jocker run --rm -it {parent[:12]} sh"
            if parent
            else "nothing was made before this step"
        )
        return BuildFailed(
            f"{where}: {error}; {hint}",
            file=dockerfile.filename,
            line=instruction.line,
            instruction=instruction.text,
            **({"exit_code": code} if code is not None else {}),
            **({"layer": parent} if parent else {}),
        )

    # --- COPY, ADD, WORKDIR ---

    async def _digests(self, dockerfile: Dockerfile, step: CopyStep, extra: str) -> list[str]:
        """What the cache knows the sources of a copy by."""
        image = await self._source_image(dockerfile, step)
        try:
            fetched = await copying.fetch(self._house, step, extra)
            if image is not None:
                return [image.layer or "", *fetched]
            return [*await copying.digest(self._house, step, self._context), *fetched]
        except JockerError as error:
            raise dockerfile.error(step.line, error.message) from None

    async def _source_image(self, dockerfile: Dockerfile, step: CopyStep) -> ImageRecord | None:
        """What --from names; None for the build context."""
        if step.source_stage is not None:
            return self._images[step.source_stage]
        return await self._image(dockerfile, step.line, step.source_image) if step.source_image else None

    async def _copy(self, dockerfile: Dockerfile, rootfs: str, step: CopyStep, extra: str) -> None:
        storage, image = self._house.drivers.storage, await self._source_image(dockerfile, step)
        if image is None:
            await copying.copy(self._house, step, self._context, extra, rootfs)
            return
        tree = new_id()
        self._held.add(tree)
        try:
            await copying.copy(self._house, step, await storage.clone(tree, image.layer), extra, rootfs)
        finally:
            with trio.CancelScope(shield=True):
                await storage.destroy_tree(tree)
            self._held.discard(tree)

    async def _workdir(self, rootfs: str, step: WorkdirStep, state: BuildState) -> None:
        path = resolve(rootfs, step.path)
        if not os.path.isdir(path):
            resolve(rootfs, step.path, create=True)
            if state.config.user and os.geteuid() == 0:
                user = lookup_user(rootfs, state.config.user)
                os.chown(path, user.uid, user.gid)

    # --- RUN ---

    async def _run(self, tree: str, rootfs: str, step: RunStep) -> None:
        house = self._house
        if step.mounts:
            raise BuildFailed("RUN --mount is not supported yet")
        directory = os.path.join(house.layout.builds, tree)
        os.makedirs(directory)
        files = write_files(directory, "build")
        if step.script:
            path = os.path.join(directory, "script")
            with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
                file.write(step.script.content)
            os.chmod(path, 0o755)
            files[f"{SCRIPT_DIRECTORY}/{step.script.name}"] = path
        try:
            isolation = Isolation(
                id=tree,
                directory=directory,
                rootfs=rootfs,
                hostname="build",
                network=step.network or self._request.network or house.config.default_network,
                files=files,
            )
            process = Process(argv=step.argv, env=step.env, cwd=step.cwd, user=step.user)
            try:
                launch = await house.drivers.runtime.prepare(isolation, process)
                exit_code = await self._execute(launch, os.path.join(directory, "status.json"))
            finally:
                with trio.CancelScope(shield=True):
                    await house.drivers.runtime.kill_all(tree, 0)
                    await house.drivers.runtime.destroy(isolation)
        finally:
            shutil.rmtree(directory)
        if exit_code != 0:
            raise BuildFailed(f"exit status {exit_code}", exit_code=exit_code)

    async def _execute(self, launch: Launch, status: str) -> int:
        """Run a step's process; its output is progress, and bounds its speed."""

        async def tell(stream: int, data: bytes) -> None:
            await self._tell("output", text=data.decode(errors="replace"))

        try:
            return await self._house.shims.run(new_id()[:12], with_stdio(launch, status=status), tell)
        except StartFailed as error:
            raise BuildFailed(error.error, exit_code=error.exit_code) from None
        except ShimLost:
            raise BuildFailed("its shim was lost", exit_code=137) from None
