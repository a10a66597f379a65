"""`system.df`: what takes room. Sizes are asked of the storage driver all at once, and only here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from jocker_protocol import types as t

from ..db.records import ContainerRecord, ImageRecord
from ..house import House
from ..platform.work import work

Ask = Callable[[str, Any], Awaitable[Any]]
_RUNS = ("running", "paused", "restarting", "starting", "stopping")


async def disk_usage(house: House, ask: Ask) -> t.DiskUsed:
    """Answered from the records, the driver's sizes and the build cache's own account."""
    sizes = await house.drivers.storage.sizes()
    images, containers = await house.store.images(), await house.store.containers()
    chains = {image.id: await _chain(house, image) for image in images}
    own = {container.id: await _below(house, container) for container in containers}
    volumes = await _volumes(house, sizes)
    cache: t.CacheItems = await ask("cache", t.BuilderUsage())
    return t.DiskUsed(
        images=await _images(house, images, containers, chains, sizes),
        containers=[
            t.ContainerUsage(
                id=container.id,
                name=container.name,
                image=container.image,
                status=container.state.status,
                created_at=container.created_at,
                size=sizes.get(container.id, 0),
                size_root_fs=sizes.get(container.id, 0) + _sum(own[container.id], sizes),
            )
            for container in containers
        ],
        volumes=volumes,
        summary=t.UsageSummary(
            images=_of_images(images, containers, chains, sizes),
            containers=_kind(
                [(container.state.status in _RUNS, sizes.get(container.id, 0)) for container in containers]
            ),
            volumes=_kind([(volume.links > 0, volume.size) for volume in volumes]),
            build_cache=_kind([(item.in_use, item.size) for item in cache.items]),
        ),
    )


async def _chain(house: House, image: ImageRecord) -> set[str]:
    return {layer.id for layer in await house.store.chain(image.layer)} if image.layer else set()


async def _below(house: House, container: ContainerRecord) -> set[str]:
    image = await house.store.image(container.image_id)
    return await _chain(house, image) if image else set()


async def _images(
    house: House,
    images: list[ImageRecord],
    containers: list[ContainerRecord],
    chains: dict[str, set[str]],
    sizes: dict[str, int],
) -> list[t.ImageUsage]:
    tags = await house.store.tags()
    found = []
    for image in images:
        others = set[str]().union(*(chain for id, chain in chains.items() if id != image.id))
        found.append(
            t.ImageUsage(
                id=image.id,
                tags=tags.get(image.id, []),
                created_at=image.created_at,
                size=_sum(chains[image.id], sizes),
                unique=_sum(chains[image.id] - others, sizes),
                containers=sum(container.image_id == image.id for container in containers),
            )
        )
    return found


async def _volumes(house: House, sizes: dict[str, int]) -> list[t.VolumeUsage]:
    records, users = await house.store.volumes(), await house.store.volume_users()
    paths = {record.name: record.path for record in records if record.name not in sizes and record.path}
    if paths:
        sizes = {**sizes, **(await work(house.commands, "tree_sizes", paths=paths))["sizes"]}
    return [
        t.VolumeUsage(name=record.name, size=sizes.get(record.name, 0), links=len(users.get(record.name, ())))
        for record in records
    ]


def _of_images(
    images: list[ImageRecord],
    containers: list[ContainerRecord],
    chains: dict[str, set[str]],
    sizes: dict[str, int],
) -> t.KindUsage:
    """A layer that several images have counts once; those that an image in use stands on are not reclaimable."""
    in_use = {container.image_id for container in containers} & chains.keys()
    every = set[str]().union(*chains.values())
    kept = set[str]().union(*(chains[id] for id in in_use))
    return t.KindUsage(
        total=len(images),
        active=len(in_use),
        size=_sum(every, sizes),
        reclaimable=_sum(every - kept, sizes),
    )


def _kind(found: list[tuple[bool, int]]) -> t.KindUsage:
    return t.KindUsage(
        total=len(found),
        active=sum(active for active, _ in found),
        size=sum(size for _, size in found),
        reclaimable=sum(size for active, size in found if not active),
    )


def _sum(layers: Iterable[str], sizes: dict[str, int]) -> int:
    return sum(sizes.get(layer, 0) for layer in layers)
