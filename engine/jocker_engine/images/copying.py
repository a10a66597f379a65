"""COPY and ADD of a build: what the cache knows their sources by, and the copy itself. Work is done in worker
processes (platform/worker).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..clock import new_id
from ..house import House
from ..platform.rootfs import lookup_user
from ..platform.work import work
from .steps import CopyStep


@contextmanager
def beside(house: House, held: set[str], step: CopyStep) -> Iterator[str]:
    """A directory for what is in no context: here-documents, and later what `fetch` gets. It ends with the block."""
    name = new_id()
    held.add(name)
    directory = os.path.join(house.layout.builds, name)
    os.makedirs(directory)
    try:
        for document in step.heredocs:
            path = os.path.join(directory, document.name)
            with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
                file.write(document.content)
            os.chmod(path, 0o644)
        yield directory
    finally:
        shutil.rmtree(directory)
        held.discard(name)


async def fetch(house: House, step: CopyStep, directory: str) -> list[str]:
    """Get URLs and repositories into the directory of `beside`; their digests, for the cache. Raises PlatformError,
    OSError.
    """
    digests: list[str] = []
    if step.urls:
        got = await work(
            house.commands, "fetch", urls=list(step.urls), target=directory, checksum=step.checksum
        )
        digests += got["digests"]
    if step.repositories:
        got = await work(
            house.commands,
            "clone",
            repositories=list(step.repositories),
            target=directory,
            keep=step.keep_git_dir,
            checksum=step.checksum,
        )
        digests += got["commits"]
    return digests


async def digest(house: House, step: CopyStep, source: str, of_image: bool) -> list[str]:
    """What the cache knows the sources in the directory `source` by; of an image their owners count too. Raises
    PlatformError, OSError.
    """
    if not step.sources:
        return []
    found = await work(
        house.commands,
        "digest",
        context_dir=source,
        sources=list(step.sources),
        parents=step.parents,
        exclude=list(step.exclude),
        owners=of_image,
        where=_where(step),
    )
    return [found["digest"]]


def _where(step: CopyStep) -> str:
    if step.source_stage is not None:
        return f"stage {step.source_stage}"
    return step.source_image or "the build context"


async def copy(house: House, step: CopyStep, source: str, extra: str, rootfs: str, of_image: bool) -> None:
    """Sources of the directory `source`, which is that `of_image` or a context, and all that is in `extra`, into a
    root. Raises PlatformError, OSError, NoSuchUser.
    """
    owner = None
    if step.chown:
        user = lookup_user(rootfs, step.chown)
        same = step.chown.isdigit()  # a uid alone is the gid too
        owner = [user.uid, user.uid if same else user.gid]
    params: dict[str, Any] = {
        "sources": list(step.sources),
        "extra": extra,
        "destination": step.destination,
        "chown": owner,
        "chmod": step.chmod,
        "unpack": step.unpack,
        "unpack_extra": step.unpack_urls,
        "link": step.link,
        "parents": step.parents,
        "exclude": list(step.exclude),
        "where": _where(step),
        "of_image": of_image,
    }
    await work(house.commands, "copy_in", context_dir=source, rootfs=rootfs, **params)
