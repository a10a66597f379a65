"""Types of images as files: save, load, import, export, commit, and what is told of an image's making."""

from __future__ import annotations

from typing import Literal

from .base import Params, Result


class ImageSave(Params, frozen=True):
    """`image.save`. A name without a tag means all tags of that name."""

    images: list[str]
    format: Literal["oci-archive", "docker-archive"] = "oci-archive"
    """An OCI image layout that has Docker's manifest.json too; what `docker save` wrote before version 25."""
    compress: Literal["none", "gzip", "zstd"] = "none"
    """Of the layers."""


class Sent(Result):
    """The RESULT frame of a stream that was an archive."""

    bytes: int


class LoadedImage(Result):
    """One image of an archive."""

    id: str
    tags: list[str]
    new_layers: int
    """How many were not there before."""


class Loaded(Result):
    """The RESULT frame of `image.load`."""

    images: list[LoadedImage]


class ImageImport(Params, frozen=True):
    """`image.import`: the stream takes a tar of a root file system, plain or compressed."""

    tag: str = ""
    changes: list[str] = []
    """Instructions of a Dockerfile: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME, WORKDIR."""
    message: str = ""


class ContainerCommit(Params, frozen=True):
    """`container.commit`."""

    container: str
    tag: str = ""
    author: str = ""
    message: str = ""
    changes: list[str] = []
    """As in ImageImport."""
    pause: bool = True
    """Whether its processes stand still meanwhile, where the runtime can do that."""


class ContainerDiff(Params, frozen=True):
    """`container.diff`: a container by id, abbreviated id or name."""

    container: str


class ContainerExport(Params, frozen=True):
    """`container.export`: a container by id, abbreviated id or name."""

    container: str


class ChangedPath(Result):
    """One path of a container that differs from its image."""

    kind: Literal["A", "C", "D"]
    """Added, changed, deleted."""
    path: str


class Changed(Result):
    """`container.diff`'s answer, sorted by path."""

    changes: list[ChangedPath]


class ImageHistory(Params, frozen=True):
    """`image.history`: an image by name[:tag], id or abbreviated id."""

    image: str


class HistoryStep(Result):
    """One step in an image's making."""

    id: str
    """Of the layer it made, by which it can be run; "" where it made none."""
    created: str
    created_by: str
    size: int
    """Bytes of the layer as a tar."""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False
    tags: list[str] = []


class History(Result):
    """`image.history`'s answer, the newest first."""

    id: str
    history: list[HistoryStep]


class ImagePrune(Params, frozen=True):
    """`image.prune`: images without a name, with `all` every one that no container has.

    Filters: until (an RFC 3339 time, or a duration such as 24h), label, label!, dangling.
    """

    all: bool = False
    filters: dict[str, list[str]] = {}


class Pruned(Result):
    """What went."""

    untagged: list[str]
    deleted: list[str]
    space_reclaimed: int
    """Bytes."""
