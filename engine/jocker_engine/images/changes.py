"""`--change` of import and commit: instructions of a Dockerfile that change an image's configuration. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from jocker_protocol.errors import BadDockerfile, InvalidParams
from jocker_protocol.types import ImageConfig

from .dockerfile import parse
from .evaluate import BuildState
from .stages import plan

ALLOWED = (
    *("CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL"),
    *("ONBUILD", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"),
)


def changed(config: ImageConfig, changes: Sequence[str]) -> ImageConfig:
    """The configuration after all of them. Raises InvalidParams."""
    for change in changes:
        try:
            dockerfile = parse(f"FROM scratch\n{change}", "change")
            (stage,) = plan(dockerfile, "", {}).stages
            state = BuildState(dockerfile, stage, config, {}, {})
            state.config.on_build = list(config.on_build)
            for instruction in stage.instructions:
                if instruction.keyword not in ALLOWED:
                    raise InvalidParams(
                        f"changes: {instruction.keyword} changes no configuration; there are {', '.join(ALLOWED)}"
                    )
                state.apply(instruction)
        except BadDockerfile as error:
            what = error.message.splitlines()[0].split(": ", 1)[-1]
            raise InvalidParams(f"changes: {change!r}: {what}") from None
        except ValueError:
            raise InvalidParams(f"changes: {change!r}: one instruction each, and no FROM") from None
        config = state.config
    return config
