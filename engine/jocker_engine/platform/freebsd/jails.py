"""Jails as jail(8), jls(8) and ps(1) know them: names, command lines, and what the commands print. Pure."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass

PREFIX = "jocker-"


def new_name(container: str) -> str:
    """A name for one run of a container: letter first, no dot, and never that of a run before, which may be dying."""
    return f"{stem(container)}{secrets.token_hex(3)}"


def stem(container: str) -> str:
    """What the names of all runs of a container begin with."""
    return f"{PREFIX}{container[:12]}-"


def create(file: str, name: str) -> list[str]:
    """jail(8) -c."""
    return ["jail", "-f", file, "-c", name]


def remove(file: str, name: str) -> list[str]:
    """jail(8) -r: hooks, TERM, stop.timeout, KILL, unmount; of what the file says."""
    return ["jail", "-f", file, "-r", name]


def remove_now(name: str) -> list[str]:
    """jail(8) -R: all processes are killed, nothing else is done."""
    return ["jail", "-R", name]


@dataclass(frozen=True)
class Jail:
    """A line of `listing`."""

    jid: int
    name: str
    dying: bool


LISTING = ["jls", "-d", "jid", "name", "dying"]


def parse_listing(text: str) -> list[Jail]:
    """What LISTING prints: one jail a line, no head."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3 and words[0].isdigit():
            found.append(Jail(int(words[0]), words[1], words[2] == "true"))
    return found


def running(text: str, container: str) -> Jail | None:
    """The jail of a container's present run, from LISTING's output."""
    own = [jail for jail in parse_listing(text) if jail.name.startswith(stem(container)) and not jail.dying]
    return own[-1] if own else None


@dataclass(frozen=True)
class Row:
    """A process in a jail."""

    pid: int
    ppid: int
    user: str
    state: str
    rss: int
    """KiB."""
    time: str
    """CPU time as ps has it, "0:00.02"."""
    command: str


def processes(name: str) -> list[str]:
    """ps(1) -J, which implies -x."""
    return ["ps", "-J", name, "-o", "pid,ppid,user,state,rss,time,command", "--libxo:J"]


def parse_processes(text: str) -> list[Row]:
    """What `processes` prints; no list for a jail without processes, or one that is gone (both exit 1)."""
    if not text.strip().startswith("{"):
        return []
    rows = json.loads(text).get("process-information", {}).get("process", [])
    return [
        Row(
            pid=int(row["pid"]),
            ppid=int(row.get("ppid", 0)),
            user=row.get("user", ""),
            state=row.get("state", row.get("stat", "")),
            rss=int(row.get("rss", 0)),
            time=row.get("cpu-time", ""),
            command=row.get("command", ""),
        )
        for row in rows
    ]


def cpu_seconds(time: str) -> float:
    """Of ps's CPU time, [[days-]hours:]minutes:seconds[.hundredths]."""
    days, _, rest = time.rpartition("-")
    seconds = 0.0
    for part in rest.split(":") if rest else []:
        seconds = seconds * 60 + float(part)
    return seconds + 86400 * int(days or 0)


def is_userland(argv: tuple[str, ...]) -> bool:
    """Whether this boots a whole userland, as `/bin/sh /etc/rc` does: it ends, what it started goes on."""
    words = argv[1:] if argv and argv[0].rpartition("/")[2] == "sh" else argv
    return bool(words) and words[0] == "/etc/rc"
