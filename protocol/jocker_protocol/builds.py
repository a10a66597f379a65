"""Types of builds and of the build cache. Imported through types.py."""

from __future__ import annotations

from typing import Literal

import msgspec

from .base import Params, Result
from .lint import Finding


class BuildContext(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Files that a build may copy from. contexts.py says how they come over the stream."""

    name: str = ""
    """"" for the context itself; else what FROM, COPY --from and --mount from= call it."""
    manifest: str = ""
    """Digest of its manifest; "": it is sent as a tar, or not at all."""
    image: str = ""
    """Of a named one: an image, and nothing is sent."""


class ImageBuild(Params, frozen=True):
    """`image.build`: the stream takes contexts (contexts.py) and gives progress."""

    tags: list[str] = []
    dockerfile: str = "Dockerfile"
    """Path inside the context."""
    dockerfile_text: str | None = None
    """The Dockerfile itself, when it is not in the context."""
    contexts: list[BuildContext] = msgspec.field(default_factory=lambda: [BuildContext()])
    build_args: dict[str, str] = {}
    labels: dict[str, str] = {}
    no_cache: bool = False
    no_cache_filter: list[str] = []
    """Stages whose steps are made anew."""
    target: str = ""
    network: str = ""
    secrets: dict[str, bytes] = {}
    """Id -> content, at most 500 KiB together; in memory only."""
    ssh: list[str] = []
    """Ids of ssh agents that the client relays."""
    jail_params: list[str] = []
    """NAME=VALUE for the jails of RUN steps (FreeBSD)."""
    ignore: list[str] = []
    """The lines of the ignore file that the client obeyed: to warn of a COPY of what is ignored."""
    epoch: int | None = None
    """Reproducible: nothing of the image has a time of this build. Seconds since 1970; what RUN steps and archives
    make is at the latest of then, what comes from a context, and the image's own times, of just then."""
    verify: bool = False
    """With `epoch`: build twice without cache; an image that is not the same both times is refused."""


class BuildProgress(Result):
    """A PROGRESS frame of a build. `event`: step (begins), cached, output, done, failed, warning."""

    event: Literal["step", "cached", "output", "done", "failed", "warning"]
    step: int = 0
    """Number of the step, counted from 1 in the order in which they begin; 0 for the build itself."""
    stage: str = ""
    """Its stage by name, or stage-N; "" where there is only one, and for what belongs to none."""
    index: int = 0
    """Its place among the steps of its stage that make layers, and FROM, as `total` counts them."""
    total: int = 0
    line: int = 0
    text: str = ""
    stream: Literal["", "stdout", "stderr"] = ""
    """Of output, which may be any part of a line."""
    layer: str = ""
    seconds: float = 0.0
    """Since the step began."""


class BuildResult(Result):
    """The RESULT frame of a build."""

    image_id: str
    tags: list[str]
    cached: int
    """Steps that were found in the cache, of `steps` that make layers."""
    steps: int
    warnings: list[Finding] = []
    """What `image.check` finds."""


class CacheItem(msgspec.Struct, kw_only=True):
    """Something that makes builds faster: a layer, a cache mount, the content of a context."""

    id: str
    type: Literal["regular", "exec.cachemount", "source.local"]
    description: str
    created_at: str
    used_at: str
    size: int
    in_use: bool
    """By an image, a container or a build that runs."""


class BuilderUsage(Params, frozen=True):
    """`builder.usage`."""


class CacheItems(Result):
    """`builder.usage`'s answer, the newest first."""

    items: list[CacheItem]


class BuilderPrune(Params, frozen=True):
    """`builder.prune`: what is not in use goes; `all`: steps that images stand on are not found again either."""

    all: bool = False
    unused_for: float = 0
    """Only what was not used for so many seconds."""
    keep_storage: int = 0
    """Bytes that may stay; the longest unused goes first."""


class BuilderPruned(Result):
    """What went."""

    deleted: list[CacheItem]
    reclaimed: int
    """Bytes."""
