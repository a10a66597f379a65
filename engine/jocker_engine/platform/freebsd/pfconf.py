"""pf.conf(5) belongs to the machine's owner: three lines are added to it, where they belong, after a backup. Never more."""

from __future__ import annotations

import os
import re
import shutil
import time

from ..commands import Commands, PlatformError
from . import pf

PATH = "/etc/pf.conf"
FRESH = f"# Made by jocker-engine setup. Containers' rules are below these anchors.\n{pf.LINES[0]}\n{pf.LINES[1]}\n{pf.LINES[2]}\npass\n"

_FILTER = re.compile(r"\s*(?:block|pass|match|anchor|antispoof)\b")


def missing(text: str) -> list[str]:
    """Those of pf.LINES that a pf.conf has not; comments do not count."""
    lines = [re.sub(r"\s+", " ", line.partition("#")[0].strip()) for line in text.splitlines()]
    return [wanted for wanted in pf.LINES if wanted not in lines]


def with_lines(text: str) -> str:
    """The file with what is missing: translation anchors before the first filter rule, the filter's at the end.

    pf wants translation before filtering; the last filter rule that matches wins, but for those with `quick`.
    """
    lines, lacking = text.splitlines(), missing(text)
    first = next(
        (
            number
            for number, line in enumerate(lines)
            if _FILTER.match(line) and not (number and lines[number - 1].rstrip().endswith("\\"))
        ),
        len(lines),
    )
    translation = [line for line in lacking if line != pf.LINES[2]]
    tail = [line for line in lacking if line == pf.LINES[2]]
    return "\n".join([*lines[:first], *translation, *lines[first:], *tail]) + "\n"


async def why_not(commands: Commands) -> str:
    """What the file lacks; "" when nothing is missing."""
    try:
        with open(PATH, encoding="utf-8") as file:
            lacking = missing(file.read())
    except FileNotFoundError:
        return f"there is no {PATH}"
    return f"{PATH} lacks {', '.join(lacking)}" if lacking else ""


async def add(commands: Commands) -> None:
    """Add the lines and load the file. Raises PlatformError when pf does not take it; then nothing is changed."""
    new = PATH + ".jocker-new"
    if os.path.exists(PATH):
        with open(PATH, encoding="utf-8") as file:
            text = with_lines(file.read())
        shutil.copy2(PATH, f"{PATH}.before-jocker-{time.strftime('%Y%m%d%H%M%S')}")
    else:
        text = FRESH
    with open(new, "w", encoding="utf-8") as file:
        file.write(text)
        os.fsync(file.fileno())
    done = await commands.run(["pfctl", "-nf", new], check=False, timeout=15)
    if done.exit_code != 0:
        os.unlink(new)
        raise PlatformError(f"pf does not take {PATH} with our lines: {' '.join(done.stderr.split())}")
    os.rename(new, PATH)
    info = await commands.run(pf.INFO, check=False, timeout=15)
    if info.exit_code == 0 and pf.parse_enabled(info.stdout):
        await commands.run(["pfctl", "-f", PATH], timeout=15)
