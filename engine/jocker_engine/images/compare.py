"""Two builds of the same: the first thing in which their images differ."""

from __future__ import annotations

from typing import Any

from jocker_protocol.errors import NotReproducible

from ..db.records import ImageRecord
from ..house import House
from ..platform.work import work
from .transfers import reading


async def compare(house: House, first: ImageRecord, second: ImageRecord) -> None:
    """Raises NotReproducible. The second image needs no id."""
    ours = await house.digests.chain(first.layer) if first.layer else []
    theirs = await house.digests.chain(second.layer) if second.layer else []
    steps = [entry.created_by for entry in first.history if not entry.empty_layer]
    for step, one, other in zip(steps, ours, theirs, strict=True):
        if one.diff_id == other.diff_id:
            continue
        one, other = await house.digests.of(one.layer), await house.digests.of(other.layer)
        async with reading(house, one.layer, other.layer) as contents:
            tars: list[dict[str, Any]] = [
                {"recipe": house.layout.recipe(diff.layer), "root": content["root"]}
                for diff, content in zip((one, other), contents, strict=True)
            ]
            found = await work(house.commands, "compare_layers", first=tars[0], second=tars[1])
        raise NotReproducible(
            f"not reproducible: {found['path']} differs in its {found['what']}: {found['how']}; it is from: {step}",
            path=found["path"], what=found["what"], step=step,
        )  # fmt: skip
    if (first.config, first.history) != (second.config, second.history):
        for entry in (*first.history, *second.history):
            entry.layer = ""
        if (first.config, first.history) != (second.config, second.history):
            raise NotReproducible(
                "not reproducible: the configurations differ", path="", what="config", step=""
            )
