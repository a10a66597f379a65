"""What instructions mean: an instruction in, a step out, and the image's configuration after it. Pure.

Source: Docker's Dockerfile reference.
"""

from __future__ import annotations

import copy
import json
import posixpath
import re
from dataclasses import dataclass, field, replace
from typing import Any

from jocker_protocol.durations import duration
from jocker_protocol.errors import BadDockerfile, InvalidParams
from jocker_protocol.patterns import BadPattern, Ignore
from jocker_protocol.types import Healthcheck, ImageConfig

from ..containers.signals import parse_signal
from ..platform.worker.clone import CloneError, parse_repository
from ..platform.worker.modes import BadMode, parse_mode
from .dockerfile import Dockerfile, Heredoc, Instruction, json_words, parse_triggers
from .mounts import BadMount, parse_mount
from .stages import PREDEFINED, Stage, assignments, replaced, stage_of
from .steps import SCRIPT_DIRECTORY, ConfigStep, CopyStep, RunMount, RunStep, Step, WorkdirStep
from .words import BadSubstitution, expand_document, expand_words, heredoc_mark

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_DEFAULT_SHELL = ["/bin/sh", "-c"]
_PORT = re.compile(r"(?:.*:)?(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp)?)?", re.IGNORECASE)
_CHECKSUM = re.compile(r"sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}")
_COMMIT = re.compile(r"[0-9a-f]{7,64}")
_SHORTEST = 0.001
"""Seconds of a health check."""
_GIT = re.compile(r"(?:git|ssh)://|git@[\w.-]+:|https?://[^?#]+\.git(?:[?#]|$)")
"""As Docker tells repositories from files and URLs."""


@dataclass
class BuildState:
    """One stage being evaluated, from the configuration of its base."""

    dockerfile: Dockerfile
    stage: Stage
    config: ImageConfig
    build_args: dict[str, str]
    global_args: dict[str, str]
    args: dict[str, str] = field(default_factory=dict)
    """ARGs in scope that have a value and no ENV after them; those of the stage that this one is from, to begin with."""
    triggers: tuple[Instruction, ...] = ()
    """ONBUILD instructions of an image that this stage is from; they come first."""
    author: str = ""
    missing: set[str] = field(default_factory=set)
    """Variables that were used but not set; the linter empties it."""
    _cmd_here: bool = False

    def __post_init__(self) -> None:
        self.config = copy.deepcopy(self.config)
        defined = {
            item.partition("=")[0] for item in self.config.env
        }  # they come anew with what the stage is from
        self.args = {name: value for name, value in self.args.items() if name not in defined}
        if self.stage.base_stage is None and self.config.on_build:
            name, line = self.dockerfile.filename, self.stage.line
            self.triggers = parse_triggers(self.config.on_build, name, line, self.dockerfile.escape)
        self.config.on_build = []

    @property
    def instructions(self) -> tuple[Instruction, ...]:
        """All of the stage, in order."""
        return (*self.triggers, *self.stage.instructions)

    def env(self) -> dict[str, str]:
        """What substitution sees: of ENV and ARG the later one."""
        return {
            "PATH": DEFAULT_PATH,
            **{name: value for name, _, value in (item.partition("=") for item in self.config.env)},
            **self.args,
        }

    def apply(self, instruction: Instruction, stages: tuple[Stage, ...] = ()) -> Step:
        """The step; `config` and `args` are those after it. `stages`: all of the file. Raises BadDockerfile."""
        handler = getattr(self, f"_{instruction.keyword.lower()}")
        step: Step = handler(instruction, stages)
        return step

    # --- helpers ---

    def _x(self, instruction: Instruction, text: str) -> str:
        return replaced(self.dockerfile, instruction, text, self.env(), self.missing)

    def _flag(self, instruction: Instruction, name: str) -> str:
        return self._x(instruction, instruction.flag(name))

    def _fail(self, instruction: Instruction, what: str, word: str = "") -> BadDockerfile:
        return self.dockerfile.error_at(instruction, what, word)

    def _config(self, instruction: Instruction, canonical: str) -> ConfigStep:
        return ConfigStep(instruction.line, canonical, canonical)

    def _absolute(self, path: str) -> str:
        joined = posixpath.normpath(posixpath.join("/", self.config.working_dir, path))
        joined = "/" + joined.lstrip("/")
        is_directory = path in ("", ".") or path.endswith(("/", "/."))
        return joined + "/" if is_directory and joined != "/" else joined

    def _words(self, instruction: Instruction) -> list[str]:
        words = instruction.rest.split() if instruction.words is None else instruction.words
        return [self._x(instruction, word) for word in words]

    def _command(self, instruction: Instruction) -> list[str]:
        if instruction.words is not None:
            return list(instruction.words)
        return [*(self.config.shell or _DEFAULT_SHELL), instruction.rest]

    # --- instructions that change the configuration only ---

    def _arg(self, instruction: Instruction, _: tuple[Stage, ...]) -> Step:
        for name, value in assignments(self.dockerfile, instruction, bare=True):
            if name in self.build_args:
                self.args[name] = self.build_args[name]
            elif value is not None:
                self.args[name] = self._x(instruction, value)
            elif name in self.global_args:
                self.args[name] = self.global_args[name]
        return self._config(instruction, instruction.text)

    def _pairs(self, instruction: Instruction) -> dict[str, str]:
        """All values of one instruction see what was before it."""
        pairs = assignments(self.dockerfile, instruction)
        return {self._x(instruction, name): self._x(instruction, value or "") for name, value in pairs}

    def _env(self, instruction: Instruction, _: tuple[Stage, ...]) -> Step:
        values = self._pairs(instruction)
        merged = {item.partition("=")[0]: item for item in self.config.env}
        merged.update((name, f"{name}={value}") for name, value in values.items())
        self.config.env = list(merged.values())
        self.args = {name: value for name, value in self.args.items() if name not in values}
        return self._config(instruction, "ENV " + " ".join(f"{n}={v}" for n, v in values.items()))

    def _label(self, instruction: Instruction, _: tuple[Stage, ...]) -> Step:
        labels = self._pairs(instruction)
        self.config.labels = {**self.config.labels, **labels}
        return self._config(instruction, "LABEL " + " ".join(f"{n}={v}" for n, v in labels.items()))

    def _maintainer(self, instruction: Instruction, _: tuple[Stage, ...]) -> Step:
        self.author = instruction.rest
        return self._config(instruction, instruction.text)

    def _cmd(self, instruction: Instruction, _: tuple[Stage, ...]) -> Step:
        self.config.cmd = self._command(instruction)
        self._cmd_here = True
        return self._config(instruction, f"CMD {_json(self.config.cmd)}")

    def _entrypoint(self, instruction: Instruction, _: tuple[Stage, ...]) -> Step:
        self.config.entrypoint = self._command(instruction)
        if not self._cmd_here:
            self.config.cmd = None  # that of the base was for another entrypoint
        return self._config(instruction, f"ENTRYPOINT {_json(self.config.entrypoint)}")

    def _shell(self, instruction: Instruction, _: tuple[Stage, ...]) -> Step:
        if not instruction.words:
            raise self._fail(
                instruction, 'SHELL takes the JSON form: SHELL ["/bin/sh", "-c"]', instruction.rest
            )
        self.config.shell = list(instruction.words)
        return self._config(instruction, f"SHELL {_json(self.config.shell)}")

    def _expose(self, instruction: Instruction, _: tuple[Stage, ...]) -> Step:
        try:
            words = expand_words(instruction.rest, self.env(), self.dockerfile.escape, missing=self.missing)
        except BadSubstitution as error:
            raise self._fail(instruction, str(error), instruction.rest) from None
        ports = list(self.config.exposed_ports)
        for word in words:
            match = _PORT.fullmatch(word)
            if match is None or not 0 < int(match[1]) <= int(match[2] or match[1]) <= 65535:
                raise self._fail(instruction, f"{word!r} is no port: PORT[-PORT][/tcp|udp|sctp]", word)
            protocol = (match[3] or "tcp").lower()
            ports += (f"{port}/{protocol}" for port in range(int(match[1]), int(match[2] or match[1]) + 1))
        self.config.exposed_ports = list(dict.fromkeys(ports))
        return self._config(instruction, f"EXPOSE {' '.join(words)}")

    def _volume(self, instruction: Instruction, _: tuple[Stage, ...]) -> Step:
        words = self._words(instruction)
        if not all(words) or not words:
            raise self._fail(instruction, "VOLUME takes paths, and one of these is empty", instruction.rest)
        paths = [self._absolute(word) for word in words]
        self.config.volumes = list(dict.fromkeys([*self.config.volumes, *paths]))
        return self._config(instruction, f"VOLUME {_json(paths)}")

    def _user(self, instruction: Instruction, _: tuple[Stage, ...]) -> Step:
        self.config.user = self._x(instruction, instruction.rest)
        return self._config(instruction, f"USER {self.config.user}")

    def _stopsignal(self, instruction: Instruction, _: tuple[Stage, ...]) -> Step:
        signal = self._x(instruction, instruction.rest)
        try:
            parse_signal(signal)
        except InvalidParams as error:
            raise self._fail(
                instruction, f"STOPSIGNAL: {error.message.removeprefix('signal: ')}", instruction.rest
            ) from None
        self.config.stop_signal = signal
        return self._config(instruction, f"STOPSIGNAL {signal}")

    def _healthcheck(self, instruction: Instruction, _: tuple[Stage, ...]) -> Step:
        word, rest = (*instruction.rest.split(None, 1), "")[:2]
        flags: dict[str, Any] = {name: self._x(instruction, value) for name, value in instruction.flags}
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
                if any(0 < seconds < _SHORTEST for seconds in times.values()):
                    raise self._fail(instruction, "HEALTHCHECK: no span of time may be shorter than 1ms")
                if retries < 0:
                    raise self._fail(instruction, "HEALTHCHECK: --retries must not be negative", "--retries")
                check = Healthcheck(test=test, retries=retries, **times)
            case _:
                raise self._fail(instruction, "HEALTHCHECK takes NONE, or [--interval=30s ...] CMD COMMAND")
        self.config.healthcheck = check
        return self._config(instruction, instruction.text)

    def _onbuild(self, instruction: Instruction, _: tuple[Stage, ...]) -> Step:
        trigger = instruction.trigger
        assert trigger is not None  # the parser sees to it
        documents = "".join(f"\n{document.raw}{document.name}" for document in trigger.heredocs)
        self.config.on_build = [*self.config.on_build, trigger.text + documents]
        return self._config(instruction, f"ONBUILD {trigger.text}{documents}")

    # --- instructions that make layers ---

    def _workdir(self, instruction: Instruction, _: tuple[Stage, ...]) -> Step:
        path = self._absolute(self._x(instruction, instruction.rest)).rstrip("/") or "/"
        self.config.working_dir = path
        text = f"WORKDIR {path}"
        return WorkdirStep(instruction.line, f"{text} user={self.config.user}", text, path=path)

    def _run(self, instruction: Instruction, stages: tuple[Stage, ...]) -> Step:
        network: Any = self._flag(instruction, "network")
        if network not in ("", "default", "host", "none"):
            raise self._fail(
                instruction, f"--network={network}: there are default, host and none", "--network"
            )
        security: Any = self._flag(instruction, "security") or "sandbox"
        if security not in ("sandbox", "insecure"):
            raise self._fail(
                instruction, f"--security={security}: there are sandbox and insecure", "--security"
            )
        network = "" if network == "default" else network
        argv, script = self._run_command(instruction)
        mounts = self._mounts(instruction, stages)
        env = {name: value for name, value in self.build_args.items() if name in PREDEFINED} | self.env()
        args = " ".join(
            f"{name}={value}" for name, value in sorted(self.args.items()) if name not in PREDEFINED
        )
        canonical = (
            f"RUN {argv!r} args={args} env={sorted(self.config.env)} cwd={self.config.working_dir} "
            f"user={self.config.user} net={network} mounts={mounts!r} security={security} script={script!r}"
        )
        documents = "".join(f"\n{doc.raw}{doc.name}" for doc in instruction.heredocs)
        return RunStep(
            instruction.line,
            canonical,
            instruction.text + documents,
            argv=tuple(argv),
            env=tuple(f"{name}={value}" for name, value in env.items()),
            cwd=self.config.working_dir or "/",
            user=self.config.user,
            network=network,
            security=security,
            mounts=mounts,
            script=script,
        )

    def _run_command(self, instruction: Instruction) -> tuple[list[str], Heredoc | None]:
        """A document alone is what the shell runs, or a program; else the shell gets the line and its documents."""
        documents = instruction.heredocs
        if instruction.words is not None and not instruction.words:
            raise self._fail(instruction, "RUN [] names nothing to run", "[")
        if not documents:
            return self._command(instruction), None
        shell = self.config.shell or _DEFAULT_SHELL
        if len(documents) == 1 and heredoc_mark(instruction.rest):
            content = documents[0].content
            if content.startswith("#!"):
                if "/" in documents[0].name or documents[0].name in (".", ".."):
                    raise self._fail(instruction, f"{documents[0].name!r} cannot be the name of a script")
                return [*shell, f"{SCRIPT_DIRECTORY}/{documents[0].name}"], documents[0]
            return [*shell, content], None
        whole = "".join(f"\n{document.raw}{document.name}" for document in documents)
        return [*shell, f"{instruction.rest}{whole}"], None

    def _mounts(self, instruction: Instruction, stages: tuple[Stage, ...]) -> tuple[RunMount, ...]:
        found: list[RunMount] = []
        for text in instruction.flag_values("mount"):
            agents = sum(mount.type == "ssh" for mount in found)
            try:
                cwd = self.config.working_dir
                mount, source = parse_mount(text, lambda word: self._x(instruction, word), cwd, agents)
            except BadMount as error:
                raise self._fail(instruction, f"RUN --mount: {error}", "--mount") from None
            found.append(self._from(instruction, stages, source, mount))
        return tuple(found)

    def _from(self, instruction: Instruction, stages: tuple[Stage, ...], source: str, it: Any) -> Any:
        """A mount or a copy with the stage or image that it is from."""
        found = stage_of(self.dockerfile, instruction, stages, self.stage, source) if source else None
        if found is not None:
            return replace(it, source_stage=found.index)
        return replace(it, source_image=source)

    def _copy(self, instruction: Instruction, stages: tuple[Stage, ...]) -> Step:
        adds = instruction.keyword == "ADD"
        sources, documents, destination = self._sources(instruction)
        repositories = tuple(word for word in sources if _GIT.match(word))
        remote = ("http://", "https://")
        urls = tuple(word for word in sources if word.startswith(remote) and word not in repositories)
        for word in (*urls, *repositories):
            if not adds:
                what = "git repository" if word in repositories else "URL"
                raise self._fail(instruction, f"COPY takes no {what}; ADD does", word)
        for word in repositories:
            try:
                parse_repository(word)
            except CloneError as error:
                raise self._fail(instruction, str(error), word) from None
        checksum = self._flag(instruction, "checksum")
        if checksum and (len(urls) + len(repositories) != 1 or len(sources) + len(documents) != 1):
            raise self._fail(instruction, "--checksum is for one source, a URL", "--checksum")
        if checksum and not (_CHECKSUM if urls else _COMMIT).fullmatch(checksum):
            what = "sha256:HEX" if urls else "the commit, in hex"
            raise self._fail(instruction, f"--checksum={checksum}: must be {what}", "--checksum")
        chown, chmod = self._flag(instruction, "chown"), self._flag(instruction, "chmod")
        try:
            parse_mode(chmod or "0")
        except BadMode as error:
            raise self._fail(instruction, f"--chmod={chmod}: {error}", "--chmod") from None
        exclude = tuple(self._x(instruction, pattern) for pattern in instruction.flag_values("exclude"))
        try:
            Ignore(exclude)
        except BadPattern as error:
            raise self._fail(instruction, f"--exclude: {error}", "--exclude") from None
        words = [*sources, *(f"<<{document.name}" for document in documents), destination]
        step = CopyStep(
            instruction.line,
            "",
            instruction.text,
            sources=tuple(word for word in sources if word not in urls + repositories),
            destination=destination,
            chown=chown,
            chmod=chmod,
            unpack=adds if not instruction.flag("unpack") else instruction.switch("unpack"),
            unpack_urls=instruction.switch("unpack"),
            link=instruction.switch("link"),
            parents=instruction.switch("parents"),
            exclude=exclude,
            urls=urls,
            repositories=repositories,
            checksum=checksum,
            keep_git_dir=instruction.switch("keep-git-dir"),
            heredocs=documents,
        )
        canonical = (
            f"{instruction.keyword} {words} chown={chown} chmod={chmod} link={step.link} parents={step.parents} "
            f"exclude={exclude} unpack={step.unpack},{step.unpack_urls} keep={step.keep_git_dir} checksum={checksum} "
            f"docs={[(document.name, document.content) for document in documents]}"
        )
        source = instruction.flag("from")
        made: Step = self._from(instruction, stages, source, replace(step, canonical=canonical))
        return made

    _add = _copy

    def _sources(self, instruction: Instruction) -> tuple[list[str], tuple[Heredoc, ...], str]:
        """The sources, those that are documents, and the absolute destination."""
        words = instruction.rest.split() if instruction.words is None else list(instruction.words)
        if len(words) < 2:
            raise self._fail(instruction, f"{instruction.keyword} takes SOURCE... DESTINATION")
        by_name = {document.name: document for document in instruction.heredocs}
        sources: list[str] = []
        documents: list[Heredoc] = []
        for index, word in enumerate(words):
            mark = heredoc_mark(word) if instruction.words is None else None
            document = by_name.get(mark.name) if mark else None
            if document is None:
                sources.append(self._x(instruction, word))
                continue
            if index == len(words) - 1:
                raise self._fail(instruction, "a here-document can be no destination", word)
            if "/" in document.name or document.name in (".", ".."):
                raise self._fail(instruction, f"{document.name!r} cannot be the name of a file", word)
            content = document.content if document.literal else self._document(instruction, document.content)
            documents.append(Heredoc(document.name, content, literal=True))
        return sources[:-1], tuple(documents), self._absolute(sources[-1])

    def _document(self, instruction: Instruction, text: str) -> str:
        try:
            return expand_document(text, self.env(), missing=self.missing)
        except BadSubstitution as error:
            raise self._fail(instruction, f"in its here-document: {error}", "<<") from None


def _json(words: list[str]) -> str:
    """As a Dockerfile has them, for an image's history."""
    return json.dumps(words, ensure_ascii=False)
