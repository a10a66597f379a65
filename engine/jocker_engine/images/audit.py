"""Where the records of layers and the platform differ: what builds left behind, and what is missing."""

from __future__ import annotations

import os
from functools import partial

from ..db import statements as sql
from ..differences import Found
from ..house import House
from ..platform.interfaces import Isolation
from ..platform.work import work
from . import layers
from .running import memory


async def strays(house: House, held: frozenset[str]) -> list[Found]:
    """What is there and should not be; `held` are the trees and layers that are being made."""
    storage = house.drivers.storage
    containers = {record.id for record in await house.store.containers()}
    found = []
    for id in sorted(await house.drivers.runtime.inventory() - containers - held):
        found.append(
            Found("runtime", id, "the runtime has something that is neither a container nor a build step",
                  "kill and remove it", partial(_end, house, id))
        )  # fmt: skip
    there = await storage.inventory()
    for tree in sorted(there.trees - containers - held):
        found.append(
            Found("storage", tree, "there is a file system that no container has", "remove it",
                  partial(storage.destroy_tree, tree))
        )  # fmt: skip
    rows = await house.store.layer_ids()
    for layer in sorted(there.layers - rows.keys() - held):
        found.append(
            Found("storage", layer, "there is a layer that has no record", "remove it",
                  partial(storage.destroy_layer, layer))
        )  # fmt: skip
    for layer, ready in rows.items():
        if not ready and layer not in held:
            found.append(
                Found("record", layer, "the layer was half made or half removed", "finish removing it",
                      partial(layers.destroy, house, layer))
            )  # fmt: skip
    for name in sorted(os.listdir(house.layout.recipes)):
        if name.removesuffix(".partial") not in rows:
            path = os.path.join(house.layout.recipes, name)
            found.append(
                Found("file", path, "there is the recipe of a layer that has no record", "remove it",
                      partial(_unlink, path))
            )  # fmt: skip
    for name in sorted(os.listdir(house.layout.builds)):
        if name not in held:
            path = os.path.join(house.layout.builds, name)
            found.append(
                Found("directory", path, "there is a directory of a build that does not run", "remove it",
                      partial(work, house.commands, "remove_tree", path=path))
            )  # fmt: skip
    above, prefix = memory(house)
    for name in sorted(os.listdir(above)):
        if name.startswith(prefix) and name.removeprefix(prefix) not in held:
            path = os.path.join(above, name)
            found.append(
                Found("directory", path, "there are secrets of a build step that does not run", "remove them",
                      partial(work, house.commands, "remove_tree", path=path))
            )  # fmt: skip
    return found


async def losses(house: House) -> list[Found]:
    """Layers without content. What stands on them is lost with them, unless a container still refers to it."""
    there = (await house.drivers.storage.inventory()).layers
    found = []
    for layer, ready in (await house.store.layer_ids()).items():
        if not ready or layer in there:
            continue
        users = await house.store.containers_on(layer)
        if users:
            remedy = f"remove container {', '.join(users)} first"
            found.append(Found("storage", layer, "the layer's content is gone", remedy, None))
        else:
            remedy = "forget it, with all images and layers on it"
            mend = partial(_forget, house, layer)
            found.append(Found("storage", layer, "the layer's content is gone", remedy, mend))
    return found


async def _forget(house: House, layer: str) -> None:
    """The topmost layers first, as they go with `rmi`."""
    for image in await house.store.images_on(layer):
        await house.store.write(sql.drop_image(image))
    for each in await house.store.layers_on(layer):
        await house.store.write(sql.doom_layer(each))
        await layers.destroy(house, each)


async def _end(house: House, tree: str) -> None:
    """A RUN step of an engine that was killed."""
    directory = os.path.join(house.layout.builds, tree)
    isolation = Isolation(id=tree, directory=directory, rootfs="", hostname="", network="none")
    await house.drivers.runtime.kill_all(tree, 0)
    await house.drivers.runtime.destroy(isolation)


async def _unlink(path: str) -> None:
    os.unlink(path)
