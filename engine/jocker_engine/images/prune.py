"""Images that nobody needs, and the story of one. Knows the store and records."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from jocker_protocol import types as t
from jocker_protocol.errors import NotFound

from ..db.records import ImageRecord
from ..filters import Filters
from ..house import House

Remove = Callable[[t.ImageRemove], Awaitable[t.ImageRemoved]]


async def prune(house: House, wish: t.ImagePrune, remove: Remove) -> t.Pruned:
    """Remove those that have no container and, without `all`, no name."""
    filters = Filters(wish.filters, ("until", "label", "label!", "dangling"))
    until = filters.time("until")
    named = wish.all or not filters.flag("dangling", True)
    tags = await house.store.tags()
    untagged: list[str] = []
    deleted: list[str] = []
    sizes: dict[str, int] = {}
    for image in await house.store.images():
        names = tags.get(image.id, [])
        if (
            (names and not named)
            or image.created_at >= until
            or not filters.labels(image.config.labels)
            or await house.store.containers_of_image(image.id)
        ):
            continue
        chain = await house.store.chain(image.layer) if image.layer else []
        sizes |= {layer.id: layer.size for layer in chain}
        try:
            gone = await remove(t.ImageRemove(image=image.id, force=True))
        except NotFound:
            continue  # somebody else was quicker
        untagged += gone.untagged
        deleted += gone.deleted
    left = await house.store.layer_ids()
    return t.Pruned(
        untagged=untagged,
        deleted=deleted,
        space_reclaimed=sum(size for layer, size in sizes.items() if layer not in left),
    )


def history(image: ImageRecord, sizes: Mapping[str, int], tags: Sequence[str]) -> t.History:
    """The newest step first; `sizes` by layer."""
    steps = [
        t.HistoryStep(
            id=entry.layer,
            created=entry.created,
            created_by=entry.created_by,
            size=sizes.get(entry.layer, 0),
            author=entry.author,
            comment=entry.comment,
            empty_layer=entry.empty_layer,
        )
        for entry in reversed(image.history)
    ]
    if steps:
        steps[0].tags = list(tags)
    return t.History(id=image.id, history=steps)
