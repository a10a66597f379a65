"""Names of images: NAME[:TAG], where the name may have a registry and a path before it."""

from __future__ import annotations

import re

import msgspec

from jocker_protocol.errors import InvalidParams


class ResolveImage(msgspec.Struct, frozen=True):
    """The record of an image by name[:tag], id, abbreviated id, the id of a layer that a build made, or
    IMAGE@LAYER: an image that ends with this step in the making of another.
    """

    name: str
    keep: bool = True
    """Whether a step of a build becomes an image that lasts."""


_TAG = re.compile(
    r"(?:[a-zA-Z0-9.-]+(?::\d+)?/)?[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?"
)


def with_tag(name: str) -> str:
    """The name with `:latest` where it has no tag."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def familiar(name: str) -> str:
    """The name as people write it: without what Docker puts before it."""
    return name.removeprefix("docker.io/").removeprefix("library/") if name.startswith("docker.io/") else name


def check_tag(name: str) -> str:
    """The whole name, if it is allowed. Raises InvalidParams."""
    if not _TAG.fullmatch(name):
        raise InvalidParams(
            f"tag: {name!r} is no name for an image: NAME[:TAG] in lower-case letters, digits, `.`, `_`, `-`, `/`"
        )
    return with_tag(name)
