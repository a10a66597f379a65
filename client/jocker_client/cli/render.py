"""What people read: tables, ages, sizes, and Docker's spelling of field names. Imports nothing heavy."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import Any

Row = dict[str, str]

_SPELLING = {"oom": "OOM", "tty": "Tty", "id": "Id", "os": "Os", "ids": "IDs", "fs": "FS"}
_MAPS = ("labels", "platform", "annotations", "attributes", "sysctls")
"""Fields whose keys are data."""
_SETS = ("exposed_ports", "volumes")
"""Of a configuration; Docker has an object with them as its keys."""
_SPANS = ("interval", "timeout", "start_period", "start_interval")
"""Of a health check: seconds, and nanoseconds as Docker spells them."""
_FLAGS = {
    "Running": ("running", "paused", "stopping", "restarting"),
    "Paused": ("paused",),
    "Restarting": ("restarting",),
    "Dead": ("dead",),
}
"""Docker's flags for a state; there too a container that waits for its restart counts as running."""


class Map(dict[str, Any]):
    """A value whose keys are data: a template shows one that it lacks as Go does, instead of refusing it."""


class Spelled(dict[str, Any]):
    """A value whose keys are as Docker spells them already."""


def seconds_since(stamp: str) -> float:
    """Age of an RFC 3339 time in UTC."""
    import calendar

    whole = calendar.timegm(time.strptime(stamp[:19], "%Y-%m-%dT%H:%M:%S"))
    return max(0.0, time.time() - whole)


def age(stamp: str) -> str:
    """As Docker says it: "5 minutes"."""
    seconds = int(seconds_since(stamp))
    if seconds < 1:
        return "Less than a second"
    for limit, unit, name in (
        (60, 1, "second"), (3600, 60, "minute"), (86400 * 2, 3600, "hour"), (86400 * 14, 86400, "day"),
        (86400 * 60, 86400 * 7, "week"), (86400 * 730, 86400 * 30, "month"), (1 << 62, 86400 * 365, "year"),
    ):  # fmt: skip
        if seconds < limit:
            count = seconds // unit
            if name in ("minute", "hour") and count == 1:
                return f"About {'a' if name == 'minute' else 'an'} {name}"
            return f"{count} {name}{'' if count == 1 else 's'}"
    raise AssertionError


def size(count: float) -> str:
    """Bytes with decimal units, three digits: "5.67MB"."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:.3g}{unit}"
        count /= 1000
    raise AssertionError


def binary(count: float) -> str:
    """Bytes with binary units, four digits: "1.234MiB"."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":
            return f"{count:.4g}{unit}"
        count /= 1024
    raise AssertionError


def short(identity: str) -> str:
    """The 12 digits that people see."""
    return identity.removeprefix("sha256:")[:12]


def status(item: dict[str, Any]) -> str:
    """The STATUS column."""
    state: str = item["status"]
    if state in ("running", "paused", "stopping"):
        health = item.get("health", "")
        health = {"": "", "starting": " (health: starting)"}.get(health, f" ({health})")
        return f"Up {age(item['started_at'])}" + (
            {"stopping": " (Stopping)", "paused": " (Paused)"}.get(state, health)
        )
    if state in ("exited", "restarting"):
        return f"{state.capitalize()} ({item['exit_code']}) {age(item['finished_at'])} ago"
    return {"removing": "Removal In Progress"}.get(state, state.capitalize())


def listing(
    items: Sequence[dict[str, Any]],
    columns: Sequence[tuple[str, str, Callable[[dict[str, Any]], str]]],
    format: str,
) -> None:
    """Print a list: a table of (heading, field, value), JSON lines, or a template per item."""
    rows = [{field: value(item) for _, field, value in columns} for item in items]
    if format == "json":
        for row in rows:
            print(json.dumps(row))
    elif format and format != "table":
        from .template import render

        template = format.removeprefix("table ")
        if format.startswith("table "):
            filled = [render(template, {field: heading for heading, field, _ in columns})]
            filled += [render(template, row) for row in rows]
            table([line.split("\t") for line in filled])
        else:
            for row in rows:
                print(render(template, row))
    else:
        for line in lines(items, columns):
            print(line)


def lines(
    items: Sequence[dict[str, Any]], columns: Sequence[tuple[str, str, Callable[[dict[str, Any]], str]]]
) -> list[str]:
    """The lines of a table, its headings first."""
    shown = [(heading, value) for heading, _, value in columns if heading]
    return _aligned(
        [[heading for heading, _ in shown], *([value(item) for _, value in shown] for item in items)]
    )


def table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns; the first has the headings."""
    for line in _aligned(rows):
        print(line)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(cell) for cell in column) + 3 for column in zip(*rows, strict=False)]
    return [
        "".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip() for row in rows
    ]


def docker(value: Any, *, data: bool = False) -> Any:
    """Names as Docker spells them: exit_code -> ExitCode, all the way down."""
    if isinstance(value, list):
        return [docker(item) for item in value]
    if not isinstance(value, dict) or isinstance(value, Spelled):
        return value
    if data:
        return Map((key, docker(item)) for key, item in value.items())
    spelled = {pascal(key): docker(item, data=key in _MAPS) for key, item in value.items()}
    if {"Status", "ExitCode", "Pid"} <= spelled.keys():
        state = spelled["Status"]
        flags = {flag: state in states for flag, states in _FLAGS.items()}
        spelled = {"Status": state, **flags, **spelled}
    if "exposed_ports" in value:
        spelled |= {
            pascal(key): Map((name, {}) for name in sorted(value[key])) if value[key] else None
            for key in _SETS
            if isinstance(value.get(key), list)
        }
    if isinstance(value.get("test"), list):
        spans = {pascal(key): round(value.get(key, 0) * 1e9) for key in _SPANS}
        spelled = {key: spans.get(key, item) for key, item in spelled.items() if spans.get(key, 1)}
    if {"limits", "security", "mounts"} <= value.keys():
        from .hostconfig import host_config

        spelled["HostConfig"] = host_config(value)
    if {"type", "target"} <= value.keys():
        spelled |= {"Destination": value["target"], "RW": not value.get("read_only", False)}
        spelled |= {"Name": value.get("source", "")} if value["type"] == "volume" else {}
    return spelled


def pascal(name: str) -> str:
    """exit_code -> ExitCode."""
    return "".join(_SPELLING.get(part, part.capitalize()) for part in name.split("_"))


def details(values: list[dict[str, Any]], format: str) -> None:
    """What `inspect` prints: a JSON array, or a template per value."""
    spelled = [docker(value) for value in values]
    if format and format != "json":
        from .template import render

        for value in spelled:
            print(render(format, value))
    else:
        print(json.dumps(spelled, indent=4))


def excerpt(lines: list[str], first: int, last: int, column: int = 0, around: int = 0) -> str:
    """Lines of a file, numbered from 1, with `around` more on both sides; a caret under `column` of the last one."""
    out = []
    for number in range(max(first - around, 1), min(last + around, len(lines)) + 1):
        mark = ">>>" if around and first <= number <= last else "   " if around else ""
        out.append(f"{number:4} | {mark}{' ' if around else ''}{lines[number - 1]}".rstrip())
        if column and number == last:
            blank = "".join("\t" if char == "\t" else " " for char in lines[number - 1][: column - 1])
            out.append(f"     | {blank}^")
    return "\n".join(out)
