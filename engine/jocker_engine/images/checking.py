"""What the linter says of a Dockerfile, given the images that this engine has."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from jocker_protocol.errors import JockerError
from jocker_protocol.types import Finding, Findings, ImageCheck

from ..db.records import ImageRecord
from .dockerfile import Dockerfile, parse
from .lint import Base, images_named, lint, options_of

Resolve = Callable[[str], Awaitable[ImageRecord]]


async def check(wish: ImageCheck, resolve: Resolve) -> Findings:
    """All findings; images that are not here are no error. Raises BadDockerfile."""
    dockerfile = parse(wish.dockerfile_text, wish.dockerfile)
    found = await findings(dockerfile, wish.target, wish.build_args, wish.ignore, wish.contexts, resolve)
    return Findings(findings=found, fatal=bool(found) and options_of(dockerfile).error)


async def findings(
    dockerfile: Dockerfile,
    target: str,
    build_args: dict[str, str],
    ignore: Iterable[str],
    contexts: Iterable[str],
    resolve: Resolve,
) -> list[Finding]:
    """What `lint` finds. Raises BadDockerfile."""
    known: dict[str, Base] = {}
    for name in images_named(dockerfile, target, build_args):
        try:
            image = await resolve(name)
        except JockerError:
            continue
        known[name] = Base(image.config, f"{image.os}/{image.architecture}")
    return lint(dockerfile, target, build_args, known, ignore, contexts)


def refuse_if_asked(dockerfile: Dockerfile, found: list[Finding]) -> None:
    """A Dockerfile can say that findings are errors. Raises BadDockerfile at the first of them."""
    if found and options_of(dockerfile).error:
        rules = ", ".join(dict.fromkeys(each.rule for each in found))
        what = f"{found[0].detail} (rules not kept: {rules}; check=error=true makes them errors)"
        raise dockerfile.error(found[0].line, what)
