"""What the stages of one build share: its request and contexts, its progress, what other stages have made."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import trio

from jocker_protocol import types as t
from jocker_protocol.errors import Conflict, JockerError, NotFound

from ..clock import new_id
from ..db.records import ImageRecord
from ..house import House
from ..otp import System
from . import copying
from .agents import Agents
from .base import Scratch
from .cache import Hold, Recall, Remember
from .contexts import Root
from .dockerfile import Dockerfile
from .names import ResolveImage
from .stages import Stage, meant_stage
from .steps import CopyStep


class Order(msgspec.Struct, frozen=True):
    """What a build is made from and whom it tells."""

    request: t.ImageBuild
    roots: dict[str, Root]
    """Contexts by name."""
    progress: Any
    """trio.MemorySendChannel[BuildProgress]."""
    agents: Agents
    held: set[str]
    """Is told which trees, layers and directories are being made."""


class Job:
    """One build."""

    def __init__(self, house: House, system: System, name: str, order: Order) -> None:
        """`name` is the build's actor."""
        self.house = house
        self.name = name
        self.request = order.request
        self.roots = order.roots
        self.agents = order.agents
        self.held = order.held
        self.cached = self.made = 0
        self.begun = 0
        """Steps, counted for people."""
        self.last_good: ImageRecord | None = None
        """Of a build that fails: what came before the instruction that failed."""
        self.used: set[str] = set()
        """Layers."""
        self._progress: trio.MemorySendChannel[t.BuildProgress] = order.progress
        self.cache = system.ref("cache")
        self.cache_mounts = system.ref("cachemounts")
        self._images = system.ref("images")
        self._stages: tuple[Stage, ...] = ()
        self._results: dict[int, ImageRecord] = {}
        self._finished: dict[int, trio.Event] = {}

    def work_in(self, nursery: trio.Nursery) -> None:
        """The build's own tasks run here."""
        self._nursery = nursery

    def afterwards(self, function: Callable[..., Awaitable[None]], *args: Any) -> None:
        """Run a task that the build waits for, but not the step that began it."""
        self._nursery.start_soon(function, *args)

    # --- progress ---

    async def tell(self, event: Any, **facts: Any) -> None:
        """To the client."""
        await self._progress.send(t.BuildProgress(event=event, **facts))

    async def begin(self, text: str, **facts: Any) -> Doing:
        """A step begins."""
        self.begun += 1
        await self.tell("step", step=self.begun, text=text, **facts)
        return Doing(self, self.begun)

    # --- stages and images ---

    def expect(self, every: tuple[Stage, ...], needed: Sequence[Stage]) -> None:
        """These stages will be finished."""
        self._stages = every
        self._finished = {stage.index: trio.Event() for stage in needed}

    def finish(self, index: int, image: ImageRecord) -> None:
        """A stage has become this."""
        self._results[index] = image
        self._finished[index].set()

    async def stage(self, index: int) -> ImageRecord:
        """What a stage has become, when it has."""
        await self._finished[index].wait()
        return self._results[index]

    async def image(self, dockerfile: Dockerfile, line: int, name: str) -> ImageRecord:
        """An image of the engine; it stays as long as the build. Raises BadDockerfile."""
        try:
            image: ImageRecord = await self._images.call(ResolveImage(name, keep=False))
        except (NotFound, Conflict) as error:
            likely = meant_stage(self._stages, name)
            hint = f"; did you mean the stage {likely}?" if likely else ""
            raise dockerfile.error_about(line, error.message + hint, name) from None
        if image.layer is not None and not await self.cache.call(Hold(self.name, image.layer)):
            raise dockerfile.error(line, f"image {name} was removed just now")
        return image

    async def scratch(self, dockerfile: Dockerfile, line: int) -> ImageRecord | None:
        """FROM scratch: the image of the dataset that is configured, else nothing."""
        made: ImageRecord | None = await self._images.call(Scratch())
        return await self.image(dockerfile, line, made.id) if made else None


class Doing:
    """A step that has begun."""

    def __init__(self, job: Job, number: int) -> None:
        self.number = number
        self._job = job
        self._began = time.monotonic()

    async def tell(self, event: Any, **facts: Any) -> None:
        """Something about it."""
        seconds = time.monotonic() - self._began
        await self._job.tell(event, step=self.number, seconds=seconds, **facts)


class Sources:
    """The directories that one step copies or mounts from: contexts, and trees of images while `open`."""

    def __init__(self, job: Job, dockerfile: Dockerfile, line: int) -> None:
        self._job = job
        self._dockerfile = dockerfile
        self._line = line
        self._trees: dict[str, tuple[str, str]] = {}
        """Layer -> tree, path."""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Sources]:
        """The trees go at its end."""
        try:
            yield self
        finally:
            with trio.CancelScope(shield=True):
                for tree, _ in self._trees.values():
                    await self._job.house.drivers.storage.destroy_tree(tree)
                    self._job.held.discard(tree)

    async def find(self, stage: int | None, name: str) -> Root | ImageRecord:
        """What `from` means: an earlier stage, a named context, an image; with neither the build's own context."""
        if stage is not None:
            return await self._job.stage(stage)
        root = self._job.roots.get(name.lower())
        if root is not None and not root.image:
            return root
        if not name:
            return Root()
        return await self._job.image(self._dockerfile, self._line, root.image if root else name)

    async def path(self, source: Root | ImageRecord) -> str:
        """Where its files are. What is written to the tree of an image is lost."""
        if isinstance(source, Root):
            if not source.path:
                raise self._dockerfile.error(self._line, "this build has no context to copy from")
            return source.path
        layer = source.layer or ""
        if layer not in self._trees:
            tree = new_id()
            self._job.held.add(tree)
            self._trees[layer] = tree, ""
            path = await self._job.house.drivers.storage.clone(tree, source.layer)
            self._trees[layer] = tree, path
        return self._trees[layer][1]

    async def digest(self, source: Root | ImageRecord, step: CopyStep) -> list[str]:
        """What the cache knows the step's files by: names, modes, content. Raises BadDockerfile."""
        identity = source.id if isinstance(source, Root) else source.layer or "scratch"
        question = msgspec.json.encode([identity, step.sources, step.parents, step.exclude]).decode()
        if identity and (known := await self._job.cache.call(Recall(question))):
            return [known]
        path = await self.path(source)
        try:
            found = await copying.digest(self._job.house, step, path, isinstance(source, ImageRecord))
        except JockerError as error:
            raise self._dockerfile.error_about(self._line, error.message) from None
        if identity:
            for digest in found:
                self._job.cache.cast(Remember(question, digest))
        return found


def leaf(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first of the errors that tasks of a nursery ended with."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
