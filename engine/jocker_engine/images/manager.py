"""Images: tags, records and layers; builds and base images are started here and run in actors of their own."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
from typing import Any

import msgspec
import trio

from jocker_protocol import types as t
from jocker_protocol.contexts import MAX_SECRETS
from jocker_protocol.errors import Conflict, InUse, InvalidParams, JockerError, NotFound
from jocker_protocol.patterns import match

from ..clock import new_id
from ..db import statements as sql
from ..db.records import ContainerRecord, ImageRecord, LayerRecord
from ..differences import mend, report
from ..filters import Filters
from ..house import House
from ..otp import Actor, ActorDown, ChildSpec, handles
from ..platform.work import work
from . import audit, base, checking, layers, prune, transfers
from .agents import Agents
from .builder import Builder, Go
from .cache import Free
from .changes import changed
from .contexts import received
from .job import Order
from .names import ResolveImage, check_tag, with_tag

log = logging.getLogger("jocker.images")

BUILDS = "images.builds"
_HEX = re.compile(r"[0-9a-f]{3,64}")


class Build(msgspec.Struct, frozen=True):
    """Answered with BuildResult; the builder is stopped when nobody waits for it."""

    client: Any
    """The other end of the stream: contexts.Client and agents.Relay."""
    agents: Agents
    wish: t.ImageBuild
    progress: Any
    """trio.MemorySendChannel[BuildProgress]."""


class Load(msgspec.Struct, frozen=True):
    """The images of an archive on this host; answered with Loaded."""

    path: str


class Import(msgspec.Struct, frozen=True):
    """An image of a root file system in a tar on this host; answered with Created."""

    wish: t.ImageImport
    path: str


class PlanSave(msgspec.Struct, frozen=True):
    """What the worker operation save_archive is to write."""

    wish: t.ImageSave


class Commit(msgspec.Struct, frozen=True):
    """An image of a container's tree; answered with Created."""

    wish: t.ContainerCommit
    container: ContainerRecord
    command: str


class ImagesManager(Actor):
    """Answers image.*."""

    answers = (JockerError, OSError, sqlite3.Error, ActorDown)

    def __init__(self, house: House) -> None:
        self._house = house
        self._held: set[str] = set()
        """Trees and layers that are being made."""

    async def init(self) -> None:
        """What was half made or half destroyed goes: build steps that still run, trees that no container has,
        layers that no row is sure of.
        """
        house = self._house
        await mend(await audit.strays(house, frozenset()))
        for directory in (house.layout.builds, house.layout.uploads):
            await work(house.commands, "remove_tree", path=directory)
            os.makedirs(directory, mode=0o710)
        self.spawn(self._renew)

    async def _renew(self) -> None:
        """Images of an older form get the id that their OCI configuration gives them, while all goes on."""
        store = self._house.store
        for image in await store.images():
            if not image.oci:
                try:
                    await store.write(*sql.renew_image(image.id, await layers.identify(self._house, image)))
                except self.answers as error:
                    log.warning("image %s keeps its old id: %s", image.id[:19], error)

    @handles(t.Check)
    async def check(self, message: t.Check) -> None:
        self.answer_later(self._check, message)

    async def _check(self, message: t.Check) -> list[t.Difference]:
        house, held = self._house, frozenset(self._held)
        return await report(
            [*await audit.strays(house, held), *await audit.losses(house)], repair=message.repair
        )

    # --- find ---

    @handles(ResolveImage)
    async def _resolve(self, message: ResolveImage) -> None:
        self.answer_later(self.resolve, message)

    async def resolve(self, message: ResolveImage) -> ImageRecord:
        name, store = message.name, self._house.store
        if "@" in name:
            return await self._step_of(*name.split("@", 1), keep=message.keep)
        tagged = await store.tagged(with_tag(name))
        if tagged is not None:
            return tagged
        prefix = name.removeprefix("sha256:")
        if _HEX.fullmatch(prefix):
            found = await store.images_like(prefix)
            if len(found) > 1:
                listed = ", ".join(image.id[:19] for image in found)
                raise Conflict(f"image id {name} is ambiguous; it could be {listed}")
            if found:
                return found[0]
            steps = await store.layers_like(prefix)
            if len(steps) == 1:
                return await self._image_of(steps[0], keep=message.keep)
        raise NotFound(
            f"no such image: {name}; make one with `jocker image create -t {name} ...` "
            f"or `jocker build -t {name} PATH`"
        )

    async def _step_of(self, name: str, step: str, *, keep: bool) -> ImageRecord:
        """IMAGE@LAYER, or IMAGE@DIGEST to be sure of what a name means."""
        image: ImageRecord = await self.resolve(ResolveImage(name, keep=keep))
        if image.id.startswith(step):
            return image
        found = [layer for layer in await self._chain(image) if layer.id.startswith(step)]
        if len(found) != 1 or not _HEX.fullmatch(step):
            steps = ", ".join(entry.layer[:12] for entry in image.history if entry.layer)
            raise NotFound(f"image {name} has no step {step}; it has: {steps or 'none'}")
        if found[0].id == image.layer:
            return image
        return await self._image_of(found[0], keep=keep)

    async def _image_of(self, layer: LayerRecord, *, keep: bool) -> ImageRecord:
        """A step of a build as an image without a name."""
        image = layers.new_image(layer.id, layer.config, layer.history)
        if not keep:
            return image
        image = await layers.identify(self._house, image)
        await self._house.store.write(sql.add_image(image), grows=True)
        return image

    # --- make ---

    @handles(base.MakeBase)
    async def make_base(self, message: base.MakeBase) -> None:
        self.answer_later(base.make, self._house, self._held, message)

    @handles(base.Scratch)
    async def scratch(self, message: base.Scratch) -> None:
        self.answer_later(base.scratch, self._house, self._held)

    @handles(Build)
    async def build(self, message: Build) -> None:
        self.answer_later(self._build, message)

    async def _build(self, message: Build) -> t.BuildResult:
        for tag in message.wish.tags:
            check_tag(tag)
        if message.wish.verify and (message.wish.epoch is None or not message.wish.no_cache):
            raise InvalidParams("verify: only with an epoch and no_cache")
        if sum(map(len, message.wish.secrets.values())) > MAX_SECRETS:
            raise InvalidParams(f"secrets: a build may have {MAX_SECRETS >> 10} KiB of them")
        contexts = message.wish.contexts
        async with received(self._house, self.system, contexts, message.client, self._held) as roots:
            order = Order(message.wish, roots, message.progress, message.agents, self._held)
            name = f"build/{new_id()[:12]}"
            builder = Builder(self._house, order)
            ref = await self.system.start_child(BUILDS, ChildSpec(name, lambda: builder, restart="temporary"))
            try:
                result: t.BuildResult = await ref.call(Go())
                return result
            finally:
                with trio.CancelScope(shield=True):
                    await self.system.stop_child(BUILDS, name)

    @handles(t.ImageCheck)
    async def check_dockerfile(self, message: t.ImageCheck) -> t.Findings:
        async def found(name: str) -> ImageRecord:
            return await self.resolve(ResolveImage(name, keep=False))

        return await checking.check(message, found)

    # --- archives ---

    @handles(Load)
    async def load(self, message: Load) -> None:
        self.answer_later(transfers.load, self._house, self._held, message.path)

    @handles(Import)
    async def import_(self, message: Import) -> None:
        config = changed(t.ImageConfig(), message.wish.changes)
        self.answer_later(transfers.import_image, self._house, self._held, message.wish, message.path, config)

    @handles(Commit)
    async def commit(self, message: Commit) -> None:
        container = message.container
        config = changed(container.config, message.wish.changes)
        base = await self._house.store.image(container.image_id)
        if base is None:
            raise NotFound(f"the image of container {container.name} is gone")
        self.answer_later(
            transfers.commit,
            self._house,
            self._held,
            message.wish,
            container.id,
            base,
            config,
            message.command,
        )

    @handles(PlanSave)
    async def plan_save(self, message: PlanSave) -> None:
        self.answer_later(self._plan_save, message.wish)

    async def _plan_save(self, wish: t.ImageSave) -> list[dict[str, Any]]:
        tags = await self._house.store.tags()
        found = []
        for name in wish.images:
            of_name = [
                (tag, id) for id, all_ in tags.items() for tag in all_ if tag.rpartition(":")[0] == name
            ]
            for tag, id in of_name:
                image = await self._house.store.image(id)
                assert image is not None  # its tag refers to it
                found.append((await self._current(image), [tag]))
            if not of_name:
                image = await self.resolve(ResolveImage(name))
                tag = with_tag(name)
                found.append((await self._current(image), [tag] if tag in tags.get(image.id, ()) else []))
        return await transfers.save_plan(self._house, found)

    async def _current(self, image: ImageRecord) -> ImageRecord:
        return image if image.oci else await layers.identify(self._house, image)

    # --- change ---

    @handles(t.ImageTag)
    async def tag(self, message: t.ImageTag) -> t.Done:
        image = await self.resolve(ResolveImage(message.image))
        tag = check_tag(message.tag)
        await self._house.store.write(
            sql.set_tag(tag, image.id), layers.happened("tag", image, tag), grows=True
        )
        return t.Done()

    @handles(t.ImageRemove)
    async def remove(self, message: t.ImageRemove) -> None:
        self.answer_later(self._remove, message)

    async def _remove(self, message: t.ImageRemove) -> t.ImageRemoved:
        store = self._house.store
        tag = with_tag(message.image)
        by_tag = await store.tagged(tag)
        image = by_tag or await self.resolve(ResolveImage(message.image))
        tags = (await store.tags()).get(image.id, [])
        if by_tag and len(tags) > 1:
            await store.write(sql.drop_tag(tag), layers.happened("untag", image, tag))
            return t.ImageRemoved(untagged=[tag], deleted=[])
        if not by_tag and len(tags) > 1 and not message.force:
            raise Conflict(
                f"image {message.image} has several tags: {', '.join(tags)}; remove them, or use -f"
            )
        users = await store.containers_of_image(image.id)
        if users:
            names = ", ".join(user.name for user in users)
            raise InUse(f"image {message.image} is used by container {names}; remove that first")
        await store.write(
            sql.drop_image(image.id),
            *(layers.happened("untag", image, tag) for tag in tags),
            layers.happened("delete", image, tags[0] if tags else image.id),
        )
        freed: list[str] = await self.system.ref("cache").call(Free(image.layer))
        return t.ImageRemoved(untagged=tags, deleted=[image.id, *freed])

    # --- show ---

    @handles(t.ImageList)
    async def list_(self, message: t.ImageList) -> t.Images:
        filters = Filters(message.filters, ("reference", "label", "dangling"))
        store = self._house.store
        tags = await store.tags()
        used: dict[str, int] = {}
        for container in await store.containers():
            used[container.image_id] = used.get(container.image_id, 0) + 1
        shown = [
            t.ImageSummary(
                id=image.id,
                tags=tags.get(image.id, []),
                created_at=image.created_at,
                size=await self._size(image),
                labels=image.config.labels,
                containers=used.get(image.id, 0),
            )
            for image in await store.images()
            if filters.labels(image.config.labels)
            and filters.flag("dangling", image.id not in tags)
            and _refers(filters, tags.get(image.id, []))
        ]
        return t.Images(images=sorted(shown, key=lambda image: image.created_at, reverse=True))

    async def _size(self, image: ImageRecord) -> int:
        return sum(layer.size for layer in await self._chain(image))

    async def _chain(self, image: ImageRecord) -> list[LayerRecord]:
        return await self._house.store.chain(image.layer) if image.layer else []

    @handles(t.ImagePrune)
    async def prune(self, message: t.ImagePrune) -> None:
        self.answer_later(prune.prune, self._house, message, self._remove)

    @handles(t.ImageHistory)
    async def history(self, message: t.ImageHistory) -> None:
        self.answer_later(self._history, message)

    async def _history(self, message: t.ImageHistory) -> t.History:
        image = await self.resolve(ResolveImage(message.image))
        diffs = await self._house.digests.chain(image.layer) if image.layer else []
        tags = (await self._house.store.tags()).get(image.id, [])
        return prune.history(image, {diff.layer: diff.size for diff in diffs}, tags)

    @handles(t.ImageRef)
    async def inspect(self, message: t.ImageRef) -> None:
        self.answer_later(self._inspect, message)

    async def _inspect(self, message: t.ImageRef) -> t.ImageDetail:
        image = await self.resolve(ResolveImage(message.image))
        chain = await self._chain(image)
        diffs = await self._house.digests.chain(image.layer) if image.layer else []
        tags = (await self._house.store.tags()).get(image.id, [])
        return t.ImageDetail(
            id=image.id,
            tags=tags,
            created_at=image.created_at,
            architecture=image.architecture,
            os=image.os,
            config=image.config,
            layers=[layer.id for layer in chain],
            history=image.history,
            size=sum(layer.size for layer in chain),
            author=image.author,
            comment=image.history[-1].comment if image.history else "",
            repo_tags=tags,
            created=image.created_at,
            root_fs=t.RootFs(type="layers", layers=[diff.diff_id for diff in diffs]),
        )


def _refers(filters: Filters, tags: list[str]) -> bool:
    return "reference" not in filters or any(
        match(pattern, name)
        for pattern in filters.values("reference")
        for tag in tags
        for name in (tag, tag.rpartition(":")[0])
    )
