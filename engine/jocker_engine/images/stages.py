"""Stages: which there are, what each is from and needs, which of them a target needs. Pure.

Source: Docker's Dockerfile reference, FROM and "Understand how ARG and FROM interact".
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from jocker_protocol.errors import BadDockerfile

from . import platforms
from .dockerfile import Dockerfile, Instruction, as_trigger, parse_triggers
from .mounts import BadMount, source_of
from .words import BadSubstitution, expand, split

PREDEFINED = frozenset(
    name
    for upper in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for name in (upper, upper.lower())
)
"""Build arguments that every RUN sees without an ARG, and that no cache key has."""
_ENV_NAME = re.compile(r"[^=\s]+")
_STAGE_NAME = re.compile(r"[a-z][a-z0-9_.-]*")


@dataclass(frozen=True)
class Needs:
    """What a stage cannot begin or go on without."""

    stages: frozenset[int] = frozenset()
    """Indexes of earlier stages."""
    images: frozenset[str] = frozenset()
    """Images, or named build contexts."""


@dataclass(frozen=True)
class Stage:
    """FROM and what follows it, up to the next FROM; before that the ONBUILD triggers of the stage it is from."""

    index: int
    name: str
    base: str
    """An image, "scratch", or another stage's name."""
    base_stage: int | None
    line: int
    instructions: tuple[Instruction, ...]
    platform: str = ""
    """Of FROM --platform; "" for the target's."""
    needs: Needs = field(default_factory=Needs)

    def is_called(self, name: str) -> bool:
        """By its name or its number."""
        return name.lower() in (self.name or str(self.index), str(self.index))


@dataclass(frozen=True)
class Plan:
    """The stages that the target needs, in the order to build them; the last one is the target."""

    stages: tuple[Stage, ...]
    global_args: dict[str, str]
    unused_args: tuple[str, ...]
    """Build arguments given that no ARG declares."""
    every: tuple[Stage, ...] = ()
    """All stages of the file."""

    @property
    def steps(self) -> int:
        """FROM included, as Docker counts."""
        return sum(1 + len(stage.instructions) for stage in self.stages)


def plan(dockerfile: Dockerfile, target: str, build_args: dict[str, str], platform: str = "") -> Plan:
    """Stages and their order. `platform` is what is built for, "" for this machine's.

    Raises BadDockerfile: unknown stages or target, ARG or FROM that make no sense.
    """
    first = next(i for i, each in enumerate(dockerfile.instructions) if each.keyword == "FROM")
    froms = [each for each in dockerfile.instructions if each.keyword == "FROM"]
    last_words = froms[-1].rest.split()
    called = target or (last_words[2] if len(last_words) == 3 else "")
    global_args = platforms.arguments(platform, called.lower())
    global_args.update((name, build_args[name]) for name in global_args.keys() & build_args.keys())
    declared: set[str] = set(global_args)
    for instruction in dockerfile.instructions[:first]:
        if instruction.keyword != "ARG":
            raise dockerfile.error_at(
                instruction, f"{instruction.keyword} before FROM: only ARG may be there"
            )
        for name, value in assignments(dockerfile, instruction, bare=True):
            if name in build_args:
                global_args[name] = build_args[name]
            elif value is not None:
                global_args[name] = replaced(dockerfile, instruction, value, global_args)
    stages: list[Stage] = []
    for instruction in dockerfile.instructions:
        for each in (instruction, *([instruction.trigger] if instruction.trigger else [])):
            if each.keyword == "ARG":
                declared.update(name for name, _ in assignments(dockerfile, each, bare=True))
        if instruction.keyword == "FROM":
            stages.append(_stage(dockerfile, instruction, stages, global_args))
        elif stages:
            stages[-1] = replace(stages[-1], instructions=(*stages[-1].instructions, instruction))
    for index, stage in enumerate(stages):
        if stage.base_stage is not None:
            own = [each for each in stages[stage.base_stage].instructions if not each.inherited]
            triggers = tuple(as_trigger(each.trigger, stage.line) for each in own if each.trigger)
            stage = replace(stage, instructions=triggers + stage.instructions)
        stages[index] = replace(stage, needs=needs(dockerfile, stages, stage, stage.instructions))
    last = _find(dockerfile, stages, target) if target else stages[-1]
    given = {name for name in build_args if not name.startswith("BUILDKIT_") and name != "SOURCE_DATE_EPOCH"}
    return Plan(
        tuple(_needed(stages, last)), global_args, tuple(sorted(given - declared - PREDEFINED)), tuple(stages)
    )


def with_triggers(dockerfile: Dockerfile, plan: Plan, on_build: Mapping[int, Sequence[str]]) -> Plan:
    """The plan with what ONBUILD triggers of images need too; `on_build`: stage -> those of the image that it is from.

    More stages may be from more images: ask again until it stays the same. Raises BadDockerfile.
    """
    every = list(plan.every)
    for index, texts in on_build.items():
        stage = every[index]
        triggers = parse_triggers(texts, dockerfile.filename, stage.line, dockerfile.escape)
        more = needs(dockerfile, every, stage, (*triggers, *stage.instructions))
        every[index] = replace(stage, needs=more)
    stages = tuple(_needed(every, every[plan.stages[-1].index]))
    return replace(plan, stages=stages, every=tuple(every))


def needs(
    dockerfile: Dockerfile, stages: Iterable[Stage], stage: Stage, instructions: Iterable[Instruction]
) -> Needs:
    """What FROM, COPY --from and RUN --mount from= name; ask again with the triggers of an image. Raises
    BadDockerfile.
    """
    earlier: set[int] = set() if stage.base_stage is None else {stage.base_stage}
    images = {stage.base} if stage.base_stage is None and stage.base != "scratch" else set()
    for instruction in instructions:
        for source in _sources(dockerfile, instruction):
            found = stage_of(dockerfile, instruction, stages, stage, source)
            if found is not None:
                earlier.add(found.index)
            else:
                images.add(source)
    return Needs(frozenset(earlier), frozenset(images - {"scratch"}))


def _sources(dockerfile: Dockerfile, instruction: Instruction) -> Iterable[str]:
    if instruction.keyword == "COPY" and instruction.flag("from"):
        yield instruction.flag("from")
    for mount in instruction.flag_values("mount"):
        try:
            source = source_of(mount)
        except BadMount as error:
            raise dockerfile.error_at(instruction, f"RUN --mount: {error}", "--mount") from None
        if source:
            yield source


def stage_of(
    dockerfile: Dockerfile, instruction: Instruction, stages: Iterable[Stage], here: Stage, source: str
) -> Stage | None:
    """The earlier stage that `from` means, None when it is an image. Raises BadDockerfile for a later one."""
    if "$" in source:
        what = f"variables are not replaced in from={source}; name a stage FROM $IMAGE AS NAME and copy from that"
        raise dockerfile.error_at(instruction, what, source)
    stages = list(stages)
    for stage in reversed(stages[: here.index]):
        if stage.is_called(source):
            return stage
    if source.isdigit():
        raise dockerfile.error_at(instruction, f"from={source}: there is no earlier stage {source}", source)
    later = next((stage for stage in stages[here.index :] if stage.is_called(source)), None)
    if later is not None:
        what = "is this stage itself" if later.index == here.index else f"begins later, in line {later.line}"
        raise dockerfile.error_at(instruction, f"from={source}: stage {source} {what}", source)
    return None


def meant_stage(stages: Iterable[Stage], name: str) -> str:
    """The name of a stage that was perhaps meant by what is none; "" for nothing near."""
    names = [stage.name for stage in stages if stage.name]
    return next(iter(difflib.get_close_matches(name.lower(), names, n=1)), "")


def _stage(
    dockerfile: Dockerfile, instruction: Instruction, before: list[Stage], args: dict[str, str]
) -> Stage:
    words = instruction.rest.split()
    if len(words) == 3 and words[1].upper() == "AS":
        name = words[2].lower()
        if not _STAGE_NAME.fullmatch(name):
            what = f"{words[2]!r} is no name for a stage: a letter, then letters, digits, _ . -"
            raise dockerfile.error_at(instruction, what, words[2])
    elif len(words) == 1:
        name = ""
    else:
        raise dockerfile.error_at(instruction, "FROM takes IMAGE [AS NAME]")
    base = replaced(dockerfile, instruction, words[0], args)
    if not base or base != base.strip() or " " in base:
        what = f"FROM takes IMAGE [AS NAME], and {words[0]} is {base!r}; give ARG a default, or --build-arg"
        raise dockerfile.error_at(instruction, what, words[0])
    platform = instruction.flag("platform")
    if platform:
        wanted = replaced(dockerfile, instruction, platform, args)
        try:
            platform = platforms.normal(wanted)
        except platforms.BadPlatform as error:
            raise dockerfile.error_at(instruction, f"--platform={platform}: {error}", "--platform") from None
    base_stage = next((s.index for s in reversed(before) if s.name and s.name == base.lower()), None)
    return Stage(len(before), name, base, base_stage, instruction.line, (), platform)


def _find(dockerfile: Dockerfile, stages: list[Stage], name: str) -> Stage:
    for stage in reversed(stages):
        if stage.is_called(name):
            return stage
    listed = ", ".join(stage.name or str(stage.index) for stage in stages)
    likely = meant_stage(stages, name)
    hint = f"; did you mean {likely}?" if likely else ""
    raise BadDockerfile(
        f"{dockerfile.filename}: no stage {name!r}{hint}; there are: {listed}", file=dockerfile.filename
    )


def _needed(stages: list[Stage], last: Stage) -> list[Stage]:
    wanted = {last.index}
    for stage in reversed(stages[: last.index + 1]):  # a stage needs earlier ones only
        if stage.index in wanted:
            wanted |= stage.needs.stages
    return [stage for stage in stages if stage.index in wanted]


def replaced(
    dockerfile: Dockerfile,
    instruction: Instruction,
    text: str,
    env: dict[str, str],
    missing: set[str] | None = None,
) -> str:
    """`expand`, with errors that point at the place."""
    try:
        return expand(text, env, dockerfile.escape, missing=missing)
    except BadSubstitution as error:
        raise dockerfile.error_at(instruction, str(error), text) from None


def assignments(
    dockerfile: Dockerfile, instruction: Instruction, *, bare: bool = False
) -> list[tuple[str, str | None]]:
    """NAME=VALUE words, values as they are written; `bare` allows NAME, else the first word without = means the
    old form NAME VALUE.
    """
    words = split(instruction.rest, dockerfile.escape)
    keyword = instruction.keyword
    if not bare and words and "=" not in words[0]:
        name, _, value = instruction.rest.replace("\t", " ").partition(" ")
        if not value.strip():
            raise dockerfile.error_at(instruction, f"{keyword} takes NAME=VALUE, not {name!r}", name)
        return [(name, value.strip())]
    pairs: list[tuple[str, str | None]] = []
    for word in words:
        name, equals, value = word.partition("=")
        if not name or (not equals and not bare) or not (keyword == "LABEL" or _ENV_NAME.fullmatch(name)):
            raise dockerfile.error_at(instruction, f"{keyword} takes NAME=VALUE, not {word!r}", word)
        pairs.append((name, value if equals else None))
    return pairs
