"""What `image.check` takes and gives."""

from __future__ import annotations

import msgspec

from .base import Params, Result


class ImageCheck(Params, frozen=True):
    """`image.check`: a Dockerfile and what of a build it depends on."""

    dockerfile_text: str
    dockerfile: str = "Dockerfile"
    """Its name, for messages."""
    build_args: dict[str, str] = {}
    target: str = ""
    ignore: list[str] = []
    """The lines of the ignore file."""
    contexts: list[str] = []
    """Names of further contexts, which are no stages either."""


class Finding(msgspec.Struct, kw_only=True):
    """A rule that a Dockerfile does not keep."""

    rule: str
    """Docker's name of it, or one of Jocker's own: UndefinedStage, UnreachableStage, UnusedArg."""
    line: int
    detail: str
    description: str
    """What the rule says."""
    url: str = ""


class Findings(Result):
    """`image.check`'s answer, in the order of lines."""

    findings: list[Finding]
    fatal: bool = False
    """A directive `check=error=true` makes findings an error for builds too."""
