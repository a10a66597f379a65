"""Images from and to archives: what `save`, `load`, `import` and `commit` have in common, namely layers as tars.

Intend, act, confirm over a whole image: the rows of its new layers are not ready before the image itself is
written, in one transaction with it; so an engine that is killed in between leaves nothing of it.
"""

from __future__ import annotations

import math
import os
import platform
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec
import trio

from jocker_protocol import types as t
from jocker_protocol.errors import InvalidParams

from ..clock import new_id, now
from ..db import statements as sql
from ..db.records import Diff, ImageRecord, LayerRecord
from ..house import House
from ..platform.work import work
from . import layers, oci
from .names import check_tag, familiar


@dataclass(frozen=True)
class Tar:
    """A layer as a part of a file on this host, plain or compressed; digests are "" where nobody says."""

    path: str
    offset: int
    size: int
    digest: str = ""
    diff_id: str = ""


@dataclass
class Draft:
    """An image being made: its new layers are on the disk and not yet confirmed."""

    house: House
    held: set[str]
    made: list[tuple[LayerRecord, Diff]] = field(default_factory=list)
    """What is not confirmed."""
    ids: set[str] = field(default_factory=set)
    """Of all layers that it has made."""

    async def add(self, parent: str | None, tar: Tar, *, seen: bool = True) -> str:
        """The layer that this tar makes of its parent: one that is there already, else a new one. Its id."""
        house = self.house
        if seen and tar.diff_id:
            found = await house.store.layer_like(parent, tar.diff_id)
            if found is not None:
                await self._apply(tar, "", "")  # what is damaged is refused all the same
                return found.id
        layer, tree = new_id(), new_id()
        record = LayerRecord(
            id=layer,
            parent=parent,
            cache_key="",
            created_at=now(),
            size=0,
            config=t.ImageConfig(),
            history=[],
        )
        self.ids.add(layer)
        self.held |= {layer, tree}
        await house.store.write(sql.add_layer(record, ready=False), grows=True)
        self.made.append((record, Diff(layer=layer, diff_id="", size=0)))
        try:
            target = await house.drivers.storage.clone(tree, parent)
            done = await self._apply(tar, target, house.layout.recipe(layer))
            await house.drivers.storage.seal(tree, layer)
        finally:
            with trio.CancelScope(shield=True):
                await house.drivers.storage.destroy_tree(tree)
            self.held.discard(tree)
        size = await house.drivers.storage.size(layer)
        diff = Diff(layer=layer, diff_id=done["diff_id"], size=done["bytes"])
        self.made[-1] = msgspec.structs.replace(record, size=size), diff
        return layer

    async def _apply(self, tar: Tar, target: str, recipe: str) -> dict[str, Any]:
        scratch = os.path.join(self.house.layout.uploads, new_id())
        try:
            return await work(
                self.house.commands, "apply_layer", archive=tar.path, offset=tar.offset, size=tar.size,
                digest=tar.digest, diff_id=tar.diff_id, target=target, recipe=recipe, scratch=scratch,
            )  # fmt: skip
        finally:
            _unlink(scratch)

    async def confirm(self, image: ImageRecord, tags: Sequence[str], action: str) -> None:
        """The image is there, with all its layers."""
        house = self.house
        entries = [entry for entry in image.history if not entry.empty_layer]
        by_layer = {entry.layer: number for number, entry in enumerate(image.history)}
        statements = []
        for record, diff in self.made:
            upto = image.history[: by_layer[record.id] + 1] if record.id in by_layer else entries
            record = msgspec.structs.replace(record, config=image.config, history=upto)
            statements += [sql.confirm_layer(record), sql.set_diff(diff)]
        await house.store.write(
            *statements,
            sql.add_image(image),
            *(sql.set_tag(tag, image.id) for tag in tags),
            layers.happened(action, image, tags[0] if tags else image.id),
            grows=True,
        )
        stored = await house.store.image(image.id)
        if stored is None or stored.layer == image.layer:
            self.made = []  # else somebody made the same image meanwhile, and these layers are nobody's

    async def drop(self) -> None:
        """What was not confirmed goes, the topmost first."""
        for record, _ in reversed(self.made):
            await self.house.store.write(sql.doom_layer(record.id))
            await layers.destroy(self.house, record.id)


@asynccontextmanager
async def draft(house: House, held: set[str]) -> AsyncIterator[Draft]:
    """What is made in it is confirmed, or gone."""
    new = Draft(house, held)
    try:
        yield new
    finally:
        with trio.CancelScope(shield=True):
            await new.drop()
            held -= new.ids


# --- load ---


async def load(house: House, held: set[str], path: str) -> t.Loaded:
    """All images of an archive."""
    scratch = os.path.join(house.layout.uploads, new_id())
    try:
        found = await work(
            house.commands, "read_archive", path=path, scratch=scratch,
            architecture=oci.machine(), os_name=platform.system().lower(),
        )  # fmt: skip
        loaded = [await _load(house, held, found["file"], image) for image in found["images"]]
    finally:
        _unlink(scratch)
    return t.Loaded(images=loaded)


async def _load(house: House, held: set[str], path: str, found: dict[str, Any]) -> t.LoadedImage:
    text = found["config"]
    try:
        read = oci.Read(text.encode())
    except oci.BadConfig as error:
        raise InvalidParams(str(error)) from None
    if len(read.diff_ids) != len(found["layers"]):
        raise InvalidParams(
            f"damaged archive: an image has {len(found['layers'])} layers, "
            f"and its configuration says {len(read.diff_ids)}"
        )
    tags = list(dict.fromkeys(check_tag(familiar(name)) for name in found["names"]))
    new = 0
    async with draft(house, held) as image:
        layer: str | None = None
        chain = []
        for place, diff_id in zip(found["layers"], read.diff_ids, strict=True):
            layer = await image.add(layer, Tar(path, diff_id=diff_id, **place))
            chain.append(layer)
        new = len(image.made)
        history = _with_layers(read, chain)
        record = ImageRecord(
            id=oci.digest(text.encode()),
            layer=layer,
            created_at=read.created or history[-1].created if history else read.created,
            architecture=read.architecture,
            os=read.os,
            config=read.config,
            history=history,
            author=read.author,
            oci=text,
        )
        await image.confirm(record, tags, "load")
    return t.LoadedImage(id=record.id, tags=tags, new_layers=new)


def _with_layers(read: oci.Read, chain: Sequence[str]) -> list[t.HistoryEntry]:
    """Each entry that made a layer knows which; of layers that the history does not know there are entries too."""
    left = list(chain)
    history = []
    for entry in read.history:
        if not entry.empty_layer:
            if not left:
                continue
            entry.layer = left.pop(0)
        history.append(entry)
    return [*history, *(t.HistoryEntry(created=read.created, created_by="", layer=layer) for layer in left)]


# --- save ---


async def save_plan(
    house: House, images: Sequence[tuple[ImageRecord, Sequence[str]]]
) -> list[dict[str, Any]]:
    """What the worker operation `save_archive` is told; each image with the tags it is saved under."""
    plans: dict[str, dict[str, Any]] = {}
    for image, tags in images:
        plan = plans.get(image.id)
        if plan is None:
            diffs = [await house.digests.of(diff.layer) for diff in await _chain(house, image)]
            plan = plans[image.id] = {
                "config": image.oci,
                "tags": [],
                "layers": [
                    {
                        "diff_id": diff.diff_id,
                        "size": diff.size,
                        "recipe": house.layout.recipe(diff.layer),
                        "layer": diff.layer,
                    }
                    for diff in diffs
                ],
            }
        plan["tags"] += [tag for tag in tags if tag not in plan["tags"]]
    return list(plans.values())


async def send_archive(
    house: House, plan: list[dict[str, Any]], wish: t.ImageSave, fd: int, framing: str
) -> t.Sent:
    """Write the archive to a client's socket. Raises BrokenPipeError when the client is gone."""
    scratch = os.path.join(house.layout.uploads, new_id())
    os.mkdir(scratch, 0o700)
    layers = [layer["layer"] for image in plan for layer in image["layers"]]
    try:
        async with reading(house, *layers) as contents:
            roots = {layer: content["root"] for layer, content in zip(layers, contents, strict=True)}
            return await _send(
                house, "save_archive", fd, framing,
                images=plan, roots=roots, form=wish.format, compress=wish.compress, scratch=scratch,
            )  # fmt: skip
    finally:
        with trio.CancelScope(shield=True):
            await work(house.commands, "remove_tree", path=scratch)


async def send_tree(house: House, tree: str, fd: int, framing: str) -> t.Sent:
    """Write all that a tree shows to a client's socket."""
    async with reading(house, tree) as (content,):
        return await _send(house, "save_tree", fd, framing, content=content)


@asynccontextmanager
async def reading(house: House, *names: str) -> AsyncIterator[list[dict[str, Any]]]:
    """Where layers or trees can be read meanwhile, as workers take it."""
    storage, held = house.drivers.storage, []
    try:
        contents = []
        for name in names:
            contents.append(asdict(await storage.content(name)))
            held.append(name)
        yield contents
    finally:
        with trio.CancelScope(shield=True):
            for name in held:
                await storage.release(name)


async def _send(house: House, op: str, fd: int, framing: str, **params: Any) -> t.Sent:
    done = await work(house.commands, op, timeout=math.inf, pass_fds=(fd,), fd=fd, framing=framing, **params)
    return t.Sent(bytes=done["bytes"])


async def _chain(house: House, image: ImageRecord) -> list[Diff]:
    return await house.digests.chain(image.layer) if image.layer else []


# --- import, commit ---


async def import_image(
    house: House, held: set[str], wish: t.ImageImport, path: str, config: t.ImageConfig
) -> t.Created:
    """A root file system as an image with one layer."""
    async with draft(house, held) as image:
        layer = await image.add(None, Tar(path, 0, os.path.getsize(path)), seen=False)
        entry = t.HistoryEntry(
            created=now(), created_by="", comment=wish.message or "Imported from -", layer=layer
        )
        return await _finish(image, layer, config, [entry], wish.tag, "import", "")


async def commit(
    house: House,
    held: set[str],
    wish: t.ContainerCommit,
    container: str,
    base: ImageRecord,
    config: t.ImageConfig,
    command: str,
) -> t.Created:
    """What a container has made of its image, as one more layer."""
    tar = os.path.join(house.layout.uploads, new_id())
    try:
        async with reading(house, container) as (content,):
            made = await work(
                house.commands, "layer_tar", content=content, recipe=f"{tar}.recipe", output=tar
            )
        async with draft(house, held) as image:
            layer = await image.add(base.layer, Tar(tar, 0, made["bytes"], diff_id=made["diff_id"]))
            entry = t.HistoryEntry(
                created=now(), created_by=command, author=wish.author, comment=wish.message, layer=layer
            )
            return await _finish(
                image, layer, config, [*base.history, entry], wish.tag, "commit", wish.author or base.author
            )
    finally:
        for path in (tar, f"{tar}.recipe", f"{tar}.recipe.partial"):
            _unlink(path)


async def _finish(
    image: Draft,
    layer: str,
    config: t.ImageConfig,
    history: list[t.HistoryEntry],
    tag: str,
    action: str,
    author: str,
) -> t.Created:
    record = msgspec.structs.replace(layers.new_image(layer, config, history), author=author)
    for _, diff in image.made:
        await image.house.store.write(sql.set_diff(diff))
    record = await layers.identify(image.house, record)
    await image.confirm(record, [check_tag(tag)] if tag else [], action)
    return t.Created(id=record.id)


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def check_save(wish: t.ImageSave) -> None:
    """Raises InvalidParams."""
    if wish.format == "docker-archive" and wish.compress != "none":
        raise InvalidParams(
            "compress: a docker-archive has no compressed layers; leave it out, or compress the whole file"
        )
    if not wish.images:
        raise InvalidParams("images: name at least one")
