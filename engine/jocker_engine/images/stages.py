"""What instructions mean: stages and the evaluation of one. Pure: an instruction in, a step out.

A step says what must be done; `state.config` is the image's configuration after it. Source: Docker's
Dockerfile reference.
"""

from __future__ import annotations

import copy
import posixpath
import re
from dataclasses import dataclass, field

from jocker_protocol.durations import duration
from jocker_protocol.errors import BadDockerfile
from jocker_protocol.types import Healthcheck, ImageConfig

from .dockerfile import Dockerfile, Heredoc, Instruction, heredoc_stripped, json_words
from .words import BadSubstitution, expand, split

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_DEFAULT_SHELL = ["/bin/sh", "-c"]
PREDEFINED = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
_PREDEFINED = frozenset(PREDEFINED) | frozenset(name.lower() for name in PREDEFINED)
_ENV_NAME = re.compile(r"[^=\s]+")
_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?", re.IGNORECASE)


@dataclass(frozen=True)
class Stage:
    """FROM and what follows it, up to the next FROM."""

    index: int
    name: str
    base: str
    """An image, "scratch", or another stage's name."""
    base_stage: int | None
    line: int
    instructions: tuple[Instruction, ...]


@dataclass(frozen=True)
class Plan:
    """The stages that the target needs, in the order to build them; the last one is the target."""

    stages: tuple[Stage, ...]
    global_args: dict[str, str]
    unused_args: tuple[str, ...]
    """Build arguments given that no ARG declares."""

    @property
    def steps(self) -> int:
        """FROM included, as Docker counts."""
        return sum(1 + len(stage.instructions) for stage in self.stages)


@dataclass(frozen=True)
class Step:
    """What all steps have: `canonical` is the instruction with all it really uses, `created_by` for people."""

    line: int
    canonical: str
    created_by: str


@dataclass(frozen=True)
class ConfigStep(Step):
    """Only the configuration changed."""


@dataclass(frozen=True)
class RunStep(Step):
    """Run this; heredoc scripts are in `argv` already."""

    argv: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    cwd: str = "/"
    user: str = ""
    network: str = ""


@dataclass(frozen=True)
class WorkdirStep(Step):
    """The directory must be there."""

    path: str = "/"


@dataclass(frozen=True)
class CopyStep(Step):
    """COPY or ADD."""

    sources: tuple[str, ...] = ()
    destination: str = "/"
    source_stage: int | None = None
    source_image: str = ""
    chown: str = ""
    chmod: str = ""
    unpack: bool = False
    heredocs: tuple[Heredoc, ...] = ()


def plan(dockerfile: Dockerfile, target: str, build_args: dict[str, str]) -> Plan:
    """Stages and their order. Raises BadDockerfile: unknown stages or target, ARG or FROM that make no sense."""
    global_args: dict[str, str] = {}
    stages: list[Stage] = []
    declared: set[str] = set()
    body: list[Instruction] = []
    for instruction in dockerfile.instructions:
        if instruction.keyword == "ARG":
            declared.update(name for name, _ in _assignments(dockerfile, instruction, allow_bare=True))
        if instruction.keyword == "FROM":
            if stages:
                stages[-1] = _with(stages[-1], body)
            body = []
            stages.append(_stage(dockerfile, instruction, stages, global_args))
        elif stages:
            body.append(instruction)
        elif instruction.keyword == "ARG":
            for name, value in _assignments(dockerfile, instruction, allow_bare=True):
                if name in build_args:
                    global_args[name] = build_args[name]
                elif value is not None:
                    global_args[name] = _expand(dockerfile, instruction, value, global_args)
        else:
            raise dockerfile.error(
                instruction.line, f"{instruction.keyword} before FROM: only ARG may be there"
            )
    stages[-1] = _with(stages[-1], body)
    last = _find_stage(dockerfile, stages, target, len(dockerfile.lines)) if target else stages[-1]
    unused = tuple(sorted(set(build_args) - declared - _PREDEFINED))
    return Plan(tuple(_needed(dockerfile, stages, last)), global_args, unused)


def _stage(
    dockerfile: Dockerfile, instruction: Instruction, before: list[Stage], args: dict[str, str]
) -> Stage:
    words = [_expand(dockerfile, instruction, word, args) for word in split(instruction.rest)]
    if len(words) == 3 and words[1].upper() == "AS":
        name = words[2].lower()
        if not re.fullmatch(r"[a-z][a-z0-9_.-]*", name):
            raise dockerfile.error(instruction.line, f"{words[2]!r} is no name for a stage")
    elif len(words) == 1 and words[0]:
        name = ""
    else:
        raise dockerfile.error(instruction.line, "FROM takes IMAGE [AS NAME]; is a variable in it not set?")
    base_stage = next((s.index for s in reversed(before) if s.name and s.name == words[0].lower()), None)
    return Stage(len(before), name, words[0], base_stage, instruction.line, ())


def _with(stage: Stage, body: list[Instruction]) -> Stage:
    return Stage(stage.index, stage.name, stage.base, stage.base_stage, stage.line, tuple(body))


def _find_stage(dockerfile: Dockerfile, stages: list[Stage], name: str, line: int) -> Stage:
    for stage in reversed(stages):
        if name.lower() == stage.name or name == str(stage.index):
            return stage
    listed = ", ".join(stage.name or str(stage.index) for stage in stages)
    raise BadDockerfile(
        f"{dockerfile.filename}: no stage {name!r}; there are: {listed}", file=dockerfile.filename
    )


def _needed(dockerfile: Dockerfile, stages: list[Stage], last: Stage) -> list[Stage]:
    order: list[Stage] = []

    def visit(stage: Stage) -> None:
        if stage in order:
            return
        if stage.base_stage is not None:
            visit(stages[stage.base_stage])
        for instruction in stage.instructions:
            source = instruction.flag("from")
            found = stage_of(stages, stage, source) if source else None
            if found is not None:
                visit(found)
        order.append(stage)

    visit(last)
    return order


def stage_of(stages: list[Stage] | tuple[Stage, ...], here: Stage, source: str) -> Stage | None:
    """The earlier stage that --from means, None when it is an image."""
    for stage in stages:
        if stage.index < here.index and source.lower() in (stage.name or str(stage.index), str(stage.index)):
            return stage
    return None


def _expand(
    dockerfile: Dockerfile,
    instruction: Instruction,
    text: str,
    env: dict[str, str],
    used: set[str] | None = None,
) -> str:
    try:
        return expand(text, env, dockerfile.escape, used)
    except BadSubstitution as error:
        raise dockerfile.error(instruction.line, str(error)) from None


def _assignments(
    dockerfile: Dockerfile, instruction: Instruction, *, allow_bare: bool = False
) -> list[tuple[str, str | None]]:
    """NAME=VALUE words, values as they are written."""
    pairs: list[tuple[str, str | None]] = []
    for word in split(instruction.rest, dockerfile.escape):
        name, equals, value = word.partition("=")
        if not name or (not equals and not allow_bare) or not _ENV_NAME.fullmatch(name):
            raise dockerfile.error(instruction.line, f"{instruction.keyword} takes NAME=VALUE, not {word!r}")
        pairs.append((name, value if equals else None))
    return pairs


@dataclass
class BuildState:
    """One stage being evaluated."""

    dockerfile: Dockerfile
    stage: Stage
    config: ImageConfig
    build_args: dict[str, str]
    global_args: dict[str, str]
    args: dict[str, str] = field(default_factory=dict)
    """ARGs in scope that have a value."""
    _cmd_here: bool = False

    def __post_init__(self) -> None:
        self.config = copy.deepcopy(self.config)

    def env(self) -> dict[str, str]:
        """What substitution sees: ENV over ARG."""
        env = {"PATH": DEFAULT_PATH, **self.args}
        env.update(item.partition("=")[::2] for item in self.config.env)
        return env

    def apply(self, instruction: Instruction, stages: tuple[Stage, ...] = ()) -> Step:
        """The step; `config` and `args` are those after it. Raises BadDockerfile."""
        handler = getattr(self, f"_{instruction.keyword.lower()}")
        step: Step = handler(instruction, stages)
        return step

    # --- helpers ---

    def _x(self, instruction: Instruction, text: str) -> str:
        return _expand(self.dockerfile, instruction, text, self.env())

    def _fail(self, instruction: Instruction, what: str) -> BadDockerfile:
        return self.dockerfile.error(instruction.line, what)

    def _config(self, instruction: Instruction, canonical: str) -> ConfigStep:
        return ConfigStep(instruction.line, canonical, canonical)

    def _absolute(self, path: str) -> str:
        joined = posixpath.normpath(posixpath.join("/", self.config.working_dir, path))
        is_directory = path == "." or path.endswith(("/", "/."))
        return joined + "/" if is_directory and joined != "/" else joined

    def _words(self, instruction: Instruction) -> list[str]:
        if instruction.words is not None:
            return [self._x(instruction, word) for word in instruction.words]
        return [self._x(instruction, word) for word in split(instruction.rest, self.dockerfile.escape)]

    def _command(self, instruction: Instruction) -> list[str]:
        if instruction.words is not None:
            return list(instruction.words)
        return [*(self.config.shell or _DEFAULT_SHELL), instruction.rest]

    # --- instructions that change the configuration only ---

    def _arg(self, instruction: Instruction, _: tuple[Stage, ...]) -> Step:
        for name, value in _assignments(self.dockerfile, instruction, allow_bare=True):
            if name in self.build_args:
                self.args[name] = self.build_args[name]
            elif value is not None:
                self.args[name] = self._x(instruction, value)
            elif name in self.global_args:
                self.args[name] = self.global_args[name]
        return self._config(instruction, instruction.text)

    def _env(self, instruction: Instruction, _: tuple[Stage, ...]) -> Step:
        first = split(instruction.rest, self.dockerfile.escape)[0]
        if "=" in first:
            pairs = _assignments(self.dockerfile, instruction)
        else:
            name, _space, value = instruction.rest.partition(" ")
            if not value.strip():
                raise self._fail(instruction, "ENV takes NAME=VALUE")
            pairs = [(name, value.strip())]
        env = self.env()  # all values of one ENV see what was before it
        values = {n: _expand(self.dockerfile, instruction, v or "", env) for n, v in pairs}
        merged = {item.partition("=")[0]: item for item in self.config.env}
        merged.update((name, f"{name}={value}") for name, value in values.items())
        self.config.env = list(merged.values())
        return self._config(instruction, "ENV " + " ".join(f"{n}={v}" for n, v in values.items()))

    def _label(self, instruction: Instruction, _: tuple[Stage, ...]) -> Step:
        pairs = _assignments(self.dockerfile, instruction)
        labels = {self._x(instruction, n): self._x(instruction, v or "") for n, v in pairs}
        self.config.labels = {**self.config.labels, **labels}
        return self._config(instruction, "LABEL " + " ".join(f"{n}={v}" for n, v in labels.items()))

    def _maintainer(self, instruction: Instruction, _: tuple[Stage, ...]) -> Step:
        self.config.labels = {**self.config.labels, "maintainer": instruction.rest}
        return self._config(instruction, instruction.text)

    def _cmd(self, instruction: Instruction, _: tuple[Stage, ...]) -> Step:
        self.config.cmd = self._command(instruction)
        self._cmd_here = True
        return self._config(instruction, f"CMD {self.config.cmd}")

    def _entrypoint(self, instruction: Instruction, _: tuple[Stage, ...]) -> Step:
        self.config.entrypoint = self._command(instruction)
        if not self._cmd_here:
            self.config.cmd = None  # that of the base was for another entrypoint
        return self._config(instruction, f"ENTRYPOINT {self.config.entrypoint}")

    def _shell(self, instruction: Instruction, _: tuple[Stage, ...]) -> Step:
        if not instruction.words:
            raise self._fail(instruction, 'SHELL takes the JSON form: SHELL ["/bin/sh", "-c"]')
        self.config.shell = list(instruction.words)
        return self._config(instruction, f"SHELL {self.config.shell}")

    def _expose(self, instruction: Instruction, _: tuple[Stage, ...]) -> Step:
        ports = list(self.config.exposed_ports)
        for word in self._words(instruction):
            match = _PORT.fullmatch(word)
            if match is None or not int(match[1]) <= int(match[2] or match[1]) <= 65535:
                raise self._fail(instruction, f"{word!r} is no port: PORT[-PORT][/tcp|udp]")
            for port in range(int(match[1]), int(match[2] or match[1]) + 1):
                name = f"{port}/{(match[3] or 'tcp').lower()}"
                if name not in ports:
                    ports.append(name)
        self.config.exposed_ports = ports
        return self._config(instruction, f"EXPOSE {' '.join(self._words(instruction))}")

    def _volume(self, instruction: Instruction, _: tuple[Stage, ...]) -> Step:
        paths = [self._absolute(word) for word in self._words(instruction) if word]
        self.config.volumes = list(dict.fromkeys([*self.config.volumes, *paths]))
        return self._config(instruction, f"VOLUME {paths}")

    def _user(self, instruction: Instruction, _: tuple[Stage, ...]) -> Step:
        self.config.user = self._x(instruction, instruction.rest)
        return self._config(instruction, f"USER {self.config.user}")

    def _stopsignal(self, instruction: Instruction, _: tuple[Stage, ...]) -> Step:
        self.config.stop_signal = self._x(instruction, instruction.rest)
        return self._config(instruction, f"STOPSIGNAL {self.config.stop_signal}")

    def _healthcheck(self, instruction: Instruction, _: tuple[Stage, ...]) -> Step:
        word, rest = (*instruction.rest.split(None, 1), "")[:2]
        flags = {name: self._x(instruction, value) for name, value in instruction.flags}
        match word.upper():
            case "NONE" if not rest and not flags:
                check = Healthcheck(test=["NONE"])
            case "CMD" if rest:
                words = json_words(rest)
                test = ["CMD-SHELL", rest] if words is None else ["CMD", *words]
                try:
                    retries = int(flags.pop("retries", "0"))
                    times = {name.replace("-", "_"): duration(value) for name, value in flags.items()}
                except ValueError as error:
                    raise self._fail(instruction, f"HEALTHCHECK: {error}") from None
                if retries < 0:
                    raise self._fail(instruction, "HEALTHCHECK: --retries must not be negative")
                check = Healthcheck(test=test, retries=retries, **times)
            case _:
                raise self._fail(instruction, "HEALTHCHECK takes NONE, or [--interval=30s ...] CMD COMMAND")
        self.config.healthcheck = check
        return self._config(instruction, instruction.text)

    def _onbuild(self, instruction: Instruction, _: tuple[Stage, ...]) -> Step:
        raise self._fail(instruction, "ONBUILD is not supported yet; remove it to build")

    # --- instructions that make layers ---

    def _workdir(self, instruction: Instruction, _: tuple[Stage, ...]) -> Step:
        path = self._absolute(self._x(instruction, instruction.rest)).rstrip("/") or "/"
        self.config.working_dir = path
        text = f"WORKDIR {path}"
        return WorkdirStep(instruction.line, f"{text} user={self.config.user}", text, path=path)

    def _run(self, instruction: Instruction, _: tuple[Stage, ...]) -> Step:
        if instruction.flag_values("mount"):
            raise self._fail(instruction, "RUN --mount is not supported yet")
        network = instruction.flag("network")
        if network not in ("", "default", "host", "none"):
            raise self._fail(instruction, f"RUN --network={network}: there are default, host and none")
        argv = self._command(instruction)
        if instruction.heredocs:
            doc = instruction.heredocs[0]
            command = heredoc_stripped(instruction.rest)
            shell = self.config.shell or _DEFAULT_SHELL
            if command:  # a program that reads the document
                argv = [*shell, f"{command} <<'{doc.name}'\n{doc.content}{doc.name}\n"]
            elif doc.content.startswith("#!"):
                raise self._fail(
                    instruction, "a here-document with #! is not supported yet; name the program"
                )
            else:
                argv = [*shell, doc.content]
        env = {"PATH": DEFAULT_PATH, **self.args}
        env.update((k, v) for k, v in self.build_args.items() if k in _PREDEFINED)
        env.update(item.partition("=")[::2] for item in self.config.env)
        args = " ".join(f"{name}={value}" for name, value in sorted(self.args.items()))
        canonical = f"RUN {argv!r} args={args} env={sorted(self.config.env)} cwd={self.config.working_dir} user={self.config.user} net={network}"
        return RunStep(
            instruction.line,
            canonical,
            instruction.text if not instruction.heredocs else f"RUN {argv[-1]}",
            argv=tuple(argv),
            env=tuple(f"{name}={value}" for name, value in env.items()),
            cwd=self.config.working_dir or "/",
            user=self.config.user,
            network="" if network == "default" else network,
        )

    def _copy(self, instruction: Instruction, stages: tuple[Stage, ...]) -> Step:
        for flag in ("exclude", "parents"):
            if instruction.flag(flag):
                raise self._fail(instruction, f"{instruction.keyword} --{flag} is not supported yet")
        words = self._words(instruction)
        heredocs: tuple[Heredoc, ...] = ()
        if instruction.heredocs:
            words = [self._x(instruction, w) for w in split(heredoc_stripped(instruction.rest))]
            heredocs = tuple(
                doc if doc.literal else Heredoc(doc.name, self._x_document(instruction, doc.content), True)
                for doc in instruction.heredocs
            )
        if not words or (len(words) < 2 and not heredocs):
            raise self._fail(instruction, f"{instruction.keyword} takes SOURCE... DESTINATION")
        source = self._x(instruction, instruction.flag("from"))
        found = stage_of(stages, self.stage, source) if source else None
        if source.isdigit() and found is None:
            raise self._fail(instruction, f"--from={source}: there is no earlier stage {source}")
        if instruction.keyword == "ADD" and any("://" in word for word in words[:-1]):
            raise self._fail(
                instruction, "ADD of a URL is not supported yet; fetch it with RUN, or add a local file"
            )
        destination = self._absolute(words[-1])
        chown, chmod = (self._x(instruction, instruction.flag(name)) for name in ("chown", "chmod"))
        if chmod and not re.fullmatch(r"0?[0-7]{3,4}", chmod):
            raise self._fail(instruction, f"--chmod={chmod}: must be octal, such as 755")
        text = f"{instruction.keyword} {' '.join(words[:-1])} {destination}"
        canonical = f"{text} chown={chown} chmod={chmod} docs={[(d.name, d.content) for d in heredocs]}"
        return CopyStep(
            instruction.line,
            canonical,
            instruction.text,
            sources=tuple(words[:-1]),
            destination=destination,
            source_stage=found.index if found else None,
            source_image="" if found else source,
            chown=chown,
            chmod=chmod,
            unpack=instruction.keyword == "ADD",
            heredocs=heredocs,
        )

    _add = _copy

    def _x_document(self, instruction: Instruction, text: str) -> str:
        """Variables in a here-document; quotes are text there."""
        escaped = text.replace('"', f'{self.dockerfile.escape}"')
        return _expand(self.dockerfile, instruction, f'"{escaped}"', self.env())
