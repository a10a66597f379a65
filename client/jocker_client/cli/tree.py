"""`jocker system tree`: the supervision tree, once or again and again."""

from __future__ import annotations

import os
import re
import sys
import time
from typing import Any

import click

_LONG_ID = re.compile(r"([0-9a-f]{12})[0-9a-f]{52}")
_HEAD = ("NAME", "STATE", "RESTARTS", "MAILBOX", "HANDLED", "DETAIL")


@click.command()
@click.option("-w", "--watch", is_flag=True, help="Draw it again and again, until interrupted.")
@click.option("-n", "--interval", type=click.FloatRange(min=0.05), default=1.0, metavar="SECONDS")
@click.pass_context
def tree(ctx: click.Context, watch: bool, interval: float) -> None:
    """The live supervision tree: state, restarts, waiting and handled messages."""
    while True:
        text = draw(ctx.obj.engine.call("system.tree"))
        if not watch:
            sys.stdout.write(text)
            return
        if sys.stdout.isatty():
            text = frame(text, os.get_terminal_size(sys.stdout.fileno()))
        else:
            text += "\n"
        sys.stdout.write(text)
        sys.stdout.flush()
        time.sleep(interval)


def frame(text: str, size: os.terminal_size) -> str:
    """Over what the terminal shows, cut to its size: a line that wraps or scrolls would move the next picture.

    Each line is cleared to its end and what is below at last, so that nothing flickers.
    """
    lines = text.splitlines()[: size.lines - 1]
    return "\x1b[H" + "".join(f"{line[: size.columns]}\x1b[K\n" for line in lines) + "\x1b[J"


def draw(root: dict[str, Any]) -> str:
    """As lines."""
    rows: list[tuple[str, ...]] = [_HEAD]

    def walk(node: dict[str, Any], lead: str, branch: str) -> None:
        actor = node["kind"] == "actor"
        rows.append(
            (
                lead + branch + _LONG_ID.sub(r"\1", node["name"]),
                node["state"],
                str(node["restarts"]),
                str(node["mailbox"]) if actor else "-",
                str(node["handled"]) if actor else "-",
                node["detail"],
            )
        )
        lead += {"": "", "├── ": "│   ", "└── ": "    "}[branch]
        for child in node["children"]:
            walk(child, lead, "└── " if child is node["children"][-1] else "├── ")

    walk(root, "", "")
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[5]]).rstrip()
        + "\n"
        for row in rows
    )
