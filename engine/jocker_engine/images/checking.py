"""What the linter says of a Dockerfile, given the images that this engine has."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from jocker_protocol.errors import JockerError
from jocker_protocol.types import Finding, Findings

from ..db.records import ImageRecord
from .dockerfile import Dockerfile
from .lint import Base, images_named, lint, options_of

Resolve = Callable[[str], Awaitable[ImageRecord]]


async def check(
    dockerfile: Dockerfile, target: str, build_args: dict[str, str], ignore: Iterable[str], resolve: Resolve
) -> Findings:
    """All findings; images that are not here are no error. Raises BadDockerfile."""
    known: dict[str, Base] = {}
    for name in images_named(dockerfile, target, build_args):
        try:
            image = await resolve(name)
        except JockerError:
            continue
        known[name] = Base(image.config, f"{image.os}/{image.architecture}")
    found = lint(dockerfile, target, build_args, known, ignore)
    return Findings(findings=found, fatal=bool(found) and options_of(dockerfile).error)


async def warnings(
    dockerfile: Dockerfile, target: str, build_args: dict[str, str], ignore: Iterable[str], resolve: Resolve
) -> list[Finding]:
    """The findings, for a build that goes on; raises BadDockerfile where the file says that they are errors."""
    result = await check(dockerfile, target, build_args, ignore, resolve)
    if result.fatal:
        first = result.findings[0]
        rules = ", ".join(dict.fromkeys(each.rule for each in result.findings))
        what = f"{first.detail} (rules not kept: {rules}; check=error=true makes them errors)"
        raise dockerfile.error(first.line, what)
    return result.findings
