"""Rules that a Dockerfile had better keep: `jocker build --check`, and the warnings of a build. Pure.

The rules and their texts are those of Docker's build checks (https://docs.docker.com/reference/build-checks/); the
three without an address are ours.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from jocker_protocol.errors import BadDockerfile, InvalidParams
from jocker_protocol.patterns import BadPattern, Ignore, clean
from jocker_protocol.types import Finding, ImageConfig

from . import platforms
from .dockerfile import Dockerfile, Instruction
from .evaluate import BuildState
from .names import check_tag
from .stages import PREDEFINED, Plan, Stage, assignments, meant_stage, plan, replaced
from .words import BadSubstitution, expand, expand_words, split

RULES = {
    "StageNameCasing": "Stage names should be lowercase",
    "FromAsCasing": "The 'as' keyword should match the case of the 'from' keyword",
    "NoEmptyContinuation": "Empty continuation lines will become errors in a future release",
    "ConsistentInstructionCasing": "All commands within the Dockerfile should use the same casing (either upper or lower)",
    "DuplicateStageName": "Stage names should be unique",
    "ReservedStageName": "Reserved words should not be used as stage names",
    "JSONArgsRecommended": "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
    "MaintainerDeprecated": "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
    "UndefinedArgInFrom": "FROM command must use declared ARGs",
    "WorkdirRelativePath": "Relative workdir without an absolute workdir declared within the build can have unexpected results if the base image changes",
    "UndefinedVar": "Variables should be defined before their use",
    "MultipleInstructionsDisallowed": "Multiple instructions of the same type should not be used in the same stage",
    "LegacyKeyValueFormat": "Legacy key/value format with whitespace separator should not be used",
    "InvalidBaseImagePlatform": "Base image platform does not match expected target platform",
    "RedundantTargetPlatform": "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
    "SecretsUsedInArgOrEnv": "Sensitive data should not be used in the ARG or ENV commands",
    "InvalidDefaultArgInFrom": "Default value for global ARG results in an empty or invalid base image name",
    "FromPlatformFlagConstDisallowed": "FROM --platform flag should not use a constant value",
    "CopyIgnoredFile": "Attempting to Copy file that is excluded by .dockerignore",
    "ExposeProtoCasing": "Protocol in EXPOSE instruction should be lowercase",
    "ExposeInvalidFormat": "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a future release",
    "InvalidDefinitionDescription": "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`",
    "UndefinedStage": "A stage that is copied or mounted from must be in the Dockerfile",
    "UnreachableStage": "Every stage should have a name, or be used by another stage",
    "UnusedArg": "A global ARG should be used in FROM, or be declared again in a stage",
}  # fmt: skip
"""Rule -> what it says."""
_OURS = ("UndefinedStage", "UnreachableStage", "UnusedArg", "InvalidBaseImagePlatform")
_EXPERIMENTAL = ("InvalidDefinitionDescription",)
_RESERVED = ("context", "scratch")
_SECRET = re.compile(
    r"(?:_|^)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)", re.IGNORECASE
)
_NO_SECRET = re.compile(r"(?:_|^)(?:public|file|version)(?:_|$)", re.IGNORECASE)
_PLAIN_NAME = re.compile(r"[A-Za-z][\w-]*")


class Base(NamedTuple):
    """What is known of an image that a Dockerfile names."""

    config: ImageConfig
    platform: str
    """OS/ARCHITECTURE."""


@dataclass(frozen=True)
class Options:
    """The directive `# check=skip=RULE,...|all;error=BOOL;experimental=RULE,...|all`."""

    skip: frozenset[str] = frozenset()
    error: bool = False
    experimental: frozenset[str] = frozenset()

    def wants(self, rule: str) -> bool:
        """Whether findings of the rule are told."""
        if rule in _EXPERIMENTAL and not self.experimental & {rule, "all"}:
            return False
        return not self.skip & {rule, "all"}


def options_of(dockerfile: Dockerfile) -> Options:
    """Those of the whole file. Raises BadDockerfile for a directive that makes no sense."""
    text = dict(dockerfile.directives).get("check", "")
    line = next((n for n, each in enumerate(dockerfile.lines, 1) if "check" in each), 1)
    try:
        return _options(text)
    except ValueError as error:
        raise dockerfile.error(line, f"check={text}: {error}") from None


def _options(text: str) -> Options:
    skip: set[str] = set()
    experimental: set[str] = set()
    error = False
    for part in filter(None, (part.strip() for part in text.split(";"))):
        key, equals, value = part.partition("=")
        names = {name.strip() for name in value.split(",")} - {""}
        if key.strip() == "error" and value.strip().lower() in ("true", "false", "1", "0"):
            error = value.strip().lower() in ("true", "1")
        elif key.strip() == "skip" and equals:
            skip |= names
        elif key.strip() == "experimental" and equals:
            experimental |= names
        else:
            raise ValueError("there are skip=RULE,...|all, error=true|false and experimental=RULE,...|all")
    known = {name.lower(): name for name in (*RULES, "all")}
    for name in (*skip, *experimental):
        if name.lower() not in known:
            likely = difflib.get_close_matches(name, RULES, n=1)
            raise ValueError(f"no rule {name}{f'; did you mean {likely[0]}?' if likely else ''}")
    return Options(
        frozenset(known[name.lower()] for name in skip),
        error,
        frozenset(known[name.lower()] for name in experimental),
    )


def images_named(dockerfile: Dockerfile, target: str, build_args: dict[str, str]) -> frozenset[str]:
    """The images that `lint` wants to know of. Raises BadDockerfile."""
    return frozenset().union(*(stage.needs.images for stage in plan(dockerfile, target, build_args).every))


def lint(
    dockerfile: Dockerfile,
    target: str,
    build_args: dict[str, str],
    images: Mapping[str, Base],
    ignore: Iterable[str],
    contexts: Iterable[str] = (),
) -> list[Finding]:
    """All findings, in the order of lines. `images`: those that there are; `contexts`: names of further contexts.
    Raises BadDockerfile.
    """
    try:
        rules = Ignore(ignore)
    except BadPattern as error:
        raise BadDockerfile(f"the ignore file: {error}") from None
    todo = plan(dockerfile, target, build_args)
    linter = _Linter(dockerfile, todo, build_args, images, rules, frozenset(contexts))
    linter.file()
    states: dict[int, BuildState] = {}
    for stage in linter.plan.every:
        states[stage.index] = linter.stage(stage, states)
    return linter.findings()


class _Linter:
    def __init__(
        self,
        dockerfile: Dockerfile,
        plan: Plan,
        build_args: dict[str, str],
        images: Mapping[str, Base],
        ignore: Ignore,
        contexts: frozenset[str],
    ) -> None:
        self.plan = plan
        self._dockerfile = dockerfile
        self._build_args = build_args
        self._images = images
        self._ignore = ignore
        self._contexts = contexts
        self._options = options_of(dockerfile)
        self._found: list[Finding] = []
        self._froms = [each for each in dockerfile.instructions if each.keyword == "FROM"]
        first = next(index for index, each in enumerate(dockerfile.instructions) if each.keyword == "FROM")
        self._global = dockerfile.instructions[:first]
        self._workdirs: set[int] = set()
        """Stages with a WORKDIR, of their own or inherited."""
        self._declared: dict[int, set[str]] = {}
        """ARGs of a stage, of its own or inherited."""
        self._unknown: dict[int, str] = {}
        """The image that a stage begins with, itself or through others, if it is not here."""

    def findings(self) -> list[Finding]:
        unique = {(each.line, each.rule, each.detail): each for each in self._found}
        return sorted(unique.values(), key=lambda each: each.line)

    def _say(self, rule: str, at: Instruction, detail: str, line: int = 0) -> None:
        for comment in at.comments:  # the directive can also be right before an instruction
            key, _, value = comment.partition("=")
            if key.strip().lower() == "check":
                try:
                    if not _options(value).wants(rule):
                        return
                except ValueError:
                    continue
        if not self._options.wants(rule):
            return
        slug = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=JSON)", "-", rule).lower()
        url = "" if rule in _OURS else f"https://docs.docker.com/go/dockerfile/rule/{slug}/"
        self._found.append(
            Finding(rule=rule, line=line or at.line, detail=detail, description=RULES[rule], url=url)
        )

    # --- rules that need no evaluation ---

    def file(self) -> None:
        """Rules on the file as a whole."""
        self._casing()
        self._stages()
        self._global_args()
        for instruction in self._dockerfile.instructions:
            if instruction.gap:
                self._say("NoEmptyContinuation", instruction, "Empty continuation line", instruction.gap)
            if instruction.keyword == "MAINTAINER":
                detail = "Maintainer instruction is deprecated in favor of using label"
                self._say("MaintainerDeprecated", instruction, detail)
            if instruction.keyword in ("FROM", "ARG"):
                self._description(instruction)

    def _casing(self) -> None:
        every = self._dockerfile.instructions[len(self._global) :]
        lower = sum(each.written.islower() for each in every)
        upper = sum(each.written.isupper() for each in every)
        wanted, is_right = ("lowercase", str.islower) if lower > upper else ("uppercase", str.isupper)
        for each in every:
            if not is_right(each.written):
                detail = f"Command '{each.written}' should match the case of the command majority ({wanted})"
                self._say("ConsistentInstructionCasing", each, detail)

    def _stages(self) -> None:
        seen: set[str] = set()
        used = set().union(*(stage.needs.stages for stage in self.plan.every)) | {self.plan.stages[-1].index}
        used.add(self.plan.every[-1].index)
        for stage, instruction in zip(self.plan.every, self._froms, strict=True):
            words = instruction.rest.split()
            if stage.name:
                self._stage_name(instruction, words[1], words[2], seen)
                seen.add(stage.name)
            elif stage.index not in used:
                detail = f"Stage {stage.index} has no name, and no other stage uses it"
                self._say("UnreachableStage", instruction, detail)
            self._from(stage, instruction, words[0])

    def _stage_name(self, instruction: Instruction, word: str, written: str, seen: set[str]) -> None:
        name, keyword = written.lower(), instruction.written
        if written != name:
            self._say("StageNameCasing", instruction, f"Stage name '{written}' should be lowercase")
        if (keyword.islower() and not word.islower()) or (keyword.isupper() and not word.isupper()):
            detail = f"'{word}' and '{keyword}' keywords' casing do not match"
            self._say("FromAsCasing", instruction, detail)
        if name in seen:
            detail = f'Duplicate stage name "{name}", stage names should be unique'
            self._say("DuplicateStageName", instruction, detail)
        if name in _RESERVED:
            detail = f'Stage name should not use the same name as reserved stage "{name}"'
            self._say("ReservedStageName", instruction, detail)

    def _from(self, stage: Stage, instruction: Instruction, base: str) -> None:
        platform = instruction.flag("platform")
        missing: set[str] = set()
        replaced(self._dockerfile, instruction, base, self.plan.global_args, missing)
        if platform:
            used: set[str] = set()
            wanted = expand(platform, self.plan.global_args, self._dockerfile.escape, used, missing)
            if used == {"TARGETPLATFORM"} and wanted == self.plan.global_args["TARGETPLATFORM"]:
                detail = f"Setting platform to predefined {platform} in FROM is redundant as this is the default behavior"
                self._say("RedundantTargetPlatform", instruction, detail)
            os, architecture = stage.platform.split("/")[:2]
            if not used and os not in stage.name and architecture not in stage.name:
                detail = f'FROM --platform flag should not use constant value "{wanted}"'
                self._say("FromPlatformFlagConstDisallowed", instruction, detail)
        declared = {
            name for each in self._global for name, _ in assignments(self._dockerfile, each, bare=True)
        }
        for name in sorted(missing - declared):
            detail = (
                f"FROM argument '{name}' is not declared{_hint(name, {*declared, *self.plan.global_args})}"
            )
            self._say("UndefinedArgInFrom", instruction, detail)
        known = self._images.get(stage.base)
        expected = "/".join((stage.platform or platforms.host()).split("/")[:2])
        if known and known.platform != expected:
            detail = f'Base image {stage.base} is of platform "{known.platform}", expected "{expected}" for current build'
            self._say("InvalidBaseImagePlatform", instruction, detail)

    def _global_args(self) -> None:
        """Names of images with the defaults alone, and ARGs that nothing can see."""
        defaults = dict(platforms.arguments("", ""))
        seen: set[str] = set()
        for each in self._dockerfile.instructions[len(self._global) :]:
            if each.keyword == "ARG":
                seen |= {name for name, _ in assignments(self._dockerfile, each, bare=True)}
            if each.keyword == "FROM":
                expand(each.text, {}, self._dockerfile.escape, seen)
        for each in self._global:
            for name, value in assignments(self._dockerfile, each, bare=True):
                if value is not None:
                    defaults[name] = expand(value, defaults, self._dockerfile.escape, seen)
        for each in self._global:
            for name, _ in assignments(self._dockerfile, each, bare=True):
                if name not in seen and name not in PREDEFINED:
                    detail = (
                        f"ARG {name} is before the first FROM, and no FROM uses it and no stage declares it"
                    )
                    self._say("UnusedArg", each, detail)
        for each in self._froms:
            name = each.rest.split()[0]
            if "$" not in name:
                continue
            try:
                check_tag(expand(name, defaults, self._dockerfile.escape).partition("@")[0])
            except (BadSubstitution, InvalidParams):
                detail = f"Default value for ARG {name} results in empty or invalid base image name"
                self._say("InvalidDefaultArgInFrom", each, detail)

    def _description(self, instruction: Instruction) -> None:
        words = instruction.rest.split()
        names = [words[2]] if instruction.keyword == "FROM" and len(words) == 3 else []
        if instruction.keyword == "ARG":
            names = [name for name, _ in assignments(self._dockerfile, instruction, bare=True)]
        if names and instruction.comments and instruction.comments[-1].split(" ")[0] not in names:
            detail = (
                f"Comment for {instruction.keyword} should follow the format: `# {names[0]} <description>`"
            )
            self._say("InvalidDefinitionDescription", instruction, detail)

    # --- rules on a stage that is evaluated ---

    def stage(self, stage: Stage, states: dict[int, BuildState]) -> BuildState:
        """All of a stage's instructions."""
        base = states.get(stage.base_stage) if stage.base_stage is not None else None
        known = self._images.get(stage.base)
        config = base.config if base else known.config if known else ImageConfig()
        args = base.args if base else {}
        state = BuildState(self._dockerfile, stage, config, self._build_args, self.plan.global_args, args)
        if stage.base_stage in self._workdirs:
            self._workdirs.add(stage.index)
        self._declared[stage.index] = set(self._declared.get(stage.base_stage or 0, ())) if base else set()
        if base:
            self._unknown[stage.index] = self._unknown[base.stage.index]
        else:
            self._unknown[stage.index] = "" if known or stage.base == "scratch" else stage.base
        last: dict[str, Instruction] = {}
        for instruction in state.instructions:
            if instruction.inherited:  # it was looked at where it is written
                state.apply(instruction, self.plan.every)
                continue
            if instruction.keyword in ("CMD", "ENTRYPOINT", "HEALTHCHECK"):
                self._once(instruction, last)
            self._before(stage, state, instruction)
            state.missing.clear()
            state.apply(instruction, self.plan.every)
            self._undefined(stage, state, instruction)
            if instruction.keyword == "ARG":
                names = {name for name, _ in assignments(self._dockerfile, instruction, bare=True)}
                self._declared[stage.index] |= names
        return state

    def _once(self, instruction: Instruction, last: dict[str, Instruction]) -> None:
        earlier = last.get(instruction.keyword)
        if earlier is not None:
            detail = (
                f"Multiple {instruction.keyword} instructions should not be used in the same stage because only "
                "the last one will be used"
            )
            self._say("MultipleInstructionsDisallowed", earlier, detail)
        last[instruction.keyword] = instruction

    def _before(self, stage: Stage, state: BuildState, instruction: Instruction) -> None:
        match instruction.keyword:
            case "CMD" | "ENTRYPOINT" if instruction.words is None and not state.config.shell:
                what = "to prevent unintended behavior related to OS signals"
                detail = f"JSON arguments recommended for {instruction.keyword} {what}"
                self._say("JSONArgsRecommended", instruction, detail)
            case "WORKDIR":
                path = replaced(self._dockerfile, instruction, instruction.rest, state.env())
                if stage.index not in self._workdirs and not path.startswith("/"):
                    detail = (
                        f'Relative workdir "{path}" can have unexpected results if the base image changes'
                    )
                    self._say("WorkdirRelativePath", instruction, detail)
                self._workdirs.add(stage.index)
            case "ENV" | "LABEL" if "=" not in split(instruction.rest, self._dockerfile.escape)[0]:
                word = instruction.keyword
                detail = f'"{word} key=value" should be used instead of legacy "{word} key value" format'
                self._say("LegacyKeyValueFormat", instruction, detail)
            case "EXPOSE":
                self._expose(state, instruction)
            case "COPY" | "ADD" | "RUN":
                self._sources(stage, state, instruction)
            case _:
                pass
        if instruction.keyword in ("ARG", "ENV"):
            for name, _ in assignments(self._dockerfile, instruction, bare=instruction.keyword == "ARG"):
                if _SECRET.search(name) and not _NO_SECRET.search(name):
                    what = f'({instruction.keyword} "{name}")'
                    detail = f"Do not use ARG or ENV instructions for sensitive data {what}"
                    self._say("SecretsUsedInArgOrEnv", instruction, detail)

    def _expose(self, state: BuildState, instruction: Instruction) -> None:
        try:
            words = expand_words(instruction.rest, state.env(), self._dockerfile.escape)
        except BadSubstitution:
            return  # which evaluation says
        for word in words:
            protocol = word.partition("/")[2]
            if protocol != protocol.lower():
                detail = f"Defined protocol '{word}' in EXPOSE instruction should be lowercase"
                self._say("ExposeProtoCasing", instruction, detail)
            if ":" in word:
                what = f"should not define an IP address or host-port mapping, found '{word}'"
                self._say("ExposeInvalidFormat", instruction, f"EXPOSE instruction {what}")

    def _sources(self, stage: Stage, state: BuildState, instruction: Instruction) -> None:
        copies = instruction.keyword != "RUN"
        if copies and not instruction.flag("from"):
            words = instruction.rest.split() if instruction.words is None else list(instruction.words)
            for word in words[:-1]:
                source = replaced(self._dockerfile, instruction, word, state.env())
                if not word.startswith("<<") and "://" not in source and self._is_ignored(source):
                    detail = f'Attempting to {instruction.keyword.capitalize()} file "{source}" that is excluded by .dockerignore'
                    self._say("CopyIgnoredFile", instruction, detail)
        froms = [instruction.flag("from")] if copies else []
        froms += re.findall(r"(?:^|,)from=([^,]+)", "\n".join(instruction.flag_values("mount")), re.MULTILINE)
        for name in filter(None, froms):
            is_stage = any(other.is_called(name) for other in self.plan.every)
            if is_stage or name in self._images or name.lower() in self._contexts or name in _RESERVED:
                continue
            if _PLAIN_NAME.fullmatch(name):  # an image of some registry has more to its name
                likely = meant_stage(self.plan.every, name)
                hint = f" (did you mean {likely}?)" if likely else ""
                self._say(
                    "UndefinedStage", instruction, f"from={name} names no stage, and no image here{hint}"
                )

    def _is_ignored(self, source: str) -> bool:
        """Not asked where there are exceptions: what they keep in a directory cannot be told from here."""
        if self._ignore.has_exceptions:
            return False
        path = clean("/" + source).lstrip("/")
        if not path:
            return self._ignore.ignores("x") and self._ignore.ignores("y/z")  # all of the context is
        return self._ignore.ignores(path)

    def _undefined(self, stage: Stage, state: BuildState, instruction: Instruction) -> None:
        known = {*state.env(), *self._declared[stage.index]}
        for name in sorted(state.missing - self._declared[stage.index] - PREDEFINED):
            detail = f"Usage of undefined variable '${name}'{_hint(name, known, '$')}"
            if image := self._unknown[stage.index]:
                detail += f" (image {image} is not here, and may set it)"
            self._say("UndefinedVar", instruction, detail)


def _hint(name: str, known: Iterable[str], mark: str = "") -> str:
    likely = difflib.get_close_matches(name, list(known), n=1, cutoff=0.75)
    return f" (did you mean {mark}{likely[0]}?)" if likely else ""
