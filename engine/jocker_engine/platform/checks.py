"""What a machine needs before containers can run, as a table of checks: each ok, or missing with what mends it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from .commands import Commands, PlatformError

Test = Callable[[Commands], Awaitable[str]]
"""What is missing, in a few words; "" when nothing is."""


@dataclass(frozen=True)
class Check:
    """One row. `mend` are commands, run in order by --apply; `advice` is for what only a person can decide."""

    subject: str
    test: Test
    mend: tuple[tuple[str, ...], ...] = ()
    act: Callable[[Commands], Awaitable[object]] | None = None
    """In place of commands, where a file has to be edited."""
    advice: str = ""


@dataclass(frozen=True)
class Outcome:
    """What a check found; `problem` is "" when all is well."""

    check: Check
    problem: str
    error: str = ""
    """Why mending failed."""

    def text(self) -> str:
        """One line."""
        if not self.problem:
            return f"ok       {self.check.subject}"
        how = " && ".join(" ".join(map(quoted, command)) for command in self.check.mend)
        remedy = f"run `{how}`" if how else self.check.advice
        failed = f" (mending failed: {self.error})" if self.error else ""
        return f"missing  {self.check.subject}: {self.problem}; {remedy}{failed}"


def quoted(word: str) -> str:
    """A word as a shell takes it."""
    plain = word and all(letter.isalnum() or letter in "-_./:=+,@%" for letter in word)
    return word if plain else "'" + word.replace("'", "'\\''") + "'"


async def examine(
    checks: Sequence[Check], commands: Commands, *, apply: bool, tell: Callable[[str], object]
) -> list[Outcome]:
    """Each in order, since later ones may stand on earlier ones; with `apply` what is missing is mended and looked at again.

    `tell` gets a line for each as soon as it is known.
    """
    outcomes = []
    for check in checks:
        outcome = Outcome(check, await check.test(commands))
        if outcome.problem and apply and (check.mend or check.act):
            outcome = await _mend(check, outcome.problem, commands)
        outcomes.append(outcome)
        tell(outcome.text())
    return outcomes


async def _mend(check: Check, problem: str, commands: Commands) -> Outcome:
    try:
        if check.act is not None:
            await check.act(commands)
        for command in check.mend:
            await commands.run(command, timeout=300)
    except (PlatformError, OSError) as error:
        return Outcome(check, problem, str(error))
    return Outcome(check, await check.test(commands))


def succeeds(*argv: str, otherwise: str) -> Test:
    """A command that exits with status 0 when all is well."""

    async def test(commands: Commands) -> str:
        try:
            done = await commands.run(argv, check=False)
        except PlatformError as error:
            return error.message
        return "" if done.exit_code == 0 else otherwise

    return test


def prints(*argv: str, wanted: Callable[[str], bool], otherwise: str) -> Test:
    """A command whose output says whether all is well; in `otherwise` {} is what it printed."""

    async def test(commands: Commands) -> str:
        try:
            done = await commands.run(argv, check=False)
        except PlatformError as error:
            return error.message
        printed = done.stdout.strip()
        return "" if wanted(printed) else otherwise.format(printed or "nothing")

    return test
