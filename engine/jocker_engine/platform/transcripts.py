"""Commands recorded on one machine and replayed on another, with placeholders for what is random.

A transcript is a file of JSON lines, one for each command: argv, input, exit_code, stdout, stderr. What is different
each time (ids, names of jails and interfaces, MACs, paths of the test) is a placeholder such as {jail1}, numbered in the
order of appearance; replayed, it gets this run's value. A command that no transcript knows is NotVerified, never
a success and never a failure of the command.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from .commands import Commands, Completed, judged

_RANDOM = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        ("jail", r"jocker-[0-9a-f]{12}-[0-9a-f]{6}"),
        ("anchor", r"(?<=jocker/)[0-9a-f]{6}-[0-9a-f]{12}"),
        ("tag", r"(?<=\bjocker )[0-9a-f]{6}(?= )"),
        ("interface", r"\bjk[bch][0-9a-f]{8}\b"),
        ("mac", r"\b02(?::[0-9a-f]{2}){5}\b"),
        ("id", r"\b[0-9a-f]{64}\b"),
        ("short", r"\b[0-9a-f]{12}\b"),
    )
)
"""What to look for, the longer before what it contains."""
_PLACEHOLDER = re.compile(r"\{[a-z]+\d*\}")


class NotVerified(Exception):
    """No transcript has this command, or whatever else cannot be shown on this machine; `argv` with placeholders."""

    def __init__(self, argv: Sequence[str]) -> None:
        super().__init__(f"not verified: {' '.join(argv)}")
        self.argv = tuple(argv)


class Placeholders:
    """This run's random values, and what stands for them."""

    def __init__(self, known: Mapping[str, str]) -> None:
        """`known`: value -> name, of what no pattern finds, such as a test's directory."""
        self._names = {value: f"{{{name}}}" for value, name in known.items()}
        self._values = {name: value for value, name in self._names.items()}
        self._known = sorted(self._names, key=len, reverse=True)

    def hide(self, text: str) -> str:
        """The text without what is random."""
        for value in self._known:
            text = text.replace(value, self._names[value])
        for kind, pattern in _RANDOM:
            text = pattern.sub(lambda match, kind=kind: self._name(kind, match[0]), text)  # type: ignore[misc]
        return text

    def fill(self, text: str) -> str:
        """The text with this run's values; a placeholder that has none yet stays."""
        return _PLACEHOLDER.sub(lambda match: self._values.get(match[0], match[0]), text)

    def _name(self, kind: str, value: str) -> str:
        if value not in self._names:
            number = sum(name.startswith(f"{{{kind}") for name in self._values) + 1
            self._names[value] = name = f"{{{kind}{number}}}"
            self._values[name] = value
        return self._names[value]


class Recorder(Commands):
    """Runs commands and keeps what they were and said."""

    def __init__(self, path: str, known: Mapping[str, str], lock_fd: int | None = None) -> None:
        super().__init__(lock_fd)
        self._path = path
        self._placeholders = Placeholders(known)
        with open(path, "w", encoding="utf-8"):
            pass

    async def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float = 60.0,
        input: bytes | None = None,
        check: bool = True,
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> Completed:
        hide = self._placeholders.hide
        given = {
            "argv": [hide(word) for word in argv],
            "input": hide((input or b"").decode(errors="replace")),
        }
        done = await super().run(argv, timeout=timeout, input=input, check=False, env=env, pass_fds=pass_fds)
        said = {"exit_code": done.exit_code, "stdout": hide(done.stdout), "stderr": hide(done.stderr)}
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(given | said) + "\n")
        return judged(done, check)


class Replayer(Commands):
    """Answers commands from transcripts. The same command again gets what it got the next time, at last the last."""

    def __init__(self, texts: Sequence[str], known: Mapping[str, str]) -> None:
        """`texts`: the contents of transcripts; the first that has a command counts."""
        super().__init__()
        self._placeholders = Placeholders(known)
        self._answers: dict[tuple[tuple[str, ...], str], list[dict[str, object]]] = {}
        self.unknown: list[tuple[str, ...]] = []
        """Commands that were asked for and are in no transcript."""
        for text in texts:
            found: dict[tuple[tuple[str, ...], str], list[dict[str, object]]] = {}
            for line in text.splitlines():
                entry = json.loads(line)
                found.setdefault((tuple(entry["argv"]), entry.get("input", "")), []).append(entry)
            self._answers = found | self._answers

    async def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float = 60.0,
        input: bytes | None = None,
        check: bool = True,
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> Completed:
        hide, fill = self._placeholders.hide, self._placeholders.fill
        wanted = tuple(hide(word) for word in argv)
        answers = self._answers.get((wanted, hide((input or b"").decode(errors="replace"))))
        if answers is None:
            self.unknown.append(wanted)
            raise NotVerified(wanted)
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        code = answer["exit_code"]
        assert isinstance(code, int)
        done = Completed(tuple(argv), code, fill(str(answer["stdout"])), fill(str(answer.get("stderr", ""))))
        return judged(done, check)
